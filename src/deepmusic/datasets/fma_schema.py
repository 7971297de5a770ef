"""The layout of the tables of ``fma_metadata``, and the types of their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SUBSETS = ("small", "medium", "large")
"""The values of ``set/subset``, the smallest subset that a track is in, in ascending order."""
SPLITS = ("training", "validation", "test")


@dataclass(frozen=True)
class TableSchema:
    """The layout of a table.

    Args:
        index: the name of its first column.
        levels: header lines; if there are several, one more line names the index.
        columns: how many it has beside the index; 0 if that is not checked.
        required: some columns that identify it.
        lists: columns of Python lists, with the type of their items.
        dates: columns of dates.
        categories: columns with few different texts.
        choices: columns with exactly these texts.
    """

    index: str
    levels: int = 1
    columns: int = 0
    required: tuple[Any, ...] = ()
    lists: Mapping[Any, type] = field(default_factory=dict)
    dates: tuple[Any, ...] = ()
    categories: tuple[Any, ...] = ()
    choices: Mapping[Any, Sequence[str]] = field(default_factory=dict)


SCHEMAS = {
    "tracks": TableSchema(
        "track_id",
        2,
        52,
        required=(
            ("set", "subset"), ("set", "split"), ("track", "genre_top"), ("track", "genres"),
            ("track", "genres_all"), ("track", "title"), ("artist", "id"), ("artist", "name"),
            ("album", "title"),
        ),
        lists={
            ("track", "tags"): str, ("album", "tags"): str, ("artist", "tags"): str,
            ("track", "genres"): int, ("track", "genres_all"): int,
        },
        dates=(
            ("track", "date_created"), ("track", "date_recorded"),
            ("album", "date_created"), ("album", "date_released"),
            ("artist", "date_created"),
            ("artist", "active_year_begin"), ("artist", "active_year_end"),
        ),
        categories=(
            ("track", "genre_top"), ("track", "license"), ("album", "type"),
            ("album", "information"), ("artist", "bio"),
        ),
        choices={("set", "subset"): SUBSETS, ("set", "split"): SPLITS},
    ),
    "genres": TableSchema("genre_id", 1, 4, ("#tracks", "parent", "title", "top_level")),
    "features": TableSchema("track_id", 3, 518, (("mfcc", "mean", "01"), ("zcr", "std", "01"))),
    "echonest": TableSchema("track_id", 3, 249, (("echonest", "audio_features", "tempo"),)),
    "raw_echonest": TableSchema("track_id", 3, 249, (("echonest", "audio_features", "tempo"),)),
    "raw_tracks": TableSchema("track_id", required=("track_title", "track_genres", "artist_id")),
    "raw_albums": TableSchema("album_id", required=("album_title",)),
    "raw_artists": TableSchema("artist_id", required=("artist_name",)),
    "raw_genres": TableSchema("genre_id", required=("genre_title", "genre_parent_id")),
}  # fmt: skip
"""The tables of ``fma_metadata``, each in a file of its name with the extension ``.csv``."""
