"""A critic of style: the probability of each style for a piece, by a model that does not compose.

A composer cannot be its own critic: what it writes is what it holds probable. The critic is a small
perceptron on features of excerpts of 32 beats, eight bars of four, trained separately on people's
music. It ranks candidates, and its probabilities are reported.

People's styles differ so much that any music, however odd, would be classified with confidence. So
the critic is also trained on spoiled excerpts as one more class, whose probability is shared by all
styles. It detects wrong notes, broken rhythm, loops and shuffled beats; but music played backwards,
or with its bars in another order, mostly passes (docs/measured/style_critic.json).

It reads only what sounds, pitch by pitch, on twelfths of a beat. Parts, instruments, velocities,
tempo, time signature and key make no difference: the result is exactly the same in all
transpositions and with all parts merged. Nor does it matter whether a note is repeated or
sustained, since half of the data sets do not say. Drums are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.critic_features import BEAT, N_FEATURES, Notes, feature_table
from deepmusic.errors import CheckpointError
from deepmusic.music import Grid

EXCERPT = 32 * BEAT
"""Length of an excerpt."""

CLIP = 4.0
"""Standardised features are clipped at this value."""

_VERSION = 1
_MAX_EXCERPTS = 64  # of one piece, whatever its length


@dataclass(frozen=True, eq=False)
class StyleCritic:
    """Gives the probability of each style for a piece; ``train_critic`` makes one.

    Args:
        styles: names, ``s`` of them; one more class is spoiled music.
        mean, scale: ``(f,)`` of the training features.
        hidden_weight, hidden_bias: ``(f, h)`` and ``(h,)`` of the hidden layer.
        weight, bias: ``(h, s + 1)`` and ``(s + 1,)`` of the last layer.
        temperature: ``(1,)``, by which the logits are divided.
    """

    styles: tuple[str, ...]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    hidden_weight: NDArray[np.float32]
    hidden_bias: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: NDArray[np.float32]

    def probabilities(self, grid: Grid) -> dict[str, float]:
        """The probability of each style, by name; they sum to 1.

        They are closer to uniform the more a piece resembles spoiled music, and uniform without
        notes. Of a piece longer than 2048 beats, 64 excerpts are read.
        """
        classes = self._classes(grid)
        shares = classes[:-1] + classes[-1] / len(self.styles)
        return dict(zip(self.styles, (shares / shares.sum()).tolist(), strict=True))

    def spoiled(self, grid: Grid) -> float:
        """The probability, 0 to 1, that a piece is not as people write; 1 without notes."""
        return float(self._classes(grid)[-1])

    def _classes(self, grid: Grid) -> NDArray[np.float64]:
        """``(s + 1,)``, probabilities; the last is of spoiled music."""
        notes = notes_of(grid)
        table = feature_table(cut(notes, int(start), EXCERPT) for start in covering_starts(notes))
        if not len(table):
            return np.append(np.zeros(len(self.styles)), 1.0)
        rows = np.clip((table - self.mean) / self.scale, -CLIP, CLIP)
        hidden = np.maximum(rows @ self.hidden_weight + self.hidden_bias, 0)
        logits = np.asarray((hidden @ self.weight + self.bias) / self.temperature, np.float64)
        mean = logits.mean(axis=0)  # as the geometric mean of the excerpts' probabilities
        classes = np.exp(mean - mean.max())
        probabilities: NDArray[np.float64] = classes / classes.sum()
        return probabilities

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but the styles as arrays, to be saved."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        return {"version": np.array([_VERSION]), **arrays}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], styles: Sequence[str]) -> StyleCritic:
        """The critic of ``to_arrays`` and its styles, in their order.

        Raises:
            CheckpointError: the arrays are of another version, features or number of styles.
        """
        others = {name: array for name, array in arrays.items() if name != "version"}
        critic = cls(tuple(styles), **others)
        is_ours = arrays["version"].tolist() == [_VERSION] and critic.mean.shape == (N_FEATURES,)
        if not is_ours or critic.bias.shape != (len(styles) + 1,):
            raise CheckpointError(f"The style critic is not one of version {_VERSION}.")
        return critic


def notes_of(grid: Grid) -> Notes:
    """The notes of a grid."""
    is_drum = np.array([part.is_drum for part in grid.parts], bool)[grid.part]
    onset, duration = grid.onset[~is_drum], grid.duration[~is_drum]
    start, end = (
        (2 * BEAT * step + grid.steps_per_beat) // (2 * grid.steps_per_beat)
        for step in (onset, onset + duration)
    )
    return Notes(start, np.maximum(end, start + 1), grid.pitch[~is_drum].astype(np.int64))


def extent(notes: Notes) -> tuple[int, int]:
    """Where the music begins and ends, without rests, in whole beats."""
    return int(notes.onset.min()) // BEAT * BEAT, -(-int(notes.end.max()) // BEAT) * BEAT


def covering_starts(notes: Notes) -> NDArray[np.int64]:
    """Starts ``(k,)`` of excerpts that cover the piece; of a long one, some of them.

    Each excerpt has an onset. The last is moved back, so that it is as long as the others.
    """
    if not len(notes.onset):
        return np.zeros(0, np.int64)
    first, last = extent(notes)
    starts = first + np.unique((notes.onset - first) // EXCERPT) * EXCERPT
    starts = np.unique(np.minimum(starts, max(first, last - EXCERPT)))
    count = min(len(starts), _MAX_EXCERPTS)
    return starts[np.linspace(0, len(starts) - 1, count).round().astype(np.int64)]


def cut(notes: Notes, start: int, length: int) -> Notes:
    """What sounds in a span, cut at its ends, with times from its start."""
    inside = (notes.onset < start + length) & (notes.end > start)
    return Notes(
        np.maximum(notes.onset[inside] - start, 0),
        np.minimum(notes.end[inside] - start, length),
        notes.pitch[inside],
    )
