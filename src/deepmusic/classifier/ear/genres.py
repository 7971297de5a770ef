"""The broad set of genres that the ear's tags know, and what else the tags say."""

from __future__ import annotations

import math
from collections.abc import Mapping

from deepmusic.classifier.ear.config import HeadConfig
from deepmusic.classifier.ear.patches import TAGS

GENRES: dict[str, tuple[str, ...]] = {
    "rock": ("rock", "classic rock", "hard rock", "progressive rock"),
    "pop": ("pop",),
    "indie": ("alternative", "indie", "alternative rock", "indie rock", "indie pop"),
    "electronic": ("electronic", "electronica", "electro"),
    "dance": ("dance", "house"),
    "hip-hop": ("hip-hop",),
    "jazz": ("jazz",),
    "metal": ("metal", "heavy metal"),
    "punk": ("punk",),
    "soul": ("soul",),
    "r&b": ("rnb",),
    "funk": ("funk",),
    "folk": ("folk",),
    "country": ("country",),
    "blues": ("blues",),
    "ambient": ("ambient",),
    "classical": ("instrumental",),
}
"""Each genre, and the tags that speak for it. No tag knows reggae, Latin music or the traditional
music of most of the world; classical music has none of its own, and is learned from labels."""

MOODS = (
    *("beautiful", "chillout", "mellow", "chill", "party", "easy listening", "sexy", "catchy"),
    *("sad", "happy"),
)
"""Tags of mood and occasion."""
SOUNDS = (
    *("female vocalists", "male vocalists", "instrumental", "acoustic", "guitar"),
    "experimental",
)
"""Tags of voice and instruments."""
DECADES = ("60s", "70s", "80s", "90s", "00s")
"""Tags of decades."""

# Shares of tags in the training of the ear are not published; they fall about as this power of the
# rank. Dividing by their square root is a compromise: undivided, rock and pop win most tracks;
# divided by all of it, the rarest tags do.
_RANK_POWER, _CORRECTED = -0.75, 0.5
# Kinds of what others name rock, pop or electronic: they need more evidence than the broad genre.
_NARROW = {"indie", "punk", "ambient", "folk"}
_NARROW_NATS = 0.6
_SPEAKS = 0.25  # probability of a tag over the square root of how common it is


def common(tag: str) -> float:
    """How common a tag is, up to a factor."""
    return float((TAGS.index(tag) + 1) ** _RANK_POWER)


def described(tags: Mapping[str, float]) -> dict[str, list[str]]:
    """The tags that say most about a track: moods, sounds, and the decade.

    Args:
        tags: probability of each tag of the ear.
    """

    def most(family: tuple[str, ...], count: int) -> list[str]:
        # as for genres, a common tag needs a higher probability than a rare one
        strength = {tag: tags.get(tag, 0.0) / common(tag) ** _CORRECTED for tag in family}
        ordered = sorted(family, key=lambda tag: -strength[tag])
        return [tag for tag in ordered[:count] if strength[tag] >= _SPEAKS]

    return {"mood": most(MOODS, 3), "sound": most(SOUNDS, 2), "decade": most(DECADES, 1)}


def broad_config(routing: str = "self_attention") -> HeadConfig:
    """The head for `GENRES`, in which the tags of the ear speak beside the capsules."""
    offsets = (
        _CORRECTED * math.log(sum(map(common, tags))) + _NARROW_NATS * (genre in _NARROW)
        for genre, tags in GENRES.items()
    )
    return HeadConfig(
        tuple(GENRES),
        routing=routing,
        tags=tuple(GENRES.values()),
        tag_offsets=tuple(round(offset, 4) for offset in offsets),
    )
