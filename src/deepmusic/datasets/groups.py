"""Groups of tracks that share an artist, an album or a recording, which a split must not divide.

A model that was trained on an artist recognizes the voice, the room and the mastering, and scores
too high on that artist's other tracks. Grouping too much costs a little freedom of choice; grouping
too little inflates scores unnoticed. So tracks are grouped where names are ambiguous.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import combinations
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepmusic.datasets.folder import Track

# What separates two artists. A comma needs a space after it ("10,000 Maniacs"); for a slash between
# names see `_unslashed`.
_SEPARATOR = re.compile(
    r"""\s*[(\[]?\b(?:feat(?:uring)?|ft)\b\.?\s*
      | \s*[;\0、]\s*
      | ,\s+
      | \s+/\s+
      | \s+(?:&|\+|×|x|and|und|et|y|with|vs|versus|meets|presents|pres)\.?\s+""",
    re.VERBOSE,
)

_SHORT_NAME = 3  # Latin letters: less beside a slash may be part of a name, as in "AC/DC"
_MOST_PIECES = 20  # between slashes; more are no list of artists

# Names of tracks by many or by unknown artists.
_ANONYMOUS = {
    "", "-", "?", "anonymous", "artist", "compilation", "diverse", "divers", "interpreti vari",
    "n/a", "na", "no artist", "none", "null", "ost", "original soundtrack", "soundtrack",
    "unbekannt", "unbekannter interpret", "unknown", "unknown artist", "v/a", "va", "varios",
    "varios artistas", "various", "various artists", "various interprets", "verschiedene",
    "verschiedene interpreten",
}  # fmt: skip

# Parts of split names that would join unrelated artists ("The Band", "John Doe, Jr.", "Bill Haley &
# His Comets"); alone they are ignored.
_IGNORED_MEMBERS = _ANONYMOUS | {
    "all stars", "band", "brother", "brothers", "choir", "chorus", "co", "company", "conductor",
    "creator", "crew", "dj", "ensemble", "family", "friends", "gang", "group", "guest", "guests",
    "ii", "iii", "iv", "jr", "junior", "mc", "more", "orchestra", "others", "phd", "quartet",
    "quintet", "sister", "sisters", "son", "sons", "sr", "strings", "the", "trio",
}  # fmt: skip
_POSSESSIVE = re.compile(r"(?:his|her|their|guests?|friends?)\b")

_IGNORED_ALBUMS = _ANONYMOUS | {"album", "demo", "single", "singles", "unknown album", "untitled"}


def artist_members(name: str | None) -> frozenset[str]:
    """The artists behind a name as credited on a record.

    Case, accents, dots, a leading "the" and the form of Unicode make no difference. A collaboration
    is split into its members at ``feat.``, ``&``, ``and``, a comma and the like. Band names are
    split as well ("Simon & Garfunkel"), which is harmless, since all tracks of the band are split
    alike. Parts that many names share ("Jr.", "his orchestra", "friends") are dropped. A slash, by
    which ID3v2.3 separates artists, belongs to the name where both sides are short ("AC/DC"); where
    one is ("AC/DC/Queen"), every way to read the name counts.

    Returns:
        Normalized names; empty for an unknown artist (None) and a compilation ("Various Artists").

    Example:
        >>> sorted(artist_members("Édith Piaf & the Band feat. Théo Sarapo"))
        ['edith piaf', 'theo sarapo']
    """
    whole = _normalized(name or "")
    if _bare(whole).strip("()[]<>") in _ANONYMOUS:
        return frozenset()
    parts = {
        _bare(name) for part in _SEPARATOR.split(whole) for name in _unslashed(part.split("/"))
    }
    members = {
        part
        for part in parts
        if (len(part) > 1 or not part.isascii())
        and part not in _IGNORED_MEMBERS
        and not _POSSESSIVE.match(part)
    }
    return frozenset(members or {_bare(whole)})


def _unslashed(pieces: list[str]) -> list[str]:
    """The names that pieces between slashes may be."""
    is_name = [len(name.strip()) >= _SHORT_NAME or not name.isascii() for name in pieces]
    if all(is_name):
        return pieces
    if not any(is_name) or len(pieces) > _MOST_PIECES:
        return ["/".join(pieces)]
    spans = combinations(range(len(pieces) + 1), 2)
    return ["/".join(pieces[i:j]) for i, j in spans if j - i > 1 or is_name[i]]


def unknown_artists(tracks: Sequence[Track]) -> int:
    """How many tracks have no known artist, so that a split may divide an artist unnoticed."""
    return sum(not artist_members(track.artist) for track in tracks)


def group_tracks(tracks: Sequence[Track]) -> list[int]:
    """The group of each track; a split must not divide a group.

    Two tracks are in one group if they share an artist (see `artist_members`), if their bytes
    are the same, if they are near-duplicates (``sound_group``) or cut from one recording
    (``source``), or if they are of one album: the same title in the same folder below the genre, or
    the same title and no artist. A title alone is not enough ("Greatest Hits"). Groups are
    transitive. A track without metadata is a group by itself.

    Returns:
        One number per track, from 0 by first appearance.
    """
    first: dict[tuple[str, ...], int] = {}
    pairs = [
        (index, first.setdefault(key, index))
        for index, track in enumerate(tracks)
        for key in _keys(track)
    ]
    return components(len(tracks), pairs)


def components(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The number of the connected component, by first appearance, of each of `count` indices."""
    parents = list(range(count))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]  # halves the way for the next search
            index = parents[index]
        return index

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parents[high] = low
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(index), len(numbers)) for index in range(count)]


def shared_attributes(tracks: Sequence[Track]) -> dict[str, tuple[int, int]]:
    """Why tracks are grouped: what two or more of them share.

    Returns:
        By kind (``"artist"``, ``"album"``, ``"exact copy"``, ``"near copy"``, ``"source"``) how
        many of these are shared, and by how many tracks. One track may count for several kinds.
    """
    members: dict[tuple[str, ...], list[int]] = {}
    for index, track in enumerate(tracks):
        for key in _keys(track):
            members.setdefault(key, []).append(index)
    shared = {}
    for kind in ("artist", "album", "exact copy", "near copy", "source"):
        groups = [m for key, m in members.items() if key[0] == kind and len(m) > 1]
        shared[kind] = (len(groups), len(set().union(*groups)))
    return shared


def _keys(track: Track) -> list[tuple[str, ...]]:
    """What a track may share with others: kind and value."""
    members = artist_members(track.artist)
    keys: list[tuple[str, ...]] = [("artist", member) for member in members]
    for kind, value in (
        ("exact copy", track.content_hash),
        ("near copy", track.sound_group),
        ("source", track.source),
    ):
        if value:
            keys.append((kind, value))
    album = _bare(_normalized(track.album or ""))
    if album not in _IGNORED_ALBUMS:
        folder = PurePosixPath(track.path).parent
        if len(folder.parts) > 1:  # GENRE/ALBUM/track: people put one album into one folder
            keys.append(("album", album, str(folder)))
        if not members:
            keys.append(("album", album))
    return keys


def _normalized(name: str) -> str:
    """A name without case, accents and repeated spaces."""
    # only accents of Latin, Greek and Cyrillic: a kana with its mark is another letter
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    plain = re.sub(r"[\u0300-\u036f]", "", decomposed)
    return " ".join(unicodedata.normalize("NFKC", plain).casefold().split())


def _bare(name: str) -> str:
    """A normalized name without punctuation and a leading "the"."""
    name = name.strip(" ,;&+-")
    if name.endswith((")", "]")) and not re.search(r"[(\[]", name):
        name = name[:-1]
    quiet = re.sub(r"[.'’`\"“”]", "", name).strip()
    return re.sub(r"^the\s+", "", quiet) or name
