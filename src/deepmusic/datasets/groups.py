"""Which tracks belong together because an artist, an album or the very sound is the same.

A model that has heard an artist in training recognises the voice, the room and the mastering, and
scores too well on that artist's other tracks. So tracks are grouped before they are split. Joining
too much costs a little choice; joining too little spoils the result without a sign. Where names
leave a doubt, tracks are joined.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from deepmusic.datasets.folder import Track

# Signs that stand between two artists. A comma needs a space after it ("10,000 Maniacs"), a slash
# something longer than two letters on either side ("AC/DC").
_BETWEEN = re.compile(
    r"""\s*[(\[]?\b(?:feat(?:uring)?|ft)\b\.?\s*
      | \s*[;\0]\s*
      | ,\s+
      | \s+/\s+ | (?<=\w{3})/(?=\w{3})
      | \s+(?:&|\+|×|x|and|und|et|y|with|vs|versus|meets|presents|pres)\.?\s+""",
    re.VERBOSE,
)

# Said of a track by many artists, or by nobody who knew: no artist.
_NOBODY = {
    "", "-", "?", "anonymous", "artist", "compilation", "diverse", "divers", "interpreti vari",
    "n/a", "na", "no artist", "none", "null", "ost", "original soundtrack", "soundtrack",
    "unbekannt", "unbekannter interpret", "unknown", "unknown artist", "v/a", "va", "varios",
    "varios artistas", "various", "various artists", "various interprets", "verschiedene",
    "verschiedene interpreten",
}  # fmt: skip

# What is left of a name that was cut although it is one ("The Band", "John Doe, Jr.", "Bill Haley
# & His Comets"): these would join strangers, so alone they are nobody.
_NO_MEMBERS = _NOBODY | {
    "all stars", "band", "brother", "brothers", "choir", "chorus", "co", "company", "conductor",
    "creator", "crew", "dj", "ensemble", "family", "friends", "gang", "group", "guest", "guests",
    "ii", "iii", "iv", "jr", "junior", "mc", "more", "orchestra", "others", "phd", "quartet",
    "quintet", "sister", "sisters", "son", "sons", "sr", "strings", "the", "trio",
}  # fmt: skip
_SOMEONES = re.compile(r"(?:his|her|their|guests?|friends?)\b")

_NO_ALBUM = _NOBODY | {"album", "demo", "single", "singles", "unknown album", "untitled"}


def artist_members(name: str | None) -> frozenset[str]:
    """The artists behind a name as it is written on a record.

    Upper and lower case, accents, dots, a leading "the" and the form of Unicode make no
    difference. A collaboration is cut into its members at ``feat.``, ``&``, ``and``, a comma and
    the like. Band names are cut as well ("Simon & Garfunkel"): that is harmless, since all
    tracks of the band are cut alike. Leftovers that many names share ("Jr.", "his orchestra",
    "friends") are dropped.

    Args:
        name: the artist, from a table or a tag; None when it is not known.

    Returns:
        Comparable names, in no order; empty for an unknown artist and for a compilation
        ("Various Artists").

    Example:
        >>> sorted(artist_members("Édith Piaf & the Band feat. Théo Sarapo"))
        ['edith piaf', 'theo sarapo']
    """
    whole = _comparable(name or "")
    if _bare(whole).strip("()[]<>") in _NOBODY:
        return frozenset()
    parts = {_bare(part) for part in _BETWEEN.split(whole)}
    members = {
        part
        for part in parts
        if (len(part) > 1 or not part.isascii())
        and part not in _NO_MEMBERS
        and not _SOMEONES.match(part)
    }
    return frozenset(members or {_bare(whole)})


def group_tracks(tracks: Sequence[Track]) -> list[int]:
    """The group of each track; a split must not divide a group.

    Tracks are joined when they share an artist (see :func:`artist_members`), when their bytes are
    the same, when they are near copies (``sound_group``) or cut from one recording (``source``),
    or when they are of one album: the same title in the same folder below the genre, or the same
    title and no artist known. A title alone joins nothing ("Greatest Hits"). Joining goes on
    through third tracks. A track of which nothing is known is a group of its own.

    Args:
        tracks: in any order.

    Returns:
        One number a track, counted from 0 by first appearance.
    """
    leader = list(range(len(tracks)))

    def find(track: int) -> int:
        while leader[track] != track:
            leader[track] = leader[leader[track]]
            track = leader[track]
        return track

    first: dict[tuple[str, ...], int] = {}
    for index, track in enumerate(tracks):
        for key in _keys(track):
            leader[find(index)] = find(first.setdefault(key, index))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(find(index), len(numbers)) for index in range(len(tracks))]


class Shared(NamedTuple):
    """How much of one kind several tracks have in common.

    Args:
        things: artists, albums, recordings ... that two or more tracks share.
        tracks: those that share one.
    """

    things: int
    tracks: int


def shared_attributes(tracks: Sequence[Track]) -> dict[str, Shared]:
    """Why tracks belong together: what they share, by kind.

    Args:
        tracks: in any order.

    Returns:
        An entry each for ``"artist"``, ``"album"``, ``"exact copy"``, ``"near copy"`` and
        ``"source"``. One track may be counted for several kinds.
    """
    members: dict[tuple[str, ...], list[int]] = {}
    for index, track in enumerate(tracks):
        for key in _keys(track):
            members.setdefault(key, []).append(index)
    shared = {}
    for short, kind in _KINDS.items():
        found = [
            indices for key, indices in members.items() if key[0] == short and len(indices) > 1
        ]
        shared[kind] = Shared(len(found), len({index for indices in found for index in indices}))
    return shared


_KINDS = {
    "artist": "artist",
    "album": "album",
    "sound": "exact copy",
    "alike": "near copy",
    "source": "source",
}
"""First part of a key to what a person calls it."""


def _keys(track: Track) -> list[tuple[str, ...]]:
    """What a track may share with others; one thing in common joins two tracks."""
    members = artist_members(track.artist)
    keys: list[tuple[str, ...]] = [("artist", member) for member in members]
    if track.content_hash:
        keys.append(("sound", track.content_hash))
    if track.sound_group is not None:
        keys.append(("alike", track.sound_group))
    if track.source is not None:
        keys.append(("source", track.source))
    album = _bare(_comparable(track.album or ""))
    if album not in _NO_ALBUM:
        folder = PurePosixPath(track.path).parent
        if len(folder.parts) > 1:  # GENRE/ALBUM/track: people put one album into one folder
            keys.append(("album", album, str(folder)))
        if not members:
            keys.append(("album", album))
    return keys


def _comparable(name: str) -> str:
    """A name without what spellings of it differ in: case, accents, dots, spaces."""
    # Only accents of Latin, Greek and Cyrillic go: a kana with its mark is another letter.
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    plain = re.sub(r"[\u0300-\u036f]", "", decomposed)
    return " ".join(unicodedata.normalize("NFKC", plain).casefold().split())


def _bare(name: str) -> str:
    """A comparable name without its punctuation and its leading "the"."""
    name = name.strip(" ,;&+-")
    if name.endswith((")", "]")) and not re.search(r"[(\[]", name):
        name = name[:-1]
    quiet = re.sub(r"[.'’`\"“”]", "", name).strip()
    return re.sub(r"^the\s+", "", quiet) or name
