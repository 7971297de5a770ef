"""Verdicts that are kept from one call to the next."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace

from deepmusic.classifier.files import MAX_SECONDS
from deepmusic.classifier.verdict import Verdict
from deepmusic.store import Store


class VerdictStore(Store):
    """Verdicts of one model, by the content of the file: a moved file keeps its verdict.

    Args:
        path: the file; made if it does not exist. Other models' verdicts in it are left alone.
        model: digest of the model.
        max_seconds: seconds analysed of each file, at most.
        segments: whether verdicts carry the genres over time.

    Raises:
        DataError: the file is not a store of verdicts, or cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        model: str,
        max_seconds: float = MAX_SECONDS,
        segments: bool = False,
    ) -> None:
        super().__init__(path, "verdicts")
        self._prefix = f"{model} {max_seconds:g}"
        self._segments = segments

    def key(self, path: str) -> str | None:
        """The key of a file's present content; None if it cannot be read."""
        with suppress(OSError):
            if os.path.isfile(path):  # opening a pipe would block
                return f"{self._prefix} {self.file_digest(path)}"
        return None

    def verdict(self, key: str | None, path: str) -> Verdict | None:
        """The verdict under a key, for a file with this path."""
        record = self.get(key) if key else None
        if record is None or (self._segments and "segments" not in record):
            return None
        verdict = Verdict.from_dict({**record, "path": path})
        return verdict if self._segments else replace(verdict, segments=(), silences=())

    def keep(self, key: str | None, verdict: Verdict) -> None:
        """Keep a verdict; failures are not kept, so they are tried again.

        Raises:
            DataError: it cannot be written.
        """
        if key and verdict.error is None:
            self.put(key, verdict.to_dict(segments=self._segments, tags=bool(verdict.tags)))
