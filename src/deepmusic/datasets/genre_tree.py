"""The tree of genres of the Free Music Archive: 163 genres under 16 roots, up to five deep.

``genres.csv`` gives each genre its number, its title, its parent (0 for a root) and its root. The
tree comes with the metadata (CC BY 4.0); it is not part of this package.
"""

from __future__ import annotations

import csv
import difflib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepmusic.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("#tracks", "parent", "title", "top_level")


@dataclass(frozen=True)
class Genre:
    """One genre.

    Args:
        id: its number.
        title: such as ``"Psych-Folk"``.
        parent: the number of the genre above, None for a root.
        tracks: how many tracks of the whole archive have it or a genre below it.
    """

    id: int
    title: str
    parent: int | None
    tracks: int = 0


class GenreTree:
    """Genres by number, and how they stand to each other.

    Wherever several genres are given, they are in ascending order of their numbers, unless it says
    otherwise. A genre that is not in the tree raises :class:`~deepmusic.errors.DataError`.

    Args:
        genres: in any order.

    Raises:
        DataError: a number stands twice, a parent is missing, or genres are above each other in a
            circle.

    Example:
        >>> tree = GenreTree([Genre(12, "Rock", None), Genre(25, "Punk", 12)])
        >>> " > ".join(tree.title(genre) for genre in tree.path(25))
        'Rock > Punk'
    """

    def __init__(self, genres: Iterable[Genre]) -> None:
        self._genres: dict[int, Genre] = {}
        for genre in genres:
            if genre.id in self._genres:
                raise DataError(
                    f"The genre {genre.id} stands twice in the tree, as "
                    f"{self._genres[genre.id].title!r} and as {genre.title!r}; keep one of them."
                )
            self._genres[genre.id] = genre
        self._genres = dict(sorted(self._genres.items()))
        self._children: dict[int | None, list[int]] = {}
        for genre in self._genres.values():
            if genre.parent is not None and genre.parent not in self._genres:
                raise DataError(
                    f"The genre {genre.id} ({genre.title!r}) has the parent {genre.parent}, which "
                    "is not in the tree; take all rows of genres.csv."
                )
            self._children.setdefault(genre.parent, []).append(genre.id)
        self._paths: dict[int, tuple[int, ...]] = {}
        waiting: list[tuple[int, tuple[int, ...]]] = [(root, ()) for root in self.roots]
        while waiting:
            number, above = waiting.pop()
            path = self._paths[number] = (*above, number)
            waiting += [(child, path) for child in self._children.get(number, ())]
        for genre in self._genres.values():  # no root leads to the members of a circle
            if genre.id not in self._paths:
                raise DataError(
                    f"The genre {genre.id} ({genre.title!r}) is, over its parents, above itself; "
                    "a tree has no circles."
                )

    @classmethod
    def from_frame(cls, genres: pd.DataFrame) -> GenreTree:
        """The tree of a frame as of ``genres.csv``, with the numbers as its index.

        Raises:
            DataError: it is no such frame, or no tree.
        """
        missing = [name for name in _COLUMNS if name not in genres.columns]
        if missing:
            raise DataError(
                f"A frame of genres has the columns {', '.join(_COLUMNS)}; {missing[0]!r} is "
                "missing."
            )
        columns = (genres[name].tolist() for name in _COLUMNS)
        return cls._from_rows(
            zip(genres.index.tolist(), *columns, strict=True), shown="The frame of genres"
        )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> GenreTree:
        """The tree of a ``genres.csv``.

        Raises:
            DataError: it cannot be read, or is no tree.
        """
        shown = str(path)
        try:
            if not Path(path).is_file():
                raise DataError(f"{shown} does not exist or is not a file.")
            with open(path, encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file)
                missing = [
                    name
                    for name in ("genre_id", *_COLUMNS)
                    if name not in (reader.fieldnames or ())
                ]
                if missing:
                    raise DataError(
                        f"{shown} is not FMA's genres.csv: it has no column {missing[0]!r}."
                    )
                rows = [[row[name] for name in ("genre_id", *_COLUMNS)] for row in reader]
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{shown} is not FMA's genres.csv: {error}.") from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DataError(f"{shown} cannot be read: {reason}.") from error
        return cls._from_rows(rows, shown=shown)

    @classmethod
    def _from_rows(cls, rows: Iterable[Iterable[object]], *, shown: str) -> GenreTree:
        genres, roots = [], {}
        for row in rows:
            number, tracks, parent, title, top = row
            try:
                genre = Genre(_whole(number), str(title), _whole(parent) or None, _whole(tracks))
                roots[genre.id] = _whole(top)
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"{shown} is damaged: the row of genre {number!r} does not hold numbers where "
                    "they belong; unpack fma_metadata.zip again."
                ) from error
            genres.append(genre)
        tree = cls(genres)
        for genre in tree:
            if tree.top_level(genre.id) != roots[genre.id]:
                raise DataError(
                    f"{shown} contradicts itself: it says that the genre {genre.id} "
                    f"({genre.title!r}) is under {roots[genre.id]}, and its parents lead to "
                    f"{tree.top_level(genre.id)}."
                )
        return tree

    def __len__(self) -> int:
        return len(self._genres)

    def __iter__(self) -> Iterator[Genre]:
        return iter(self._genres.values())

    def __contains__(self, genre: object) -> bool:
        return genre in self._genres

    def __getitem__(self, genre: int) -> Genre:
        try:
            return self._genres[genre]
        except (KeyError, TypeError):
            raise DataError(
                f"There is no genre {genre!r} in the tree; genres go by their numbers, and "
                "find() gives the number of a title."
            ) from None

    @property
    def ids(self) -> tuple[int, ...]:
        """The numbers of all genres."""
        return tuple(self._genres)

    @property
    def roots(self) -> tuple[int, ...]:
        """The genres without a parent."""
        return tuple(self._children.get(None, ()))

    def title(self, genre: int) -> str:
        """What a genre is called."""
        return self[genre].title

    def parent(self, genre: int) -> int | None:
        """The genre above; None for a root."""
        return self[genre].parent

    def children(self, genre: int) -> tuple[int, ...]:
        """The genres right below."""
        return tuple(self._children.get(self[genre].id, ()))

    def path(self, genre: int) -> tuple[int, ...]:
        """From the root down to the genre, both included."""
        return self._paths[self[genre].id]

    def depth(self, genre: int) -> int:
        """How many genres its path has: 1 for a root."""
        return len(self.path(genre))

    def top_level(self, genre: int) -> int:
        """The root above a genre; a root's own is itself."""
        return self.path(genre)[0]

    def ancestors(self, genre: int) -> tuple[int, ...]:
        """The genres above, from the parent up to the root; none for a root."""
        return self.path(genre)[-2::-1]

    def descendants(self, genre: int) -> tuple[int, ...]:
        """All genres below, however deep."""
        found: list[int] = []
        waiting = list(self.children(genre))
        while waiting:
            found.append(waiting.pop())
            waiting += self._children.get(found[-1], ())
        return tuple(sorted(found))

    def find(self, title: str) -> int:
        """The number of a genre by its title; capitals make no difference.

        Raises:
            DataError: no genre or several are called so.
        """
        wanted = title.strip().casefold()
        found = [genre.id for genre in self if genre.title.casefold() == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"Several genres are called {title!r}: {', '.join(map(str, found))}; take one of "
                "these numbers."
            )
        titles = {genre.title.casefold(): genre.title for genre in self}
        close = difflib.get_close_matches(wanted, titles, 3)
        hint = ", ".join(repr(titles[name]) for name in close)
        raise DataError(
            f"No genre is called {title!r}" + (f"; there is {hint}." if hint else " in the tree.")
        )

    def depth_counts(self) -> dict[int, int]:
        """How many genres there are at each depth."""
        return dict(sorted(Counter(map(len, self._paths.values())).items()))


def _whole(value: object) -> int:
    """A whole number, from text or from a column that pandas took for floats."""
    number = float(str(value))
    if not number.is_integer():  # NaN is none, and infinity neither
        raise ValueError(value)
    return int(number)
