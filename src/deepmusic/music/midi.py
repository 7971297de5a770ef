"""Scores from MIDI files and to MIDI files, through symusic.

symusic parses the events. Wrong lengths and counts in a file crash it, so the chunks are checked
and put together again first; notes without a note-off, which it drops, are recovered.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from symusic.core import (
    KeySignatureTick,
    NoteTick,
    ScoreTick,
    TempoTick,
    TextMetaTick,
    TimeSignatureTick,
    TrackTick,
)

from deepmusic.errors import ScoreError
from deepmusic.files import write_atomically
from deepmusic.music.midi_events import (
    END_OF_TRACK,
    MAX_BYTES,
    MAX_PARTS,
    MidiFile,
    MidiSource,
    check_count,
    count_of,
    read_chunks,
    read_content,
)
from deepmusic.music.score import (
    LAST_TICK,
    Change,
    KeySignature,
    NoteArrays,
    Part,
    Score,
    Tempo,
    TimeSignature,
)

MAX_NOTES = 1_000_000  # every note takes memory

LONGEST_DELTA = 2**28 - 1
"""The longest delta time, in four bytes."""

_LONGEST_NAME = 200  # characters of the name of a part
_END = "end"  # text of the marker that keeps rests after the last note
# A note-off of every pitch on every channel; after the first the status byte is implied.
_ALL_NOTES_OFF = b"".join(
    bytes([0, 0x80 | channel, 0, 0]) + b"".join(bytes([0, pitch, 0]) for pitch in range(1, 128))
    for channel in range(16)
)
_REPEATS = 8  # a pitch may have several onsets without a note-off


def read_midi(source: MidiSource) -> Score:
    """Read a MIDI file (formats 0 to 2, also inside RIFF).

    A part is what one track plays on one channel with one program; tracks without notes are
    skipped. Controllers, pitch bends, lyrics and system-exclusive messages are ignored. Repaired,
    with a warning: notes of zero length (one tick), notes without a note-off (one beat, or up to
    the next note of the same pitch), impossible tempos and signatures (left out).

    Args:
        source: a path, bytes, or a binary file object, read from its current position.

    Returns:
        A score with at least one note. Its ``warnings`` say what was repaired.

    Raises:
        ScoreError: the file cannot be used; ``code`` is one of ``missing``, ``directory``,
            ``not_a_file`` (a pipe, a device), ``permission``, ``unreadable``, ``too_large``,
            ``empty``, ``not_midi``, ``truncated``, ``damaged``, ``zero_ticks`` (no ticks per
            beat), ``no_beats`` (time in video frames), ``too_long``, ``no_notes``.
        TypeError: the source is of another type.
    """
    name, data = read_content(source)
    if not data:
        raise ScoreError(f"{name} is empty (0 bytes); copy or download it again.", code="empty")
    file, warnings = read_chunks(name, data)
    parsed = _parse(name, file)
    if file.is_cut:
        warnings.append("Its end is missing; what comes before was read.")
    check_count(name, parsed.note_num(), "notes", MAX_NOTES)
    check_count(name, len(parsed.tracks), "parts", MAX_PARTS)
    parts, notes = _parts_and_notes(parsed)
    if _overflows(notes):
        raise ScoreError(f"{name} lasts more than {LAST_TICK:,} ticks.", code="too_long")
    before = len(notes.onset)
    parts, notes = _with_unreleased(name, file, parts, notes)
    if unreleased := len(notes.onset) - before:
        warnings.append(
            f"{count_of(unreleased, 'note')} never released: such a note ends after a beat, or "
            "where its pitch begins again."
        )
    if not parts:
        raise ScoreError(f"{name} holds no note that sounds.", code="no_notes")
    if empty := int(np.count_nonzero(notes.duration == 0)):
        warnings.append(f"{count_of(empty, 'note')} without length: such a note lasts one tick.")
    tempos = ((t.time, t.mspq) for t in parsed.tempos)
    signatures = ((t.time, t.numerator, t.denominator) for t in parsed.time_signatures)
    keys = ((k.time, k.key, k.tonality) for k in parsed.key_signatures)
    ends = [marker.time for marker in parsed.markers if marker.text == _END]
    return Score(
        ticks_per_beat=file.ticks_per_beat,
        notes=notes._replace(duration=np.maximum(notes.duration, 1)).notes(),
        parts=tuple(parts),
        tempos=_valid("tempo", Tempo, tempos, warnings),
        time_signatures=_valid("time signature", TimeSignature, signatures, warnings),
        key_signatures=_valid("key signature", _key_signature, keys, warnings),
        end=max([0, *(end for end in ends if end <= LAST_TICK)]),
        warnings=tuple(warnings),
    )


def midi_bytes(score: Score) -> bytes:
    """Encode a score as a MIDI file of format 1; equal scores give equal bytes.

    Tempos and signatures come first, each part is a track with its name and program, drums are on
    channel 10, and at one tick notes end before notes begin. A marker "end" keeps rests after the
    last note. Reading gives the score back, but for two limits of MIDI: parts without notes are
    dropped; and of two notes of one pitch and part, one within the other, the first to begin is
    the first to end.

    Raises:
        ScoreError: ``no_notes``, or ``too_long`` (2²⁸ ticks; fewer ticks per beat would do).
    """
    if not score.notes:
        raise ScoreError("The score holds no note, so no file is made of it.", code="no_notes")
    lists = (score.tempos, score.time_signatures, score.key_signatures)
    last = max(score.end, *(changes[-1].time for changes in lists if changes))
    if last > LONGEST_DELTA:
        raise ScoreError(
            f"The score lasts {last:,} ticks; MIDI files are written up to {LONGEST_DELTA:,}: use "
            "fewer ticks per beat.",
            code="too_long",
        )
    out = ScoreTick(score.ticks_per_beat)
    for t in score.tempos:
        out.tempos.append(TempoTick(t.time, mspq=t.us_per_beat))
    for s in score.time_signatures:
        out.time_signatures.append(TimeSignatureTick(s.time, s.numerator, s.denominator))
    for k in score.key_signatures:
        out.key_signatures.append(KeySignatureTick(k.time, k.sharps, int(k.is_minor)))
    if score.end > max(note.end for note in score.notes):
        out.markers.append(TextMetaTick(score.end, _END))
    tracks = [TrackTick(part.name, part.program, part.is_drum) for part in score.parts]
    for n in score.notes:
        tracks[n.part].notes.append(NoteTick(n.onset, n.duration, n.pitch, n.velocity))
    for track in tracks:
        out.tracks.append(track)
    return out.dumps_midi()


def write_midi(score: Score, path: str | os.PathLike[str]) -> None:
    """Write a score to a MIDI file, atomically, as ``midi_bytes`` encodes it.

    Raises:
        ScoreError: ``no_notes`` or ``too_long``.
        DeepMusicError: the file cannot be written.
    """
    content = midi_bytes(score)
    with write_atomically(path, "wb") as file:
        file.write(content)


def _parse(name: str, file: MidiFile) -> ScoreTick:
    """Parse a file with a correct header."""
    header = struct.pack(">4sIHHH", b"MThd", 6, file.format, len(file.tracks), file.ticks_per_beat)
    chunks = (struct.pack(">4sI", b"MTrk", len(track)) + track for track in file.tracks)
    try:
        # True: data bytes above 127 become 127; symusic 0.5.9 would write beyond its tables
        return ScoreTick.from_midi(b"".join([header, *chunks]), True)
    except Exception as error:  # symusic raises RuntimeError and whatever C++ throws
        if file.is_cut:
            message = f"{name} is cut off; copy or download it again."
            raise ScoreError(message, code="truncated") from error
        raise ScoreError(f"{name} is damaged: its events are invalid.", code="damaged") from error


def _parts_and_notes(parsed: ScoreTick) -> tuple[list[Part], NoteArrays]:
    """A part per track that has notes, and the notes of all."""
    parts: list[Part] = []
    columns = [np.zeros((5, 0), np.int64)]
    for track in parsed.tracks:
        if track.notes:
            table = track.notes.numpy()
            names = ("time", "duration", "pitch", "velocity")
            index = np.full(len(track.notes), len(parts))
            columns.append(np.stack([*(table[name].astype(np.int64) for name in names), index]))
            name = "".join(filter(str.isprintable, track.name))[:_LONGEST_NAME]
            parts.append(Part(name, track.program, track.is_drum))
    return parts, NoteArrays(*np.concatenate(columns, axis=1))


def _overflows(notes: NoteArrays) -> bool:
    """Whether ticks have overflowed: symusic counts in 32 bits."""
    times = np.stack([notes.onset, notes.duration, LAST_TICK - notes.onset - notes.duration])
    return bool(times.min(initial=0) < 0)


def _with_unreleased(
    name: str, file: MidiFile, parts: list[Part], notes: NoteArrays
) -> tuple[list[Part], NoteArrays]:
    """Add the notes that symusic drops, as they have no note-off.

    The file is parsed again with note-offs of all pitches appended to each track, after the
    longest rest there is: notes that last so long were never released. Such a note ends after a
    beat, or at the next onset of its pitch; as in all MIDI, no sooner than one of its pitch that
    began before it.
    """
    last = int((notes.onset + notes.duration).max(initial=0))
    appended = len(file.tracks) * _REPEATS * len(_ALL_NOTES_OFF)
    is_long = notes.duration.max(initial=0) >= LONGEST_DELTA or last + LONGEST_DELTA > LAST_TICK
    if is_long or appended > MAX_BYTES:
        return parts, notes
    tracks = tuple(_with_note_offs(track) for track in file.tracks)
    try:
        parts_again, again = _parts_and_notes(_parse(name, replace(file, tracks=tracks)))
    except ScoreError:
        return parts, notes
    if not len(notes.onset) < len(again.onset) <= MAX_NOTES or _overflows(again):
        return parts, notes
    is_endless = again.duration >= LONGEST_DELTA
    end: NDArray[np.int64] = np.where(is_endless, 0, again.onset + again.duration)
    order = np.lexsort((again.onset, again.part))
    for index in order[is_endless[order]]:
        onset = again.onset[index]
        is_same = (again.pitch == again.pitch[index]) & (again.part == again.part[index])
        next_onset = again.onset[is_same & (again.onset > onset)].min(
            initial=onset + file.ticks_per_beat
        )
        end[index] = end[is_same & (again.onset <= onset)].max(initial=next_onset)
    return parts_again, again._replace(duration=end - again.onset)


def _with_note_offs(track: bytes) -> bytes:
    body = track.removesuffix(END_OF_TRACK)
    # the delta time of the removed event stays, so an event without effect follows it
    body += b"\x80\x00\x00" if len(body) < len(track) else b""
    longest_delta = b"\xff\xff\xff\x7f"
    return body + longest_delta + (_ALL_NOTES_OFF * _REPEATS)[1:] + b"\x00" + END_OF_TRACK


def _valid(
    kind: str, make: Callable[..., Change], rows: Iterable[tuple[int, ...]], warnings: list[str]
) -> tuple[Change, ...]:
    """The changes that are valid, with a warning about the others."""
    valid: list[Change] = []
    invalid = 0
    for numbers in rows:
        try:
            valid.append(make(*numbers))
        except (ValueError, KeyError):
            invalid += 1
    if invalid:
        warnings.append(f"{count_of(invalid, f'impossible {kind}')} left out.")
    return tuple(valid)


def _key_signature(time: int, sharps: int, tonality: int) -> KeySignature:
    return KeySignature(time, sharps, {0: False, 1: True}[tonality])
