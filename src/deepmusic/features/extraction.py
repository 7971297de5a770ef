"""Features of many tracks: one function a file, on one machine or many, and nothing done twice.

Every row is in a journal beside the table as soon as it is there, so that a kill loses the tracks
in flight alone; a second call takes the rows of journal and table, and does the rest. What runs the
workers is joblib: loky's processes here, or a Dask cluster.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import open_audio
from deepmusic.errors import reason_of
from deepmusic.features.recipe import COLUMNS, Recipe
from deepmusic.features.track import columns_of, families_of
from deepmusic.parallel import map_files

_KEPT_S = 360.0
"""Spectra of longer tracks are not kept in memory but computed twice."""
_LONGEST_S = 6 * 3600.0


def _no_values() -> NDArray[np.float32]:
    return np.full(len(COLUMNS), np.nan, np.float32)


@dataclass(frozen=True, eq=False)
class TrackFeatures:
    """A row of a feature table.

    Args:
        path: of the file.
        columns: ``(518,)`` float32, in the order of :data:`~deepmusic.features.COLUMNS`; NaN where
            there is no value.
        code: empty where all is well; ``low_rate`` where some columns need a higher rate; else why
            there is no value at all: a code of :func:`deepmusic.audio.open_audio`, ``memory``,
            ``changed``, ``unexpected`` or ``worker_died``.
        error: one sentence about the code.
        warning: one sentence about sound that was lost; empty as a rule.
        duration_s: seconds of sound; 0 where there is none.
        sample_rate: samples per second.
        size, mtime_ns: of the file, by which a change is noticed; -1 where it cannot be read.
    """

    path: str
    columns: NDArray[np.float32] = field(default_factory=_no_values)
    code: str = ""
    error: str = ""
    warning: str = ""
    duration_s: float = 0.0
    sample_rate: int = 0
    size: int = -1
    mtime_ns: int = -1

    @property
    def is_done(self) -> bool:
        """Whether there are values; such a row is not computed again."""
        return not np.isnan(self.columns).all()


def extract_file(
    path: str | os.PathLike[str], recipe: Recipe, *, max_seconds: float = _LONGEST_S
) -> TrackFeatures:
    """The row of one file, with a reason in it where there is none; it raises nothing.

    Args:
        path: a sound file, or a video.
        recipe: a version of the recipe.
        max_seconds: no more than this of a track is read; the warning says so.
    """
    shown = os.fspath(path)
    found = TrackFeatures(shown)
    try:
        status = os.stat(shown)
        found = replace(found, size=status.st_size, mtime_ns=status.st_mtime_ns)
    except (OSError, ValueError):
        pass  # opening says why
    try:
        return _with_features(found, recipe, max_seconds)
    except Exception as error:  # a bug that one file uncovers must not cost the others
        code, said = reason_of(error, shown, "has no features")
        return replace(found, code=code, error=said)


def _with_features(found: TrackFeatures, recipe: Recipe, max_seconds: float) -> TrackFeatures:
    parts: list[NDArray[np.float32]] = []
    samples = 0
    with open_audio(found.path, sample_rate=None, max_seconds=max_seconds) as stream:
        for block in stream:
            parts.append(block)
            samples += len(block)
            if samples > _KEPT_S * stream.sample_rate:
                break
        sample_rate, is_short = stream.sample_rate, samples <= _KEPT_S * stream.sample_rate
        duration_s, warning = stream.duration_s, stream.warning
    if is_short:
        sound = np.concatenate(parts)
        columns = columns_of(families_of(lambda: [sound], sample_rate, recipe, keeps=True))
    else:
        parts.clear()
        heard = _Heard(found.path, max_seconds)
        columns = columns_of(families_of(heard.blocks, sample_rate, recipe, keeps=False))
        duration_s, warning = heard.duration_s, heard.warning
    found = replace(
        found,
        columns=columns,
        warning=warning or "",
        duration_s=duration_s,
        sample_rate=sample_rate,
    )
    missing = np.isnan(columns)
    if not missing.any():
        return found
    lacking = list(dict.fromkeys(COLUMNS[place][0] for place in np.flatnonzero(missing)))
    return replace(
        found,
        code="low_rate",
        error=f"{found.path!r} has {sample_rate} samples per second, too few for "
        f"{', '.join(lacking)}.",
    )


class _Heard:
    """Reads a file as often as it is asked to, and remembers what the last reading told."""

    def __init__(self, path: str, max_seconds: float) -> None:
        self._path, self._max_seconds = path, max_seconds
        self.duration_s = 0.0
        self.warning: str | None = None

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        with open_audio(self._path, sample_rate=None, max_seconds=self._max_seconds) as stream:
            yield from stream
            self.duration_s, self.warning = stream.duration_s, stream.warning


def extract(
    paths: Iterable[str],
    recipe: Recipe,
    *,
    workers: int = 1,
    dask: str | None = None,
    max_seconds: float = _LONGEST_S,
) -> Iterator[TrackFeatures]:
    """The rows of many files, as they are done.

    A worker that dies costs nothing but time: what it had in hand is done again, each file in a
    process of its own. A file that kills that one too gets the reason ``worker_died``.

    Args:
        paths: of sound files; each is done once.
        recipe: a version of the recipe.
        workers: processes on this machine; one does all in this process.
        dask: address of the scheduler of a Dask cluster whose workers see the same files; they do
            it then.
        max_seconds: as in :func:`extract_file`.

    Yields:
        A row for each path, in any order.

    Raises:
        DeepMusicError: the cluster cannot be reached, or was lost.
    """
    function = partial(extract_file, recipe=recipe, max_seconds=max_seconds)
    yield from map_files(function, paths, _died, workers=workers, dask=dask)


def _died(path: str) -> TrackFeatures:
    return TrackFeatures(
        path,
        code="worker_died",
        error=f"{path!r} twice ended the process that computed its features.",
    )
