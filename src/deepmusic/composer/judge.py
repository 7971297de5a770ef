"""A judge of style: how probable each style is for a piece, by a model that composes nothing.

A composer cannot be its own judge: what it makes is what it holds probable. The judge is of another
kind, and trained apart, on people's music only: a small perceptron on measures of excerpts of 32
beats, eight bars of four. It ranks candidates, and its verdict is reported.

People's styles are so far apart that any music, however odd, would be told to be surely of one. So
the judge is also shown the same excerpts spoiled, in ways that :data:`_SPOILERS` has, as one class
more: music that sounds spoiled is of no style, and its styles are near to equally probable. It
hears wrong notes, broken rhythm, loops and shuffled beats; music played backwards, or with its bars
in another order, is mostly told to be sound (docs/measured/judge.json).

It hears what sounds, pitch by pitch, on twelfths of a beat, and nothing else. Parts, instruments,
velocities, tempo, metre and key make no difference: a piece has the same verdict in all
transpositions, exactly, and with all its parts merged into one. Nor does it matter whether a note
is struck again or held, as half of the data sets do not say; drums are left out. All measures are
shares, or per beat, so pieces of any length are compared.

Its measures look at texture (how many pitches, how far apart, how long), at harmony (pitch classes
from the tonic, intervals above the bass, kinds of chords), at lines (steps and leaps of the highest
and lowest notes, how both move together) and at form (which beats return after 1 to 16 beats).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import CheckpointError, DataError
from deepmusic.music import Grid

_VERSION = 1
_BEAT = 12  # steps of a beat, whatever the grid has: thirds and quarters are both whole
_EXCERPT = 32 * _BEAT
_SHORT_EXCERPT = 16 * _BEAT
_MOST_EXCERPTS = 64  # of one piece, whatever its length
_HIDDEN = 32
_DECAY = 1.0
_EPOCHS = 40
_FAR = 4.0  # standard deviations; a measure farther off says no more


# --------------------------------------------------------------------------------------- notes


class _Notes(NamedTuple):
    """The notes of a piece but drums: columns ``(n,)`` int64, in twelfths of a beat."""

    onset: NDArray[np.int64]
    end: NDArray[np.int64]
    pitch: NDArray[np.int64]


def _notes(grid: Grid) -> _Notes:
    is_drum = np.array([part.is_drum for part in grid.parts], bool)[grid.part]
    onset, duration = grid.onset[~is_drum], grid.duration[~is_drum]
    start, end = (
        (2 * _BEAT * step + grid.steps_per_beat) // (2 * grid.steps_per_beat)
        for step in (onset, onset + duration)
    )
    return _Notes(start, np.maximum(end, start + 1), grid.pitch[~is_drum].astype(np.int64))


def _extent(notes: _Notes) -> tuple[int, int]:
    """Where the piece begins and ends, without the rests around it, in whole beats."""
    first = int(notes.onset.min()) // _BEAT * _BEAT
    last = -(-int(notes.end.max()) // _BEAT) * _BEAT
    return first, last


def _covering(notes: _Notes) -> NDArray[np.int64]:
    """``(k,)``, where excerpts begin that cover the piece; of a long one, some of them.

    Each has an onset in it. The last is moved back, so that it is as long as the others.
    """
    if not len(notes.onset):
        return np.zeros(0, np.int64)
    first, last = _extent(notes)
    starts = first + np.unique((notes.onset - first) // _EXCERPT) * _EXCERPT
    starts = np.unique(np.minimum(starts, max(first, last - _EXCERPT)))
    if len(starts) > _MOST_EXCERPTS:
        chosen = np.linspace(0, len(starts) - 1, _MOST_EXCERPTS).round().astype(np.int64)
        starts = starts[chosen]
    return starts


def _cut(notes: _Notes, start: int, length: int) -> _Notes:
    """What sounds in a span, cut at its ends, with onsets counted from its start."""
    inside = (notes.onset < start + length) & (notes.end > start)
    return _Notes(
        np.maximum(notes.onset[inside] - start, 0),
        np.minimum(notes.end[inside] - start, length),
        notes.pitch[inside],
    )


def _roll(notes: _Notes) -> NDArray[np.bool_]:
    """``(steps, keys)``, what sounds from step 0 to the beat in which the last note ends.

    Key 0 is the lowest pitch, whichever that is.
    """
    key = notes.pitch - notes.pitch.min()
    steps = -(-int(notes.end.max()) // _BEAT) * _BEAT
    changes = np.zeros((steps + 1, int(key.max()) + 1), np.int64)
    np.add.at(changes, (notes.onset, key), 1)
    np.add.at(changes, (notes.end, key), -1)
    sounds: NDArray[np.bool_] = np.cumsum(changes[:steps], axis=0) > 0
    return sounds


# ------------------------------------------------------------------------------------- measures

# Krumhansl and Kessler (1982), in hundredths: whole numbers, so that no sum depends on its order
_MAJOR_KEY = np.array([635, 223, 348, 233, 438, 409, 252, 519, 239, 366, 229, 288])
_MINOR_KEY = np.array([633, 268, 352, 538, 260, 353, 254, 475, 398, 269, 334, 317])
_DIATONIC = np.array([0, 2, 4, 5, 7, 9, 11])
_CHORDS = (
    (0,),
    (0, 3),
    (0, 4),
    (0, 5),
    (0, 4, 7),
    (0, 3, 7),
    (0, 3, 6),
    (0, 4, 8),
    (0, 5, 7),
    (0, 4, 7, 10),
    (0, 3, 7, 10),
    (0, 4, 7, 11),
    (0, 3, 6, 9),
    (0, 2, 4, 7),
)
"""Kinds of chords that are counted, in any transposition and inversion."""
_LENGTHS = np.array([3, 4, 6, 7, 12, 13, 18, 24, 25, 36, 48, 49])
"""Where a class of lengths begins, in twelfths of a beat; shorter ones are the first class."""
_POSITIONS = np.array([0, 6, 6, 1, 2, 6, 3, 6, 4, 5, 6, 6])
"""The class of each place in a beat: the beat, a quarter, third, half ... of it, and others."""
_LAGS = (1, 2, 3, 4, 6, 8, 12, 16)  # beats; bars of two, three and four, and groups of them
_WIDEST = 8  # semitones of a leap; wider ones are counted with it


def _kinds() -> NDArray[np.int64]:
    """``(4096,)``, the kind of each set of pitch classes, a bit each; the last kind is all else."""
    kind = np.full(4096, len(_CHORDS))
    for number, chord in enumerate(_CHORDS):
        for root in range(12):
            kind[sum(1 << (root + pitch) % 12 for pitch in chord)] = number
    return kind


_KINDS = _kinds()
_BITS = 1 << np.arange(12)


class _Heard(NamedTuple):
    """An excerpt, seen as what its measures are taken of.

    Args:
        sounds: ``(steps, keys)`` bool.
        length: ``(s,)`` how long each chord is: a set of pitches, from one change to the next;
            silences are none of them.
        start: ``(s,)`` where each begins.
        chords: ``(s, keys)`` bool, which keys sound in it.
        classes: ``(s, 12)`` bool, which pitch classes, counted from the lowest pitch.
        top, bass: ``(s,)`` its highest and lowest key.
        onset, duration, key: ``(n,)`` of all notes, by onset.
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
    key: NDArray[np.int64]

    @property
    def beats(self) -> int:
        return len(self.sounds) // _BEAT


def _heard(sounds: NDArray[np.bool_]) -> _Heard:
    steps, keys = sounds.shape
    change = np.ones(steps, bool)
    change[1:] = np.any(sounds[1:] != sounds[:-1], axis=1)
    start = np.flatnonzero(change)
    length = np.diff(start, append=steps)
    is_chord = sounds[start].any(axis=1)
    start, length = start[is_chord], length[is_chord]
    chords = sounds[start]
    edges = np.diff(sounds.astype(np.int8), axis=0, prepend=0, append=0)
    key, onset = np.nonzero(edges.T == 1)
    duration = np.nonzero(edges.T == -1)[1] - onset
    order = np.lexsort((key, onset))
    return _Heard(
        sounds,
        length,
        start,
        chords,
        _classes(chords),
        keys - 1 - np.argmax(chords[:, ::-1], axis=1),
        np.argmax(chords, axis=1),
        onset[order],
        duration[order],
        key[order],
    )


def _classes(chords: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``(s, 12)``, the pitch classes of rows of keys."""
    rows, keys = chords.shape
    padded = np.zeros((rows, -(-keys // 12) * 12), np.bool_)
    padded[:, :keys] = chords
    classes: NDArray[np.bool_] = np.any(padded.reshape(rows, -1, 12), axis=1)
    return classes


def _shares(
    values: NDArray[np.int64], count: int, weights: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """``(count,)``, which share has each value; what is greater is counted with the last."""
    counts = np.bincount(np.minimum(values, count - 1), weights, minlength=count)
    return counts / max(float(counts.sum()), 1.0)


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _std(values: NDArray[Any]) -> float:
    return float(values.std()) if len(values) else 0.0


def _entropy(shares: NDArray[np.float64]) -> float:
    shares = shares[shares > 0]
    return abs(float((shares * np.log2(shares)).sum()))


def _measures(sounds: NDArray[np.bool_]) -> NDArray[np.float64]:
    """``(measures,)`` of an excerpt in which something sounds."""
    heard = _heard(sounds)
    return np.concatenate(
        [
            _texture(heard),
            _rhythm(heard),
            _tonality(heard),
            _harmony(heard),
            _line(heard.top, heard),
            _line(heard.bass, heard),
            _leading(heard),
            _returns(heard),
        ]
    )


def _texture(heard: _Heard) -> NDArray[np.float64]:
    """How many pitches sound and begin at a time, how far apart, and how dense it all is."""
    together = heard.sounds.sum(axis=1)
    begun = np.bincount(heard.onset)
    chord, key = np.nonzero(heard.chords)
    is_same = chord[1:] == chord[:-1]
    spacing = np.diff(key)[is_same]
    held = heard.length[chord[1:][is_same]]
    edges = np.array([2, 3, 5, 8, 13, 20])  # where classes of spacing begin, in semitones
    per_beat = np.bincount(heard.onset // _BEAT, minlength=heard.beats)
    return np.concatenate(
        [
            _shares(together, 9),
            _shares(begun[begun > 0] - 1, 6),
            _shares(np.searchsorted(edges, spacing, side="right"), len(edges) + 1, held),
            [
                np.log1p(len(heard.onset) / heard.beats),
                np.log1p(np.count_nonzero(begun) / heard.beats),
                np.log1p(len(heard.length) / heard.beats),
                _std(per_beat),
                np.log1p(np.ptp(heard.key)),
                _std(heard.key),
                _mean(heard.top - heard.bass),
                _std(heard.top - heard.bass),
                _std(together),
            ],
        ]
    )


def _rhythm(heard: _Heard) -> NDArray[np.float64]:
    """How long notes are, where in the beat they begin, and how long after one another."""
    moments = np.unique(heard.onset)
    by_place = np.bincount(moments // _BEAT, minlength=heard.beats)
    gaps = np.diff(moments)
    on_beat = heard.onset % _BEAT == 0
    return np.concatenate(
        [
            _lengths(heard.duration),
            _shares(_POSITIONS[heard.onset % _BEAT], 7),
            _shares(_POSITIONS[moments % _BEAT], 7),
            _shares(_POSITIONS[(heard.onset + heard.duration) % _BEAT], 7),
            _lengths(gaps),
            [
                _mean(gaps[1:] == gaps[:-1]),
                _mean(heard.duration[on_beat]) / _BEAT,
                _mean(heard.duration[~on_beat]) / _BEAT,
                # what Longuet-Higgins and Lee (1984) call a syncopation
                _mean(~on_beat & (heard.onset % _BEAT + heard.duration > _BEAT)),
                _mean(by_place == 0),
                _entropy(_lengths(heard.duration)),
                _entropy(_lengths(gaps)),
            ],
        ]
    )


def _lengths(length: NDArray[np.int64]) -> NDArray[np.float64]:
    return _shares(np.searchsorted(_LENGTHS, length, side="right"), len(_LENGTHS) + 1)


def _tonality(heard: _Heard) -> NDArray[np.float64]:
    """Pitch classes counted from the tonic, and how well they fit a key."""
    time = np.bincount(heard.key % 12, heard.duration, minlength=12)
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
    is_outside = outside[heard.key % 12]
    on_beat = heard.onset % _BEAT == 0
    return np.concatenate(
        [
            shares,
            _shares((heard.bass - tonic) % 12, 12, heard.length),
            _shares((heard.top - tonic) % 12, 12, heard.length),
            [
                fit[0, tonic],
                fit[1, tonic],
                _entropy(shares),
                _mean(is_outside),
                _mean(is_outside[on_beat]),
                _mean(heard.duration[is_outside]) / _BEAT,
                float(in_scale.max()) / max(float(time.sum()), 1.0),
            ],
        ]
    )


def _harmony(heard: _Heard) -> NDArray[np.float64]:
    """Kinds of chords, by how long they sound, and the intervals in them."""
    classes = heard.classes
    time = max(float(heard.length.sum()), 1.0)
    pairs = np.array(
        [heard.length @ (classes & np.roll(classes, d, axis=1)).sum(axis=1) for d in range(1, 7)],
        float,
    )
    pairs[5] /= 2  # a tritone is found from both of its ends
    above = (np.arange(12)[None] + heard.bass[:, None]) % 12
    from_bass = heard.length @ np.take_along_axis(classes, above, axis=1)
    number = classes @ _BITS
    kind = _KINDS[number]
    rub = np.any(classes & np.roll(classes, 1, axis=1), axis=1)
    on_beat = heard.start % _BEAT == 0
    return np.concatenate(
        [
            pairs / max(float(pairs.sum()), 1.0),
            from_bass[1:] / time,
            _shares(classes.sum(axis=1) - 1, 7, heard.length),
            _shares(kind, len(_CHORDS) + 1, heard.length),
            _shares(kind[on_beat], len(_CHORDS) + 1),
            [
                float(heard.length @ rub) / time,
                _mean(rub[on_beat]),
                _mean(rub[~on_beat]),
                len(np.unique(number)) / max(len(number), 1),
                np.log1p(len(np.unique(number))),
            ],
        ]
    )


def _line(line: NDArray[np.int64], heard: _Heard) -> NDArray[np.float64]:
    """How the highest or the lowest note moves, where it does."""
    moved = np.flatnonzero(np.diff(line, prepend=-1))
    pitch, start = line[moved], heard.start[moved]
    step = np.diff(pitch)
    leaps = np.abs(step) > 4
    goes_back = (step[1:] * step[:-1] < 0)[leaps[:-1]]
    by_size = _shares(np.clip(step, -_WIDEST, _WIDEST) + _WIDEST, 2 * _WIDEST + 1)
    couples = 32 * np.clip(step[1:], -12, 12) + np.clip(step[:-1], -12, 12)
    return np.concatenate(
        [
            np.delete(by_size, _WIDEST),  # where it moves it moves
            _lengths(np.diff(start)),
            [
                np.log1p(len(pitch) / heard.beats),
                _std(pitch),
                np.log1p(np.ptp(pitch)),
                _mean(np.abs(step)),
                _mean(step > 0),
                _mean(step[1:] * step[:-1] < 0),
                _mean(pitch[2:] == pitch[:-2]),
                _mean(goes_back),
                len(np.unique(couples)) / max(len(couples), 1),
                _entropy(_shares(pitch, 128)),
                _mean(start % _BEAT == 0),
            ],
        ]
    )


def _leading(heard: _Heard) -> NDArray[np.float64]:
    """How one chord goes to the next: what stays, and how the outer notes move together."""
    top, bass = np.sign(np.diff(heard.top)), np.sign(np.diff(heard.bass))
    both = (top != 0) & (bass != 0)
    span = (heard.top - heard.bass) % 12
    kept = np.count_nonzero(heard.chords[1:] & heard.chords[:-1], axis=1)
    any_of = np.count_nonzero(heard.chords[1:] | heard.chords[:-1], axis=1)
    kept_classes = np.count_nonzero(heard.classes[1:] & heard.classes[:-1], axis=1)
    any_class = np.count_nonzero(heard.classes[1:] | heard.classes[:-1], axis=1)
    size = heard.chords.sum(axis=1)
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


def _returns(heard: _Heard) -> NDArray[np.float64]:
    """Which share of beats is as the beat some beats before: its rhythm, its classes, its sound."""
    beats = heard.beats
    rhythm = np.zeros((beats, _BEAT), bool)
    rhythm[heard.onset // _BEAT, heard.onset % _BEAT] = True
    sound = heard.sounds.reshape(beats, _BEAT, -1)
    chords: NDArray[np.bool_] = np.any(sound, axis=1)
    classes = _classes(chords)
    alike = []
    for lag in _LAGS:
        now, before = classes[lag:], classes[:-lag]
        either = np.count_nonzero(now | before, axis=1)
        common = np.count_nonzero(now & before, axis=1)
        alike += [
            _mean(np.all(rhythm[lag:] == rhythm[:-lag], axis=1)),
            _mean(common / np.maximum(either, 1)),
            _mean(np.all(sound[lag:] == sound[:-lag], axis=(1, 2))),
        ]
    return np.array(alike)


_MEASURES = len(_measures(np.ones((_BEAT, 1), bool)))


def _table(excerpts: Iterable[_Notes]) -> NDArray[np.float64]:
    """``(k, measures)`` of excerpts that have notes."""
    return np.array([_measures(_roll(notes)) for notes in excerpts]).reshape(-1, _MEASURES)


# -------------------------------------------------------------------------------- spoiled music


def _some(count: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    return rng.random(count) < share


def _off_pitch(notes: _Notes, rng: np.random.Generator) -> _Notes:
    """Some pitches a little off."""
    off = _some(len(notes.pitch), rng.uniform(0.15, 1), rng)
    by = rng.integers(1, 4, len(off)) * rng.choice([-1, 1], len(off))
    return notes._replace(pitch=notes.pitch + off * by)


def _off_time(notes: _Notes, rng: np.random.Generator) -> _Notes:
    """Some notes a little early or late, by what is the shortest length here."""
    unit = int(np.gcd.reduce(np.concatenate([notes.onset, notes.end])))
    off = _some(len(notes.pitch), rng.uniform(0.2, 1), rng)
    by = off * rng.integers(1, 3, len(off)) * rng.choice([-1, 1], len(off)) * min(unit, _BEAT)
    by = np.maximum(by, -notes.onset)
    return notes._replace(onset=notes.onset + by, end=notes.end + by)


def _shuffled_pitches(notes: _Notes, rng: np.random.Generator) -> _Notes:
    """The same pitches in the same rhythm, in any order."""
    return notes._replace(pitch=rng.permutation(notes.pitch))


def _shuffled_beats(notes: _Notes, rng: np.random.Generator) -> _Notes:
    """Spans of one or two beats in any order."""
    length = int(rng.integers(1, 3)) * _BEAT
    spans = -(-int(notes.end.max()) // length)
    return _joined(notes, rng.permutation(spans) * length, length)


def _stuck(notes: _Notes, rng: np.random.Generator) -> _Notes:
    """A span of one, two or four beats, again and again."""
    length = int(rng.choice([1, 2, 4])) * _BEAT
    spans = -(-int(notes.end.max()) // length)
    at = int(rng.choice(notes.onset)) // length * length
    return _joined(notes, np.full(spans, at), length)


def _slowed(notes: _Notes, rng: np.random.Generator) -> _Notes:
    """Notes that last three to six times as long."""
    times, length = int(rng.integers(3, 7)), int(notes.end.max())
    begun = int(notes.onset.min()) * (times - 1)  # the first note stays where it is
    return _cut(
        _Notes(notes.onset * times - begun, notes.end * times - begun, notes.pitch), 0, length
    )


def _apart(notes: _Notes, rng: np.random.Generator) -> _Notes:
    """High and low notes that do not fit: in another key, or some beats later."""
    high = notes.pitch > np.median(notes.pitch)
    if rng.random() < 0.5:
        by = int(rng.choice([-6, -4, -3, -1, 1, 2, 3, 6]))
        return notes._replace(pitch=notes.pitch + high * by)
    late = high * int(rng.integers(1, 8)) * _BEAT
    length = int(notes.end.max())
    return _cut(_Notes(notes.onset + late, notes.end + late, notes.pitch), 0, length)


def _thinned(notes: _Notes, rng: np.random.Generator) -> _Notes:
    """Some notes left out; at least one is left."""
    kept = ~_some(len(notes.pitch), rng.uniform(0.3, 0.7), rng)
    kept[rng.integers(len(kept))] = True
    return _Notes(*(column[kept] for column in notes))


def _cluttered(notes: _Notes, rng: np.random.Generator) -> _Notes:
    """Some notes once more, at other pitches of the excerpt or an octave off those."""
    twice = np.flatnonzero(_some(len(notes.pitch), rng.uniform(0.2, 0.7), rng))
    more = rng.choice(notes.pitch, len(twice)) + 12 * rng.integers(-1, 2, len(twice))
    return _Notes(
        np.append(notes.onset, notes.onset[twice]),
        np.append(notes.end, notes.end[twice]),
        np.append(notes.pitch, more),
    )


def _joined(notes: _Notes, starts: NDArray[np.int64], length: int) -> _Notes:
    """Spans of a piece, one after the other."""
    spans = [_cut(notes, int(start), length) for start in starts]
    late = np.repeat(np.arange(len(spans)) * length, [len(span.onset) for span in spans])
    onset, end, pitch = (np.concatenate(columns) for columns in zip(*spans, strict=True))
    return _Notes(onset + late, end + late, pitch)


_SPOILERS = (
    _off_pitch,
    _off_time,
    _shuffled_pitches,
    _shuffled_beats,
    _stuck,
    _slowed,
    _apart,
    _thinned,
    _cluttered,
)


# ------------------------------------------------------------------------------------- training

_OF_PIECE = 40  # excerpts that are trained on; of the style with most pieces
_LEAST_OF_STYLE, _MOST_OF_STYLE = 200, 1000
_MOST_OF_ALL = 6000
_FOLDS = 3
_TEMPERATURES = np.geomspace(0.5, 10, 61)
_UNCHECKED_TEMPERATURE = 2.0  # where there are too few pieces to hold any out: be modest


class _Examples(NamedTuple):
    """Excerpts: columns ``(k,)``.

    Args:
        measures: ``(k, measures)``.
        label: index of the style; their number stands for spoiled music.
        piece: index of the piece.
    """

    measures: NDArray[np.float64]
    label: NDArray[np.int64]
    piece: NDArray[np.int64]


def _examples(
    pieces: Sequence[_Notes], labels: NDArray[np.int64], rng: np.random.Generator
) -> _Examples:
    """As many excerpts of each style as of each other, and in all as many that are spoiled."""
    styles = int(labels.max()) + 1
    count = int(np.clip(_OF_PIECE * np.bincount(labels).max(), _LEAST_OF_STYLE, _MOST_OF_STYLE))
    count = min(count, max(_MOST_OF_ALL // styles, 1))
    piece = np.concatenate(
        [np.resize(rng.permutation(np.flatnonzero(labels == k)), count) for k in range(styles)]
    )
    excerpts = [_random_excerpt(pieces[i], rng) for i in piece]
    others = [_random_excerpt(pieces[i], rng) for i in piece]
    spoiled = [_SPOILERS[i % len(_SPOILERS)](notes, rng) for i, notes in enumerate(others)]
    return _Examples(
        _table([*excerpts, *spoiled]),
        np.concatenate([labels[piece], np.full(len(piece), styles)]),
        np.tile(piece, 2),
    )


def _random_excerpt(notes: _Notes, rng: np.random.Generator) -> _Notes:
    """Most are as long as those that are judged; a quarter is half as long, as pieces may be."""
    length = _SHORT_EXCERPT if rng.random() < 0.25 else _EXCERPT
    first, last = _extent(notes)
    beats = max(0, last - length - first) // _BEAT
    excerpt = _cut(notes, first + int(rng.integers(beats + 1)) * _BEAT, length)
    # a long rest; a note is in any case in an excerpt that begins with its beat
    return excerpt if len(excerpt.onset) else _cut(notes, first, length)


def _fitted(examples: _Examples, chosen: NDArray[np.bool_], seed: int) -> Any:
    """A perceptron on scaled measures, fitted to some of the examples."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    network = MLPClassifier((_HIDDEN,), alpha=_DECAY, max_iter=_EPOCHS, random_state=seed)
    far = FunctionTransformer(np.clip, kw_args={"a_min": -_FAR, "a_max": _FAR})
    model = make_pipeline(StandardScaler(), far, network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is stopped early
        return model.fit(examples.measures[chosen], examples.label[chosen])


def _temperature(
    examples: _Examples, labels: NDArray[np.int64], seed: int, rng: np.random.Generator
) -> float:
    """By what logits are divided, so that probabilities are right for pieces not trained on.

    Args:
        examples: of all pieces.
        labels: ``(pieces,)``, the style of each piece.
        seed: of the perceptrons.
        rng: divides the pieces into folds.
    """
    fold = np.full(len(labels), -1)  # the only piece of a style is in all perceptrons
    for style in range(int(labels.max()) + 1):
        here = np.flatnonzero(labels == style)
        if len(here) > 1:
            fold[rng.permutation(here)] = np.arange(len(here)) % _FOLDS
    logits, truth = [], []
    for number in range(int(fold.max()) + 1):
        held_out = fold[examples.piece] == number
        model = _fitted(examples, ~held_out, seed)
        rows = _log_probabilities(model, examples.measures[held_out], int(labels.max()) + 2)
        logits.append(rows)
        truth.append(examples.label[held_out])
    if not logits:
        return _UNCHECKED_TEMPERATURE
    return _best_temperature(np.concatenate(logits), np.concatenate(truth))


def _log_probabilities(
    model: Any, measures: NDArray[np.float64], classes: int
) -> NDArray[np.float64]:
    given: NDArray[np.float64] = np.log(np.maximum(model.predict_proba(measures), 1e-15))
    rows = np.full((len(given), classes), np.log(1e-15))
    rows[:, model.classes_] = given
    return rows


def _best_temperature(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    # as Platt (1999) has it, no example is sure: few that are all right say little
    smoothing = 1 / (len(truth) + 2)
    right = np.arange(len(truth)), truth
    losses = []
    for temperature in _TEMPERATURES:
        rows = _log_softmax(logits / temperature)
        losses.append(-np.mean((1 - smoothing) * rows[right] + smoothing * rows.mean(axis=1)))
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    rows: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return rows


# ---------------------------------------------------------------------------------------- judge


@dataclass(frozen=True, eq=False)
class Judge:
    """Says how probable each style is for a piece.

    Make one with :meth:`train`. It knows one class more than there are styles: spoiled music, made
    of the pieces by moving notes, shuffling, looping, slowing, leaving out and adding. What is
    spoiled says nothing of any style: its probability is shared by all.

    Args:
        styles: names, ``s`` of them.
        mean, scale: ``(m,)`` of the measures that it was trained on.
        hidden_weight, hidden_bias: ``(m, h)`` and ``(h,)`` of the hidden layer.
        weight, bias: ``(h, s + 1)`` and ``(s + 1,)`` of the last layer.
        temperature: ``(1,)``, by what its outputs are divided.
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
    def train(cls, grids: Sequence[Grid], styles: Sequence[str], *, seed: int = 0) -> Judge:
        """Train a judge; about a minute for the shipped styles, less for few pieces.

        Args:
            grids: people's pieces. Those without notes are left out.
            styles: the style of each, 1 to about 30 different ones.
            seed: of the excerpts and the perceptron; the same pieces in the same order with the
                same seed make the same judge on one machine.

        Raises:
            ValueError: there are not as many styles as grids.
            DataError: there is no piece, or none of a style has notes.
        """
        if len(grids) != len(styles):
            raise ValueError(f"each grid has a style; got {len(grids)} and {len(styles)}")
        names = tuple(sorted(set(styles)))
        all_notes = [_notes(grid) for grid in grids]
        heard = [i for i, notes in enumerate(all_notes) if len(notes.onset)]
        silent = sorted(set(names) - {styles[i] for i in heard})
        if silent or not names:
            raise DataError(
                "A judge needs a piece with notes"
                + (f" of each style; there is none of {', '.join(silent)}." if silent else ".")
            )
        labels = np.array([names.index(styles[i]) for i in heard])
        rng = np.random.default_rng(seed)
        examples = _examples([all_notes[i] for i in heard], labels, rng)
        temperature = _temperature(examples, labels, seed, rng)
        scaler, _, network = _fitted(examples, np.ones(len(examples.label), bool), seed)
        weight, bias = network.coefs_[1], network.intercepts_[1]
        if len(bias) == 1:  # scikit-learn gives two classes one output, the odds of the second
            weight, bias = (np.concatenate([0 * part, part], axis=-1) for part in (weight, bias))
        columns = (scaler.mean_, scaler.scale_, network.coefs_[0], network.intercepts_[0])
        arrays = (*columns, weight, bias, [temperature])
        return cls(names, *(np.asarray(array, np.float32) for array in arrays))

    def probabilities(self, grid: Grid) -> dict[str, float]:
        """How probable each style is, by name; they sum to 1.

        Where there is one style it has 1. Where there are no notes all styles are alike, and the
        nearer to that, the more a piece sounds spoiled. Of a piece longer than 64 excerpts, 2048
        beats, only so many are heard.
        """
        classes = self._classes(grid)
        shares = classes[:-1] + classes[-1] / len(self.styles)
        return dict(zip(self.styles, (shares / shares.sum()).tolist(), strict=True))

    def spoiled(self, grid: Grid) -> float:
        """How probable it is that a piece is of no style as people write it, 0 to 1.

        Where there are no notes it is 1.
        """
        return float(self._classes(grid)[-1])

    def _classes(self, grid: Grid) -> NDArray[np.float64]:
        """``(s + 1,)``, probabilities; the last is of spoiled music."""
        notes = _notes(grid)
        table = _table(_cut(notes, int(start), _EXCERPT) for start in _covering(notes))
        if not len(table):
            return np.append(np.zeros(len(self.styles)), 1.0)
        rows = np.clip((table - self.mean) / self.scale, -_FAR, _FAR)
        hidden = np.maximum(rows @ self.hidden_weight + self.hidden_bias, 0)
        logits = np.asarray((hidden @ self.weight + self.bias) / self.temperature, np.float64)
        classes: NDArray[np.float64] = np.exp(_log_softmax(_log_softmax(logits).mean(axis=0)))
        return classes

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """All but the styles as arrays, to be kept in a file."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        return {"version": np.array([_VERSION]), **arrays}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], styles: Sequence[str]) -> Judge:
        """The judge of :meth:`to_arrays`.

        Args:
            arrays: as they were; others beside them are passed over.
            styles: the judge's, in their order.

        Raises:
            CheckpointError: an array is missing or not as it was, or the styles do not fit.
        """
        version = arrays.get("version")
        if version is None or np.shape(version) != (1,) or version[0] != _VERSION:
            raise CheckpointError(
                f"The judge is not of version {_VERSION}, which is read here; train it again."
            )
        names = tuple(styles)
        if not names or len(set(names)) != len(names):
            raise CheckpointError(f"The judge is damaged: its styles are {names}.")
        hidden, classes = np.size(arrays.get("hidden_bias", ())), len(names) + 1
        shapes = {
            "mean": (_MEASURES,),
            "scale": (_MEASURES,),
            "hidden_weight": (_MEASURES, hidden),
            "hidden_bias": (hidden,),
            "weight": (hidden, classes),
            "bias": (classes,),
            "temperature": (1,),
        }
        for name, shape in shapes.items():
            array = np.asarray(arrays.get(name))
            is_whole = array.shape == shape and array.dtype == np.float32
            if not is_whole or not np.isfinite(array).all():
                raise CheckpointError(f"The judge is damaged: its array {name} is missing or odd.")
        if not (np.all(arrays["scale"] > 0) and np.all(arrays["temperature"] > 0)):
            raise CheckpointError("The judge is damaged: a scale of it is not above 0.")
        return cls(names, **{name: arrays[name] for name in shapes})
