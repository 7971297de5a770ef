"""What models of a study learn from: feature columns, spectrograms, what the pretrained ear gives.

A track that lacks what is needed is left out for all models, so that all are measured on the same
tracks; the problems of the data set say so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from os.path import abspath, normpath
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets.folder import FolderDataset, Problem, Track
from deepmusic.datasets.load import LoadedDataset, load_dataset
from deepmusic.errors import DataError, counted
from deepmusic.files import make_folder

if TYPE_CHECKING:
    from deepmusic.classifier.data import SpectrogramStore
    from deepmusic.classifier.ear.patches import EarOutput
    from deepmusic.classifier.ear.training import EarStore
    from deepmusic.studies.analysis import Output

Need = Literal["columns", "spectrograms", "ear"]
NEEDS: tuple[Need, ...] = ("columns", "spectrograms")
OnProgress = Callable[[str, int, int], object]
"""Takes what is done (``"files"`` are found and hashed, ``"tracks"`` are decoded, ``"ear"``: the
ear has run on them), how many are done, and of how many."""


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
        ear: likewise gives what the pretrained ear gives for a track, features ``(n, 256)`` and
            logits of tags ``(n, 50)`` of its patches. None where no model needs it.
    """

    dataset: FolderDataset
    columns: NDArray[np.float32] | None = None
    spectrograms: Callable[[int], NDArray[np.float16]] | None = None
    ear: Callable[[int], EarOutput] | None = None

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """``(tracks,)``, the index of each track's genre in ``genres``."""
        return np.asarray(self.dataset.labels, np.int64)

    @property
    def genres(self) -> tuple[str, ...]:
        """Names of the genres, sorted."""
        return self.dataset.genres


@dataclass(frozen=True)
class _Stored:
    """What a store has of tracks, by index of the track."""

    store: SpectrogramStore | EarStore
    tracks: tuple[Track, ...]

    def __call__(self, index: int) -> Any:
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
        needs: which of ``"columns"``, ``"spectrograms"`` and ``"ear"`` are needed.
        features: a feature table to take columns from; rows are matched by path, or FMA's number.
        finds_copies: whether to look for near duplicates, so that folds keep them together.
        workers: processes on this machine.
        dask: address of a Dask scheduler whose workers are used instead.
        on_progress: called in this thread as things are done.

    Raises:
        DataError: the data set cannot be loaded, has fewer than two genres with usable tracks, or
            no track has a row in the feature table.
        CheckpointError: the pretrained ear is needed, and is not installed.
        DeepMusicError: something cannot be written.
    """
    if not isinstance(data, LoadedDataset):
        show = on_progress and partial(on_progress, "files")
        data = load_dataset(data, workers=workers if workers > 1 else None, on_progress=show)
    dataset = data.dataset
    _check_genres(dataset)
    outputs = _outputs(needs, features is not None, finds_copies)
    rows: dict[str, NDArray[np.float32]] = {}  # by path of the track
    problems: list[Problem] = []
    store: SpectrogramStore | None = None
    ear: EarStore | None = None
    if features is not None and "columns" in needs:  # first, as the table may be another
        rows, problems, notes = _from_table(dataset, Path(features))
        dataset = replace(dataset, notes=(*dataset.notes, *notes))
    if outputs:
        show = on_progress and partial(on_progress, "tracks")
        dataset, computed, failed, store = _analyze(
            dataset, Path(cache), outputs, workers, dask, show
        )
        rows, problems = rows | computed, failed + problems
    if "ear" in needs:
        from deepmusic.classifier.ear.training import EarStore

        ear, show = EarStore(Path(cache) / "ear"), on_progress and partial(on_progress, "ear")
        problems += ear.fill(dataset, workers=workers, on_progress=show)
    dataset = _usable(dataset, problems)
    columns = None
    if "columns" in needs:
        columns = np.array([rows[track.path] for track in dataset.tracks], np.float32)
        dataset = _with_finite(dataset, columns)
    stored = (None if s is None else _Stored(s, dataset.tracks) for s in (store, ear))
    return StudyData(dataset, columns, *stored)


def _analyze(
    dataset: FolderDataset,
    cache: Path,
    outputs: Sequence[Output],
    workers: int,
    dask: str | None,
    on_progress: Callable[[int, int], object] | None,
) -> tuple[FolderDataset, dict[str, NDArray[np.float32]], list[Problem], SpectrogramStore | None]:
    """Analyze the tracks as far as the cache lacks them.

    Returns:
        The data set, with near duplicates in groups if there are fingerprints; columns by path of
        the track; the tracks that lack a column or a spectrogram; the store of spectrograms.
    """
    from deepmusic.store import Store
    from deepmusic.studies.analysis import analyze_tracks

    make_folder(cache)
    spectrograms = None
    if "spectrograms" in outputs:
        from deepmusic.classifier.config import ClassifierConfig
        from deepmusic.classifier.data import SpectrogramStore

        config = ClassifierConfig(genres=dataset.genres)
        spectrograms = SpectrogramStore(cache / "spectrograms", config)
    files = [(track.content_hash, dataset.file(track)) for track in dataset.tracks]
    options: Any = {"workers": workers, "dask": dask, "on_progress": on_progress}
    with Store(cache / "analysis.db", "track analyses") as store:
        analyses = analyze_tracks(files, outputs, spectrograms, store, **options)
    rows, problems = {}, []
    needs = {"columns", "spectrograms"} & set(outputs)
    for track in dataset.tracks:
        analysis = analyses[track.content_hash]
        is_silent = "spectrograms" in needs and analysis.code == "silent"
        if needs and (is_silent or not needs <= set(analysis.outputs)):
            problems.append(Problem(track.path, analysis.code, analysis.error))
        elif "columns" in needs:
            rows[track.path] = analysis.columns
    if "fingerprints" in outputs:
        from deepmusic.datasets.near_duplicates import with_sound_groups

        decoded = [a for a in analyses.values() if "fingerprints" in a.outputs]
        dataset = with_sound_groups(dataset, {a.content_hash: a.fingerprint for a in decoded})
    return dataset, rows, problems, spectrograms


def _outputs(needs: Sequence[Need], has_table: bool, finds_copies: bool) -> list[Output]:
    """What one decoding of a track gives."""
    outputs: list[Output] = ["spectrograms"] if "spectrograms" in needs else []
    outputs += ["columns"] if "columns" in needs and not has_table else []
    outputs += ["fingerprints"] if finds_copies else []
    return outputs


def _usable(dataset: FolderDataset, problems: Sequence[Problem]) -> FolderDataset:
    """The data set without the tracks that have problems, each with its first."""
    if not problems:
        return dataset
    from deepmusic.classifier.data import without

    first = {problem.path: problem for problem in reversed(problems)}
    dataset = without(dataset, [*first.values()])
    _check_genres(dataset)
    return dataset


def _check_genres(dataset: FolderDataset) -> None:
    if len(dataset.genres) < 2:
        there = f"only {dataset.genres[0]!r}" if dataset.genres else "no genre"
        raise DataError(
            f"{dataset.root} has {there} with tracks that can be used; a study needs two genres."
        )


def _from_table(
    dataset: FolderDataset, features: Path
) -> tuple[dict[str, NDArray[np.float32]], list[Problem], list[str]]:
    """Columns by path of the track, tracks without them, and notes on the table."""
    from deepmusic.features import read_features
    from deepmusic.studies.analysis import RECIPE

    table = read_features(features)
    names = table.paths
    row_of = _rows_of_tracks(dataset, names)
    rows, problems = {}, []
    for track, row in zip(dataset.tracks, row_of, strict=True):
        if row is None:
            message = f"{track.path!r} has no row in the feature table {features}."
            problems.append(Problem(track.path, "no_row", message))
        elif np.isnan(table.columns[row]).all():
            error = str(table.facts.get("error", [""] * len(names))[row] or "")
            message = error or f"{track.path!r} has a row without values in {features}."
            problems.append(Problem(track.path, "no_features", message))
        else:
            rows[track.path] = table.columns[row]
    used = set(row_of)
    others = [name for row, name in enumerate(names) if row not in used]
    if len(others) == len(names):
        example = f", such as {names[0]!r}" if names else ""
        raise DataError(
            f"None of the {len(dataset.tracks)} tracks of {dataset.root} has a row in the feature "
            f"table {features}, which has {counted(len(names), 'row')}{example}: make one with "
            "'features extract'."
        )
    notes = []
    if others:
        notes.append(
            f"{counted(len(others), 'row')} of the feature table {features} without a track in "
            f"{dataset.root}, such as {others[0]!r}: ignored."
        )
    if table.recipe not in ("", RECIPE):
        notes.append(
            f"The feature table {features} is of recipe {table.recipe!r}: models trained on it do "
            f"not fit columns of recipe {RECIPE!r}."
        )
    return rows, problems, notes


def _rows_of_tracks(dataset: FolderDataset, names: Sequence[str]) -> list[int | None]:
    """The row of each track in a table with these paths or numbers of FMA; None for no row."""
    if names and all(name.isdecimal() for name in names):
        row_of_number = {int(name): row for row, name in enumerate(names)}
        stems = [PurePosixPath(track.path).stem for track in dataset.tracks]
        return [row_of_number.get(int(stem)) if stem.isdecimal() else None for stem in stems]
    row_of_path = {abspath(name): row for row, name in enumerate(names)}
    row_of_path |= {normpath(name): row for row, name in enumerate(names)}
    rows = []
    for track in dataset.tracks:
        candidates = (abspath(dataset.file(track)), normpath(track.path))
        rows.append(next((row_of_path[c] for c in candidates if c in row_of_path), None))
    return rows


def _with_finite(dataset: FolderDataset, columns: NDArray[np.float32]) -> FolderDataset:
    """Make infinite values missing, and add notes on what is missing to the data set."""
    notes = list(dataset.notes)
    for is_missing, message in (
        (np.isinf, "with infinite feature values, which count as missing"),
        (np.isnan, "without some features; models use the median of their training tracks"),
    ):
        cells = is_missing(columns)
        if cells.any():
            tracks = np.flatnonzero(cells.any(axis=1))
            example = dataset.tracks[tracks[0]].path
            notes.append(f"{counted(len(tracks), 'track')} {message} (such as {example!r}).")
            columns[cells] = np.nan
    return replace(dataset, notes=tuple(notes))
