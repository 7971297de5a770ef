"""Data sets: what is in a folder, who belongs together, and splits that keep it together."""

from __future__ import annotations

from deepmusic.datasets.artists import artist_members, group_tracks
from deepmusic.datasets.catalogue import CATALOGUE, DataFile, fetch
from deepmusic.datasets.download import DownloadError
from deepmusic.datasets.folder import (
    FolderDataset,
    Problem,
    Track,
    content_hash,
    fingerprint,
    scan_folder,
)
from deepmusic.datasets.splits import (
    Fold,
    Folds,
    Split,
    make_folds,
    make_split,
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

__all__ = [
    "CATALOGUE",
    "SYMBOLIC",
    "DataFile",
    "DownloadError",
    "Fold",
    "FolderDataset",
    "Folds",
    "Piece",
    "Problem",
    "Split",
    "SymbolicDataset",
    "Track",
    "artist_members",
    "content_hash",
    "fetch",
    "fingerprint",
    "group_tracks",
    "load_midi_folder",
    "load_styles",
    "load_symbolic",
    "make_folds",
    "make_split",
    "read_splits",
    "scan_folder",
    "write_splits",
]
