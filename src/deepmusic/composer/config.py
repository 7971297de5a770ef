"""What a composer is made of: every choice of its network in one frozen, JSON-ready record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from deepmusic.errors import DeepMusicError


@dataclass(frozen=True, kw_only=True)
class ComposerConfig:
    """Sizes and choices of a :class:`~deepmusic.composer.Composer`.

    Args:
        styles: their names, each a capsule.
        parts: lines that are told apart; what has more of them is merged into the last.
        lowest: MIDI pitch of the lowest key.
        keys: keys of each part.
        steps_per_beat: steps a quarter note of the grids.
        has_onsets: whether a note that is struck again is told from one that is held.
        has_bars: whether the place in the bar and in the piece is known and told to the decoder.
        frame_dim: numbers that stand for the notes of a step.
        hidden: of the decoder's memory.
        head: width of the network that writes the notes of a step.
        dropout: in [0, 1), of the decoder.
        input_dropout: in [0, 1), of what the decoder reads of single notes.
        repeats: whether the decoder is shown what followed the longest like passage before.
        capsules: whether it is conditioned by style capsules; otherwise by the style's name alone.
        passage_steps: steps that the capsule encoder hears at once, whole beats.
        place_types: primary capsules at each beat.
        place_dim: length of their poses.
        pose_dim: length of a style's pose.
        routing: a key of :data:`~deepmusic.capsules.ROUTING`.
        iterations: passes of the routing; None takes those of the method.

    Raises:
        DeepMusicError: a value is out of its range.
    """

    styles: tuple[str, ...]
    parts: int = 4
    lowest: int = 21
    keys: int = 88
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
    place_types: int = 8
    place_dim: int = 8
    pose_dim: int = 16
    routing: str = "dynamic"
    iterations: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "styles", tuple(self.styles))
        if not self.styles or len(set(self.styles)) != len(self.styles):
            raise DeepMusicError(f"A composer needs different styles, one or more: {self.styles}.")
        for name in ("parts", "keys", "steps_per_beat", "frame_dim", "hidden", "head"):
            if getattr(self, name) < 1:
                raise DeepMusicError(f"{name} is at least 1; got {getattr(self, name)}.")
        if not 0 <= self.lowest <= 128 - self.keys:
            raise DeepMusicError(f"keys {self.lowest} to {self.lowest + self.keys} leave MIDI's.")
        if self.passage_steps % self.steps_per_beat or self.passage_steps < self.steps_per_beat:
            raise DeepMusicError(f"passage_steps are whole beats; got {self.passage_steps}.")
        for name in ("dropout", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise DeepMusicError(f"{name} is in [0, 1); got {getattr(self, name)}.")

    @property
    def elements(self) -> int:
        """Keys of all parts together; element ``part * keys + pitch - lowest``."""
        return self.parts * self.keys

    @property
    def states(self) -> int:
        """What an element can do in a step: with onsets be held or be struck, else sound."""
        return 2 if self.has_onsets else 1

    @property
    def symbols(self) -> int:
        """Symbols that the set of a step may hold."""
        return self.elements * self.states

    def to_dict(self) -> dict[str, Any]:
        """JSON types; :meth:`from_dict` is the inverse."""
        return {**asdict(self), "styles": list(self.styles)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ComposerConfig:
        """Read what :meth:`to_dict` wrote.

        Raises:
            DeepMusicError: a field is unknown, missing or out of range.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown or "styles" not in values:
            raise DeepMusicError(
                f"A composer's configuration has no {unknown[0]!r}."
                if unknown
                else "A composer's configuration lacks its styles."
            )
        return cls(**values)
