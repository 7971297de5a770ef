"""A score: notes in parts with tempos, time signatures and key signatures, in integer ticks.

All times are whole ticks, as in MIDI, so nothing is rounded between a file and a score. A *beat*
is a quarter note, whatever the time signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import zip_longest
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

LAST_TICK = 2**31 - 2
"""The longest score: symusic counts ticks in 32 bits and ends a track one tick later."""

# the lowest and highest values of all integer fields
_LIMITS = {
    "time": (0, LAST_TICK), "onset": (0, LAST_TICK), "duration": (1, LAST_TICK),
    "end": (0, LAST_TICK), "pitch": (0, 127), "velocity": (1, 127), "part": (0, 32_767),
    "program": (0, 127), "us_per_beat": (1, 2**24 - 1), "numerator": (1, 255),
    "denominator": (1, 128), "sharps": (-7, 7), "ticks_per_beat": (1, 32_767),
}  # fmt: skip


class _Limited:
    """A record that raises ValueError where an integer is not within ``_LIMITS``."""

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()  # the names of the fields

    def __post_init__(self) -> None:
        for name in self.__match_args__:
            if name in _LIMITS:
                low, high = _LIMITS[name]
                value = getattr(self, name)
                if type(value) is not int or not low <= value <= high:
                    raise ValueError(f"{name} is an integer from {low} to {high}; got {value!r}")


@dataclass(frozen=True, slots=True)
class Note(_Limited):
    """One note."""

    onset: int  # tick, from 0
    duration: int  # ticks, at least 1
    pitch: int  # MIDI pitch, 0 to 127; 60 is middle C
    velocity: int = 80  # 1 to 127
    part: int = 0  # index of its part in the score

    def __post_init__(self) -> None:
        _Limited.__post_init__(self)
        if self.end > LAST_TICK:
            raise ValueError(f"a note ends by tick {LAST_TICK}; got {self.end}")

    @property
    def end(self) -> int:
        """The first tick at which it no longer sounds."""
        return self.onset + self.duration


@dataclass(frozen=True, slots=True)
class Part(_Limited):
    """An instrument's notes: a MIDI track."""

    name: str = ""  # printable characters
    program: int = 0  # General MIDI instrument, 0 to 127
    is_drum: bool = False  # whether pitches stand for percussion instruments (channel 10)

    def __post_init__(self) -> None:
        _Limited.__post_init__(self)
        if not self.name.isprintable():
            raise ValueError(f"the name of a part is printable text; got {self.name!r}")


@dataclass(frozen=True, slots=True)
class Tempo(_Limited):
    """The tempo from a time on."""

    time: int  # ticks in a score, steps in a grid; also in the signatures below
    us_per_beat: int  # microseconds per quarter note, 1 to 16,777,215, as MIDI stores it

    @property
    def beats_per_minute(self) -> float:
        """Quarter notes per minute."""
        return 60e6 / self.us_per_beat


@dataclass(frozen=True, slots=True)
class TimeSignature(_Limited):
    """The time signature from a time on; the denominator is a power of two, 1 to 128."""

    time: int
    numerator: int
    denominator: int

    def __post_init__(self) -> None:
        _Limited.__post_init__(self)
        if self.denominator & (self.denominator - 1):
            raise ValueError(f"the denominator is a power of two; got {self.denominator}")

    def __str__(self) -> str:
        return f"{self.numerator}/{self.denominator}"

    @property
    def beats_per_bar(self) -> Fraction:
        """Quarter notes per bar: 3 in 6/8."""
        return Fraction(4 * self.numerator, self.denominator)

    def bar_steps(self, steps_per_beat: int) -> int:
        """Steps per bar on a grid, rounded, at least one."""
        return max(round(self.beats_per_bar * steps_per_beat), 1)

    @property
    def is_compound(self) -> bool:
        """Whether eighths are grouped in threes, as in 6/8."""
        return self.denominator == 8 and self.numerator % 3 == 0


@dataclass(frozen=True, slots=True)
class KeySignature(_Limited):
    """The key signature from a time on; ``sharps`` is -7 to 7, negative for flats."""

    time: int
    sharps: int
    is_minor: bool = False


_TONICS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")

# a lower-case m is minor, right after the tonic too; a capital one is major
_KEY_NAME = re.compile(
    r"([a-g])((?-i:[#♯b♭]?))((?-i:m)|\s+(?:m|min|minor|maj|major))?", re.IGNORECASE
)


class Key(NamedTuple):
    """A key; the tonic is a pitch class, 0 is C, 11 is B."""

    tonic: int
    is_minor: bool

    @property
    def name(self) -> str:
        """Such as ``"D minor"``."""
        return f"{_TONICS[self.tonic]} {'minor' if self.is_minor else 'major'}"

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
        match = _KEY_NAME.fullmatch(text.strip().replace("-", " ").strip())
        if match is None:
            raise ValueError(f"{text!r} is not a key; keys are named like C, F# minor or Bb major")
        letter, sign, mode = match[1].upper(), match[2], (match[3] or "").strip()
        tonic = _TONICS.index(letter) + {"#": 1, "♯": 1, "b": -1, "♭": -1}.get(sign, 0)
        return cls(tonic % 12, mode == "m" or mode.lower().startswith("min"))


class Bar(NamedTuple):
    """Where a bar starts, in ticks, and its time signature such as "3/4" where it changes."""

    start: Fraction
    time_signature: str = ""


class NoteArrays(NamedTuple):
    """Notes as columns ``(n,)``, int64."""

    onset: NDArray[np.int64]
    duration: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    part: NDArray[np.int64]

    def notes(self) -> tuple[Note, ...]:
        """The notes one by one."""
        return tuple(Note(*row) for row in np.stack(self, axis=1).tolist())


@dataclass(frozen=True)
class Score(_Limited):
    """A piece of music.

    Fields are brought to a canonical form, so that equal music compares equal: notes are sorted by
    onset, pitch, part, duration and velocity; of several changes at one tick the last holds; and
    the defaults of MIDI, 120 beats per minute and 4/4, are written out.

    Args:
        ticks_per_beat: ticks per quarter note, 1 to 32,767.
        notes: in any order.
        parts: a note's ``part`` is an index into these.
        tempos, time_signatures, key_signatures: changes, in any order.
        end: tick at which the piece ends; at least the end of the last note.
        warnings: what was repaired or left out in reading, one sentence each; not compared.

    Raises:
        ValueError: a number is out of range, or a note's part does not exist.

    Example:
        >>> score = Score(480, (Note(0, 480, 60), Note(480, 960, 64)))
        >>> score.beats, score.seconds
        (Fraction(3, 1), 1.5)
    """

    ticks_per_beat: int
    notes: tuple[Note, ...]
    parts: tuple[Part, ...] = (Part(),)
    tempos: tuple[Tempo, ...] = ()
    time_signatures: tuple[TimeSignature, ...] = ()
    key_signatures: tuple[KeySignature, ...] = ()
    end: int = 0
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        _Limited.__post_init__(self)
        last_part = max((note.part for note in self.notes), default=-1)
        if last_part >= len(self.parts):
            raise ValueError(f"a note is in part {last_part}, but there are {len(self.parts)}")
        canonical = {
            "notes": tuple(
                sorted(self.notes, key=lambda n: (n.onset, n.pitch, n.part, n.duration, n.velocity))
            ),
            "parts": tuple(self.parts),
            "tempos": in_effect(self.tempos, Tempo(0, 500_000)),
            "time_signatures": in_effect(self.time_signatures, TimeSignature(0, 4, 4)),
            "key_signatures": in_effect(self.key_signatures),
            "end": max([self.end, *(note.end for note in self.notes)]),
            "warnings": tuple(self.warnings),
        }
        for name, value in canonical.items():
            object.__setattr__(self, name, value)

    @property
    def beats(self) -> Fraction:
        """Length in quarter notes."""
        return Fraction(self.end, self.ticks_per_beat)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return float(self.seconds_at(self.end))

    def seconds_at(self, ticks: ArrayLike) -> NDArray[np.float64]:
        """Convert ticks, whole or fractional, from 0, to seconds; float64 of the same shape."""
        starts, seconds, seconds_per_tick = self._tempo_map
        times = np.asarray(ticks, np.float64)
        index = np.searchsorted(starts, times, side="right") - 1
        return np.asarray(seconds[index] + (times - starts[index]) * seconds_per_tick[index])

    def bars(self) -> Iterator[Bar]:
        """Yield the bars in order, and one more that starts where the last ends.

        A time signature that changes within a bar cuts it short. The last bar is whole.
        """
        start = Fraction(0)
        for signature, following in zip_longest(self.time_signatures, self.time_signatures[1:]):
            stop = self.end if following is None else min(following.time, self.end)
            length = signature.beats_per_bar * self.ticks_per_beat
            start = Fraction(signature.time)
            name = f"{signature.numerator}/{signature.denominator}"
            while start < stop or start == 0:
                yield Bar(start, name)
                name = ""
                start += length
            if following is not None:
                start = min(start, Fraction(following.time))
                if following.time >= self.end:
                    break
        yield Bar(start)

    def notes_of(self, part: int) -> tuple[Note, ...]:
        """The notes of one part, sorted."""
        return tuple(note for note in self.notes if note.part == part)

    @cached_property
    def arrays(self) -> NoteArrays:
        """The notes as read-only columns."""
        rows = [(n.onset, n.duration, n.pitch, n.velocity, n.part) for n in self.notes]
        table = np.array(rows, np.int64).reshape(-1, 5).T.copy()
        table.setflags(write=False)
        return NoteArrays(*table)

    @property
    def is_drum(self) -> NDArray[np.bool_]:
        """Which notes of ``arrays`` are of drums, ``(n,)``."""
        return np.array([part.is_drum for part in self.parts], bool)[self.arrays.part]

    @cached_property
    def _tempo_map(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Ticks at which a tempo begins, the seconds then, and seconds per tick from there on."""
        starts = np.array([tempo.time for tempo in self.tempos], np.float64)
        per_tick = np.array([tempo.us_per_beat for tempo in self.tempos], np.float64)
        per_tick /= 1e6 * self.ticks_per_beat
        seconds = np.concatenate([[0.0], np.cumsum(np.diff(starts) * per_tick[:-1])])
        return starts, seconds, per_tick


Change = TypeVar("Change", Tempo, TimeSignature, KeySignature)


def in_effect(changes: Iterable[Change], at_start: Change | None = None) -> tuple[Change, ...]:
    """Changes by time, the last of each time, after ``at_start`` if none is at 0."""
    by_time = {} if at_start is None else {0: at_start}
    for change in sorted(changes, key=lambda change: change.time):
        by_time[change.time] = change
    return tuple(by_time.values())


def shifted(changes: Iterable[Change], by: int) -> tuple[Change, ...]:
    """Changes moved by ``by``, except those at the start, which stay there."""
    return tuple(
        replace(change, time=max(change.time + by, 0) if change.time else 0) for change in changes
    )
