"""Keys by name, and the key of a piece estimated from its pitch classes."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from deepmusic.music.grid import Grid
from deepmusic.music.score import KeySignature

NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")

# a lower-case m is minor, right after the tonic too; a capital one is major
_NAME = re.compile(r"([a-g])((?-i:[#♯b♭]?))((?-i:m)|\s+(?:m|min|minor|maj|major))?", re.IGNORECASE)

# key profiles of Temperley (1999), What's Key for Key?, from the tonic
_MAJOR = (5.0, 2.0, 3.5, 2.0, 4.5, 4.0, 2.0, 4.5, 2.0, 3.5, 1.5, 4.0)
_MINOR = (5.0, 2.0, 3.5, 4.5, 2.0, 4.0, 2.0, 4.5, 3.5, 2.0, 1.5, 4.0)


class Key(NamedTuple):
    """A key; the tonic is a pitch class, 0 is C, 11 is B."""

    tonic: int
    is_minor: bool

    @property
    def name(self) -> str:
        """Such as ``"D minor"``."""
        return f"{NAMES[self.tonic]} {'minor' if self.is_minor else 'major'}"

    @property
    def signature(self) -> KeySignature:
        """As a signature that holds from the start."""
        relative = (self.tonic + 3) % 12 if self.is_minor else self.tonic
        sharps = (7 * relative) % 12
        return KeySignature(0, sharps if sharps <= 6 else sharps - 12, self.is_minor)

    @classmethod
    def named(cls, text: str) -> Key:
        """Parse a name such as ``"F# minor"``, ``"Bb"`` (major) or ``"am"``.

        Raises:
            ValueError: it is not the name of a key.
        """
        match = _NAME.fullmatch(text.strip().replace("-", " ").strip())
        if match is None:
            raise ValueError(f"{text!r} is not a key; keys are named like C, F# minor or Bb major")
        letter, sign, mode = match[1].upper(), match[2], (match[3] or "").strip()
        tonic = NAMES.index(letter) + {"#": 1, "♯": 1, "b": -1, "♭": -1}.get(sign, 0)
        return cls(tonic % 12, mode == "m" or mode.lower().startswith("min"))


def estimate_key(grid: Grid) -> Key:
    """Estimate the key by correlating the duration of each pitch class with Temperley's profiles.

    Drums are ignored. Music without notes is in C major.
    """
    kept = ~grid.is_drum
    durations = np.bincount(grid.pitch[kept] % 12, weights=grid.duration[kept], minlength=12)
    if not durations.any() or np.ptp(durations) == 0:
        return Key(0, False)
    # pieces tend to end on the tonic in the bass
    last = kept & (grid.onset + grid.duration >= (grid.onset + grid.duration)[kept].max())
    bass = int(grid.pitch[last].min()) % 12
    scores = {
        Key(tonic, is_minor): float(np.corrcoef(np.roll(profile, tonic), durations)[0, 1])
        + 0.1 * (tonic == bass)
        for is_minor, profile in ((False, _MAJOR), (True, _MINOR))
        for tonic in range(12)
    }
    return max(scores, key=lambda key: scores[key])
