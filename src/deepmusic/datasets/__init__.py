"""Data sets: how to get them, what is in them, who belongs together, and splits that keep it.

The public names are looked up on first use, so that a command pays for what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepmusic.lazy import lazy_names

if TYPE_CHECKING:
    from deepmusic.datasets.archives import ArchiveError, unpack
    from deepmusic.datasets.artists import artist_members, group_tracks
    from deepmusic.datasets.audio_archives import AUDIO_ARCHIVES, AudioArchive, fetch_archive
    from deepmusic.datasets.building import build_dataset
    from deepmusic.datasets.building_sources import find_sources
    from deepmusic.datasets.building_track import BuildConfig, BuiltClip, BuiltTrack
    from deepmusic.datasets.catalogue import CATALOGUE, DataFile, fetch
    from deepmusic.datasets.checking import CheckedFile, CheckReport, check_files, write_report
    from deepmusic.datasets.describing import Description, describe, describe_fma
    from deepmusic.datasets.describing_pictures import draw_description
    from deepmusic.datasets.duplicates import near_duplicates, with_duplicates
    from deepmusic.datasets.fma import BAD_CLIPS, BadClip, Fma, GenreLabels, read_fma
    from deepmusic.datasets.folder import (
        FolderDataset,
        Problem,
        Track,
        content_hash,
        fingerprint,
        scan_folder,
        scan_table,
    )
    from deepmusic.datasets.genre_tree import Genre, GenreTree
    from deepmusic.datasets.gtzan import fault_filtered_split, read_gtzan
    from deepmusic.datasets.loading import LoadedDataset, load_dataset
    from deepmusic.datasets.remote_zip import RemoteZip
    from deepmusic.datasets.splits import (
        Fold,
        Folds,
        Split,
        make_folds,
        make_split,
        random_folds,
        random_split,
        read_splits,
        write_splits,
    )
    from deepmusic.datasets.symbolic import (
        SYMBOLIC,
        Piece,
        SymbolicDataset,
        load_midi_folder,
        load_styles,
        load_symbolic,
    )
    from deepmusic.datasets.web import DownloadError
    from deepmusic.datasets.zip_writing import write_zip

__all__ = [
    "AUDIO_ARCHIVES",
    "BAD_CLIPS",
    "CATALOGUE",
    "SYMBOLIC",
    "ArchiveError",
    "AudioArchive",
    "BadClip",
    "BuildConfig",
    "BuiltClip",
    "BuiltTrack",
    "CheckReport",
    "CheckedFile",
    "DataFile",
    "Description",
    "DownloadError",
    "Fma",
    "Fold",
    "FolderDataset",
    "Folds",
    "Genre",
    "GenreLabels",
    "GenreTree",
    "LoadedDataset",
    "Piece",
    "Problem",
    "RemoteZip",
    "Split",
    "SymbolicDataset",
    "Track",
    "artist_members",
    "build_dataset",
    "check_files",
    "content_hash",
    "describe",
    "describe_fma",
    "draw_description",
    "fault_filtered_split",
    "fetch",
    "fetch_archive",
    "find_sources",
    "fingerprint",
    "group_tracks",
    "load_dataset",
    "load_midi_folder",
    "load_styles",
    "load_symbolic",
    "make_folds",
    "make_split",
    "near_duplicates",
    "random_folds",
    "random_split",
    "read_fma",
    "read_gtzan",
    "read_splits",
    "scan_folder",
    "scan_table",
    "unpack",
    "with_duplicates",
    "write_report",
    "write_splits",
    "write_zip",
]

_MODULES = {
    "archives": (
        "ArchiveError",
        "unpack",
    ),
    "artists": (
        "artist_members",
        "group_tracks",
    ),
    "audio_archives": (
        "AUDIO_ARCHIVES",
        "AudioArchive",
        "fetch_archive",
    ),
    "building": ("build_dataset",),
    "building_sources": ("find_sources",),
    "building_track": (
        "BuildConfig",
        "BuiltClip",
        "BuiltTrack",
    ),
    "catalogue": (
        "CATALOGUE",
        "DataFile",
        "fetch",
    ),
    "checking": (
        "CheckReport",
        "CheckedFile",
        "check_files",
        "write_report",
    ),
    "describing": (
        "Description",
        "describe",
        "describe_fma",
    ),
    "describing_pictures": ("draw_description",),
    "duplicates": (
        "near_duplicates",
        "with_duplicates",
    ),
    "fma": (
        "BAD_CLIPS",
        "BadClip",
        "Fma",
        "GenreLabels",
        "read_fma",
    ),
    "folder": (
        "FolderDataset",
        "Problem",
        "Track",
        "content_hash",
        "fingerprint",
        "scan_folder",
        "scan_table",
    ),
    "genre_tree": (
        "Genre",
        "GenreTree",
    ),
    "gtzan": (
        "fault_filtered_split",
        "read_gtzan",
    ),
    "loading": (
        "LoadedDataset",
        "load_dataset",
    ),
    "remote_zip": ("RemoteZip",),
    "splits": (
        "Fold",
        "Folds",
        "Split",
        "make_folds",
        "make_split",
        "random_folds",
        "random_split",
        "read_splits",
        "write_splits",
    ),
    "symbolic": (
        "Piece",
        "SYMBOLIC",
        "SymbolicDataset",
        "load_midi_folder",
        "load_styles",
        "load_symbolic",
    ),
    "web": ("DownloadError",),
    "zip_writing": ("write_zip",),
}

__getattr__, __dir__ = lazy_names(__name__, __all__, _MODULES)
