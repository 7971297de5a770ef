"""The log of the genres that were written, from which they can be undone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from deepmusic.audio.tag_formats.fields import Field, Tag
from deepmusic.errors import DataError, os_reason
from deepmusic.store import Store

Genres = tuple[str, ...]


class SavedTag(NamedTuple):
    """What one tag of a file was before its genre was written."""

    genres: list[tuple[int, Field]]  # the fields of the genre, and their indices among all
    made: list[bytes] | None  # None: it existed; else the other fields that it was made with

    @classmethod
    def of(cls, tag: Tag) -> SavedTag:
        """Save a tag."""
        fields = [(n, f) for n, f in enumerate(tag.fields) if f.key in tag.genre_keys]
        return cls(fields, None if tag.exists else [field.raw for field in tag.others])

    def restored(self, tag: Tag) -> list[Field] | None:
        """The fields of a tag as they were, what others changed since left alone; None: no tag."""
        fields = tag.others
        if [field.raw for field in fields] == self.made:
            return None
        for index, field in self.genres:
            fields.insert(index, field)
        return fields


class LogEntry(NamedTuple):
    """What was done to the genres of a file."""

    path: str  # without links
    sound: str  # a hash of its coded sound
    before: Genres
    written: list[Genres]  # by us since, oldest first
    tags: dict[str, SavedTag]  # before, by name


class TagLog:
    """The changes made to tags that were not undone, in a SQLite store made by the first change.

    Raises:
        DataError: the file is something else, or cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        folder = self.path.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            reason = "may not be written" if folder.is_dir() else "is missing"
            raise DataError(f"The log {str(path)!r} cannot be made: its folder {reason}.")
        self.entries()

    def entries(self) -> list[LogEntry]:
        """All entries, in the order in which their sounds were first logged."""
        if not self._exists():
            return []
        with self._open() as store:
            records = list(store.items())
        return [_entry(sound, path, r) for sound, files in records for path, r in files.items()]

    def get(self, path: str | os.PathLike[str], sound: str) -> LogEntry | None:
        """The entry of a file: that of its path, or of a path with this sound that is gone."""
        if not self._exists():
            return None
        with self._open() as store:
            files = store.get(sound) or {}
        path = os.path.realpath(path)
        moved = (name for name in files if not os.path.exists(name))
        name = path if path in files else next(moved, None)
        return None if name is None else _entry(sound, name, files[name])

    def add(self, path: str | os.PathLike[str], sound: str, tags: list[Tag], after: Genres) -> None:
        """Log a change to some tags of a file; it is on disk when this returns."""
        entry = self.get(path, sound)
        before = next((tag.genres for tag in tags if tag.genres), ())
        saved = {tag.name: SavedTag.of(tag) for tag in tags}
        written = [after]
        if entry is not None and before in entry.written:  # what stood there before us is logged
            before, written, saved = entry.before, [*entry.written, after], saved | entry.tags
        texts: dict[str, Any] = {
            name: {
                "genres": [(n, field.key, field.raw.hex()) for n, field in tag.genres],
                "made": None if tag.made is None else [raw.hex() for raw in tag.made],
            }
            for name, tag in saved.items()
        }
        record = {"before": before, "written": written, "tags": texts}
        with self._open() as store:
            files = store.get(sound) or {}
            if entry is not None:
                files.pop(entry.path, None)
            store.put(sound, {**files, os.path.realpath(path): record})

    def remove(self, entry: LogEntry) -> None:
        """Remove an entry."""
        with self._open() as store:
            files = store.get(entry.sound) or {}
            files.pop(entry.path, None)
            if files:
                store.put(entry.sound, files)
            else:
                store.delete(entry.sound)

    def _exists(self) -> bool:
        try:
            return bool(os.stat(self.path))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise DataError(
                f"The log {str(self.path)!r} cannot be read: {os_reason(error)}."
            ) from error

    def _open(self) -> Store:
        return Store(self.path, "genres written")


def _entry(sound: str, path: str, record: dict[str, Any]) -> LogEntry:
    tags = {
        name: SavedTag(
            [(n, Field(key, bytes.fromhex(raw))) for n, key, raw in tag["genres"]],
            None if tag["made"] is None else list(map(bytes.fromhex, tag["made"])),
        )
        for name, tag in record["tags"].items()
    }
    written = [tuple(genres) for genres in record["written"]]
    return LogEntry(path, sound, tuple(record["before"]), written, tags)
