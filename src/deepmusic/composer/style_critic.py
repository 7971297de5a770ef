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

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.critic_excerpts import (
    BEAT,
    EXCERPT,
    SPOILERS,
    Notes,
    covering_starts,
    cut,
    extent,
    notes_of,
)
from deepmusic.composer.critic_features import N_FEATURES, feature_table
from deepmusic.errors import CheckpointError, DataError
from deepmusic.music import Grid

_VERSION = 1
_HIDDEN, _WEIGHT_DECAY, _EPOCHS = 32, 1.0, 40
_CLIP = 4.0  # standard deviations
_SHORT_EXCERPT = EXCERPT // 2
_PER_PIECE = 40  # training excerpts, in the style with most pieces
_MIN_PER_STYLE, _MAX_PER_STYLE, _MAX_IN_ALL = 200, 1000, 6000
_FOLDS = 3
_TEMPERATURES = np.geomspace(0.5, 10, 61)
_DEFAULT_TEMPERATURE = 2.0  # where there are too few pieces to hold any out


@dataclass(frozen=True, eq=False)
class StyleCritic:
    """Gives the probability of each style for a piece; :meth:`train` makes one.

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

    @classmethod
    def train(cls, grids: Sequence[Grid], styles: Sequence[str], *, seed: int = 0) -> StyleCritic:
        """Train a critic; about a minute for the shipped styles, less for few pieces.

        Args:
            grids: people's pieces. Those without notes are ignored.
            styles: the style of each, 1 to about 30 different ones.
            seed: of the excerpts and the perceptron.

        Raises:
            ValueError: grids and styles differ in number.
            DataError: there is no piece, or none of a style has notes.
        """
        if len(grids) != len(styles):
            raise ValueError(f"each grid has a style; got {len(grids)} and {len(styles)}")
        names = tuple(sorted(set(styles)))
        all_notes = [notes_of(grid) for grid in grids]
        usable = [i for i, notes in enumerate(all_notes) if len(notes.onset)]
        silent = sorted(set(names) - {styles[i] for i in usable})
        if silent or not names:
            raise DataError(
                "A style critic needs a piece with notes"
                + (f" of each style; there is none of {', '.join(silent)}." if silent else ".")
            )
        labels = np.array([names.index(styles[i]) for i in usable])
        random = np.random.default_rng(seed)
        examples = _examples([all_notes[i] for i in usable], labels, random)
        temperature = _temperature(examples, labels, seed, random)
        scaler, _, network = _fit(examples, np.ones(len(examples.label), bool), seed)
        weight, bias = network.coefs_[1], network.intercepts_[1]
        if len(bias) == 1:  # scikit-learn gives two classes one output, the odds of the second
            weight, bias = (np.concatenate([0 * part, part], axis=-1) for part in (weight, bias))
        columns = (scaler.mean_, scaler.scale_, network.coefs_[0], network.intercepts_[0])
        arrays = (*columns, weight, bias, [temperature])
        return cls(names, *(np.asarray(array, np.float32) for array in arrays))

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
        rows = np.clip((table - self.mean) / self.scale, -_CLIP, _CLIP)
        hidden = np.maximum(rows @ self.hidden_weight + self.hidden_bias, 0)
        logits = np.asarray((hidden @ self.weight + self.bias) / self.temperature, np.float64)
        classes: NDArray[np.float64] = np.exp(_log_softmax(_log_softmax(logits).mean(axis=0)))
        return classes

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but the styles as arrays, to be saved."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        return {"version": np.array([_VERSION]), **arrays}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], styles: Sequence[str]) -> StyleCritic:
        """The critic of :meth:`to_arrays`.

        Args:
            arrays: as they were; others are ignored.
            styles: the critic's, in their order.

        Raises:
            CheckpointError: an array is missing or damaged, or the styles do not fit.
        """
        version = arrays.get("version")
        if version is None or np.shape(version) != (1,) or version[0] != _VERSION:
            raise CheckpointError(f"The style critic is not of version {_VERSION}; train it again.")
        names = tuple(styles)
        if not names or len(set(names)) != len(names):
            raise CheckpointError(f"The style critic is damaged: its styles are {names}.")
        hidden, classes = np.size(arrays.get("hidden_bias", ())), len(names) + 1
        shapes = {
            "mean": (N_FEATURES,),
            "scale": (N_FEATURES,),
            "hidden_weight": (N_FEATURES, hidden),
            "hidden_bias": (hidden,),
            "weight": (hidden, classes),
            "bias": (classes,),
            "temperature": (1,),
        }
        for name, shape in shapes.items():
            array = np.asarray(arrays.get(name))
            is_valid = array.shape == shape and array.dtype == np.float32
            if not is_valid or not np.isfinite(array).all():
                raise CheckpointError(f"The style critic is damaged: array {name} is not valid.")
        if not (np.all(arrays["scale"] > 0) and np.all(arrays["temperature"] > 0)):
            raise CheckpointError("The style critic is damaged: a scale is not above 0.")
        return cls(names, **{name: arrays[name] for name in shapes})


class _Examples(NamedTuple):
    """Training excerpts.

    Args:
        features: ``(k, f)``.
        label: ``(k,)``, index of the style, or the number of styles for spoiled music.
        piece: ``(k,)``, index of the piece.
    """

    features: NDArray[np.float64]
    label: NDArray[np.int64]
    piece: NDArray[np.int64]


def _examples(
    pieces: Sequence[Notes], labels: NDArray[np.int64], random: np.random.Generator
) -> _Examples:
    """Equally many excerpts of each style, and as many spoiled ones in total."""
    styles = int(labels.max()) + 1
    count = int(np.clip(_PER_PIECE * np.bincount(labels).max(), _MIN_PER_STYLE, _MAX_PER_STYLE))
    count = min(count, max(_MAX_IN_ALL // styles, 1))
    piece = np.concatenate(
        [np.resize(random.permutation(np.flatnonzero(labels == k)), count) for k in range(styles)]
    )
    excerpts = [_random_excerpt(pieces[i], random) for i in piece]
    others = [_random_excerpt(pieces[i], random) for i in piece]
    spoiled = [SPOILERS[i % len(SPOILERS)](notes, random) for i, notes in enumerate(others)]
    return _Examples(
        feature_table([*excerpts, *spoiled]),
        np.concatenate([labels[piece], np.full(len(piece), styles)]),
        np.tile(piece, 2),
    )


def _random_excerpt(notes: Notes, random: np.random.Generator) -> Notes:
    """An excerpt; a quarter of them are half as long, as pieces may be."""
    length = _SHORT_EXCERPT if random.random() < 0.25 else EXCERPT
    first, last = extent(notes)
    beats = max(0, last - length - first) // BEAT
    excerpt = cut(notes, first + int(random.integers(beats + 1)) * BEAT, length)
    # during a long rest take the beginning, which has notes
    return excerpt if len(excerpt.onset) else cut(notes, first, length)


def _fit(examples: _Examples, chosen: NDArray[np.bool_], seed: int) -> Any:
    """A perceptron on standardised features, fitted to some of the examples."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    network = MLPClassifier((_HIDDEN,), alpha=_WEIGHT_DECAY, max_iter=_EPOCHS, random_state=seed)
    clip = FunctionTransformer(np.clip, kw_args={"a_min": -_CLIP, "a_max": _CLIP})
    model = make_pipeline(StandardScaler(), clip, network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is stopped early
        return model.fit(examples.features[chosen], examples.label[chosen])


def _temperature(
    examples: _Examples, labels: NDArray[np.int64], seed: int, random: np.random.Generator
) -> float:
    """The temperature that calibrates probabilities for pieces not trained on.

    Args:
        examples: of all pieces.
        labels: ``(pieces,)``, the style of each piece.
        seed: of the perceptrons.
        random: divides the pieces into folds.
    """
    fold = np.full(len(labels), -1)  # the only piece of a style is never held out
    styles = int(labels.max()) + 1
    for style in range(styles):
        pieces = np.flatnonzero(labels == style)
        if len(pieces) > 1:
            fold[random.permutation(pieces)] = np.arange(len(pieces)) % _FOLDS
    logits, truth = [], []
    for number in range(int(fold.max()) + 1):
        held_out = fold[examples.piece] == number
        model = _fit(examples, ~held_out, seed)
        predicted = model.predict_proba(examples.features[held_out])
        rows = np.full((len(predicted), styles + 1), np.log(1e-15))
        rows[:, model.classes_] = np.log(np.maximum(predicted, 1e-15))
        logits.append(rows)
        truth.append(examples.label[held_out])
    if not logits:
        return _DEFAULT_TEMPERATURE
    return _best_temperature(np.concatenate(logits), np.concatenate(truth))


def _best_temperature(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    # label smoothing as in Platt (1999): few correct examples say little
    smoothing = 1 / (len(truth) + 2)
    correct = np.arange(len(truth)), truth
    losses = []
    for temperature in _TEMPERATURES:
        rows = _log_softmax(logits / temperature)
        losses.append(-np.mean((1 - smoothing) * rows[correct] + smoothing * rows.mean(axis=1)))
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    rows: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return rows
