"""What may be requested of a composer, checked before any model is loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from deepmusic.errors import RequestError
from deepmusic.music import Key, TimeSignature

BARS = (4, 256)
"""The fewest and the most bars of a piece."""

TEMPOS = (20.0, 300.0)
"""The slowest and the fastest tempo in beats per minute."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything besides the model that determines a result; equal requests give equal results.

    Args:
        style: weights by name, scaled to sum to one; None takes the model's first style.
        bars: of the whole piece, including a primer; None takes the length of a given piece, or 16
            bars, after a primer 16 more.
        seed: of the random choices.
        key: such as ``"D minor"``; None draws one, or keeps that of a given piece.
        metre: such as ``"3/4"``; None takes the style's commonest, or that of a given piece.
        tempo: in beats per minute; None takes the style's, or keeps those of a given piece.
        temperature: below 1 favours likely notes; 0.1 to 3. Like ``top_p`` it acts on which notes
            begin, not on how many.
        top_p: share of the probability to sample from, in (0, 1].
        candidates: pieces to write, of which the style critic selects one.
        primer: a MIDI file to continue, or of which to rewrite bars.
        harmonize: a MIDI file to whose melody new parts are written.
        melody: which part of that file has it, from 1; None takes the highest steady line.
        infill: first and last bar, from 1, of the primer to rewrite.
        pose_from: a MIDI file from which the pose is taken.
        pose: moves the pose: by a dimension (from 0), or by one of the ``ATTRIBUTES``, in standard
            deviations of the training music.
        has_end: whether the piece ends, rather than breaking off.
        allow_copies: keep a piece that copies more than people do.

    Raises:
        RequestError: a value is out of range, or two contradict each other.
    """

    style: Mapping[str, float] | None = None
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
    melody: int | None = None
    infill: tuple[int, int] | None = None
    pose_from: str | None = None
    pose: Mapping[str, float] = field(default_factory=dict)
    has_end: bool = True
    allow_copies: bool = False

    def __post_init__(self) -> None:
        for name in ("bars", "seed", "candidates", "melody"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise RequestError(f"{name.capitalize()} must be a whole number; got {value!r}.")
        if self.style is not None:
            object.__setattr__(self, "style", _normalised(self.style))
        object.__setattr__(self, "pose", {str(k): float(v) for k, v in self.pose.items()})
        if not all(math.isfinite(amount) for amount in self.pose.values()):
            raise RequestError("Poses are moved by finite numbers.")
        for name in ("primer", "harmonize", "pose_from"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, os.fspath(getattr(self, name)))
        for what, value, low, high in (
            ("number of bars", self.bars, *BARS),
            ("tempo", self.tempo, *TEMPOS),
            ("temperature", self.temperature, 0.1, 3),
            ("number of candidates", self.candidates, 1, 64),
            ("seed", self.seed, 0, 2**63 - 1),
        ):
            if value is not None and not low <= value <= high:
                raise RequestError(f"The {what} is {low:g} to {high:g}; got {value:g}.")
        if not 0 < self.top_p <= 1:
            raise RequestError(f"top-p is above 0 and at most 1; got {self.top_p:g}.")
        if self.key is not None:
            try:
                object.__setattr__(self, "key", Key.named(self.key).name)
            except ValueError as error:
                raise RequestError(f"{error}.") from error
        if self.metre is not None:
            read_metre(self.metre)
        self._check_files()

    def _check_files(self) -> None:
        if self.primer is not None and self.harmonize is not None:
            raise RequestError("A primer and a melody to harmonize exclude each other: name one.")
        if self.melody is not None and self.harmonize is None:
            raise RequestError("A part has the melody of a piece to harmonize: name the piece too.")
        if self.infill is not None:
            if self.primer is None:
                raise RequestError("To rewrite bars, name the piece as the primer.")
            first, last = (int(bar) for bar in self.infill)
            if not 1 <= first <= last:
                raise RequestError(f"Bars to rewrite are FROM:TO, from 1 on; got {first}:{last}.")
            if self.bars is not None:
                raise RequestError("Rewriting bars keeps the length of the piece: omit bars.")
            object.__setattr__(self, "infill", (first, last))
        if self.given is not None:
            for name in ("key", "metre"):
                if getattr(self, name) is not None:
                    raise RequestError(
                        f"The {name} is that of the given piece: omit {name}, or the piece."
                    )

    @property
    def given(self) -> str | None:
        """The file of which notes are kept."""
        return self.primer or self.harmonize

    @property
    def styles(self) -> Mapping[str, float]:
        """The weights of the styles; empty where the model's first is taken."""
        return self.style or {}

    @property
    def main_style(self) -> str:
        """The style with the greatest weight, the first of several."""
        return max(self.styles, key=lambda name: self.styles[name])

    def to_dict(self) -> dict[str, Any]:
        """JSON types; ``from_dict`` is the inverse."""
        return asdict(self) | {"infill": None if self.infill is None else list(self.infill)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        """Read what ``to_dict`` wrote.

        Raises:
            RequestError: a field is unknown or out of range.
        """
        try:
            return cls(**values)
        except (TypeError, ValueError, AttributeError) as error:
            raise RequestError(f"This is not a request to a composer: {error}.") from error


def read_metre(text: str) -> TimeSignature:
    """A time signature such as ``"6/8"``.

    Raises:
        RequestError: the text is not one.
    """
    over, slash, under = text.strip().partition("/")
    try:
        if slash:
            return TimeSignature(0, int(over), int(under))
    except ValueError:
        pass
    raise RequestError(f"{text!r} is not a time signature; they are like 4/4, 3/4 or 6/8.")


def read_numbers(text: str, *, what: str, default: float | None = None) -> dict[str, float]:
    """Pairs such as ``"folk=0.7,pop=0.3"``.

    Args:
        text: names, each with ``=`` and a number.
        what: for the message.
        default: the number of a name without one.

    Raises:
        RequestError: the text is not of this form, or a name occurs twice.
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


def _normalised(style: Mapping[str, float]) -> dict[str, float]:
    weights = {str(name): float(weight) for name, weight in style.items()}
    if not weights or not all(w > 0 and math.isfinite(w) for w in weights.values()):
        raise RequestError("Name one style, or several with weights above 0.")
    total = sum(weights.values())
    if math.isclose(total, 1, abs_tol=1e-9):
        total = 1.0  # so that reading a request again changes nothing
    return {name: weight / total for name, weight in weights.items()}
