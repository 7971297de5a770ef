"""Tags as lists of fields, each with the bytes that stand for it in the file.

Nothing is translated, sorted or upgraded: a tag that is taken apart and put together is the same.
"""

from __future__ import annotations

import shutil
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO, ClassVar, NamedTuple

from deepmusic.errors import DeepMusicError

_LARGEST = 1 << 28  # bytes of tags or headers that are read into memory


class Field(NamedTuple):
    """One entry of a tag."""

    key: str  # in upper case, as the format calls it: TCON, GENRE, WM/GENRE, ©GEN, IGNR
    raw: bytes  # the whole entry, its header and padding included


class Splice(NamedTuple):
    """Bytes that take the place of the bytes from ``start`` to ``end`` of a file."""

    start: int
    end: int
    data: bytes


Replace = Callable[[bytes | None], list[Splice]]
"""From the new bytes of a tag, or None to remove it, to what changes in its file."""


class Tag(ABC):
    """A tag of a file, or one that it could have.

    Args:
        name: of the tag among those of its file, such as ``ID3v2.3``.
        data: its bytes; None where there is no such tag yet.
        replace: the splices that put other bytes in its place; None removes it.

    Raises:
        DeepMusicError: it is damaged, or of a kind that cannot be changed safely.
    """

    genre_keys: ClassVar[tuple[str, ...]]

    def __init__(self, name: str, data: bytes | None, replace: Replace) -> None:
        self.name, self.exists, self._replace = name, data is not None, replace
        try:
            self.fields = self._parse(data) if data is not None else []
        except (struct.error, IndexError, ValueError) as error:
            raise damaged(name) from error

    @property
    def genres(self) -> tuple[str, ...]:
        """The genres that it names, each once."""
        fields = [field for field in self.fields if field.key in self.genre_keys]
        texts = [text for field in fields for text in self._genres_of(field)]
        return genres_in(texts)

    @property
    def others(self) -> list[Field]:
        """All fields but those of the genre."""
        return [field for field in self.fields if field.key not in self.genre_keys]

    def with_genres(self, genres: Sequence[str]) -> list[Field]:
        """Its fields with these genres, which stand where the old ones stood, or at the end."""
        index = next((n for n, f in enumerate(self.fields) if f.key in self.genre_keys), None)
        if index is None:
            index = len(self.fields)
        new = self._genre_fields(genres) if genres else []
        return [*self.fields[:index], *new, *self.others[index:]]

    def texts(self, field: Field) -> list[str]:
        """The values of one of its fields of text."""
        return self._texts(field)

    def splices(self, fields: list[Field] | None) -> list[Splice]:
        """What to change in the file so that the tag has these fields; None removes it."""
        return self._replace(None if fields is None else self._render(fields))

    @abstractmethod
    def _parse(self, data: bytes) -> list[Field]: ...

    @abstractmethod
    def _render(self, fields: list[Field]) -> bytes: ...

    @abstractmethod
    def _texts(self, field: Field) -> list[str]: ...

    @abstractmethod
    def _genre_fields(self, genres: Sequence[str]) -> list[Field]: ...

    def _genres_of(self, field: Field) -> list[str]:
        return self._texts(field)


def genres_in(texts: Iterable[str]) -> tuple[str, ...]:
    """The genres in texts of tags, each once: some programs join several by semicolons."""
    names = (name.strip() for text in texts for name in text.split(";"))
    return tuple(dict.fromkeys(filter(None, names)))


def damaged(what: str) -> DeepMusicError:
    """The error for a tag that contradicts itself."""
    return DeepMusicError(f"its {what} is damaged or unusual, so it cannot be changed safely")


def text_of(data: bytes) -> str:
    """UTF-8, or Latin-1 where it is not."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def unpack(form: str, data: bytes, at: int) -> int:
    """One number, in a form of `struct`, at an index."""
    return int(struct.unpack_from(form, data, at)[0])


def read_at(file: BinaryIO, start: int, count: int) -> bytes:
    """Bytes at a position of a file, fewer at its end."""
    if count > _LARGEST:
        raise damaged("header")
    file.seek(start)
    data = b""
    while len(data) < count and (more := file.read(count - len(data))):  # a read may be short
        data += more
    return data


def room(start: int, end: int) -> Replace:
    """For a tag whose size and position are not stored elsewhere in the file."""
    return lambda data: [Splice(start, end, data or b"")]


def copy_spliced(file: BinaryIO, splices: list[Splice], target: BinaryIO) -> None:
    """Copy a file with the splices made."""
    at = 0
    for splice in sorted(splices):
        file.seek(at)
        _copy(file, splice.start - at, target)
        target.write(splice.data)
        at = splice.end
    file.seek(at)
    shutil.copyfileobj(file, target)


def _copy(file: BinaryIO, count: int, target: BinaryIO) -> None:
    while count > 0:
        data = file.read(min(count, 1 << 20))
        if not data:
            raise DeepMusicError("it became shorter while it was copied")
        target.write(data)
        count -= len(data)
