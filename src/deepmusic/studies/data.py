"""What every model of a study learns from: tracks, their feature columns, their spectrograms.

Both are computed once, in one decoding pass per track (``deepmusic.studies.analysis``), and kept
in a cache. A track that lacks what is needed is left out for all models, so that all are measured
on the same tracks; the problems of the data set say so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from os.path import abspath, normpath
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets.folder import FolderDataset, Problem, Track
from deepmusic.datasets.load import LoadedDataset, load_dataset
from deepmusic.errors import DataError, os_reason

if TYPE_CHECKING:
    from deepmusic.classifier.spectrograms import SpectrogramStore
    from deepmusic.studies.analysis import Output, TrackAnalysis

Need = Literal["columns", "spectrograms"]
NEEDS: tuple[Need, ...] = ("columns", "spectrograms")
OnProgress = Callable[[str, int, int], object]
"""Takes what is done (``"files"`` are found and hashed, ``"tracks"`` are decoded), how many are
done, and of how many."""


@dataclass(frozen=True, eq=False)
class StudyData:
    """The tracks of a study and what is known of their sound.

    Args:
        dataset: the tracks, their genres, and what was left out.
        columns: ``(tracks, 518)``, in the order of ``dataset.tracks`` and of
            ``deepmusic.features.COLUMNS``; NaN where a value is missing, never infinite. None
            where no model needs them.
        spectrograms: gives the log-mel spectrogram ``(n_mels, frames)`` in dB of a track by its
            index in ``dataset.tracks``, at least one segment long, with the default settings of
            ``ClassifierConfig``. None where no model needs them.
    """

    dataset: FolderDataset
    columns: NDArray[np.float32] | None = None
    spectrograms: Callable[[int], NDArray[np.float16]] | None = None

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """``(tracks,)``, the index of each track's genre in ``genres``."""
        return np.asarray(self.dataset.labels, np.int64)

    @property
    def genres(self) -> tuple[str, ...]:
        """Names of the genres, sorted."""
        return self.dataset.genres


@dataclass(frozen=True)
class _Spectrograms:
    """The spectrograms in a store, by index of the track."""

    store: SpectrogramStore
    tracks: tuple[Track, ...]

    def __call__(self, index: int) -> NDArray[np.float16]:
        return self.store.load(self.tracks[index])


def load_study_data(
    data: str | os.PathLike[str] | LoadedDataset,
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
        data: as ``deepmusic.datasets.load_dataset`` takes it, or what it has loaded.
        cache: folder for what is computed; created if missing.
        needs: which of ``"columns"`` and ``"spectrograms"`` are needed.
        features: a feature table to take columns from; rows are matched by path, or FMA's number.
        finds_copies: whether to look for near duplicates, so that folds keep them together.
        workers: processes on this machine.
        dask: address of a Dask scheduler whose workers are used instead.
        on_progress: called in this thread as things are done.

    Raises:
        DataError: the data set cannot be loaded, has fewer than two genres with usable tracks, or
            no track has a row in the feature table.
        DeepMusicError: something cannot be written.
    """
    cache = Path(cache)
    if not isinstance(data, LoadedDataset):
        show = on_progress and partial(on_progress, "files")
        data = load_dataset(data, workers=workers if workers > 1 else None, on_progress=show)
    dataset = data.dataset
    _check_genres(dataset)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"The folder {cache} cannot be created: {os_reason(error)}.") from error
    outputs: list[Output] = [need for need in needs if need == "spectrograms" or features is None]
    outputs += ["fingerprints"] if finds_copies else []
    rows: dict[str, NDArray[np.float32]] = {}
    problems: list[Problem] = []
    store: SpectrogramStore | None = None
    if outputs:
        show = on_progress and partial(on_progress, "tracks")
        found, store = _analyze(dataset, cache, outputs, workers, dask, show)
        rows, problems = _analyzed(dataset, found, outputs)
        if finds_copies:
            dataset = _with_groups(dataset, found)
    columns = None
    if "columns" in needs:
        if features is not None:
            dataset, rows, lacking = _from_table(dataset, Path(features))
            problems += lacking
        dataset, columns = _with_columns(dataset, rows, problems)
    else:
        dataset = _without(dataset, problems)
    _check_genres(dataset)
    spectrograms = None if store is None else _Spectrograms(store, dataset.tracks)
    return StudyData(dataset, columns, spectrograms)


def _analyze(
    dataset: FolderDataset,
    cache: Path,
    outputs: Sequence[Output],
    workers: int,
    dask: str | None,
    on_progress: Callable[[int, int], object] | None,
) -> tuple[dict[str, TrackAnalysis], SpectrogramStore | None]:
    """The analyses by content hash, and the store of spectrograms if they are wanted."""
    from deepmusic.store import Store
    from deepmusic.studies.analysis import analyze_tracks

    spectrograms = None
    if "spectrograms" in outputs:
        from deepmusic.classifier.config import ClassifierConfig
        from deepmusic.classifier.spectrograms import SpectrogramStore

        config = ClassifierConfig(genres=dataset.genres)
        spectrograms = SpectrogramStore(cache / "spectrograms", config)
    files = [(track.content_hash, dataset.file(track)) for track in dataset.tracks]
    with Store(cache / "analysis.db", "track analyses") as store:
        found = analyze_tracks(
            files,
            outputs,
            spectrograms,
            store,
            workers=workers,
            dask=dask,
            on_progress=on_progress,
        )
    return found, spectrograms


def _with_groups(dataset: FolderDataset, found: Mapping[str, TrackAnalysis]) -> FolderDataset:
    """The data set with near duplicates in groups."""
    from deepmusic.datasets.near_duplicates import with_sound_groups

    fingerprints = {
        content: analysis.fingerprint
        for content, analysis in found.items()
        if "fingerprints" in analysis.outputs
    }
    return with_sound_groups(dataset, fingerprints)


def _check_genres(dataset: FolderDataset) -> None:
    if len(dataset.genres) < 2:
        there = f"only {dataset.genres[0]!r}" if dataset.genres else "no genre"
        raise DataError(
            f"{dataset.root} has {there} with tracks that can be used; a study needs two genres."
        )


def _analyzed(
    dataset: FolderDataset, found: Mapping[str, TrackAnalysis], outputs: Sequence[Output]
) -> tuple[dict[str, NDArray[np.float32]], list[Problem]]:
    """Columns by path of the track, and the tracks that lack a column or a spectrogram."""
    rows, problems = {}, []
    needs = {"columns", "spectrograms"} & set(outputs)
    for track in dataset.tracks:
        analysis = found[track.content_hash]
        if needs and (
            not needs <= set(analysis.outputs)
            or ("spectrograms" in needs and analysis.code == "silent")
        ):
            problems.append(Problem(track.path, analysis.code, analysis.error))
        elif "columns" in needs:
            rows[track.path] = analysis.columns
    return rows, problems


def _from_table(
    dataset: FolderDataset, features: Path
) -> tuple[FolderDataset, dict[str, NDArray[np.float32]], list[Problem]]:
    """The data set with notes on the table, columns by path of the track, tracks without them."""
    from deepmusic.features import read_features
    from deepmusic.studies.analysis import RECIPE

    table = read_features(features)
    names = table.paths
    row_of = _row_finder(dataset, names)
    rows, problems, used = {}, [], set()
    for track in dataset.tracks:
        row = row_of(track)
        if row is None:
            message = f"{track.path!r} has no row in the feature table {features}."
            problems.append(Problem(track.path, "no_row", message))
            continue
        used.add(row)
        if np.isnan(table.columns[row]).all():
            error = str(table.facts.get("error", [""] * len(names))[row] or "")
            message = error or f"{track.path!r} has a row without values in {features}."
            problems.append(Problem(track.path, "no_features", message))
        else:
            rows[track.path] = table.columns[row]
    if not used:
        example = f", such as {names[0]!r}" if names else ""
        raise DataError(
            f"None of the {len(dataset.tracks)} tracks of {dataset.root} has a row in the feature "
            f"table {features}, which has {len(names)} rows{example}: make one with 'features "
            "extract'."
        )
    notes = list(dataset.notes)
    others = [name for row, name in enumerate(names) if row not in used]
    if others:
        notes.append(
            f"{len(others)} rows of the feature table {features} are of no track in "
            f"{dataset.root} and are ignored, such as {others[0]!r}."
        )
    if table.recipe not in ("", RECIPE):
        notes.append(
            f"The feature table {features} is of recipe {table.recipe!r}: models trained on it do "
            f"not fit columns of recipe {RECIPE!r}."
        )
    return replace(dataset, notes=tuple(notes)), rows, problems


def _row_finder(dataset: FolderDataset, names: Sequence[str]) -> Callable[[Track], int | None]:
    """A function that gives the row of a track in a table with these paths, or FMA's numbers."""
    if names and all(name.isdecimal() for name in names):
        numbers = {int(name): row for row, name in enumerate(names)}

        def by_number(track: Track) -> int | None:
            stem = PurePosixPath(track.path).stem
            return numbers.get(int(stem)) if stem.isdecimal() else None

        return by_number
    by_name = {normpath(name): row for row, name in enumerate(names)}
    by_file = {abspath(name): row for row, name in enumerate(names)}

    def by_path(track: Track) -> int | None:
        file = os.fspath(dataset.file(track))
        found = (
            by_name.get(normpath(file)),
            by_file.get(abspath(file)),
            by_name.get(normpath(track.path)),
        )
        return next((row for row in found if row is not None), None)

    return by_path


def _without(dataset: FolderDataset, problems: Sequence[Problem]) -> FolderDataset:
    if not problems:
        return dataset
    from deepmusic.classifier.spectrograms import without

    return without(dataset, problems)


def _with_columns(
    dataset: FolderDataset, rows: Mapping[str, NDArray[np.float32]], problems: Sequence[Problem]
) -> tuple[FolderDataset, NDArray[np.float32]]:
    """The data set less the tracks with problems, and the columns of the others."""
    first = {problem.path: problem for problem in reversed(problems)}
    dataset = _without(dataset, [first[t.path] for t in dataset.tracks if t.path in first])
    columns = np.array([rows[t.path] for t in dataset.tracks], np.float32)
    columns = columns.reshape(len(dataset.tracks), -1)
    notes = list(dataset.notes)
    for is_missing, message in (
        (np.isinf, "tracks have infinite feature values, which count as missing"),
        (np.isnan, "tracks lack some features; models use the median of their training tracks"),
    ):
        cells = is_missing(columns)
        if cells.any():
            tracks = np.flatnonzero(cells.any(axis=1))
            example = dataset.tracks[tracks[0]].path
            notes.append(f"{len(tracks)} {message} (such as {example!r}).")
            columns[cells] = np.nan
    return replace(dataset, notes=tuple(notes)), columns
