"""Scores as MusicXML, for notation programs, through partitura.

partitura writes what it is given and lays out little itself: voices, rests, ties and the spelling
of pitches are found here.
"""

from __future__ import annotations

import os
import statistics
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any

from deepmusic.errors import DeepMusicError, ScoreError
from deepmusic.files import write_atomically
from deepmusic.music.metre import bars
from deepmusic.music.score import KeySignature, Note, Part, Score
from deepmusic.version import pip_install

STEPS_PER_BEAT = 48
"""Notation is written on this grid: 64ths, and triplets of them."""

MOST_BARS = 4096
"""Longer scores are not written."""

_TYPES = {
    384: "breve", 192: "whole", 96: "half", 48: "quarter", 24: "eighth", 12: "16th", 6: "32nd",
    3: "64th",
}  # fmt: skip
_PLAIN = {length: {"type": name} for length, name in _TYPES.items()}
_DOTTED = {
    length * 3 // 2: {"type": name, "dots": 1} for length, name in _TYPES.items() if length > 3
}
_TRIPLETS = {
    length * 2 // 3: {"type": name, "actual_notes": 3, "normal_notes": 2}
    for length, name in _TYPES.items()
} | {1: {"type": "128th", "actual_notes": 3, "normal_notes": 2}}
_VALUES: dict[int, dict[str, Any]] = {**_TRIPLETS, **_DOTTED, **_PLAIN}

# steps on the line of fifths from C
_STEPS = {0: "C", 1: "G", 2: "D", 3: "A", 4: "E", 5: "B", -1: "F"}
_NATURAL = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}

# where drums stand on the staff: step and octave, by the pitches of General MIDI
_DRUM_PLACES = {
    35: ("E", 4), 36: ("F", 4), 38: ("C", 5), 40: ("C", 5), 37: ("C", 5), 39: ("C", 5),
    41: ("G", 4), 43: ("A", 4), 45: ("B", 4), 47: ("D", 5), 48: ("E", 5), 50: ("F", 5),
    42: ("G", 5), 44: ("D", 4), 46: ("G", 5), 49: ("A", 5), 57: ("A", 5), 51: ("F", 5),
}  # fmt: skip
_UNPLACED_DRUM = ("E", 5)


def write_musicxml(score: Score, path: str | os.PathLike[str]) -> None:
    """Write a score as a MusicXML file, whole or not at all.

    Written are parts with names and instruments, bars, metres, keys, tempi (to whole beats a
    minute), notes and chords in as many voices as they need, ties, and rests. A part that is both
    high and low gets two staves. Pitches are spelled by the key. A pitch that is struck again
    while it sounds in a part ends there. Velocities are not written.

    Args:
        score: with all times on a grid of 48 steps a beat, as from ``grid_to_score``; of at most
            4,096 bars.
        path: the file; its folder must exist. What is there is replaced.

    Raises:
        ScoreError: ``no_notes``, ``off_grid`` or ``too_long``.
        DeepMusicError: partitura is not installed, or the file cannot be written.
    """
    try:
        from partitura import save_musicxml
    except ImportError as error:
        raise DeepMusicError(
            f"MusicXML needs partitura; install it with: {pip_install('musicxml')}"
        ) from error
    if not score.notes:
        raise ScoreError("The score holds no note, so no file is made of it.", code="no_notes")
    measures = _measures(score)
    parts = [
        _part(score, index, measures, number)
        for number, index in enumerate(sorted({note.part for note in score.notes}))
    ]
    content = _with_instruments(
        save_musicxml([part for _, part in parts]), [score.parts[index] for index, _ in parts]
    )
    with write_atomically(path, "wb") as file:
        file.write(content)


@dataclass(frozen=True)
class _Chord:
    """Notes of one part struck and released together, in steps."""

    start: int
    stop: int
    pitches: tuple[int, ...]


def _step(score: Score, ticks: int | Fraction) -> int:
    """The step at a tick."""
    step = Fraction(ticks) * STEPS_PER_BEAT / score.ticks_per_beat
    if step.denominator != 1:
        raise ScoreError(
            f"A time of the score, {float(ticks / score.ticks_per_beat):.3f} beats, is not on the "
            f"grid of {STEPS_PER_BEAT} steps a beat; put the score on a grid first: "
            "grid_to_score(score_to_grid(score, 12)).",
            code="off_grid",
        )
    return step.numerator


def _measures(score: Score) -> list[int]:
    """The steps at which bars start, and the end of the last."""
    found = list(islice(bars(score), MOST_BARS + 1))
    if found[-1].start < score.end:
        raise ScoreError(
            f"The score has more than {MOST_BARS:,} bars; no more are written.", code="too_long"
        )
    return [_step(score, bar.start) for bar in found]


@dataclass(frozen=True)
class _Sheet:
    """A part being written: what it is made of, and partitura's object.

    Args:
        score, part: the whole, and the part.
        measures: steps at which bars start, and the end of the last.
        out: partitura's part.
    """

    score: Score
    part: Part
    measures: Sequence[int]
    out: Any


def _part(score: Score, index: int, measures: Sequence[int], number: int) -> tuple[int, Any]:
    """The index of a part, and the part for partitura."""
    import partitura.score as notation

    part = score.parts[index]
    name = part.name or f"Part {index + 1}"
    out = notation.Part(f"P{number + 1}", name, quarter_duration=STEPS_PER_BEAT)
    sheet = _Sheet(score, part, measures, out)
    for count, (start, stop) in enumerate(pairwise(measures), start=1):
        out.add(notation.Measure(number=count, name=str(count)), start, stop)
    _write_changes(sheet, with_tempo=number == 0)
    voice = 1
    for staff, (clef, notes) in enumerate(_staves(score.notes_of(index), part), start=1):
        out.add(notation.Clef(staff, *clef, 0), 0)
        for order, chords in enumerate(_voices(_chords(score, notes))):
            _write_rests(sheet, chords, voice, staff, in_empty_bars=order == 0)
            for chord in chords:
                for pitch in chord.pitches:
                    _write_note(sheet, chord, pitch, voice, staff)
            voice += 1
    return index, out


def _write_changes(sheet: _Sheet, *, with_tempo: bool) -> None:
    """Add metres, keys and tempi; what comes after the last bar is left out."""
    import partitura.score as notation

    score = sheet.score
    changes: list[tuple[int, Any]] = [
        (metre.time, notation.TimeSignature(metre.numerator, metre.denominator))
        for metre in score.time_signatures
    ]
    if not sheet.part.is_drum:
        changes += [
            (key.time, notation.KeySignature(key.sharps, "minor" if key.is_minor else "major"))
            for key in score.key_signatures
        ]
    if with_tempo:  # partitura would cut fractions off
        changes += [
            (tempo.time, notation.Tempo(max(1, round(tempo.beats_per_minute)), unit="q"))
            for tempo in score.tempos
        ]
    for time, change in changes:
        if (step := _step(score, time)) < sheet.measures[-1]:
            sheet.out.add(change, step)


def _staves(notes: Sequence[Note], part: Part) -> list[tuple[tuple[str, int], list[Note]]]:
    """Clefs, and the notes of each staff."""
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
    """Notes that start and end together as chords, by time, high ones first."""
    ends: dict[tuple[int, int], int] = {}
    for note in notes:
        key = note.pitch, _step(score, note.onset)
        ends[key] = max(_step(score, note.end), ends.get(key, 0))
    # a pitch that is struck again ends before: no staff shows it twice at a time
    struck = sorted(ends)
    for (pitch, start), (other, again) in pairwise(struck):
        if pitch == other:
            ends[pitch, start] = min(ends[pitch, start], again)
    groups: dict[tuple[int, int], list[int]] = {}
    for pitch, start in struck:
        groups.setdefault((start, ends[pitch, start]), []).append(pitch)
    chords = [_Chord(start, stop, tuple(pitches)) for (start, stop), pitches in groups.items()]
    return sorted(chords, key=lambda chord: (chord.start, -chord.pitches[-1], chord.stop))


def _voices(chords: Iterable[_Chord]) -> list[list[_Chord]]:
    """Chords in voices: each goes into the first voice that is silent then."""
    voices: list[list[_Chord]] = []
    for chord in chords:
        free = (voice for voice in voices if voice[-1].stop <= chord.start)
        voice = next(free, None)
        if voice is None:
            voices.append(voice := [])
        voice.append(chord)
    return voices or [[]]


def _write_rests(
    sheet: _Sheet, chords: Sequence[_Chord], voice: int, staff: int, *, in_empty_bars: bool
) -> None:
    """Add rests wherever a voice is silent in a bar in which it sounds, or in all bars."""
    import partitura.score as notation

    place = 0
    for start, stop in pairwise(sheet.measures):
        at, is_empty = start, True
        gaps = []
        while place < len(chords) and chords[place].start < stop:
            is_empty = False
            gaps.append((at, max(at, chords[place].start)))
            at = min(chords[place].stop, stop)
            if chords[place].stop > stop:  # it goes on in the next bar
                break
            place += 1
        if is_empty and not in_empty_bars:
            continue
        for gap in (*gaps, (at, stop)):
            for rest, value in _values(start, *gap):
                sheet.out.add(
                    notation.Rest(voice=voice, staff=staff, symbolic_duration=value), *rest
                )


def _write_note(sheet: _Sheet, chord: _Chord, pitch: int, voice: int, staff: int) -> None:
    """Add a note, in as many tied pieces as bars and note values make of it."""
    import partitura.score as notation

    before: Any = None
    for piece, value in _pieces(sheet.measures, chord):
        options = {"voice": voice, "staff": staff, "symbolic_duration": value}
        if sheet.part.is_drum:
            place = _DRUM_PLACES.get(pitch, _UNPLACED_DRUM)
            note = notation.UnpitchedNote(*place, **options)
        else:
            step, alter, octave = _spelled(pitch, _key(sheet.score, chord.start))
            note = notation.Note(step, octave, alter, **options)
        sheet.out.add(note, *piece)
        if before is not None:
            before.tie_next, note.tie_prev = note, before
        before = note


def _pieces(
    measures: Sequence[int], chord: _Chord
) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """The note values that a chord is cut into, bar by bar."""
    first = bisect_right(measures, chord.start) - 1
    for start, stop in pairwise(measures[first:]):
        if start >= chord.stop:
            return
        yield from _values(start, max(start, chord.start), min(stop, chord.stop))


def _values(bar: int, start: int, stop: int) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """Cut a stretch of time within a bar into note values: starts, stops, and values.

    What begins or ends within a triplet is cut at the beats, as it is read there.
    """
    while start < stop:
        length = stop - start
        is_plain = (start - bar) % 3 == 0 and length % 3 == 0
        if not is_plain:
            beat = bar + ((start - bar) // STEPS_PER_BEAT + 1) * STEPS_PER_BEAT
            if (start - bar) % STEPS_PER_BEAT:
                length = min(length, beat - start)
            elif length > STEPS_PER_BEAT:
                length -= length % STEPS_PER_BEAT
        if is_plain or length % 3 == 0:
            values = [value for value in _VALUES if value % 3 == 0]
        else:
            values = list(_TRIPLETS)
        longest = max(value for value in values if value <= length)
        yield (start, start + longest), _VALUES[longest]
        start += longest


def _key(score: Score, step: int) -> KeySignature:
    """The key at a step; C major where none is said."""
    key = KeySignature(0, 0)
    for change in score.key_signatures:
        if change.time * STEPS_PER_BEAT <= step * score.ticks_per_beat:
            key = change
    return key


def _spelled(pitch: int, key: KeySignature) -> tuple[str, int, int]:
    """Step, alteration and octave of a pitch: in C major Eb and F#, not D# and Gb."""
    # the twelve neighbours on the line of fifths that music in the key needs most
    lowest = key.sharps - (2 if key.is_minor else 3)
    fifths = lowest + (pitch * 7 - lowest) % 12
    alter = (fifths + 1) // 7
    step = _STEPS[fifths - 7 * alter]
    return step, alter, (pitch - alter - _NATURAL[step]) // 12 - 1


def _with_instruments(content: bytes, parts: Sequence[Part]) -> bytes:
    """MusicXML with the instruments of its parts, which partitura leaves out."""
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
    written: bytes = etree.tostring(
        root.getroottree(), encoding="UTF-8", xml_declaration=True, pretty_print=True
    )
    return written
