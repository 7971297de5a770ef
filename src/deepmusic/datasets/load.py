"""Load a data set of any supported kind from its path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

from deepmusic.datasets.folder import FolderDataset, OnProgress, scan_folder, scan_table
from deepmusic.datasets.gtzan import GTZAN_GENRES
from deepmusic.datasets.splits import Fold
from deepmusic.datasets.table import TABLE_NAME, find_fma
from deepmusic.errors import DataError

if TYPE_CHECKING:
    from deepmusic.datasets.fma import Fma

Kind = Literal["folder", "table", "gtzan", "fma"]
"""Your own folder of genres, your own CSV, GTZAN, or FMA."""

# below the path that a user names: an unpacked archive, the Kaggle copy, a folder of data
_GTZAN_FOLDERS = (
    *("", "genres", "genres_original", "Data/genres_original", "Data"),
    *("gtzan/genres", "gtzan/genres_original", "gtzan"),
)


@dataclass(frozen=True)
class LoadedDataset:
    """A data set, with what is specific to its kind."""

    dataset: FolderDataset
    kind: Kind  # what it was loaded as
    about: str  # one sentence on what it was loaded as, and why
    fma: Fma | None = None  # tables and genre tree

    def official_split(self, dataset: FolderDataset | None = None) -> Fold:
        """The published split of this data set, or of `dataset`: its tracks with more metadata.

        Raises:
            DataError: there is none, or one of its parts has no tracks here.
        """
        dataset = dataset or self.dataset
        if self.kind == "gtzan":
            from deepmusic.datasets.gtzan import fault_filtered_split

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
    level: int = 1,
    audio: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> LoadedDataset:
    """Load a data set.

    Args:
        path: a folder ``DIR/GENRE/*`` with or without ``tracks.csv``, a CSV (``path``, ``genre``,
            ``artist``, ``album``), a folder with GTZAN's clips (``blues/blues.00000.wav``) in it,
            or in ``genres``, ``genres_original`` or ``Data/genres_original``, or one with
            ``fma_metadata`` or ``fma_metadata.zip`` in it.
        kind: what to load it as; by default what it looks like.
        table: a CSV of genres and artists instead of the folder's own; not for FMA.
        subset: of FMA: ``"small"``, ``"medium"``, ``"large"`` or ``"full"``.
        level: of FMA's genre tree, 1 for the top genres.
        audio: of FMA, the folder of its audio; by default it is looked for beside the tables.
        workers: files read at a time; by default as many as there are cores, at most 8.
        on_progress: called in this thread with the files done and the number of files.

    Raises:
        DataError: the path does not exist, or holds no data set of that kind.

    Example:
        >>> load_dataset("music").dataset.genres  # doctest: +SKIP
        ('jazz', 'rock')
    """
    kind, root, about = _detect(Path(path), kind)
    options: dict[str, Any] = {"workers": workers, "on_progress": on_progress}
    if table is not None and kind in ("fma", "table"):
        raise DataError(f"{path} has its own table; omit {table}.")
    if kind == "fma":
        from deepmusic.datasets.fma import Fma

        fma = Fma(root, audio=audio)
        genres = "top genres" if level == 1 else f"genres of level {level}"
        about = f"{about} Its subset {subset} is used, with {genres}."
        return LoadedDataset(fma.dataset(subset, level=level, **options), kind, about, fma)
    if kind == "gtzan":
        from deepmusic.datasets.gtzan import scan_gtzan

        dataset = scan_gtzan(root, table=table, **options)
    elif kind == "table":
        dataset = scan_table(root, **options)
    else:
        dataset = scan_folder(root, table=table, **options)
    return LoadedDataset(dataset, kind, about)


def _detect(path: Path, kind: Kind | None) -> tuple[Kind, Path, str]:
    """The kind of a data set, where it lies at or below a path, and a sentence on why."""
    about = f"{path} is loaded as"
    if not path.exists():
        raise DataError(f"{path} does not exist; name a folder of genres, a CSV, GTZAN or FMA.")
    if kind in (None, "fma"):
        if tables := find_fma(path):
            return "fma", tables, f"{about} FMA, since its tables are in {tables}."
        if kind == "fma":
            raise DataError(f"{path} holds no tables of FMA, fma_metadata or fma_metadata.zip.")
    if path.is_file() and path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz")):
        raise DataError(
            f"{path} is an archive; unpack it, and name the folder. GTZAN's is unpacked by: "
            f"deepmusic data download gtzan --to DIR --from {quote(str(path))}"
        )
    if kind in (None, "gtzan"):
        for clips in (path / name for name in _GTZAN_FOLDERS):
            number = 5 * "[0-9]"
            if any(any((clips / g).glob(f"{g}.{number}.*")) for g in GTZAN_GENRES):
                return "gtzan", clips, f"{about} GTZAN, since its clips are in {clips}."
        if kind == "gtzan":
            raise DataError(
                f"{path} holds no clips of GTZAN, such as blues/blues.00000.wav, nor do the "
                "folders genres, genres_original and Data/genres_original in it."
            )
    if kind == "table" or (kind is None and path.is_file()):
        return "table", path, f"{about} a table of tracks."
    table = f" with the table {TABLE_NAME}" if (path / TABLE_NAME).exists() else ""
    return "folder", path, f"{about} a folder of genres{table}."
