"""Features of many files: one function per file, on one machine or many, and nothing done twice.

Finished rows are kept in a store beside the table at once, so that a kill loses only the tracks in
progress; the next call takes what is in the store and in the table, and computes the rest.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Container, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import NotAudio, open_audio
from deepmusic.audio.bandwidth import BandwidthMeter
from deepmusic.audio.silence import SILENCE, frame_levels
from deepmusic.errors import DataError, reason_of
from deepmusic.features.recipe import COLUMNS, Recipe
from deepmusic.features.table import (
    FeatureTable,
    TrackFeatures,
    escaped,
    read_features,
    write_features,
)
from deepmusic.features.track import feature_columns, track_features
from deepmusic.files import names_of_files
from deepmusic.parallel import map_files, under_name
from deepmusic.store import Store, content_digest

_IN_MEMORY_S = 360.0
"""Longer tracks are read twice instead of keeping their spectra in memory."""
_MAX_S = 6 * 3600.0


def extract_file(
    path: str | os.PathLike[str], recipe: Recipe, *, max_seconds: float = _MAX_S
) -> TrackFeatures:
    """Compute the row of one file; where that fails, the row says why, and nothing is raised.

    Args:
        path: a sound file, or a video.
        recipe: a version of the recipe.
        max_seconds: of the track that are read at most; the warning says if it is longer.
    """
    row = TrackFeatures(os.fspath(path))
    try:
        status = os.stat(path)
        row = replace(row, size=status.st_size, mtime_ns=status.st_mtime_ns)
        if stat.S_ISREG(status.st_mode):
            row = replace(row, sha256=content_digest(path))
    except (OSError, ValueError):
        pass  # opening the file will say why
    try:
        return _with_features(row, recipe, max_seconds)
    except Exception as error:  # a bug that one file uncovers must not stop the others
        code, message = reason_of(error, row.path, "has no features")
        return replace(row, code=code, error=message)


def _with_features(row: TrackFeatures, recipe: Recipe, max_seconds: float) -> TrackFeatures:
    file = _AudioFile(row.path, max_seconds)
    parts: list[NDArray[np.float32]] = []
    samples, is_short = 0, True
    with closing(file.blocks()) as blocks:
        for block in blocks:
            parts.append(block)
            samples += len(block)
            is_short = samples <= _IN_MEMORY_S * file.sample_rate
            if not is_short:
                break
    if is_short:
        sound = np.concatenate(parts)
        features = track_features(lambda: [sound], file.sample_rate, recipe, in_memory=True)
    else:
        features = track_features(file.blocks, file.sample_rate, recipe, in_memory=False)
    parts.clear()
    columns = feature_columns(features)
    code = error = ""
    missing = list(dict.fromkeys(COLUMNS[index][0] for index in np.flatnonzero(np.isnan(columns))))
    if missing:
        code = "low_rate"
        error = (
            f"{row.path!r} has a sample rate of {file.sample_rate} Hz, too low for "
            f"{', '.join(missing)}."
        )
    return replace(
        row,
        columns=columns,
        code=code,
        error=error,
        warning=file.warning,
        duration_s=file.duration_s,
        sample_rate=file.sample_rate,
        silent_share=file.silent_share,
        bandwidth_hz=file.bandwidth_hz,
    )


class _AudioFile:
    """A file that is read from the start as often as necessary, with facts of the last reading."""

    def __init__(self, path: str, max_seconds: float) -> None:
        self._path, self._max_seconds = path, max_seconds
        self.sample_rate = 0
        self.duration_s = 0.0
        self.warning = ""
        self.silent_share = 0.0
        self.bandwidth_hz: int | None = None

    def blocks(self) -> Generator[NDArray[np.float32], None, None]:
        meter = BandwidthMeter()
        with open_audio(
            self._path, sample_rate=None, max_seconds=self._max_seconds, on_block=meter.add
        ) as stream:
            self.sample_rate = stream.sample_rate
            levels = []
            for block in stream:
                levels.append(frame_levels(block, stream.sample_rate))
                yield block
            self.silent_share = float(np.mean(np.concatenate(levels) < SILENCE))
            self.bandwidth_hz = meter.bandwidth_hz()
            self.duration_s, self.warning = stream.duration_s, stream.warning or ""


def extract(
    paths: Iterable[str],
    recipe: Recipe,
    *,
    workers: int = 1,
    dask: str | None = None,
    max_seconds: float = _MAX_S,
) -> Iterator[TrackFeatures]:
    """Yield the rows of many files as they are done, in any order.

    A worker that crashes costs only time: the files it was working on are tried again, each in a
    process of its own. A file that crashes that one too gets the code ``worker_died``.

    Args:
        paths: of sound files; each is processed once.
        recipe: a version of the recipe.
        workers: processes on this machine; with 1 everything runs in this process.
        dask: address of a Dask scheduler whose workers see the same files; they are used instead.
        max_seconds: as in ``extract_file``.

    Raises:
        DeepMusicError: the cluster cannot be reached, or the connection was lost.
    """
    function = partial(extract_file, recipe=recipe, max_seconds=max_seconds)
    yield from map_files(function, paths, _after_crash, workers=workers, dask=dask)


def _after_crash(path: str) -> TrackFeatures:
    error = f"{path!r} crashed the process that computed its features, twice."
    return TrackFeatures(path, code="worker_died", error=error)


def extract_library(
    entries: Iterable[str | NotAudio],
    output: str | os.PathLike[str],
    recipe: Recipe,
    *,
    workers: int = 1,
    dask: str | None = None,
    max_seconds: float = _MAX_S,
) -> Iterator[TrackFeatures]:
    """Write the feature table of many tracks, and yield its rows as they are done.

    Rows of the table, if it exists, and of the store beside it (``OUTPUT.partial``) are reused if
    the file has the same path, size and modification time, or else the same content; rows without
    values are tried again. A file under several names, by links, is computed once. Rows come in any
    order; in the table they have that of the entries. The table is written, and the store
    deleted, when the iterator is exhausted.

    Args:
        entries: paths, and what cannot be a track, as ``deepmusic.audio.find_audio`` yields
            them.
        output: the table; CSV if its name ends in ``.csv``, else Parquet.
        recipe: a version of the recipe.
        workers: as in ``extract``, like the following.
        dask: address of a Dask scheduler.
        max_seconds: of a track that are read at most.

    Yields:
        One row per entry.

    Raises:
        DataError: the table or the store is of another recipe, or something else.
        DeepMusicError: one of them cannot be written; the cluster cannot be reached.
    """
    output = Path(output)
    entries = list(dict.fromkeys(entries))
    finished = _rows_of_table(output, recipe)
    settings = {"recipe": recipe.name, "version": recipe.version}
    rows: dict[str, TrackFeatures] = {}
    with Store(output.with_name(output.name + ".partial"), "features", settings) as store:
        finished |= {key: _from_record(record) for key, record in store.items()}
        contents = {(row.size, row.sha256): row for row in finished.values() if row.sha256}
        sizes = {size for size, _ in contents}
        for entry in entries:
            row = _without_computing(entry, finished)
            if row is None and isinstance(entry, str):
                row = _found_by_content(entry, contents, sizes)
            if row is not None:
                rows[row.path] = row
                yield row
        names = names_of_files(
            path for path in entries if isinstance(path, str) and path not in rows
        )
        for computed in extract(names, recipe, workers=workers, dask=dask, max_seconds=max_seconds):
            for name in names[computed.path]:
                rows[name] = under_name(computed, name)
                store.put(escaped(name), _to_record(rows[name]))
                yield rows[name]
        order = [entry if isinstance(entry, str) else entry.path for entry in entries]
        write_features(output, FeatureTable.from_rows([rows[path] for path in order], recipe))
        store.remove()


def _rows_of_table(output: Path, recipe: Recipe) -> dict[str, TrackFeatures]:
    """The rows of a table by path; none if it does not exist, or cannot say its recipe (CSV)."""
    if not output.exists():
        return {}
    table = read_features(output)
    if not table.recipe and output.suffix.lower() == ".csv":
        return {}
    if (table.recipe, table.version) != (recipe.name, recipe.version):
        raise DataError(
            f"{str(output)!r} holds features of recipe {table.recipe!r}, version {table.version}, "
            f"not of {recipe.name!r}, version {recipe.version}: name another output."
        )
    return {path: table.track(index) for index, path in enumerate(table.paths)}


def _without_computing(
    entry: str | NotAudio, finished: Mapping[str, TrackFeatures]
) -> TrackFeatures | None:
    """The row of an entry that is finished and has not changed since, or is not a sound file."""
    if isinstance(entry, NotAudio):
        return TrackFeatures(entry.path, code=entry.code, error=entry.error)
    row = finished.get(escaped(entry))
    if row is None or not row.is_done:
        return None
    try:
        status = os.stat(entry)
    except (OSError, ValueError):
        return None
    is_same = (status.st_size, status.st_mtime_ns) == (row.size, row.mtime_ns)
    return replace(row, path=entry) if is_same else None


def _found_by_content(
    path: str, contents: Mapping[tuple[int, str], TrackFeatures], sizes: Container[int]
) -> TrackFeatures | None:
    """The finished row of a file that was moved or only touched; most are not even hashed."""
    try:
        status = os.stat(path)
        if status.st_size not in sizes or not stat.S_ISREG(status.st_mode):
            return None
        row = contents.get((status.st_size, content_digest(path)))
    except (OSError, ValueError):
        return None
    return replace(row, path=path, mtime_ns=status.st_mtime_ns) if row and row.is_done else None


def _to_record(row: TrackFeatures) -> dict[str, Any]:
    """A row as JSON; ``_from_record`` is the inverse."""
    return {
        **asdict(row),
        "columns": base64.b64encode(row.columns.astype("<f4").tobytes()).decode(),
    }


def _from_record(record: dict[str, Any]) -> TrackFeatures:
    columns = np.frombuffer(base64.b64decode(record["columns"]), "<f4").astype(np.float32)
    return TrackFeatures(**{**record, "columns": columns})
