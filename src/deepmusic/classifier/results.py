"""Verdicts kept in a file, so that a library is worked through once.

JSON lines, one verdict each, keyed by a hash of the sound file's content: a file that was moved or
renamed is known again, one that was changed is not. A line is on the disk before its verdict is
handed on, so a kill loses nothing that was done.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deepmusic.classifier.verdict import GenreProbability, SegmentVerdict, Verdict
from deepmusic.errors import DataError
from deepmusic.files import sync_folder


def content_hash(path: str | os.PathLike[str]) -> str:
    """A hash of all bytes of a regular file.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ResultsFile:
    """A file of verdicts of one model; safe to use from several threads.

    A last line that a kill cut short is removed; verdicts of other models, and failures, stay in
    the file but are not found again.

    Args:
        path: the file; made when it does not exist. Its folder must exist.
        model: fingerprint of the model; verdicts of another one do not count.
        max_seconds: how much of each file is heard at most; likewise.

    Raises:
        DataError: the file cannot be read or written, or holds something else.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, model: str, max_seconds: float | None = None
    ) -> None:
        self.path = Path(path)
        self._setting = {"model": model, "max_seconds": max_seconds}
        # where the latest line of each key is; segments would fill the memory
        self._places: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        is_new = not self.path.exists()
        if not is_new and not self.path.is_file():
            raise DataError(f"The results file {self._shown} is not a regular file.")
        try:
            self._file = open(self.path, "ab+", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._trouble(error) from error
        try:
            self._read()
            if is_new:
                sync_folder(self.path.resolve().parent)
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
        self.close()

    def close(self) -> None:
        """Close the file; what comes later is not kept."""
        with self._lock:
            self._file.close()

    def find(self, key: str, *, path: str, segments: bool = False) -> Verdict | None:
        """The verdict on this content, if there is one.

        Args:
            key: from :func:`content_hash`.
            path: what the verdict is to call the file.
            segments: whether the verdict over time is needed, too.
        """
        with self._lock:
            if self._file.closed or key not in self._places:
                return None
            start, length = self._places[key]
            self._file.seek(start)
            line = self._file.read(length)
        try:
            verdict = _verdict(json.loads(line), path)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None  # edited by hand, or changed since it was read
        return verdict if verdict.segments or not segments else None

    def add(self, key: str, verdict: Verdict) -> None:
        """Bring a verdict, or a failure, to the disk.

        Raises:
            DataError: it cannot be written.
        """
        record = {"key": key, **self._setting, **verdict.to_dict(segments=bool(verdict.segments))}
        line = json.dumps(record).encode("ascii") + b"\n"
        with self._lock:
            if self._file.closed:  # the run was interrupted
                return
            try:
                start = self._file.seek(0, os.SEEK_END)
                written = self._file.write(line)
                if written != len(line):
                    self._file.write(line[written:])  # raises what is wrong
                os.fsync(self._file.fileno())
            except OSError as error:
                raise self._trouble(error) from error
            if verdict.error is None:
                self._places[key] = (start, len(line))

    def _read(self) -> None:
        """Index what is there; cut off a torn last line."""
        self._file.seek(0)
        start = 0
        # a buffered reader of its own, on the same open file
        with open(self._file.fileno(), "rb", closefd=False) as file:
            for line in file:
                record = _record(line)
                if not line.endswith(b"\n"):
                    if start == 0 and not b'{"key": "'.startswith(line[:9]):
                        raise self._foreign()
                    self._file.truncate(start)
                    return
                if record is not None and record.get("error") is None:
                    if all(record.get(name) == value for name, value in self._setting.items()):
                        self._places[str(record["key"])] = (start, len(line))
                elif record is None and start == 0:
                    raise self._foreign()
                start += len(line)

    @property
    def _shown(self) -> str:
        return repr(str(self.path))

    def _foreign(self) -> DataError:
        return DataError(
            f"{self._shown} holds something else than results of deepmusic; it was not touched: "
            "name another file."
        )

    def _trouble(self, error: OSError) -> DataError:
        reason = (error.strerror or str(error)).lower()
        return DataError(f"The results file {self._shown} cannot be used: {reason}.")


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "key" in record and "path" in record else None


def _verdict(record: dict[str, Any], path: str) -> Verdict:
    """The inverse of :meth:`Verdict.to_dict`, up to its rounding."""
    return Verdict(
        path=path,
        genre=record["genre"],
        confidence=record["confidence"],
        top=tuple(GenreProbability(e["genre"], e["probability"]) for e in record["top"]),
        duration_s=record["duration_s"],
        segments=tuple(
            SegmentVerdict(
                start_s=segment["start_s"],
                end_s=segment["end_s"],
                probabilities=tuple(
                    GenreProbability(genre, value)
                    for genre, value in segment["probabilities"].items()
                ),
                lengths=tuple(segment["lengths"].values()),
            )
            for segment in record.get("segments", ())
        ),
        error=record["error"],
        code=record["code"],
        warning=record["warning"],
    )
