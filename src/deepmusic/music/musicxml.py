"""Scores as MusicXML, for notation programs, through partitura.

partitura writes what it is given; voices, staves, rests, ties and the spelling of pitches are
decided here, since its own estimates of rests and note values lose notes.
"""

from __future__ import annotations

import os
import statistics
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from itertools import islice, pairwise
from typing import Any

from deepmusic.errors import ScoreError
from deepmusic.extras import need
from deepmusic.files import write_atomically
from deepmusic.music.score import KeySignature, Note, Part, Score

STEPS_PER_BEAT = 48
"""Notation is written on this grid: 64ths, and triplets of them."""

MAX_BARS = 4096
"""Longer scores are refused."""

_TYPES = ("breve", "whole", "half", "quarter", "eighth", "16th", "32nd", "64th")
_PLAIN = {384 >> order: {"type": name} for order, name in enumerate(_TYPES)}
_TRIPLETS: dict[int, dict[str, Any]] = {
    length * 2 // 3: {**value, "actual_notes": 3, "normal_notes": 2}
    for length, value in _PLAIN.items()
} | {1: {"type": "128th", "actual_notes": 3, "normal_notes": 2}}
_VALUES: dict[int, dict[str, Any]] = {
    **_TRIPLETS,
    **{length * 3 // 2: {**value, "dots": 1} for length, value in _PLAIN.items() if length > 3},
    **_PLAIN,
}
"""Note values by length in steps."""

# steps on the line of fifths from F
_STEPS = "FCGDAEB"
_NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}

# where drums stand on the staff: step and octave, by General MIDI pitch
_DRUM_STEPS = {
    35: ("E", 4), 36: ("F", 4), 38: ("C", 5), 40: ("C", 5), 37: ("C", 5), 39: ("C", 5),
    41: ("G", 4), 43: ("A", 4), 45: ("B", 4), 47: ("D", 5), 48: ("E", 5), 50: ("F", 5),
    42: ("G", 5), 44: ("D", 4), 46: ("G", 5), 49: ("A", 5), 57: ("A", 5), 51: ("F", 5),
}  # fmt: skip
_OTHER_DRUM = ("E", 5)


_Chord = tuple[int, int, tuple[int, ...]]  # start and stop in steps, pitches
_Value = tuple[int, int, dict[str, Any]]  # start and stop in steps, note value


def write_musicxml(score: Score, path: str | os.PathLike[str]) -> None:
    """Write a score as a MusicXML file, atomically.

    Written are parts with names and instruments, bars, time and key signatures, tempos (to whole
    beats per minute), notes and chords in as many voices as they need, ties and rests. A part with
    a wide range gets two staves. Pitches are spelled by the key. A pitch that begins again while
    it sounds in a part ends there. Velocities are not written.

    Args:
        score: with all times on a grid of 48 steps per beat, as from ``grid_to_score``; at most
            4,096 bars.
        path: the file; its folder must exist.

    Raises:
        ScoreError: ``no_notes``, ``off_grid`` or ``too_long``.
        MissingLibraryError: partitura is not installed.
        DeepMusicError: the file cannot be written.
    """
    need("musicxml")
    from partitura import save_musicxml

    if not score.notes:
        raise ScoreError("The score holds no note, so no file is made of it.", code="no_notes")
    starts = [bar.start for bar in islice(score.bars(), MAX_BARS + 1)]
    if starts[-1] < score.end:
        raise ScoreError(f"The score has more than {MAX_BARS:,} bars.", code="too_long")
    bars = [_step(score, start) for start in starts]
    indices = sorted({note.part for note in score.notes})
    parts = [_notated(score, index, bars, is_first=index == indices[0]) for index in indices]
    content = _with_instruments(save_musicxml(parts), [score.parts[index] for index in indices])
    with write_atomically(path, "wb") as file:
        file.write(content)


def _step(score: Score, ticks: int | Fraction) -> int:
    """The step at a tick."""
    step = Fraction(ticks) * STEPS_PER_BEAT / score.ticks_per_beat
    if step.denominator != 1:
        raise ScoreError(
            f"A time of the score, {float(ticks / score.ticks_per_beat):.3f} beats, is not on the "
            f"grid of {STEPS_PER_BEAT} steps per beat; quantise the score first: "
            "grid_to_score(score_to_grid(score, 12)).",
            code="off_grid",
        )
    return step.numerator


def _notated(score: Score, index: int, bars: Sequence[int], *, is_first: bool) -> Any:
    """A part as an object of partitura; the first one of a score has the tempos."""
    import partitura.score as notation

    part = score.parts[index]
    out = notation.Part(
        f"P{index + 1}", part.name or f"Part {index + 1}", quarter_duration=STEPS_PER_BEAT
    )
    for number, (start, stop) in enumerate(pairwise(bars), start=1):
        out.add(notation.Measure(number=number, name=str(number)), start, stop)
    changes: list[tuple[int, Any]] = [
        (signature.time, notation.TimeSignature(signature.numerator, signature.denominator))
        for signature in score.time_signatures
    ]
    if not part.is_drum:
        changes += [
            (key.time, notation.KeySignature(key.sharps, "minor" if key.is_minor else "major"))
            for key in score.key_signatures
        ]
    if is_first:  # partitura would truncate fractions of a tempo
        changes += [
            (tempo.time, notation.Tempo(max(1, round(tempo.beats_per_minute)), unit="q"))
            for tempo in score.tempos
        ]
    for time, change in changes:
        if (step := _step(score, time)) < bars[-1]:
            out.add(change, step)
    voice = 1
    for staff, (clef, notes) in enumerate(_staves(score.notes_of(index), part), start=1):
        out.add(notation.Clef(staff, *clef, 0), 0)
        for order, chords in enumerate(_voices(_chords(score, notes))):
            for start, stop, value in _rests(bars, chords, in_empty_bars=order == 0):
                rest = notation.Rest(voice=voice, staff=staff, symbolic_duration=value)
                out.add(rest, start, stop)
            for start, stop, pitches in chords:
                pieces = list(_pieces(bars, start, stop))
                keys = [k for k in score.key_signatures if _step(score, k.time) <= start]
                for pitch in pitches:
                    if part.is_drum:
                        spelled = _DRUM_STEPS.get(pitch, _OTHER_DRUM)
                        make = partial(notation.UnpitchedNote, *spelled)
                    else:
                        spelling = _spelled(pitch, keys[-1] if keys else KeySignature(0, 0))
                        make = partial(notation.Note, *spelling)
                    _add_tied(out, pieces, partial(make, voice=voice, staff=staff))
            voice += 1
    return out


def _pieces(bars: Sequence[int], start: int, stop: int) -> Iterator[_Value]:
    """The pieces of a note that bars and note values require."""
    first = bisect_right(bars, start) - 1
    for bar, bar_stop in pairwise(bars[first:]):
        yield from _values(bar, max(bar, start), min(bar_stop, stop))
        if bar_stop >= stop:
            return


def _add_tied(out: Any, pieces: Iterable[_Value], make: Callable[..., Any]) -> None:
    """Add a note as tied pieces."""
    previous: Any = None
    for start, stop, value in pieces:
        note = make(symbolic_duration=value)
        out.add(note, start, stop)
        if previous is not None:
            previous.tie_next, note.tie_prev = note, previous
        previous = note


def _rests(
    bars: Sequence[int], chords: Sequence[_Chord], *, in_empty_bars: bool
) -> Iterator[_Value]:
    """Where a voice is silent in bars in which it sounds, or in all bars."""
    index = 0
    for bar, bar_stop in pairwise(bars):
        at, is_empty = bar, True
        gaps = []
        while index < len(chords) and chords[index][0] < bar_stop:
            is_empty = False
            start, stop, _ = chords[index]
            gaps.append((at, max(at, start)))
            at = min(stop, bar_stop)
            if stop > bar_stop:  # it continues in the next bar
                break
            index += 1
        if in_empty_bars or not is_empty:
            for gap in (*gaps, (at, bar_stop)):
                yield from _values(bar, *gap)


def _values(bar: int, start: int, stop: int) -> Iterator[_Value]:
    """Divide a time span within a bar into note values.

    Spans that begin or end within a triplet are divided at the beats, as triplets are read.
    """
    while start < stop:
        length = stop - start
        is_plain = (start - bar) % 3 == 0 and length % 3 == 0
        if not is_plain:
            into_beat = (start - bar) % STEPS_PER_BEAT
            if into_beat:
                length = min(length, STEPS_PER_BEAT - into_beat)
            elif length > STEPS_PER_BEAT:
                length -= length % STEPS_PER_BEAT
        is_binary = is_plain or length % 3 == 0
        allowed = [v for v in _VALUES if v % 3 == 0] if is_binary else list(_TRIPLETS)
        longest = max(value for value in allowed if value <= length)
        yield start, start + longest, _VALUES[longest]
        start += longest


def _staves(notes: Sequence[Note], part: Part) -> list[tuple[tuple[str, int], list[Note]]]:
    """The clef and the notes of each staff."""
    if part.is_drum:
        return [(("percussion", 2), list(notes))]
    pitches = [note.pitch for note in notes]
    if min(pitches) < 53 and max(pitches) > 67:  # two ledger lines on either single staff
        upper = [note for note in notes if note.pitch >= 60]
        lower = [note for note in notes if note.pitch < 60]
        return [(("G", 2), upper), (("F", 4), lower)]
    is_low = statistics.median(pitches) < 57
    return [(("F", 4) if is_low else ("G", 2), list(notes))]


def _chords(score: Score, notes: Iterable[Note]) -> list[_Chord]:
    """Notes that start and end together, by time, then from high to low."""
    ends: dict[tuple[int, int], int] = {}
    for note in notes:
        key = note.pitch, _step(score, note.onset)
        ends[key] = max(_step(score, note.end), ends.get(key, 0))
    for (pitch, start), (other, next_start) in pairwise(sorted(ends)):
        if pitch == other:  # a staff shows a pitch once at a time
            ends[pitch, start] = min(ends[pitch, start], next_start)
    groups: dict[tuple[int, int], list[int]] = {}
    for (pitch, start), stop in sorted(ends.items()):
        groups.setdefault((start, stop), []).append(pitch)
    chords = [(start, stop, tuple(pitches)) for (start, stop), pitches in groups.items()]
    return sorted(chords, key=lambda chord: (chord[0], -chord[2][-1], chord[1]))


def _voices(chords: Iterable[_Chord]) -> list[list[_Chord]]:
    """Assign each chord to the first voice that is silent then."""
    voices: list[list[_Chord]] = []
    for chord in chords:
        free = (voice for voice in voices if voice[-1][1] <= chord[0])
        voice = next(free, None)
        if voice is None:
            voices.append(voice := [])
        voice.append(chord)
    return voices or [[]]


def _spelled(pitch: int, key: KeySignature) -> tuple[str, int, int]:
    """Step, octave and alteration of a pitch: in C major Eb and F#, not D# and Gb."""
    # the twelve neighbours on the line of fifths that music in the key uses most
    lowest = key.sharps - (2 if key.is_minor else 3)
    fifths = lowest + (pitch * 7 - lowest) % 12
    alter = (fifths + 1) // 7
    step = _STEPS[fifths + 1 - 7 * alter]
    return step, (pitch - alter - _NATURALS[step]) // 12 - 1, alter


def _with_instruments(content: bytes, parts: Sequence[Part]) -> bytes:
    """MusicXML with the instruments of its parts, which partitura omits."""
    from lxml import etree

    root = etree.fromstring(content)
    pitched = 0
    for entry, part in zip(root.iterfind("part-list/score-part"), parts, strict=True):
        if part.is_drum:
            channel = 10
        else:
            channel = (*range(1, 10), *range(11, 17))[pitched % 15]
            pitched += 1
        name = f"{entry.get('id')}-I1"
        instrument = etree.SubElement(entry, "score-instrument", id=name)
        etree.SubElement(instrument, "instrument-name").text = entry.findtext("part-name")
        midi = etree.SubElement(entry, "midi-instrument", id=name)
        etree.SubElement(midi, "midi-channel").text = str(channel)
        etree.SubElement(midi, "midi-program").text = str(part.program + 1)
    result: bytes = etree.tostring(
        root.getroottree(), encoding="UTF-8", xml_declaration=True, pretty_print=True
    )
    return result
