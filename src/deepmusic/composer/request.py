"""What may be asked of a composer, checked before any work is done."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from deepmusic.composer.passages import MANNER
from deepmusic.errors import RequestError
from deepmusic.music import Key, TimeSignature

BARS = (4, 256)
"""The fewest and the most bars of a piece."""

_CANDIDATES = 64


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that a result depends on besides the model; the same request, the same result.

    Args:
        style: weights by name; they are scaled to add up to one.
        bars: of the whole piece, a primer included; None takes the length of a given piece, or 16
            bars, after a primer 16 more.
        seed: another one, another piece.
        key: such as ``"D minor"``; None draws one, or keeps that of a given piece.
        metre: such as ``"3/4"``; None takes the style's commonest, or that of a given piece.
        tempo: beats a minute; None takes the style's, or that of a given piece.
        temperature: below 1 more usual notes, above 1 less usual ones; 0.1 to 3. Like ``top_p`` it
            acts on which notes are struck, not on how many.
        top_p: share of the chances of each note to draw from, in (0, 1].
        candidates: pieces to write, of which the judge keeps one.
        primer: a MIDI file to continue, or of which to rewrite bars.
        harmonize: a MIDI file of which the melody, its first part, is kept and the rest written.
        infill: first and last bar, from 1, to rewrite of the primer.
        pose_from: a MIDI file of which the manner is taken.
        pose: moves the pose: a number of a dimension (from 0), or a property of
            :data:`~deepmusic.composer.passages.MANNER`, to by how much; of a property in standard
            deviations of the training music.
        has_end: whether the piece ends, rather than breaking off.
        allow_copies: keep a piece that copies more than people do.

    Raises:
        RequestError: a value out of range, or two that contradict each other.
    """

    style: Mapping[str, float]
    bars: int | None = None
    seed: int = 0
    key: str | None = None
    metre: str | None = None
    tempo: float | None = None
    temperature: float = 0.8
    top_p: float = 0.95
    candidates: int = 4
    primer: str | None = None
    harmonize: str | None = None
    infill: tuple[int, int] | None = None
    pose_from: str | None = None
    pose: Mapping[str, float] = field(default_factory=dict)
    has_end: bool = True
    allow_copies: bool = False

    def __post_init__(self) -> None:
        for name in ("bars", "seed", "candidates"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise RequestError(f"{_capital(name)} must be a whole number; got {value!r}.")
        weights = {str(name): float(weight) for name, weight in self.style.items()}
        if not weights or not all(w > 0 and math.isfinite(w) for w in weights.values()):
            raise RequestError("Name one style, or several with weights above 0.")
        total = sum(weights.values())
        if math.isclose(total, 1, abs_tol=1e-9):
            total = 1.0  # so that a request that is read again is the very same
        object.__setattr__(self, "style", {name: w / total for name, w in weights.items()})
        object.__setattr__(self, "pose", {str(k): float(v) for k, v in self.pose.items()})
        if not all(math.isfinite(amount) for amount in self.pose.values()):
            raise RequestError("Poses are moved by finite numbers.")
        for name in ("primer", "harmonize", "pose_from"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, os.fspath(getattr(self, name)))
        _within("number of bars", self.bars, *BARS)
        _within("tempo", self.tempo, 20, 300)
        _within("temperature", self.temperature, 0.1, 3)
        _within("number of candidates", self.candidates, 1, _CANDIDATES)
        _within("seed", self.seed, 0, 2**63 - 1)
        if not 0 < self.top_p <= 1:
            raise RequestError(f"top-p is above 0 and at most 1; got {self.top_p:g}.")
        if self.key is not None:
            try:
                object.__setattr__(self, "key", Key.named(self.key).name)
            except ValueError as error:
                raise RequestError(f"{_capital(str(error))}.") from error
        if self.metre is not None:
            read_metre(self.metre)
        self._check_files()

    def _check_files(self) -> None:
        if self.primer is not None and self.harmonize is not None:
            raise RequestError("A primer and a melody to harmonize exclude each other: name one.")
        if self.infill is not None:
            if self.primer is None:
                raise RequestError("To rewrite bars, name the piece as the primer.")
            first, last = (int(bar) for bar in self.infill)
            if not 1 <= first <= last:
                raise RequestError(f"Bars to rewrite are FROM:TO, from 1 on; got {first}:{last}.")
            if self.bars is not None:
                raise RequestError("Rewriting bars keeps the length of the piece: leave bars away.")
            object.__setattr__(self, "infill", (first, last))
        if self.primer is not None or self.harmonize is not None:
            for name in ("key", "metre"):
                if getattr(self, name) is not None:
                    raise RequestError(
                        f"The {name} is that of the given piece: leave {name} away, or the piece."
                    )

    @property
    def given(self) -> str | None:
        """The file of which notes are kept."""
        return self.primer or self.harmonize

    def to_dict(self) -> dict[str, Any]:
        """JSON types; ``Request(**values)`` is the inverse."""
        values = asdict(self)
        values["infill"] = None if self.infill is None else list(self.infill)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        """Read what :meth:`to_dict` wrote.

        Raises:
            RequestError: a field is unknown or out of range.
        """
        try:
            infill = values.get("infill")
            return cls(**{**values, "infill": None if infill is None else tuple(infill)})
        except (TypeError, ValueError, AttributeError) as error:
            raise RequestError(f"This is no request to a composer: {error}.") from error


def read_metre(text: str) -> TimeSignature:
    """A time signature such as ``"6/8"``.

    Raises:
        RequestError: it is none.
    """
    over, slash, under = text.strip().partition("/")
    try:
        if slash:
            return TimeSignature(0, int(over), int(under))
    except ValueError:
        pass
    raise RequestError(f"{text!r} is no time signature; they are like 4/4, 3/4 or 6/8.")


def read_numbers(text: str, *, what: str, default: float | None = None) -> dict[str, float]:
    """Pairs such as ``"folk=0.7,pop=0.3"``.

    Args:
        text: names, each with ``=`` and a number.
        what: for the message.
        default: the number of a name without one.

    Raises:
        RequestError: it cannot be read so, or a name comes twice.
    """
    numbers: dict[str, float] = {}
    for entry in text.split(","):
        name, sign, value = (part.strip() for part in entry.partition("="))
        try:
            number = float(value) if sign else default
        except ValueError:
            number = None
        if not name or number is None or not math.isfinite(number) or name in numbers:
            raise RequestError(
                f"{text!r} cannot be read as {what}: give NAME=NUMBER, several with commas between."
            )
        numbers[name] = number
    return numbers


def _within(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        raise RequestError(f"The {name} is {least:g} to {most:g}; got {value:g}.")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


assert all(not name.isdecimal() for name in MANNER)  # a number is a dimension
