"""Sizes and choices of the composer's network, in one frozen, JSON-ready record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deepmusic.errors import DeepMusicError


@dataclass(frozen=True, kw_only=True)
class ComposerConfig:
    """Sizes and choices of a ``Composer``.

    Args:
        styles: their names, one capsule each.
        parts: number of voices; further ones are merged into the last.
        lowest: lowest MIDI pitch.
        pitches: number of pitches of each part.
        steps_per_beat: steps per quarter note of the grids.
        has_onsets: whether a repeated note is distinguished from a sustained one.
        has_bars: whether the decoder reads the position in the bar and in the piece.
        frame_dim: size of the representation of a step's notes.
        hidden: size of the decoder's memory.
        head: width of the network that writes the notes of a step.
        dropout: in [0, 1), of the decoder.
        input_dropout: in [0, 1), of single notes that the decoder reads.
        repeats: whether the decoder reads what followed the longest earlier match.
        capsules: whether style capsules condition it; otherwise only the style's name.
        passage_steps: steps that the capsule encoder reads at once, whole beats.
        primary_types: primary capsules at each beat.
        primary_dim: size of their poses.
        pose_dim: size of a style's pose.
        routing: a key of ``ROUTING``.
        iterations: of the routing; None takes the method's default.

    Raises:
        DeepMusicError: a value is out of range.
    """

    styles: tuple[str, ...]
    parts: int = 4
    lowest: int = 21
    pitches: int = 88
    steps_per_beat: int = 4
    has_onsets: bool = True
    has_bars: bool = True
    frame_dim: int = 192
    hidden: int = 384
    head: int = 256
    dropout: float = 0.2
    input_dropout: float = 0.0
    repeats: bool = True
    capsules: bool = True
    passage_steps: int = 128
    primary_types: int = 8
    primary_dim: int = 8
    pose_dim: int = 16
    routing: str = "dynamic"
    iterations: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "styles", tuple(self.styles))
        if not self.styles or len(set(self.styles)) != len(self.styles):
            raise DeepMusicError(f"A composer needs one or more different styles: {self.styles}.")
        for name in ("parts", "pitches", "steps_per_beat", "frame_dim", "hidden", "head"):
            if getattr(self, name) < 1:
                raise DeepMusicError(f"{name} is at least 1; got {getattr(self, name)}.")
        if not 0 <= self.lowest <= 128 - self.pitches:
            raise DeepMusicError(
                f"Pitches {self.lowest} to {self.lowest + self.pitches - 1} exceed those of MIDI."
            )
        if self.passage_steps % self.steps_per_beat or self.passage_steps < self.steps_per_beat:
            raise DeepMusicError(f"passage_steps are whole beats; got {self.passage_steps}.")
        for name in ("dropout", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise DeepMusicError(f"{name} is in [0, 1); got {getattr(self, name)}.")

    @property
    def elements(self) -> int:
        """Pitches of all parts together; element ``part * pitches + pitch - lowest``."""
        return self.parts * self.pitches

    @property
    def states(self) -> int:
        """What an element can do in a step: with onsets sustain or begin, else sound."""
        return 2 if self.has_onsets else 1

    @property
    def symbols(self) -> int:
        """Symbols that the set of a step may hold."""
        return self.elements * self.states

    def to_dict(self) -> dict[str, Any]:
        """JSON types; ``from_dict`` is the inverse."""
        return {**asdict(self), "styles": list(self.styles)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ComposerConfig:
        """Read what ``to_dict`` wrote.

        Raises:
            DeepMusicError: a field is unknown, missing or out of range.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise DeepMusicError(f"This is not a composer's configuration: {error}.") from error
