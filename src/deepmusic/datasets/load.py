"""Load a data set of any supported kind from its path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deepmusic.datasets.folder import FolderDataset, OnProgress, scan_folder, scan_table
from deepmusic.datasets.gtzan import (
    fault_filtered_split,
    find_gtzan,
    read_gtzan,
    read_gtzan_folder,
)
from deepmusic.datasets.splits import Fold
from deepmusic.datasets.table import TABLE_NAME, find_fma
from deepmusic.errors import DataError

if TYPE_CHECKING:
    from deepmusic.datasets.fma import Fma

Kind = Literal["folder", "table", "gtzan", "fma"]
"""Your own folder of genres, your own CSV, GTZAN, or FMA."""

_NAMES = {"folder": "a folder of genres", "table": "a table", "gtzan": "GTZAN", "fma": "FMA"}


@dataclass(frozen=True)
class LoadedDataset:
    """A data set, with what is specific to its kind.

    Args:
        dataset: its tracks.
        kind: what it was loaded as.
        about: one sentence on what it was loaded as, and why.
        fma: tables and genre tree, of FMA.
    """

    dataset: FolderDataset
    kind: Kind
    about: str
    fma: Fma | None = None

    def official_split(self, dataset: FolderDataset | None = None) -> Fold:
        """The published split of this data set.

        Args:
            dataset: the same tracks with more metadata; by default `dataset`.

        Raises:
            DataError: there is none, or one of its parts has no tracks here.
        """
        dataset = self.dataset if dataset is None else dataset
        if self.kind == "gtzan":
            return fault_filtered_split(dataset)
        if self.fma is not None:
            return self.fma.fold(dataset)
        raise DataError(f"{dataset.root} has no official split; only FMA and GTZAN have one.")


def load_dataset(
    path: str | os.PathLike[str],
    *,
    kind: Kind | None = None,
    table: str | os.PathLike[str] | None = None,
    subset: str = "small",
    audio: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> LoadedDataset:
    """Load a data set.

    Args:
        path: a folder ``DIR/GENRE/*`` with or without ``tracks.csv``, a CSV (``path``, ``genre``,
            ``artist``, ``album``), a folder of GTZAN, or a folder with ``fma_metadata`` or
            ``fma_metadata.zip`` in it.
        kind: what to load it as; by default what it looks like.
        table: a CSV of genres and artists instead of the folder's own; not for FMA.
        subset: of FMA: ``"small"``, ``"medium"``, ``"large"`` or ``"full"``.
        audio: of FMA, the folder of its audio; by default it is looked for beside the tables.
        workers: files read at a time; by default as many as there are cores, at most 8.
        on_progress: called in this thread with the files done and the number of files.

    Raises:
        DataError: the path does not exist, or holds no data set of that kind.

    Example:
        >>> load_dataset("music").dataset.genres  # doctest: +SKIP
        ('jazz', 'rock')
    """
    path = Path(path)
    root = None
    if kind is None:
        kind, root, about = _detect(path)
    else:
        about = f"{path} is loaded as {_NAMES[kind]}, as requested."
    if table is not None and kind in ("fma", "table"):
        raise DataError(f"{path} is {_NAMES[kind]}, which has its own table; omit {table}.")
    fma = None
    if kind == "fma":
        from deepmusic.datasets.fma import Fma, read_fma

        fma = Fma(root, audio=audio) if root else read_fma(path, audio=audio)
        dataset = fma.dataset(subset, workers=workers, on_progress=on_progress)
        about = f"{about} Its subset {subset} is used."
    elif kind == "table":
        dataset = scan_table(path, workers=workers, on_progress=on_progress)
    elif kind == "gtzan":
        read = read_gtzan_folder if root else read_gtzan
        dataset = read(root or path, table=table, workers=workers, on_progress=on_progress)
    else:
        dataset = scan_folder(path, table=table, workers=workers, on_progress=on_progress)
    return LoadedDataset(dataset, kind, about, fma)


def _detect(path: Path) -> tuple[Kind, Path, str]:
    """The kind of a data set, where it lies at or below a path, and a sentence on why."""
    if not path.exists():
        raise DataError(f"{path} does not exist; name a folder of genres, a CSV, GTZAN or FMA.")
    fma = find_fma(path)
    if fma is not None:
        return "fma", fma, f"{path} is loaded as FMA, since its tables are in {fma}."
    if path.is_file():
        name = path.name.lower()
        if name.endswith((".tar", ".tar.gz", ".tgz")):
            read_gtzan(path)  # raises, and says how to unpack it
        if name.endswith(".zip"):
            raise DataError(f"{path} is an archive; unpack it, and name the folder.")
        return "table", path, f"{path} is loaded as a table of tracks, since it is a file."
    gtzan = find_gtzan(path)
    if gtzan is not None:
        return "gtzan", gtzan, f"{path} is loaded as GTZAN, since its clips are in {gtzan}."
    table = f" with the table {TABLE_NAME}" if (path / TABLE_NAME).exists() else ""
    return "folder", path, f"{path} is loaded as a folder of genres{table}."
