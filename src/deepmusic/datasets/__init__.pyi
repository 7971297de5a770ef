from .archives import (
    ArchiveError as ArchiveError,
    ZipReader as ZipReader,
    unpack_archive as unpack_archive,
)
from .build import build_dataset as build_dataset
from .check import (
    CheckedFile as CheckedFile,
    CheckReport as CheckReport,
    check_files as check_files,
)
from .clips import BuildConfig as BuildConfig, BuiltTrack as BuiltTrack
from .coding import (
    CodingReport as CodingReport,
    GenreCoding as GenreCoding,
    coding_report as coding_report,
    dataset_coding as dataset_coding,
)
from .download import DownloadError as DownloadError, download_file as download_file
from .fetch import fetch_dataset as fetch_dataset
from .fma import (
    BAD_CLIPS as BAD_CLIPS,
    BadClip as BadClip,
    Fma as Fma,
    genre_matrix as genre_matrix,
    read_fma as read_fma,
)
from .folder import (
    FolderDataset as FolderDataset,
    Problem as Problem,
    Track as Track,
    dataset_digest as dataset_digest,
    scan_folder as scan_folder,
    scan_table as scan_table,
)
from .genre_tree import Genre as Genre, GenreTree as GenreTree
from .groups import artist_members as artist_members, group_tracks as group_tracks
from .gtzan import fault_filtered_split as fault_filtered_split
from .load import LoadedDataset as LoadedDataset, load_dataset as load_dataset
from .near_duplicates import with_duplicates as with_duplicates
from .registry import REGISTRY as REGISTRY, DatasetInfo as DatasetInfo
from .split_files import (
    data_card as data_card,
    leaks as leaks,
    read_splits as read_splits,
    write_splits as write_splits,
)
from .splits import (
    Fold as Fold,
    Folds as Folds,
    make_folds as make_folds,
    make_split as make_split,
)
from .stats import (
    DatasetStatistics as DatasetStatistics,
    dataset_statistics as dataset_statistics,
    fma_statistics as fma_statistics,
)
from .stats_plot import plot_statistics as plot_statistics
from .symbolic import (
    SYMBOLIC as SYMBOLIC,
    Piece as Piece,
    SymbolicDataset as SymbolicDataset,
    load_midi_folder as load_midi_folder,
    load_styles as load_styles,
    load_symbolic as load_symbolic,
)
