"""What every model of a study learns from: tracks, their feature columns, their spectrograms.

Both are computed once into a cache. A track that lacks what is asked for is left out for all
models, so that all are measured on the same tracks; the data set says so in its problems.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from os.path import abspath, normpath
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio.scan import VERSION
from deepmusic.datasets.folder import FolderDataset, Problem, Track
from deepmusic.datasets.load import LoadedDataset, load_dataset
from deepmusic.datasets.near_duplicates import with_duplicates
from deepmusic.errors import DataError
from deepmusic.files import write_atomically

if TYPE_CHECKING:
    from deepmusic.classifier.spectrograms import SpectrogramStore

Need = Literal["columns", "spectrograms"]
NEEDS: tuple[Need, ...] = ("columns", "spectrograms")
OnProgress = Callable[[str, int, int], object]
"""Takes what is done (``"tracks"``, ``"copies"``, ``"features"`` or ``"spectrograms"``), how many
are, of how many."""

RECIPE = "fma"
"""Of the feature columns that are computed here."""
_FORMAT = "deepmusic study data"
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, EOFError)


@dataclass(frozen=True, eq=False)
class StudyData:
    """The tracks of a study and what is known of their sound.

    Args:
        dataset: the tracks, their genres, and what was left out.
        columns: ``(tracks, 518)``, in the order of ``dataset.tracks`` and of
            :data:`deepmusic.features.COLUMNS`; NaN where there is no value, never infinite. None
            where no model asked for them.
        spectrograms: gives the log-mel spectrogram ``(n_mels, frames)`` in dB of the track at an
            index of ``dataset.tracks``, as
            :class:`~deepmusic.classifier.spectrograms.SpectrogramStore` keeps it with the
            default settings. None likewise.
    """

    dataset: FolderDataset
    columns: NDArray[np.float32] | None = None
    spectrograms: Callable[[int], NDArray[np.float16]] | None = None

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """``(tracks,)``, place of each track's genre in :attr:`genres`."""
        return np.asarray(self.dataset.labels, np.int64)

    @property
    def genres(self) -> tuple[str, ...]:
        """Names of the genres, sorted."""
        return self.dataset.genres


@dataclass(frozen=True)
class _Kept:
    """Spectrograms in a store, by place."""

    folder: Path
    tracks: tuple[Track, ...]
    genres: tuple[str, ...]

    @cached_property
    def _store(self) -> SpectrogramStore:
        return _store(self.folder, self.genres)

    def __call__(self, place: int) -> NDArray[np.float16]:
        return self._store.load(self.tracks[place])

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("folder", "tracks", "genres")}


def load_study_data(
    place: str | os.PathLike[str] | LoadedDataset,
    *,
    cache: str | os.PathLike[str],
    needs: Sequence[Need] = NEEDS,
    features: str | os.PathLike[str] | None = None,
    finds_copies: bool = False,
    workers: int = 1,
    dask: str | None = None,
    on_progress: OnProgress | None = None,
) -> StudyData:
    """Load a data set with its feature columns and spectrograms, computing what is missing.

    Args:
        place: where the data set lies, as :func:`deepmusic.datasets.load.load_dataset` takes
            it, or one that it has loaded (of another kind or subset, with another table).
        cache: folder for feature tables and spectrograms; made if missing.
        needs: which of ``"columns"`` and ``"spectrograms"`` are wanted.
        features: a feature table to take columns from; nothing is computed then. Its rows are found
            by path, or by FMA's number.
        finds_copies: whether to listen for near copies, so that folds keep them together.
        workers: processes, and threads, of this machine.
        dask: address of the scheduler of a Dask cluster that computes the columns instead.
        on_progress: called in this thread as things are done.

    Returns:
        The data; ``dataset.problems`` has the tracks that were left out, ``dataset.notes`` one
        sentence for what was used and may not be as it should.

    Raises:
        DataError: the data set cannot be loaded, has fewer than two genres with tracks that can be
            heard, or no track has a row in the feature table.
        DeepMusicError: something cannot be written.
    """
    cache = Path(cache)
    if not isinstance(place, LoadedDataset):
        place = load_dataset(
            place,
            workers=workers if workers > 1 else None,
            on_progress=on_progress and (lambda done, total: on_progress("tracks", done, total)),
        )
    dataset = place.dataset
    _refuse_one_genre(dataset)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"The folder {cache} cannot be made: {reason}.") from error
    if finds_copies:
        dataset = with_duplicates(
            dataset,
            workers=workers,
            cache=cache / f"fingerprints-{VERSION}",
            on_progress=on_progress and (lambda done, total: on_progress("copies", done, total)),
        )
    columns = None
    if "columns" in needs:
        if features is None:
            found = _computed(dataset, cache, workers, dask, on_progress)
        else:
            found = _from_table(dataset, Path(features))
        dataset, columns = _with_columns(dataset, found)
        _refuse_one_genre(dataset)
    if "spectrograms" in needs:
        kept = {track.path: row for row, track in enumerate(dataset.tracks)}
        dataset = _with_spectrograms(dataset, cache / "spectrograms", workers, on_progress)
        _refuse_one_genre(dataset)
        if columns is not None:
            columns = columns[[kept[track.path] for track in dataset.tracks]]
    spectrograms = None
    if "spectrograms" in needs:
        spectrograms = _Kept(cache / "spectrograms", dataset.tracks, dataset.genres)
    return StudyData(dataset, columns, spectrograms)


def keep_study_data(data: StudyData, folder: Path) -> None:
    """Write what another process needs to have the same data, without hashing a track again.

    Args:
        data: as :func:`load_study_data` gives it.
        folder: gets ``tracks.json`` and ``columns.npy``; made if missing.

    Raises:
        DeepMusicError: the folder cannot be written.
        DataError: the spectrograms are not those of a cache.
    """
    if data.spectrograms is not None and not isinstance(data.spectrograms, _Kept):
        raise DataError("Only spectrograms of a cache can be used by other processes.")
    folder.mkdir(parents=True, exist_ok=True)
    if data.columns is not None:
        with write_atomically(folder / "columns.npy", "wb") as file:
            np.save(file, data.columns)
    kept = None if data.spectrograms is None else abspath(data.spectrograms.folder)
    found = {
        "format": _FORMAT,
        "root": abspath(data.dataset.root),
        "genres": data.dataset.genres,
        "has_columns": data.columns is not None,
        "spectrograms": kept,
        "tracks": [asdict(track) for track in data.dataset.tracks],
    }
    with write_atomically(folder / "tracks.json") as text:
        json.dump(found, text)


def read_study_data(folder: Path) -> StudyData:
    """Read what :func:`keep_study_data` wrote.

    Raises:
        DataError: the folder holds something else.
    """
    try:
        found: Mapping[str, Any] = json.loads((folder / "tracks.json").read_text(encoding="utf-8"))
        if found["format"] != _FORMAT:
            raise ValueError("another format")
        tracks = tuple(Track(**track) for track in found["tracks"])
        dataset = FolderDataset(Path(found["root"]), tracks, tuple(found["genres"]))
        columns = np.load(folder / "columns.npy", mmap_mode="r") if found["has_columns"] else None
        if columns is not None and len(columns) != len(tracks):
            raise ValueError("columns of other tracks")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"The data of the study in {folder} cannot be read: {reason}.") from error
    except _DAMAGED as error:
        raise DataError(
            f"The data of the study in {folder} are damaged: delete that folder and run again."
        ) from error
    spectrograms = None
    if found["spectrograms"] is not None:
        spectrograms = _Kept(Path(found["spectrograms"]), tracks, dataset.genres)
    return StudyData(dataset, columns, spectrograms)


def _refuse_one_genre(dataset: FolderDataset) -> None:
    if len(dataset.genres) < 2:
        there = f"only {dataset.genres[0]!r}" if dataset.genres else "no genre"
        raise DataError(
            f"{dataset.root} has {there} with tracks that can be used; a study needs two genres."
        )


def _store(folder: Path, genres: tuple[str, ...]) -> SpectrogramStore:
    from deepmusic.classifier.config import ClassifierConfig
    from deepmusic.classifier.spectrograms import SpectrogramStore

    return SpectrogramStore(folder, ClassifierConfig(genres=genres))


@dataclass(frozen=True)
class _Found:
    """Columns by path of the track, why others have none, and sentences on the whole."""

    columns: dict[str, NDArray[np.float32]]
    lacking: dict[str, Problem]
    notes: tuple[str, ...] = ()


def _computed(
    dataset: FolderDataset,
    cache: Path,
    workers: int,
    dask: str | None,
    on_progress: OnProgress | None,
) -> _Found:
    from deepmusic.features import extract_library, recipe_named

    # files of several data sets may have one cache, and a table holds the rows of one
    mark = hashlib.sha256(os.fsencode(abspath(dataset.root))).hexdigest()[:12]
    by_file = {os.fspath(dataset.file(track)): track for track in dataset.tracks}
    rows = extract_library(
        list(by_file),
        cache / f"features-{mark}.parquet",
        recipe_named(RECIPE),
        workers=workers,
        dask=dask,
    )
    found = _Found({}, {})
    for done, row in enumerate(rows, start=1):
        path = by_file[row.path].path
        if row.is_done:
            found.columns[path] = row.columns
        else:
            found.lacking[path] = Problem(path, row.code, row.error)
        if on_progress is not None:
            on_progress("features", done, len(by_file))
    return found


def _from_table(dataset: FolderDataset, features: Path) -> _Found:
    from deepmusic.features import read_features

    table = read_features(features)
    names = table.paths
    if names and all(name.isdecimal() for name in names):  # FMA's own numbers
        numbers = {int(name): place for place, name in enumerate(names)}

        def row_of(track: Track) -> int | None:
            stem = PurePosixPath(track.path).stem
            return numbers.get(int(stem)) if stem.isdecimal() else None
    else:
        by_name = {normpath(name): place for place, name in enumerate(names)}
        by_place = {abspath(name): place for place, name in enumerate(names)}

        def row_of(track: Track) -> int | None:
            file = os.fspath(dataset.file(track))
            for known, name in (
                (by_name, normpath(file)),
                (by_place, abspath(file)),
                (by_name, normpath(track.path)),
            ):
                if name in known:
                    return known[name]
            return None

    found = _Found({}, {})
    used = set()
    for track in dataset.tracks:
        row = row_of(track)
        if row is None:
            message = f"{track.path!r} has no row in the feature table {features}."
            found.lacking[track.path] = Problem(track.path, "no_row", message)
            continue
        used.add(row)
        if np.isnan(table.columns[row]).all():
            said = str(table.facts.get("error", [""] * len(names))[row] or "")
            message = said or f"{track.path!r} has a row without values in {features}."
            found.lacking[track.path] = Problem(track.path, "no_features", message)
        else:
            found.columns[track.path] = table.columns[row]
    if not used:
        example = f", such as {names[0]!r}" if names else ""
        raise DataError(
            f"None of the {len(dataset.tracks)} tracks of {dataset.root} has a row in the feature "
            f"table {features}, which has {len(names)} rows{example}: make one with 'features "
            "extract'."
        )
    notes = []
    others = [name for place, name in enumerate(names) if place not in used]
    if others:
        notes.append(
            f"{_count(others, 'row', 'rows')} of the feature table {features} "
            f"{'is' if len(others) == 1 else 'are'} of no track in {dataset.root}, such as "
            f"{others[0]!r}, and {'is' if len(others) == 1 else 'are'} not used."
        )
    if table.recipe not in ("", RECIPE):
        notes.append(
            f"The feature table {features} is of recipe {table.recipe!r}: models trained on it do "
            f"not fit columns of recipe {RECIPE!r}."
        )
    return replace(found, notes=tuple(notes))


def _with_columns(
    dataset: FolderDataset, found: _Found
) -> tuple[FolderDataset, NDArray[np.float32]]:
    """The data set less the tracks without columns, and the columns of the others."""
    from deepmusic.classifier.spectrograms import without

    lacking = [found.lacking[t.path] for t in dataset.tracks if t.path in found.lacking]
    left = without(dataset, lacking)
    columns = np.array([found.columns[t.path] for t in left.tracks], np.float32)
    columns = columns.reshape(len(left.tracks), -1)
    notes = [*left.notes, *found.notes]
    infinite = np.isinf(columns)
    if infinite.any():
        tracks = np.flatnonzero(infinite.any(axis=1))
        notes.append(
            f"{_count(tracks, 'track has', 'tracks have')} infinite feature values, such as "
            f"{left.tracks[tracks[0]].path!r}; these values count as missing."
        )
        columns[infinite] = np.nan
    holes = np.flatnonzero(np.isnan(columns).any(axis=1))
    if len(holes):
        notes.append(
            f"{_count(holes, 'track lacks', 'tracks lack')} some features, such as "
            f"{left.tracks[holes[0]].path!r}; there models on features take the median of the "
            "tracks that they learn from."
        )
    return replace(left, notes=tuple(notes)), columns


def _with_spectrograms(
    dataset: FolderDataset, folder: Path, workers: int, on_progress: OnProgress | None
) -> FolderDataset:
    """The data set less the tracks that have no spectrogram; those of the others are there."""
    from deepmusic.classifier.spectrograms import without

    tell = None
    if on_progress is not None:

        def tell(done: int, total: int) -> None:
            on_progress("spectrograms", done, total)

    problems = _store(folder, dataset.genres).fill(dataset, workers=workers, on_progress=tell)
    return without(dataset, problems)


def _count(things: Sequence[Any] | NDArray[Any], one: str, many: str) -> str:
    return f"{len(things)} {one if len(things) == 1 else many}"
