"""Training a style critic, on excerpts of people's pieces and on spoiled ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from deepmusic.composer.critic_features import BEAT, Notes, feature_table
from deepmusic.composer.style_critic import (
    CLIP,
    EXCERPT,
    StyleCritic,
    cut,
    extent,
    notes_of,
)
from deepmusic.errors import DataError
from deepmusic.music import Grid

_HIDDEN, _WEIGHT_DECAY, _EPOCHS = 32, 1.0, 40
_PER_PIECE = 40  # training excerpts, in the style with most pieces
_MIN_PER_STYLE, _MAX_PER_STYLE, _MAX_IN_ALL = 200, 1000, 6000
_FOLDS = 3
_TEMPERATURES = np.geomspace(0.5, 10, 61)
_DEFAULT_TEMPERATURE = 2.0  # where there are too few pieces to hold any out


def train_critic(grids: Sequence[Grid], styles: Sequence[str], *, seed: int = 0) -> StyleCritic:
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
    return StyleCritic(names, *(np.asarray(array, np.float32) for array in arrays))


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
    spoiled = [_SPOILERS[i % len(_SPOILERS)](notes, random) for i, notes in enumerate(others)]
    return _Examples(
        feature_table([*excerpts, *spoiled]),
        np.concatenate([labels[piece], np.full(len(piece), styles)]),
        np.tile(piece, 2),
    )


def _random_excerpt(notes: Notes, random: np.random.Generator) -> Notes:
    """An excerpt; a quarter of them are half as long, as pieces may be."""
    length = EXCERPT // 2 if random.random() < 0.25 else EXCERPT
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
    clip = FunctionTransformer(np.clip, kw_args={"a_min": -CLIP, "a_max": CLIP})
    model = make_pipeline(StandardScaler(), clip, network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is stopped early
        return model.fit(examples.features[chosen], examples.label[chosen])


def _temperature(
    examples: _Examples, labels: NDArray[np.int64], seed: int, random: np.random.Generator
) -> float:
    """The temperature that calibrates probabilities for pieces not trained on.

    ``labels`` ``(pieces,)`` are the styles of the pieces, which are divided into folds at random.
    """
    fold = np.full(len(labels), -1)  # the only piece of a style is never held out
    for style in np.unique(labels):
        pieces = np.flatnonzero(labels == style)
        if len(pieces) > 1:
            fold[random.permutation(pieces)] = np.arange(len(pieces)) % _FOLDS
    held_out = [fold[examples.piece] == number for number in range(int(fold.max()) + 1)]
    if not held_out:
        return _DEFAULT_TEMPERATURE
    predicted = np.concatenate(
        [_fit(examples, ~rows, seed).predict_proba(examples.features[rows]) for rows in held_out]
    )
    logits = np.log(np.maximum(predicted, 1e-15))
    truth = np.concatenate([examples.label[rows] for rows in held_out])
    # label smoothing as in Platt (1999): few correct examples say little
    smoothing = 1 / (len(truth) + 2)
    correct = np.arange(len(truth)), truth
    losses = []
    for temperature in _TEMPERATURES:
        rows = log_softmax(logits / temperature, axis=1)
        losses.append(-np.mean((1 - smoothing) * rows[correct] + smoothing * rows.mean(axis=1)))
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _off_pitch(notes: Notes, rng: np.random.Generator) -> Notes:
    """Move some pitches by up to three semitones."""
    share = rng.uniform(0.15, 1)
    off = rng.random(len(notes.pitch)) < share
    by = rng.integers(1, 4, len(off)) * rng.choice([-1, 1], len(off))
    return notes._replace(pitch=notes.pitch + off * by)


def _off_time(notes: Notes, rng: np.random.Generator) -> Notes:
    """Move some notes by the shortest duration of the excerpt."""
    unit = int(np.gcd.reduce(np.concatenate([notes.onset, notes.end])))
    share = rng.uniform(0.2, 1)
    off = rng.random(len(notes.pitch)) < share
    by = off * rng.integers(1, 3, len(off)) * rng.choice([-1, 1], len(off)) * min(unit, BEAT)
    by = np.maximum(by, -notes.onset)
    return notes._replace(onset=notes.onset + by, end=notes.end + by)


def _shuffled_pitches(notes: Notes, rng: np.random.Generator) -> Notes:
    """Shuffle the pitches, in the same rhythm."""
    return notes._replace(pitch=rng.permutation(notes.pitch))


def _shuffled_beats(notes: Notes, rng: np.random.Generator) -> Notes:
    """Shuffle spans of one or two beats."""
    length = int(rng.integers(1, 3)) * BEAT
    spans = -(-int(notes.end.max()) // length)
    return _joined(notes, rng.permutation(spans) * length, length)


def _looped(notes: Notes, rng: np.random.Generator) -> Notes:
    """Repeat a span of one, two or four beats throughout."""
    length = int(rng.choice([1, 2, 4])) * BEAT
    spans = -(-int(notes.end.max()) // length)
    at = int(rng.choice(notes.onset)) // length * length
    return _joined(notes, np.full(spans, at), length)


def _slowed(notes: Notes, rng: np.random.Generator) -> Notes:
    """Slow the notes down three to six times."""
    times, length = int(rng.integers(3, 7)), int(notes.end.max())
    begun = int(notes.onset.min()) * (times - 1)  # the first note stays where it is
    return cut(
        Notes(notes.onset * times - begun, notes.end * times - begun, notes.pitch), 0, length
    )


def _separated(notes: Notes, rng: np.random.Generator) -> Notes:
    """Separate high and low notes: into another key, or by some beats."""
    high = notes.pitch > np.median(notes.pitch)
    if rng.random() < 0.5:
        by = int(rng.choice([-6, -4, -3, -1, 1, 2, 3, 6]))
        return notes._replace(pitch=notes.pitch + high * by)
    late = high * int(rng.integers(1, 8)) * BEAT
    length = int(notes.end.max())
    return cut(Notes(notes.onset + late, notes.end + late, notes.pitch), 0, length)


def _thinned(notes: Notes, rng: np.random.Generator) -> Notes:
    """Leave some notes out; at least one remains."""
    share = rng.uniform(0.3, 0.7)
    kept = rng.random(len(notes.pitch)) >= share
    kept[rng.integers(len(kept))] = True
    return Notes(*(column[kept] for column in notes))


def _cluttered(notes: Notes, rng: np.random.Generator) -> Notes:
    """Double some notes at other pitches of the excerpt, or an octave from those."""
    share = rng.uniform(0.2, 0.7)
    twice = np.flatnonzero(rng.random(len(notes.pitch)) < share)
    more = rng.choice(notes.pitch, len(twice)) + 12 * rng.integers(-1, 2, len(twice))
    return Notes(
        np.append(notes.onset, notes.onset[twice]),
        np.append(notes.end, notes.end[twice]),
        np.append(notes.pitch, more),
    )


def _joined(notes: Notes, starts: NDArray[np.int64], length: int) -> Notes:
    """Consecutive spans of a piece."""
    spans = [cut(notes, int(start), length) for start in starts]
    late = np.repeat(np.arange(len(spans)) * length, [len(span.onset) for span in spans])
    onset, end, pitch = (np.concatenate(columns) for columns in zip(*spans, strict=True))
    return Notes(onset + late, end + late, pitch)


_SPOILERS = (
    _off_pitch,
    _off_time,
    _shuffled_pitches,
    _shuffled_beats,
    _looped,
    _slowed,
    _separated,
    _thinned,
    _cluttered,
)
"""Ways to spoil an excerpt."""
