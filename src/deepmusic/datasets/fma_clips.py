"""Clips of the Free Music Archive that are known to hold less sound than they should.

Clips are cut from the middle of a track by the length that the archive's site gave; where that was
wrong, the cut began near the end of the music or after it. The lists are those of FMA's authors
(wiki of github.com/mdeff/fma) and their users. Full-length tracks (``fma_full``) are not affected.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BadClip:
    """A clip with a known fault.

    Args:
        track: its number.
        subset: the smallest subset that it is in.
        code: ``"no_sound"``, ``"short"``, or ``"near_silent"``, which is a property of the music
            rather than a fault of the file.
        message: one sentence for a person.
    """

    track: int
    subset: str
    code: str
    message: str

    @property
    def is_left_out(self) -> bool:
        """Whether data sets leave it out by default; near-silent clips stay."""
        return self.code != "near_silent"


_NO_SOUND = {
    "small": (99134, 108925, 133297),
    "medium": (
        1486, 5574, 65753, 80391, 98558, 98559, 98560, 98571, 105247, 126981, 127336, 143992,
    ),
}  # fmt: skip
_SHORT_S = {
    "small": {98565: 1.6, 98567: 0.5, 98569: 1.5},
    "medium": {98566: 6.2, 98568: 6.6, 108924: 27.4},
}
_NEAR_SILENT = {"small": (107535, 110736, 119979), "medium": (130169,)}

_FAULTS = [
    (track, subset, "no_sound", f"The clip of track {track} holds no sound.")
    for subset, tracks in _NO_SOUND.items()
    for track in tracks
]
_FAULTS += [
    (track, subset, "short", f"The clip of track {track} holds {seconds:g} s instead of 30.")
    for subset, lengths in _SHORT_S.items()
    for track, seconds in lengths.items()
]
_FAULTS += [
    (track, subset, "near_silent", f"The clip of track {track} is almost silent.")
    for subset, tracks in _NEAR_SILENT.items()
    for track in tracks
]
BAD_CLIPS = {fault[0]: BadClip(*fault) for fault in sorted(_FAULTS)}
"""The clips with known faults, by number of the track."""
