"""How each table of ``fma_metadata`` is laid out, and what its columns hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SUBSETS = ("small", "medium", "large")
"""The subsets that a track may be the smallest of, in ascending order."""
SPLITS = ("training", "validation", "test")


@dataclass(frozen=True)
class Form:
    """How a table is laid out.

    Args:
        index: the name of its first column.
        levels: lines of header; where there are several, one more line names the index.
        columns: how many it has beside the index; 0 where that is not checked.
        needed: columns that it is known by.
        lists: columns of Python lists, and of what.
        dates: columns of dates.
        categories: columns of few different texts.
        ordered: categories that have an order, and it.
        choices: columns that hold no other texts than these.
    """

    index: str
    levels: int = 1
    columns: int = 0
    needed: tuple[Any, ...] = ()
    lists: tuple[tuple[Any, type], ...] = ()
    dates: tuple[Any, ...] = ()
    categories: tuple[Any, ...] = ()
    ordered: Mapping[Any, Sequence[str]] = field(default_factory=dict)
    choices: Mapping[Any, Sequence[str]] = field(default_factory=dict)


_SUBSET, _SPLIT = ("set", "subset"), ("set", "split")

FORMS = {
    "tracks": Form(
        "track_id",
        2,
        52,
        (
            _SUBSET, _SPLIT, ("track", "genre_top"), ("track", "genres"), ("track", "genres_all"),
            ("track", "title"), ("artist", "id"), ("artist", "name"), ("album", "title"),
        ),
        lists=(
            (("track", "tags"), str), (("album", "tags"), str), (("artist", "tags"), str),
            (("track", "genres"), int), (("track", "genres_all"), int),
        ),
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
        ordered={_SUBSET: SUBSETS},
        choices={_SUBSET: SUBSETS, _SPLIT: SPLITS},
    ),
    "genres": Form("genre_id", 1, 4, ("#tracks", "parent", "title", "top_level")),
    "features": Form("track_id", 3, 518, (("mfcc", "mean", "01"), ("zcr", "std", "01"))),
    "echonest": Form("track_id", 3, 249, (("echonest", "audio_features", "tempo"),)),
    "raw_echonest": Form("track_id", 3, 249, (("echonest", "audio_features", "tempo"),)),
    "raw_tracks": Form("track_id", needed=("track_title", "track_genres", "artist_id")),
    "raw_albums": Form("album_id", needed=("album_title",)),
    "raw_artists": Form("artist_id", needed=("artist_name",)),
    "raw_genres": Form("genre_id", needed=("genre_title", "genre_parent_id")),
}  # fmt: skip
"""The tables of ``fma_metadata``, each in a file of its name and ``.csv``."""
