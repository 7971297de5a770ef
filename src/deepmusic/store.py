"""One store of finished work: records by key in a SQLite file, so that long jobs resume.

A record is on disk before ``Store.put`` returns, so a kill loses nothing that was finished; a
write that was cut short is rolled back by SQLite when the file is next opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deepmusic.errors import DataError, os_reason

_TABLES = """
    CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS work (key TEXT PRIMARY KEY, record TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS known_files (
        path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode TEXT, digest TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS by_time ON known_files (size, mtime_ns, digest);
"""
_KNOWN = """
    SELECT digest FROM known_files AS file
    WHERE path = ? AND size = ? AND mtime_ns = ? AND (inode = ? OR NOT EXISTS (
        SELECT 1 FROM known_files AS other WHERE other.size = file.size
        AND other.mtime_ns = file.mtime_ns AND other.digest != file.digest
    ))
"""
# A file that changed within this time of being hashed may change again under the same mtime, which
# some file systems (FAT) keep to 2 s, and those with fractions of seconds to 10 ms.
_COARSE_NS, _FINE_NS = 2_000_000_000, 50_000_000
_MOST_UNWRITTEN = 1000
_LEAST_BYTES = 512  # of a page of SQLite


def content_digest(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in hex.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Store:
    """Records (JSON objects) by key in one SQLite file; usable from several threads.

    Args:
        path: the file; made if it does not exist. Its folder must exist.
        kind: what the records are, such as ``"features"``.
        settings: what they were computed with; a store of other settings is refused.

    Raises:
        DataError: the file is not such a store, has other settings, or cannot be used.

    Example:
        >>> with Store("scan.db", "features", {"recipe": "fma"}) as store:
        ...     store.put("a.mp3", {"tempo": 120.0})
        ...     store.get("a.mp3")
        {'tempo': 120.0}
    """

    def __init__(
        self, path: str | os.PathLike[str], kind: str, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.path = Path(path)
        self._kind = kind
        self._lock = threading.RLock()
        self._unwritten: dict[tuple[Any, ...], str] = {}  # rows of known_files
        if os.path.exists(path) and not os.path.isfile(path):
            raise DataError(f"{self._name} is not a regular file.")
        with self._explained():
            # SQLite takes a file of a few bytes for an empty one, and overwrites it
            if os.path.exists(path) and 0 < os.path.getsize(path) < _LEAST_BYTES:
                raise self._foreign()
            # isolation_level None: each statement is its own transaction
            self._database = sqlite3.connect(
                self.path, timeout=10, isolation_level=None, check_same_thread=False
            )
        try:
            with self._explained():
                self._database.execute("PRAGMA synchronous = NORMAL")
                self._database.executescript(_TABLES)
                self._check({"kind": kind, **(settings or {})})
        except BaseException:
            self._database.close()
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
        """Close the file."""
        with self._lock:
            if self._unwritten:
                # without these rows, files are hashed once more
                with suppress(DataError), self._transaction():
                    pass
            self._database.close()

    def remove(self) -> None:
        """Close and delete the file, once everything in it is elsewhere."""
        self.close()
        self.path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return int(self._rows("SELECT count(*) FROM work")[0][0])

    def __contains__(self, key: str) -> bool:
        return bool(self._rows("SELECT 1 FROM work WHERE key = ?", key))

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of a key; None where there is none."""
        rows = self._rows("SELECT record FROM work WHERE key = ?", key)
        return _record(rows[0][0]) if rows else None

    def items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All keys and records, in the order in which they were first put."""
        for key, text in self._rows("SELECT key, record FROM work ORDER BY rowid"):
            record = _record(text)
            if record is not None:
                yield key, record

    def put(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep a record, in place of an earlier one of the same key.

        Raises:
            DataError: it cannot be written, such as on a full disk.
        """
        statement = (
            "INSERT INTO work VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET record = excluded.record"
        )
        text = json.dumps(record)
        with self._transaction():
            self._database.execute(statement, (key, text))

    def delete(self, key: str) -> None:
        """Forget a key; nothing happens where there is none."""
        self._rows("DELETE FROM work WHERE key = ?", key)

    def file_digest(self, path: str | os.PathLike[str]) -> str:
        """A file's ``content_digest``, hashed only if its path, size or mtime is not known.

        Where other known files have its size and mtime, as clips out of one archive may have, its
        inode decides whether two of them changed places. A change that keeps size and mtime is not
        noticed.

        Raises:
            OSError: the file cannot be read.
            DataError: the store cannot be used.
        """
        name = os.fsencode(os.path.realpath(path)).hex()  # a path may be no text
        status = os.stat(path)
        # inodes of Windows exceed SQLite's integers
        facts = (name, status.st_size, status.st_mtime_ns, str(status.st_ino))
        with self._lock:
            if facts in self._unwritten:
                return self._unwritten[facts]
        if known := self._rows(_KNOWN, *facts):
            return str(known[0][0])
        age_ns = abs(time.time_ns() - status.st_mtime_ns)
        digest = content_digest(path)
        if age_ns > (_FINE_NS if status.st_mtime_ns % 1_000_000_000 else _COARSE_NS):
            with self._lock:
                self._unwritten[facts] = digest
                if len(self._unwritten) >= _MOST_UNWRITTEN:
                    with self._transaction():
                        pass
        return digest

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One transaction, as the disk is waited for in each; known files are written as well."""
        with self._lock, self._explained(), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            known, self._unwritten = self._unwritten, {}
            self._database.executemany(
                "INSERT OR REPLACE INTO known_files VALUES (?, ?, ?, ?, ?)",
                [(*facts, digest) for facts, digest in known.items()],
            )
            yield

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        with self._lock, self._explained():
            return self._database.execute(statement, values).fetchall()

    def _check(self, about: Mapping[str, Any]) -> None:
        found = dict(self._database.execute("SELECT key, value FROM about"))
        wanted = {key: json.dumps(value) for key, value in about.items()}
        if not found:
            rows = list(wanted.items())
            self._database.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", rows)
        elif found.get("kind") != wanted["kind"]:
            raise self._foreign()
        elif found != wanted:
            settings = ", ".join(f"{k} {v}" for k, v in sorted(found.items()) if k != "kind")
            raise DataError(
                f"{self._name} was made with other settings ({settings}): delete it, or name "
                "another file."
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into one sentence."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise DataError(f"{self._name} cannot be used: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise self._foreign() from error
        except OSError as error:
            raise DataError(f"{self._name} cannot be used: {os_reason(error)}.") from error

    @property
    def _name(self) -> str:
        return repr(os.fspath(self.path))

    def _foreign(self) -> DataError:
        return DataError(
            f"{self._name} is not a store of {self._kind}, and was left as it is: name another "
            "file."
        )


def _record(text: str) -> dict[str, Any] | None:
    with suppress(ValueError):
        record = json.loads(text)
        if isinstance(record, dict):
            return record
    return None
