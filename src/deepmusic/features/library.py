"""The feature table of a library: what is done stays done, and the rest is done now."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from deepmusic.audio import NotAudio
from deepmusic.errors import DataError
from deepmusic.features.extraction import TrackFeatures, extract
from deepmusic.features.recipe import COLUMNS, Recipe
from deepmusic.features.table import FACTS, FeatureTable, read_features, write_features
from deepmusic.journal import Journal


def extract_library(
    entries: Iterable[str | NotAudio],
    output: str | os.PathLike[str],
    recipe: Recipe,
    *,
    workers: int = 1,
    dask: str | None = None,
    max_seconds: float = 6 * 3600.0,
) -> Iterator[TrackFeatures]:
    """Write the feature table of tracks, and give its rows as they are there.

    Rows of the table, if there is one, and of the journal beside it (``OUTPUT.journal``) are taken
    where the file has the size and the time that it had then; rows without values are tried again.
    Rows come in any order; in the table they have that of the entries. The table is written, and
    the journal deleted, when the iterator is exhausted.

    Args:
        entries: paths, and what can be no track, as :func:`deepmusic.audio.find_audio` gives them.
        output: the table; Parquet, or CSV if its name ends so.
        recipe: a version of the recipe.
        workers: processes on this machine.
        dask: address of the scheduler of a Dask cluster, instead.
        max_seconds: no more than this of a track is read.

    Yields:
        A row an entry.

    Raises:
        DataError: the table or the journal is of another recipe, or something else.
        DeepMusicError: one of them cannot be written; the cluster cannot be reached.
    """
    output = Path(output)
    entries = list(dict.fromkeys(entries))
    known = _known(output, recipe)
    rows: dict[str, TrackFeatures] = {}
    setting = {"recipe": recipe.name, "version": recipe.version, "mode": recipe.mode}
    with Journal(output.with_name(output.name + ".journal"), "features", setting) as journal:
        kept = map(_row, journal.records)
        known.update((row.path, row) for row in kept if row is not None)
        for entry in entries:
            row = _without_work(entry, known)
            if row is not None:
                rows[row.path] = row
                yield row
        left = [entry for entry in entries if isinstance(entry, str) and entry not in rows]
        done = extract(left, recipe, workers=workers, dask=dask, max_seconds=max_seconds)
        for row in done:
            journal.add(_record(row))
            rows[row.path] = row
            yield row
        order = [entry if isinstance(entry, str) else entry.path for entry in entries]
        write_features(output, table_of([rows[path] for path in order], recipe))
        journal.remove()


def _known(output: Path, recipe: Recipe) -> dict[str, TrackFeatures]:
    """The rows of a table by path; none where there is no table yet."""
    if not output.exists():
        return {}
    table = read_features(output)
    is_csv = not table.recipe and output.suffix.lower() == ".csv"  # which cannot say
    found = table.recipe, table.version, table.mode
    if not is_csv and found != (recipe.name, recipe.version, recipe.mode):
        raise DataError(
            f"{str(output)!r} holds features of recipe {table.recipe!r}, version {table.version}, "
            f"{table.mode}, not of {recipe.name!r}, version {recipe.version}, {recipe.mode}: name "
            "another output."
        )
    if is_csv:
        return {}
    rows = {}
    for place, path in enumerate(table.paths):
        facts = {name: table.facts[name][place] for name in FACTS}
        rows[path] = TrackFeatures(columns=table.columns[place], **facts)  # type: ignore[arg-type]
    return rows


def _record(row: TrackFeatures) -> dict[str, Any]:
    """A row as the journal keeps it; :func:`_row` is the inverse."""
    columns = base64.b64encode(row.columns.astype("<f4").tobytes()).decode()
    return {**asdict(row), "columns": columns}


def _row(record: dict[str, Any]) -> TrackFeatures | None:
    """A row as it was kept; None where the record was changed by other hands."""
    try:
        columns = np.frombuffer(base64.b64decode(record["columns"]), "<f4").astype(np.float32)
        row = TrackFeatures(**{**record, "columns": columns})
    except (ValueError, TypeError, KeyError):
        return None
    return row if row.columns.shape == (len(COLUMNS),) else None


def _without_work(
    entry: str | NotAudio, known: Mapping[str, TrackFeatures]
) -> TrackFeatures | None:
    """The row of an entry that is known, or can have no features."""
    if isinstance(entry, NotAudio):
        return TrackFeatures(entry.path, code=entry.code, error=entry.error)
    row = known.get(_written(entry)) or known.get(entry)
    if row is None or not row.is_done:
        return None
    try:
        status = os.stat(entry)
    except (OSError, ValueError):
        return None
    is_same = (status.st_size, status.st_mtime_ns) == (row.size, row.mtime_ns)
    return TrackFeatures(**{**vars(row), "path": entry}) if is_same else None


def table_of(rows: list[TrackFeatures], recipe: Recipe) -> FeatureTable:
    """Rows as a table, in their order."""
    facts: dict[str, list[object]] = {name: [getattr(row, name) for row in rows] for name in FACTS}
    for name in ("path", "error", "warning"):
        facts[name] = [_written(str(text)) for text in facts[name]]
    columns = np.array([row.columns for row in rows], np.float32).reshape(len(rows), len(COLUMNS))
    return FeatureTable(facts, columns, recipe.name, recipe.version, mode=recipe.mode)


def _written(text: str) -> str:
    r"""Text as a table can hold it: a byte of a name that is no UTF-8 becomes ``\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
