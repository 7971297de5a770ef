"""The genre tree of the Free Music Archive: 163 genres under 16 roots, up to five levels deep.

``genres.csv`` gives each genre its number, its title, its parent (0 for a root) and its root. The
tree comes with the metadata (CC BY 4.0); it is not part of this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepmusic.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Genre:
    """One genre."""

    id: int
    title: str  # such as "Psych-Folk"
    parent: int | None  # id of the parent genre; None for a root
    tracks: int = 0  # of the whole archive that have it or one of its descendants


class GenreTree:
    """Genres by number, and their relations.

    Several genres come in ascending order of their numbers, unless stated otherwise.

    Raises:
        DataError: a number occurs twice, a parent is missing, or genres form a cycle; or a method
            is asked for a genre that is not in the tree.

    Example:
        >>> tree = GenreTree([Genre(12, "Rock", None), Genre(25, "Punk", 12)])
        >>> " > ".join(tree[genre].title for genre in tree.path(25))
        'Rock > Punk'
    """

    def __init__(self, genres: Iterable[Genre]) -> None:
        ordered = sorted(genres, key=lambda genre: genre.id)
        self._genres = {genre.id: genre for genre in ordered}
        self._paths: dict[int, tuple[int, ...]] = {}
        for genre in ordered:
            label = f"The genre {genre.id} ({genre.title!r})"
            if self._genres[genre.id] is not genre:
                raise DataError(f"{label} occurs twice in the tree.")
            path: list[int] = []
            link: int | None = genre.id
            while link is not None:
                if link not in self._genres:
                    raise DataError(
                        f"The genre {path[-1]} has the parent {link}, which is not in the tree; "
                        "take all rows of genres.csv."
                    )
                if link in path:
                    raise DataError(f"{label} is its own ancestor, or below such a genre.")
                path.append(link)
                link = self._genres[link].parent
            self._paths[genre.id] = tuple(reversed(path))

    @classmethod
    def from_frame(cls, genres: pd.DataFrame) -> GenreTree:
        """The tree of a frame as of ``genres.csv``, with the numbers as its index.

        Raises:
            DataError: it lacks a column, holds something other than numbers, or is not a tree.
        """
        try:
            numbers = genres[["#tracks", "parent"]].astype(float)
            if (numbers % 1 != 0).any(axis=None):  # also of NaN
                raise ValueError("a number is missing or not a whole one")
            titles = genres["title"].astype(str)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"The table of genres is damaged ({error}); unpack fma_metadata.zip again."
            ) from error
        counts, parents = numbers.astype(int).to_numpy().T.tolist()
        parents = [parent or None for parent in parents]
        return cls(map(Genre, genres.index.tolist(), titles, parents, counts))

    def __iter__(self) -> Iterator[Genre]:
        return iter(self._genres.values())

    def __getitem__(self, genre: int) -> Genre:
        try:
            return self._genres[genre]
        except (KeyError, TypeError):
            message = f"There is no genre {genre!r} in the tree; genres are given by number."
            raise DataError(message) from None

    @property
    def ids(self) -> tuple[int, ...]:
        """The numbers of all genres."""
        return tuple(self._genres)

    @property
    def roots(self) -> tuple[int, ...]:
        """The genres without a parent."""
        return tuple(genre.id for genre in self if genre.parent is None)

    def children(self, genre: int) -> tuple[int, ...]:
        """The direct children of a genre."""
        parent = self[genre].id
        return tuple(child.id for child in self if child.parent == parent)

    def path(self, genre: int) -> tuple[int, ...]:
        """The genres from the root down to a genre, both included."""
        return self._paths[self[genre].id]
