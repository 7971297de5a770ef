"""A data set of any kind that is known here, from the place where it lies."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deepmusic.datasets.folder import FolderDataset, scan_folder, scan_table
from deepmusic.datasets.gtzan import fault_filtered_split, find_gtzan, read_gtzan
from deepmusic.datasets.splits import Fold
from deepmusic.datasets.table import TABLE_NAME
from deepmusic.errors import DataError

if TYPE_CHECKING:
    from deepmusic.datasets.fma import Fma

Kind = Literal["folder", "table", "gtzan", "fma"]
"""One's own folder of genres, one's own CSV, GTZAN, or FMA."""

_FMA_ARCHIVE = "fma_metadata.zip"
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")


@dataclass(frozen=True)
class LoadedDataset:
    """A data set and what is known of its kind.

    Args:
        dataset: its tracks.
        kind: what it was taken for.
        about: one sentence on what it was taken for, and why.
        fma: tables and tree, of FMA.
    """

    dataset: FolderDataset
    kind: Kind
    about: str
    fma: Fma | None = None

    def official_split(self, dataset: FolderDataset | None = None) -> Fold:
        """The split that was published for this data set.

        Args:
            dataset: the same tracks with more known of them; by default :attr:`dataset`.

        Raises:
            DataError: none was, or a part of it has no tracks here.
        """
        dataset = self.dataset if dataset is None else dataset
        if self.kind == "gtzan":
            return fault_filtered_split(dataset)
        if self.fma is not None:
            return self.fma.fold(dataset)
        raise DataError(
            f"{dataset.root} is one's own music, which has no official split; only FMA and GTZAN "
            "have one."
        )


def load_dataset(
    place: str | os.PathLike[str],
    *,
    kind: Kind | None = None,
    table: str | os.PathLike[str] | None = None,
    subset: str = "small",
    audio: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> LoadedDataset:
    """Load a data set from where it lies, as what it is.

    Args:
        place: a folder ``DIR/GENRE/*`` with or without ``tracks.csv``, a CSV (``path``, ``genre``,
            ``artist``, ``album``), a folder of GTZAN, or a folder with ``fma_metadata`` or
            ``fma_metadata.zip`` in it.
        kind: what to take it for; by default what :func:`kind_of` says.
        table: a CSV of genres and artists instead of the folder's own; not for FMA.
        subset: of FMA: ``"small"``, ``"medium"``, ``"large"`` or ``"full"``.
        audio: of FMA, the folder of its sound; by default it is looked for beside the tables.
        workers: files read at a time; by default as many as there are cores, at most 8.
        on_progress: called in this thread with the files done and the files there are.

    Raises:
        DataError: the place is missing, or holds nothing of that kind.
    """
    place = Path(place)
    if kind is None:
        kind, about = kind_of(place)
    else:
        about = f"{place} is taken for {_NAMES[kind]}, as was asked."
    if table is not None and kind in ("fma", "table"):
        raise DataError(f"{place} is {_NAMES[kind]}, which has its own table; leave {table} out.")
    if kind == "fma":
        from deepmusic.datasets.fma import read_fma

        fma = read_fma(place, audio=audio)
        dataset = fma.dataset(subset, workers=workers, on_progress=on_progress)
        return LoadedDataset(dataset, kind, f"{about} Its subset {subset} is taken.", fma)
    if kind == "table":
        dataset = scan_table(place, workers=workers, on_progress=on_progress)
    elif kind == "gtzan":
        dataset = read_gtzan(place, table=table, workers=workers, on_progress=on_progress)
    else:
        dataset = scan_folder(place, table=table, workers=workers, on_progress=on_progress)
    return LoadedDataset(dataset, kind, about)


_NAMES: dict[Kind, str] = {
    "folder": "a folder of genres",
    "table": "a table of tracks",
    "gtzan": "GTZAN",
    "fma": "FMA",
}


def kind_of(place: str | os.PathLike[str]) -> tuple[Kind, str]:
    """What a place holds, and one sentence on why it is taken for that.

    Raises:
        DataError: it does not exist, or is an archive.
    """
    place = Path(place)
    if not place.exists():
        raise DataError(f"{place} does not exist; name a folder of genres, a CSV, GTZAN or FMA.")
    if place.is_file():
        name = place.name.lower()
        if find_fma(place) is not None:
            return "fma", f"{place} is taken for the tables of FMA."
        if name.endswith(_ARCHIVES) and not name.endswith(".zip"):
            read_gtzan(place)  # raises, and says how to unpack it
        if name.endswith(_ARCHIVES):
            raise DataError(f"{place} is an archive; unpack it, and name the folder.")
        return "table", f"{place} is taken for a table of tracks, since it is a file."
    fma = find_fma(place)
    if fma is not None:
        return "fma", f"{place} is taken for FMA, since its tables are in {fma}."
    gtzan = find_gtzan(place)
    if gtzan is not None:
        return "gtzan", f"{place} is taken for GTZAN, since its clips are in {gtzan}."
    if (place / TABLE_NAME).exists():
        return "folder", f"{place} is taken for a folder of genres with the table {TABLE_NAME}."
    return "folder", f"{place} is taken for a folder of genres."


def find_fma(place: str | os.PathLike[str]) -> Path | None:
    """The folder or the archive of FMA's tables, at or below a place; None where there is none.

    ``tracks.csv`` is also what one's own table is called: that of FMA begins with two lines of
    groups and names.
    """
    place = Path(place)
    for folder in (place, place / "fma_metadata"):
        try:
            with open(folder / TABLE_NAME, encoding="utf-8", errors="replace") as file:
                if file.readline(4096).startswith(",album,"):
                    return folder
        except (OSError, ValueError):
            continue
    for archive in (place, place / _FMA_ARCHIVE):
        if archive.name == _FMA_ARCHIVE and archive.is_file():
            return archive
    return None
