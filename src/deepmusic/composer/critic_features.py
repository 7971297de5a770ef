"""Features of excerpts, from which the style critic classifies them.

They describe texture (how many pitches, how far apart, how long), harmony (pitch classes relative
to the tonic, intervals above the bass, chord types), lines (steps and leaps of the highest and
lowest notes, their joint motion) and form (which beats return after 1 to 16 beats). All are shares,
or per beat, so excerpts of any length can be compared; none depends on the transposition.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BEAT = 12
"""Steps per beat, whatever the grid has: thirds and quarters of a beat are both whole."""


class Notes(NamedTuple):
    """The notes of a piece without drums: columns ``(n,)`` int64, in twelfths of a beat."""

    onset: NDArray[np.int64]
    end: NDArray[np.int64]
    pitch: NDArray[np.int64]


def _roll(notes: Notes) -> NDArray[np.bool_]:
    """What sounds, ``(steps, pitches)`` from the lowest, up to the last beat with a note."""
    pitch = notes.pitch - notes.pitch.min()
    steps = -(-int(notes.end.max()) // BEAT) * BEAT
    changes = np.zeros((steps + 1, int(pitch.max()) + 1), np.int64)
    np.add.at(changes, (notes.onset, pitch), 1)
    np.add.at(changes, (notes.end, pitch), -1)
    sounds: NDArray[np.bool_] = np.cumsum(changes[:steps], axis=0) > 0
    return sounds


# Krumhansl and Kessler (1982), in hundredths: whole numbers, so that no sum depends on its order
_MAJOR_KEY = np.array([635, 223, 348, 233, 438, 409, 252, 519, 239, 366, 229, 288])
_MINOR_KEY = np.array([633, 268, 352, 538, 260, 353, 254, 475, 398, 269, 334, 317])
_DIATONIC = np.array([0, 2, 4, 5, 7, 9, 11])
_CHORDS = (
    (0,), (0, 3), (0, 4), (0, 5), (0, 4, 7), (0, 3, 7), (0, 3, 6), (0, 4, 8), (0, 5, 7),
    (0, 4, 7, 10), (0, 3, 7, 10), (0, 4, 7, 11), (0, 3, 6, 9), (0, 2, 4, 7),
)  # fmt: skip
"""Chord types, in any transposition and inversion."""
_LENGTHS = np.array([3, 4, 6, 7, 12, 13, 18, 24, 25, 36, 48, 49])
"""Lower bounds of classes of durations, in twelfths of a beat; shorter ones are the first class."""
_BEAT_POSITIONS = np.array([0, 6, 6, 1, 2, 6, 3, 6, 4, 5, 6, 6])
"""The class of each position in a beat: the beat, a quarter, third, half of it, and others."""
_LAGS = (1, 2, 3, 4, 6, 8, 12, 16)  # beats; bars of two, three and four, and groups of them
_MAX_LEAP = 8  # semitones of a leap; wider ones are counted with it


def _chord_types() -> NDArray[np.int64]:
    """The chord type ``(4096,)`` of each bit mask of pitch classes; the last is any other."""
    kind = np.full(4096, len(_CHORDS))
    for number, chord in enumerate(_CHORDS):
        for root in range(12):
            kind[sum(1 << (root + pitch) % 12 for pitch in chord)] = number
    return kind


_CHORD_TYPES = _chord_types()
_BITS = 1 << np.arange(12)


class _Analysis(NamedTuple):
    """An excerpt in the forms that its features need.

    Args:
        sounds: ``(steps, pitches)`` bool.
        length: ``(s,)`` duration of each chord, a set of pitches between two changes, without
            silences.
        start: ``(s,)`` first step of each.
        chords: ``(s, pitches)`` bool, which pitches sound in it.
        classes: ``(s, 12)`` bool, which pitch classes, from the lowest pitch.
        top, bass: ``(s,)`` its highest and lowest pitch.
        onset, duration, pitch: ``(n,)`` of all notes, by onset.
    """

    sounds: NDArray[np.bool_]
    length: NDArray[np.int64]
    start: NDArray[np.int64]
    chords: NDArray[np.bool_]
    classes: NDArray[np.bool_]
    top: NDArray[np.int64]
    bass: NDArray[np.int64]
    onset: NDArray[np.int64]
    duration: NDArray[np.int64]
    pitch: NDArray[np.int64]

    @property
    def beats(self) -> int:
        return len(self.sounds) // BEAT


def _analyse(sounds: NDArray[np.bool_]) -> _Analysis:
    steps, pitches = sounds.shape
    change = np.ones(steps, bool)
    change[1:] = np.any(sounds[1:] != sounds[:-1], axis=1)
    start = np.flatnonzero(change)
    length = np.diff(start, append=steps)
    is_chord = sounds[start].any(axis=1)
    start, length = start[is_chord], length[is_chord]
    chords = sounds[start]
    edges = np.diff(sounds.astype(np.int8), axis=0, prepend=0, append=0)
    pitch, onset = np.nonzero(edges.T == 1)
    duration = np.nonzero(edges.T == -1)[1] - onset
    order = np.lexsort((pitch, onset))
    return _Analysis(
        sounds,
        length,
        start,
        chords,
        _classes(chords),
        pitches - 1 - np.argmax(chords[:, ::-1], axis=1),
        np.argmax(chords, axis=1),
        onset[order],
        duration[order],
        pitch[order],
    )


def _classes(chords: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pitch classes ``(s, 12)`` of rows of pitches."""
    rows, pitches = chords.shape
    padded = np.zeros((rows, -(-pitches // 12) * 12), np.bool_)
    padded[:, :pitches] = chords
    classes: NDArray[np.bool_] = np.any(padded.reshape(rows, -1, 12), axis=1)
    return classes


def _shares(
    values: NDArray[np.int64], count: int, weights: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """The share ``(count,)`` of each value; greater ones count with the last."""
    counts = np.bincount(np.minimum(values, count - 1), weights, minlength=count)
    return counts / max(float(counts.sum()), 1.0)


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _std(values: NDArray[Any]) -> float:
    return float(values.std()) if len(values) else 0.0


def _entropy(shares: NDArray[np.float64]) -> float:
    shares = shares[shares > 0]
    return abs(float((shares * np.log2(shares)).sum()))


def _features(sounds: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The features ``(f,)`` of an excerpt in which something sounds."""
    excerpt = _analyse(sounds)
    features: NDArray[np.float64] = np.r_[
        _texture(excerpt),
        _rhythm(excerpt),
        _tonality(excerpt),
        _harmony(excerpt),
        _line(excerpt.top, excerpt),
        _line(excerpt.bass, excerpt),
        _voice_leading(excerpt),
        _self_similarity(excerpt),
    ]
    return features


def _texture(excerpt: _Analysis) -> NDArray[np.float64]:
    """Numbers of pitches that sound and begin at a time, their spacing, and density."""
    polyphony = excerpt.sounds.sum(axis=1)
    onsets = np.bincount(excerpt.onset)
    chord, key = np.nonzero(excerpt.chords)
    is_same = chord[1:] == chord[:-1]
    spacing = np.diff(key)[is_same]
    length = excerpt.length[chord[1:][is_same]]
    edges = np.array([2, 3, 5, 8, 13, 20])  # lower bounds of classes, in semitones
    per_beat = np.bincount(excerpt.onset // BEAT, minlength=excerpt.beats)
    features: NDArray[np.float64] = np.r_[
        _shares(polyphony, 9),
        _shares(onsets[onsets > 0] - 1, 6),
        _shares(np.searchsorted(edges, spacing, side="right"), len(edges) + 1, length),
        np.log1p(len(excerpt.onset) / excerpt.beats),
        np.log1p(np.count_nonzero(onsets) / excerpt.beats),
        np.log1p(len(excerpt.length) / excerpt.beats),
        _std(per_beat),
        np.log1p(np.ptp(excerpt.pitch)),
        _std(excerpt.pitch),
        _mean(excerpt.top - excerpt.bass),
        _std(excerpt.top - excerpt.bass),
        _std(polyphony),
    ]
    return features


def _rhythm(excerpt: _Analysis) -> NDArray[np.float64]:
    """Durations, positions of onsets in the beat, and inter-onset intervals."""
    onset_times = np.unique(excerpt.onset)
    onsets_per_beat = np.bincount(onset_times // BEAT, minlength=excerpt.beats)
    gaps = np.diff(onset_times)
    on_beat = excerpt.onset % BEAT == 0
    features: NDArray[np.float64] = np.r_[
        _lengths(excerpt.duration),
        _shares(_BEAT_POSITIONS[excerpt.onset % BEAT], 7),
        _shares(_BEAT_POSITIONS[onset_times % BEAT], 7),
        _shares(_BEAT_POSITIONS[(excerpt.onset + excerpt.duration) % BEAT], 7),
        _lengths(gaps),
        _mean(gaps[1:] == gaps[:-1]),
        _mean(excerpt.duration[on_beat]) / BEAT,
        _mean(excerpt.duration[~on_beat]) / BEAT,
        # syncopation as defined by Longuet-Higgins and Lee (1984)
        _mean(~on_beat & (excerpt.onset % BEAT + excerpt.duration > BEAT)),
        _mean(onsets_per_beat == 0),
        _entropy(_lengths(excerpt.duration)),
        _entropy(_lengths(gaps)),
    ]
    return features


def _lengths(length: NDArray[np.int64]) -> NDArray[np.float64]:
    return _shares(np.searchsorted(_LENGTHS, length, side="right"), len(_LENGTHS) + 1)


def _tonality(excerpt: _Analysis) -> NDArray[np.float64]:
    """Pitch classes relative to the tonic, and how well they fit a key."""
    time = np.bincount(excerpt.pitch % 12, excerpt.duration, minlength=12)
    rotated = time[(np.arange(12)[:, None] + np.arange(12)) % 12]  # a row for each tonic
    norms = [np.sqrt(np.sum((key - key.mean()) ** 2)) for key in (_MAJOR_KEY, _MINOR_KEY)]
    fits = np.stack(
        [
            (12 * rotated @ key - time.sum() * key.sum()) / norm
            for key, norm in zip((_MAJOR_KEY, _MINOR_KEY), norms, strict=True)
        ]
    )
    tonic = int(fits.max(axis=0).argmax())
    spread = float(np.sqrt(np.sum((12 * time - time.sum()) ** 2)))
    fit = fits / max(spread, 1.0)
    shares = rotated[tonic] / max(float(time.sum()), 1.0)
    in_scale = rotated[:, _DIATONIC].sum(axis=1)
    outside = np.ones(12, bool)
    outside[(int(in_scale.argmax()) + _DIATONIC) % 12] = False
    is_outside = outside[excerpt.pitch % 12]
    on_beat = excerpt.onset % BEAT == 0
    features: NDArray[np.float64] = np.r_[
        shares,
        _shares((excerpt.bass - tonic) % 12, 12, excerpt.length),
        _shares((excerpt.top - tonic) % 12, 12, excerpt.length),
        fit[0, tonic],
        fit[1, tonic],
        _entropy(shares),
        _mean(is_outside),
        _mean(is_outside[on_beat]),
        _mean(excerpt.duration[is_outside]) / BEAT,
        float(in_scale.max()) / max(float(time.sum()), 1.0),
    ]
    return features


def _harmony(excerpt: _Analysis) -> NDArray[np.float64]:
    """Chord types by duration, and the intervals in them."""
    classes = excerpt.classes
    time = max(float(excerpt.length.sum()), 1.0)
    pairs = np.array(
        [excerpt.length @ (classes & np.roll(classes, d, axis=1)).sum(axis=1) for d in range(1, 7)],
        float,
    )
    pairs[5] /= 2  # a tritone is counted from both of its ends
    above = (np.arange(12)[None] + excerpt.bass[:, None]) % 12
    from_bass = excerpt.length @ np.take_along_axis(classes, above, axis=1)
    number = classes @ _BITS
    kind = _CHORD_TYPES[number]
    semitone = np.any(classes & np.roll(classes, 1, axis=1), axis=1)
    on_beat = excerpt.start % BEAT == 0
    features: NDArray[np.float64] = np.r_[
        pairs / max(float(pairs.sum()), 1.0),
        from_bass[1:] / time,
        _shares(classes.sum(axis=1) - 1, 7, excerpt.length),
        _shares(kind, len(_CHORDS) + 1, excerpt.length),
        _shares(kind[on_beat], len(_CHORDS) + 1),
        float(excerpt.length @ semitone) / time,
        _mean(semitone[on_beat]),
        _mean(semitone[~on_beat]),
        len(np.unique(number)) / max(len(number), 1),
        np.log1p(len(np.unique(number))),
    ]
    return features


def _line(line: NDArray[np.int64], excerpt: _Analysis) -> NDArray[np.float64]:
    """The melodic motion of the highest or the lowest note."""
    moved = np.flatnonzero(np.diff(line, prepend=-1))
    pitch, start = line[moved], excerpt.start[moved]
    step = np.diff(pitch)
    leaps = np.abs(step) > 4
    reverses = (step[1:] * step[:-1] < 0)[leaps[:-1]]
    by_size = _shares(np.clip(step, -_MAX_LEAP, _MAX_LEAP) + _MAX_LEAP, 2 * _MAX_LEAP + 1)
    couples = 32 * np.clip(step[1:], -12, 12) + np.clip(step[:-1], -12, 12)
    features: NDArray[np.float64] = np.r_[
        np.delete(by_size, _MAX_LEAP),  # the line has been reduced to its changes
        _lengths(np.diff(start)),
        np.log1p(len(pitch) / excerpt.beats),
        _std(pitch),
        np.log1p(np.ptp(pitch)),
        _mean(np.abs(step)),
        _mean(step > 0),
        _mean(step[1:] * step[:-1] < 0),
        _mean(pitch[2:] == pitch[:-2]),
        _mean(reverses),
        len(np.unique(couples)) / max(len(couples), 1),
        _entropy(_shares(pitch, 128)),
        _mean(start % BEAT == 0),
    ]
    return features


def _voice_leading(excerpt: _Analysis) -> NDArray[np.float64]:
    """Voice leading: common tones of consecutive chords, and motion of the outer voices."""
    top, bass = np.sign(np.diff(excerpt.top)), np.sign(np.diff(excerpt.bass))
    both = (top != 0) & (bass != 0)
    span = (excerpt.top - excerpt.bass) % 12
    kept = np.count_nonzero(excerpt.chords[1:] & excerpt.chords[:-1], axis=1)
    any_of = np.count_nonzero(excerpt.chords[1:] | excerpt.chords[:-1], axis=1)
    kept_classes = np.count_nonzero(excerpt.classes[1:] & excerpt.classes[:-1], axis=1)
    any_class = np.count_nonzero(excerpt.classes[1:] | excerpt.classes[:-1], axis=1)
    size = excerpt.chords.sum(axis=1)
    parallel = both & (span[1:] == span[:-1]) & (top == bass)
    return np.array(
        [
            _mean(both & (top == bass)),
            _mean(both & (top != bass)),
            _mean((top == 0) & (bass == 0)),
            _mean((top != 0) & (bass == 0)),
            _mean((top == 0) & (bass != 0)),
            _mean(parallel & (span[1:] == 0)),
            _mean(parallel & (span[1:] == 7)),
            _mean(kept / np.maximum(any_of, 1)),
            _mean(kept_classes / np.maximum(any_class, 1)),
            _mean(kept == 0),
            _mean(np.abs(np.diff(size))),
            _mean(np.diff(size) == 0),
        ]
    )


def _self_similarity(excerpt: _Analysis) -> NDArray[np.float64]:
    """How similar beats are at several lags, in rhythm, pitch classes and sound."""
    beats = excerpt.beats
    rhythm = np.zeros((beats, BEAT), bool)
    rhythm[excerpt.onset // BEAT, excerpt.onset % BEAT] = True
    sound = excerpt.sounds.reshape(beats, BEAT, -1)
    chords: NDArray[np.bool_] = np.any(sound, axis=1)
    classes = _classes(chords)
    similarity = []
    for lag in _LAGS:
        now, before = classes[lag:], classes[:-lag]
        either = np.count_nonzero(now | before, axis=1)
        common = np.count_nonzero(now & before, axis=1)
        similarity += [
            _mean(np.all(rhythm[lag:] == rhythm[:-lag], axis=1)),
            _mean(common / np.maximum(either, 1)),
            _mean(np.all(sound[lag:] == sound[:-lag], axis=(1, 2))),
        ]
    return np.array(similarity)


N_FEATURES = len(_features(np.ones((BEAT, 1), bool)))


def feature_table(excerpts: Iterable[Notes]) -> NDArray[np.float64]:
    """The features ``(k, f)`` of excerpts that have notes."""
    return np.array([_features(_roll(notes)) for notes in excerpts]).reshape(-1, N_FEATURES)
