"""Records of work that is done, kept on disk while the whole is not finished."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deepmusic.errors import DataError


class Journal:
    """A file of records, one line of JSON each, that grows until their place is written.

    Each line goes to the system as soon as it is there, so that a kill of the process loses no
    record; a line that was cut short is dropped.

    Args:
        path: of the file; made if it does not exist.
        kind: what the records are of, such as ``"features"``.
        setting: what they were made with; records of another setting are of no use.

    Attributes:
        records: what was there when it was opened, in order of writing.

    Raises:
        DataError: the file is something else, of another setting, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], kind: str, setting: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.records: list[dict[str, Any]] = []
        self._kind = kind
        self._header = {"journal": f"deepmusic {kind}", **setting}
        try:
            self._file = open(self.path, "ab+", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._trouble(error) from error
        try:
            self._read()
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

    def add(self, record: Mapping[str, Any]) -> None:
        """Keep a record.

        Raises:
            DataError: it cannot be written, such as on a full disk.
        """
        try:
            self._write(record)
        except OSError as error:
            raise self._trouble(error) from error

    def remove(self) -> None:
        """Delete the file, once all of it is elsewhere."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _write(self, record: Mapping[str, Any]) -> None:
        line = memoryview(json.dumps(record).encode("ascii") + b"\n")
        while line:
            line = line[self._file.write(line) :]

    def _read(self) -> None:
        self._file.seek(0)
        place = 0
        # a buffered reader of its own, on the same open file
        with open(self._file.fileno(), "rb", closefd=False) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                record = _record(line)
                if place == 0:
                    self._check(record)
                elif record is not None:
                    self.records.append(record)
                place += len(line)
        self._file.truncate(place)
        if place == 0:
            self._write(self._header)

    def _check(self, found: dict[str, Any] | None) -> None:
        if found is None or found.pop("journal", None) != self._header["journal"]:
            raise DataError(f"{self._shown} is something else than a journal of {self._kind}.")
        if found != {key: value for key, value in self._header.items() if key != "journal"}:
            setting = ", ".join(f"{key} {value!r}" for key, value in found.items())
            raise DataError(
                f"{self._shown} holds rows of {setting}: delete it, or name another output."
            )

    @property
    def _shown(self) -> str:
        return repr(os.fspath(self.path))

    def _trouble(self, error: OSError) -> DataError:
        reason = (error.strerror or str(error)).lower()
        return DataError(f"{self._shown} cannot be used: {reason}.")


def _record(line: bytes) -> dict[str, Any] | None:
    """A record as it was kept; None where the line was changed by other hands."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
