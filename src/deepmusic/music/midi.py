"""Scores from MIDI files and to MIDI files, through symusic.

symusic reads the events. Around it stands what it leaves to its caller: the header is checked and
made to tell the truth (how many tracks there are, how long they are), notes that are never
released are found, and what no score can hold is repaired or left out, with a warning.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BufferedReader
from typing import BinaryIO

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
from deepmusic.files import open_regular, write_atomically
from deepmusic.music.score import (
    LAST_TICK,
    Change,
    KeySignature,
    Note,
    Part,
    Score,
    Tempo,
    TimeSignature,
)

MidiSource = str | os.PathLike[str] | bytes | BinaryIO
"""A path, the content of a file, or a binary file object."""

MAX_BYTES = 32 * 2**20
"""Larger files are refused; a symphony takes less than one megabyte."""

MAX_NOTES = 1_000_000
"""Files with more notes are refused: they are no music, and each note takes memory."""

MAX_PARTS = 4096
"""Files with more tracks, or more parts, are refused as well."""

_END = "end"  # the marker that keeps rests after the last note
_LONGEST_REST = 2**28 - 1  # what four bytes of a delta time hold, and more are not allowed
_LONGEST_NAME = 200  # characters of the name of a part
_END_OF_TRACK = b"\xff\x2f\x00"
_FAR = b"\xff\xff\xff\x7f"  # a rest of the greatest length
# Partial events at the place where a file was cut are at most so long: a delta time and a message.
_PARTIAL_BYTES = 8


def read_midi(source: MidiSource) -> Score:
    """Read a MIDI file (formats 0 to 2, also inside RIFF).

    A part is what one track plays on one channel with one program; tracks without a note are none.
    Left out, as a score has no place for them: pedals and other controllers, pitch bends, lyrics,
    system-exclusive messages. Repaired, with a warning: notes without length (one tick), notes
    that are never released (one beat, or up to the next note of the same pitch), tracks cut short
    (read as far as they go), impossible tempi, metres and keys (left out).

    Args:
        source: a path, bytes, or a binary file object, which is read from where it stands.

    Returns:
        A score with at least one note. Its ``warnings`` say what was repaired.

    Raises:
        ScoreError: there is no score to be had; ``code`` is one of ``missing``, ``directory``,
            ``not_a_file`` (a pipe, a device), ``permission``, ``unreadable``, ``too_large``,
            ``empty``, ``not_midi``, ``truncated``, ``damaged``, ``zero_ticks`` (no ticks a beat),
            ``no_beats`` (time in video frames), ``too_long``, ``no_notes``.
        TypeError: the source is none of these.
    """
    shown, data = _content(source)
    if not data:
        raise ScoreError(f"{shown} is empty (0 bytes); copy or download it again.", code="empty")
    chunks, warnings = _walk(shown, data)
    parsed, chunks = _parsed(shown, chunks)
    if chunks.is_cut:
        warnings.append("Its end is missing; what comes before was read.")
    changes = len(parsed.tempos) + len(parsed.time_signatures) + len(parsed.key_signatures)
    _check_count(shown, parsed.note_num(), "notes", MAX_NOTES)
    _check_count(shown, changes, "changes of tempo, metre and key", MAX_NOTES)
    lines = _lines(parsed)
    _check_count(shown, len(lines), "parts", MAX_PARTS)
    if any(_outside(line) for line in lines):
        raise ScoreError(
            f"{shown} lasts more than {LAST_TICK:,} ticks, longer than can be counted.",
            code="too_long",
        )
    lines, unreleased = _with_unreleased(chunks, lines)
    if unreleased:
        warnings.append(
            f"{_counted(unreleased, 'note')} never released: such a note ends after a beat, or "
            "where its pitch is struck again."
        )
    if not lines:
        raise ScoreError(f"{shown} holds no note that sounds.", code="no_notes")
    empty = sum(int(np.count_nonzero(line.duration == 0)) for line in lines)
    if empty:
        warnings.append(f"{_counted(empty, 'note')} without length: such a note lasts one tick.")
    notes = [
        Note(onset, max(duration, 1), pitch, velocity, index)
        for index, line in enumerate(lines)
        for onset, duration, pitch, velocity in zip(
            line.onset.tolist(),
            line.duration.tolist(),
            line.pitch.tolist(),
            line.velocity.tolist(),
            strict=True,
        )
    ]
    ends = [mark.time for mark in parsed.markers if mark.text == _END]
    return Score(
        ticks_per_beat=chunks.ticks_per_beat,
        notes=tuple(notes),
        parts=tuple(line.part for line in lines),
        tempos=_possible("tempo", Tempo, [(t.time, t.mspq) for t in parsed.tempos], warnings),
        time_signatures=_possible(
            "time signature",
            TimeSignature,
            [(t.time, t.numerator, t.denominator) for t in parsed.time_signatures],
            warnings,
        ),
        key_signatures=_possible(
            "key signature",
            _key,
            [(k.time, k.key, k.tonality) for k in parsed.key_signatures],
            warnings,
        ),
        end=max([0, *(end for end in ends if end <= LAST_TICK)]),
        warnings=tuple(warnings),
    )


def midi_bytes(score: Score) -> bytes:
    """A score as the content of a MIDI file of format 1: the same score, the same bytes.

    Tempo, metre and key stand first, each part is a track with its name and program, drums are on
    channel 10, and at one tick notes end before notes begin. A marker "end" keeps rests after the
    last note. Reading gives the score back, with two exceptions that lie in MIDI: a part without a
    note is gone; and of notes of one pitch in one part of which one lies within the other, the
    first to begin is the first to end.

    Raises:
        ScoreError: ``no_notes``, or ``too_long`` (2²⁸ ticks; fewer ticks a beat would do).
    """
    if not score.notes:
        raise ScoreError("The score holds no note, so no file is made of it.", code="no_notes")
    changed = [
        changes[-1].time
        for changes in (score.tempos, score.time_signatures, score.key_signatures)
        if changes
    ]
    last = max(score.end, *changed)
    if last > _LONGEST_REST:
        raise ScoreError(
            f"The score lasts {last:,} ticks; MIDI files are written up to {_LONGEST_REST:,}: use "
            "fewer ticks a beat.",
            code="too_long",
        )
    out = ScoreTick(score.ticks_per_beat)
    for tempo in score.tempos:
        out.tempos.append(TempoTick(tempo.time, mspq=tempo.us_per_beat))
    for metre in score.time_signatures:
        out.time_signatures.append(
            TimeSignatureTick(metre.time, metre.numerator, metre.denominator)
        )
    for key in score.key_signatures:
        out.key_signatures.append(KeySignatureTick(key.time, key.sharps, int(key.is_minor)))
    if score.end > max(note.end for note in score.notes):
        out.markers.append(TextMetaTick(score.end, _END))
    tracks = [TrackTick(part.name, part.program, part.is_drum) for part in score.parts]
    for note in score.notes:
        tracks[note.part].notes.append(
            NoteTick(note.onset, note.duration, note.pitch, note.velocity)
        )
    for track in tracks:
        out.tracks.append(track)
    return out.dumps_midi()


def write_midi(score: Score, path: str | os.PathLike[str]) -> None:
    """Write a score to a MIDI file, whole or not at all, as :func:`midi_bytes` makes it.

    Args:
        score: with at least one note.
        path: the file; its folder must exist. What is there is replaced.

    Raises:
        ScoreError: ``no_notes`` or ``too_long``.
        DeepMusicError: the file cannot be written.
    """
    content = midi_bytes(score)
    with write_atomically(path, "wb") as file:
        file.write(content)


@dataclass(frozen=True)
class _Chunks:
    """What a file is made of; ``is_cut`` when the last track was promised to be longer."""

    format: int
    ticks_per_beat: int
    tracks: tuple[bytes, ...]
    is_cut: bool

    def joined(self) -> bytes:
        """A file with a header that tells the truth."""
        header = struct.pack(
            ">4sIHHH", b"MThd", 6, self.format, len(self.tracks), self.ticks_per_beat
        )
        chunks = (struct.pack(">4sI", b"MTrk", len(track)) + track for track in self.tracks)
        return b"".join([header, *chunks])


@dataclass(frozen=True)
class _Line:
    """The notes of one part as columns, int64; symusic has 8 bits for pitch and velocity."""

    part: Part
    onset: NDArray[np.int64]
    duration: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]


def _content(source: MidiSource) -> tuple[str, bytes]:
    """How the source is named in messages, and what is in it."""
    data: bytes | None = None
    if isinstance(source, bytes):
        shown, data = "The MIDI data", source
    elif isinstance(source, str | os.PathLike):
        shown = repr(os.fspath(source))
        opened = open_regular(source, shown=shown, noun="MIDI file", error=ScoreError)
        with BufferedReader(opened) as file:  # which reads on until it has all
            data = _read(file, shown)
    elif hasattr(source, "read"):
        name = getattr(source, "name", None)
        shown = repr(name) if isinstance(name, str) else "The file object"
        data = _read(source, shown)
    if not isinstance(data, bytes):
        raise TypeError(
            f"MIDI is read from a path, bytes or a binary file object; got {type(source).__name__}"
        )
    if len(data) > MAX_BYTES:
        raise ScoreError(
            f"{shown} is larger than {MAX_BYTES // 2**20} MB, which no piece of music needs.",
            code="too_large",
        )
    return shown, data


def _read(file: BinaryIO, shown: str) -> bytes:
    try:
        return file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise ScoreError(f"{shown} cannot be read: {reason}.", code="unreadable") from error


def _walk(shown: str, data: bytes) -> tuple[_Chunks, list[str]]:
    """The header and the tracks of a file, whatever the header says of them, and warnings."""
    data = _unwrapped(data)
    if not data.startswith(b"MThd"):
        raise ScoreError(f"{shown} is no MIDI file.", code="not_midi")
    if len(data) < 14:
        raise ScoreError(f"{shown} is cut off inside its header.", code="truncated")
    header_bytes, kind, promised, division = struct.unpack(">IHHH", data[4:14])
    if kind > 2:
        raise ScoreError(
            f"{shown} says that it is of MIDI format {kind}, which does not exist.", code="damaged"
        )
    if division & 0x8000:
        raise ScoreError(
            f"{shown} counts time in video frames (SMPTE) and so has no beats.", code="no_beats"
        )
    if division == 0:
        raise ScoreError(
            f"{shown} has 0 ticks a beat, so that no length can be told.", code="zero_ticks"
        )
    tracks: list[bytes] = []
    warnings: list[str] = []
    is_cut = False
    place = 8 + max(header_bytes, 6)
    while place + 8 <= len(data):
        name, length = struct.unpack(">4sI", data[place : place + 8])
        is_cut = place + 8 + length > len(data)
        if name == b"MTrk":
            tracks.append(data[place + 8 : place + 8 + length])
        elif is_cut:  # no chunk at all
            is_cut = False
            break
        place += 8 + length
    _check_count(shown, len(tracks), "tracks", MAX_PARTS)
    if place < len(data):
        warnings.append(f"After the last track {_counted(len(data) - place, 'byte')} passed over.")
    if len(tracks) > promised:
        warnings.append(
            f"The header promises {_counted(promised, 'track', verb=False)}; all "
            f"{len(tracks)} were read."
        )
    if kind == 2 and len(tracks) > 1:
        warnings.append(
            f"Its {len(tracks)} sequences are independent (format 2); they were read as parts of "
            "one piece."
        )
    return _Chunks(kind, division, tuple(tracks), is_cut), warnings


def _check_count(shown: str, count: int, noun: str, most: int) -> None:
    if count > most:
        raise ScoreError(
            f"{shown} holds {count:,} {noun}; with more than {most:,} it is not read.",
            code="too_large",
        )


def _unwrapped(data: bytes) -> bytes:
    """What is inside RIFF, where a file begins as such."""
    if data[:4] != b"RIFF" or data[8:12] != b"RMID":
        return data
    place = 12
    while place + 8 <= len(data):
        name, length = struct.unpack("<4sI", data[place : place + 8])
        if name == b"data":
            return data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2
    return data


def _parsed(shown: str, chunks: _Chunks) -> tuple[ScoreTick, _Chunks]:
    """The events, and the chunks that were read: those of a file cut off end with an event."""
    last = chunks.tracks[-1] if chunks.tracks else b""
    for dropped in range(_PARTIAL_BYTES + 1 if chunks.is_cut else 1):
        whole = (*chunks.tracks[:-1], last[: len(last) - dropped]) if dropped else chunks.tracks
        tried = replace(chunks, tracks=whole)
        with suppress(Exception):  # symusic raises RuntimeError, and what C++ throws
            return _events(tried), tried
    if chunks.is_cut:
        raise ScoreError(f"{shown} is cut off, and what is left cannot be read.", code="truncated")
    raise ScoreError(
        f"{shown} is a damaged MIDI file: its events make no sense from some place on.",
        code="damaged",
    )


def _events(chunks: _Chunks) -> ScoreTick:
    # Sanitised: symusic 0.5.9 writes beyond its tables for a data byte above 127, and so crashes
    # the process. Now they count as 127. It crashes on wrong chunk lengths as well: see _walk.
    return ScoreTick.from_midi(chunks.joined(), True)


def _lines(parsed: ScoreTick) -> list[_Line]:
    """The tracks that have notes."""
    lines = []
    for track in parsed.tracks:
        if not track.notes:
            continue
        columns = track.notes.numpy()
        name = "".join(character for character in track.name if character.isprintable())
        name = name[:_LONGEST_NAME]
        lines.append(
            _Line(
                Part(name, track.program, track.is_drum),
                *(
                    columns[key].astype(np.int64)
                    for key in ("time", "duration", "pitch", "velocity")
                ),
            )
        )
    return lines


def _outside(line: _Line) -> bool:
    """Whether ticks have run over: symusic counts in 32 bits, and begins again below zero."""
    return bool(
        line.onset.min() < 0
        or line.duration.min() < 0
        or (line.onset + line.duration).max() > LAST_TICK
    )


def _with_unreleased(chunks: _Chunks, lines: list[_Line]) -> tuple[list[_Line], int]:
    """The parts with the notes that symusic drops since nothing ends them, and how many these are.

    The file is read once more with the release of every key of every channel appended to every
    track, after the longest rest there is: what lasts so long was never released.
    """
    found = sum(len(line.onset) for line in lines)
    ends = [int((line.onset + line.duration).max()) for line in lines]
    longest = max((int(line.duration.max()) for line in lines), default=0)
    if max(ends, default=0) + _LONGEST_REST > LAST_TICK or longest >= _LONGEST_REST:
        return lines, 0  # no room to tell them by their length; such files are no music
    best, most = lines, found
    for copies in (1, 8, 64, 512):  # a key may be struck several times without a release
        if copies > 1 and len(chunks.tracks) * copies * len(_ALL_RELEASED) > MAX_BYTES:
            break
        appended = tuple(_released(track, copies) for track in chunks.tracks)
        try:
            again = _lines(_events(replace(chunks, tracks=appended)))
        except Exception:  # as in _parsed
            break
        count = sum(len(line.onset) for line in again)
        if count <= most or count > MAX_NOTES or any(map(_outside, again)):
            break
        best, most = again, count
    if best is lines:
        return lines, 0
    return [_shortened(line, chunks.ticks_per_beat) for line in best], most - found


_ALL_RELEASED = b"".join(
    # the first release needs its status byte, the others follow it (running status)
    bytes([0, 0x80 | channel, 0, 0]) + b"".join(bytes([0, key, 0]) for key in range(1, 128))
    for channel in range(16)
)


def _released(track: bytes, copies: int) -> bytes:
    """A track with the release of everything after its end and a long rest."""
    # the rest before the end of track stays, and something without effect follows it
    body = track.removesuffix(_END_OF_TRACK)
    body += b"\x80\x00\x00" if len(body) < len(track) else b""
    return body + _FAR + _ALL_RELEASED[1:] + _ALL_RELEASED * (copies - 1) + b"\x00" + _END_OF_TRACK


def _shortened(line: _Line, ticks_per_beat: int) -> _Line:
    """A part in which notes of the longest length end after a beat, or at the next of the pitch.

    A note still ends no sooner than one of its pitch that began before it, as in all MIDI.
    """
    order = np.lexsort((line.duration, line.onset, line.pitch))
    onsets, pitches = line.onset[order].tolist(), line.pitch[order].tolist()
    ends = (line.onset + line.duration)[order].tolist()
    following = len(order)  # the place in the order of the next onset of the pitch
    next_onset = [0] * following
    for place in reversed(range(len(order))):
        is_last = place + 1 == len(order) or pitches[place + 1] != pitches[place]
        if is_last or onsets[place + 1] != onsets[place]:
            following = place + 1
        beat = onsets[place] + ticks_per_beat
        is_there = following < len(order) and pitches[following] == pitches[place]
        next_onset[place] = min(beat, onsets[following]) if is_there else beat
    latest = pitch = -1
    for place in range(len(order)):
        if pitches[place] != pitch:
            latest, pitch = -1, pitches[place]
        if ends[place] - onsets[place] >= _LONGEST_REST:
            ends[place] = max(next_onset[place], latest)
        latest = max(latest, ends[place])
    duration = np.empty_like(line.duration)
    duration[order] = np.array(ends) - line.onset[order]
    return replace(line, duration=duration)


def _possible(
    kind: str, make: Callable[..., Change], found: Iterable[tuple[int, ...]], warnings: list[str]
) -> tuple[Change, ...]:
    """The changes that can be, with a warning about the others."""
    good: list[Change] = []
    bad = 0
    for numbers in found:
        try:
            good.append(make(*numbers))
        except ValueError:
            bad += 1
    if bad:
        warnings.append(f"{_counted(bad, f'impossible {kind}')} left out.")
    return tuple(good)


def _key(time: int, sharps: int, tonality: int) -> KeySignature:
    if tonality not in (0, 1):
        raise ValueError(f"a key is major (0) or minor (1); got {tonality}")
    return KeySignature(time, sharps, tonality == 1)


def _counted(count: int, noun: str, *, verb: bool = True) -> str:
    """Such as "1 note was" and "3 notes were"."""
    plural = noun if count == 1 else f"{noun}s"
    return f"{count:,} {plural}" + ((" was" if count == 1 else " were") if verb else "")
