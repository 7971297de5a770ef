"""Rows that are done, kept on disk while a table is not finished."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from deepmusic.errors import DataError
from deepmusic.features.extraction import TrackFeatures
from deepmusic.features.recipe import COLUMNS, Recipe

__all__ = ["Journal"]

_KIND = "deepmusic features"


class Journal:
    """A file of rows, one line each, that grows until the table is written.

    Each line goes to the system as soon as it is there, so that a kill of the process loses no row;
    a line that was cut short is dropped.

    Args:
        path: of the file; made if it does not exist.
        recipe: of the rows.

    Attributes:
        rows: what is there, by path.

    Raises:
        DataError: the file is something else, of another recipe, or cannot be written.
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path = path
        self.rows: dict[str, TrackFeatures] = {}
        header = {"journal": _KIND, "recipe": recipe.name, "version": recipe.version}
        try:
            self._file = open(path, "ab+", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._trouble(error) from error
        try:
            self._read(header)
        except OSError as error:
            self._file.close()
            raise self._trouble(error) from error
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, row: TrackFeatures) -> None:
        """Keep a row.

        Raises:
            DataError: it cannot be written, such as on a full disk.
        """
        record = asdict(row)
        record["columns"] = base64.b64encode(row.columns.astype("<f4").tobytes()).decode()
        try:
            self._write(record)
        except OSError as error:
            raise self._trouble(error) from error
        self.rows[row.path] = row

    def remove(self) -> None:
        """Delete the file, once all of it is elsewhere."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _write(self, record: dict[str, Any]) -> None:
        line = memoryview(json.dumps(record).encode("ascii") + b"\n")
        while line:
            line = line[self._file.write(line) :]

    def _read(self, header: dict[str, Any]) -> None:
        self._file.seek(0)
        place = 0
        # a buffered reader of its own, on the same open file
        with open(self._file.fileno(), "rb", closefd=False) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if place == 0:
                    self._check(line, header)
                else:
                    row = _row(line)
                    if row is not None:
                        self.rows[row.path] = row
                place += len(line)
        self._file.truncate(place)
        if place == 0:
            self._write(header)

    def _check(self, line: bytes, header: dict[str, Any]) -> None:
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict) or found.get("journal") != _KIND:
            raise DataError(f"{self._shown} is something else than a journal of features.")
        if found != header:
            raise DataError(
                f"{self._shown} holds rows of recipe {found.get('recipe')!r}, version "
                f"{found.get('version')}: delete it, or name another output."
            )

    @property
    def _shown(self) -> str:
        return repr(os.fspath(self.path))

    def _trouble(self, error: OSError) -> DataError:
        reason = (error.strerror or str(error)).lower()
        return DataError(f"{self._shown} cannot be used: {reason}.")


def _row(line: bytes) -> TrackFeatures | None:
    """A row as it was kept; None where the line was changed by other hands."""
    try:
        record = json.loads(line)
        columns = np.frombuffer(base64.b64decode(record.pop("columns")), "<f4")
        row = TrackFeatures(columns=columns.astype(np.float32), **record)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return row if row.columns.shape == (len(COLUMNS),) else None
