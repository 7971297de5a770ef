"""MIDI files as chunks and events, exactly as they are stored, and back.

``deepmusic.music.midi`` makes scores of them. What a score does not hold, such as pitch bends and
pedals, is kept here.
"""

from __future__ import annotations

import os
import re
import struct
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from io import BufferedReader
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import ScoreError, counted, os_reason
from deepmusic.files import open_regular

MidiSource = str | os.PathLike[str] | bytes | BinaryIO

# Larger files are refused: a symphony takes less than 1 MB.
MAX_BYTES = 32 * 2**20
MAX_PARTS = 4096  # and tracks

DRUM_CHANNEL = 9

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # of editors that took the file for text
END_OF_TRACK = b"\xff\x2f\x00"
# Where symusic goes wrong: running status after system-exclusive messages, and denominators of
# time signatures above 2**7.
_NEEDS_REWRITING = re.compile(rb"[\xf0\xf7]|\xffX\x04.[\x08-\xff]", re.DOTALL)


def read_content(source: MidiSource) -> tuple[str, bytes]:
    """The display name of a source, and its content."""
    data: object = None
    try:
        if isinstance(source, bytes):
            name, data = "The MIDI data", source
        elif isinstance(source, str | os.PathLike):
            name = repr(os.fspath(source))
            opened = open_regular(source, name=name, noun="MIDI file", error=ScoreError)
            with BufferedReader(opened) as file:
                data = file.read(MAX_BYTES + 1)
        elif hasattr(source, "read"):
            path = getattr(source, "name", None)
            name = repr(path) if isinstance(path, str) else "The file object"
            data = source.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"{name} cannot be read: {os_reason(error)}."
        raise ScoreError(message, code="unreadable") from error
    if not isinstance(data, bytes):
        raise TypeError(
            f"MIDI is read from a path, bytes or a binary file object; got {type(source).__name__}"
        )
    if len(data) > MAX_BYTES:
        raise ScoreError(f"{name} is larger than {MAX_BYTES // 2**20} MB.", code="too_large")
    return name, data


@dataclass(frozen=True)
class MidiFile:
    """The chunks of a file; ``is_cut`` when its last track should be longer."""

    format: int
    ticks_per_beat: int
    tracks: tuple[bytes, ...]
    is_cut: bool


def read_chunks(name: str, data: bytes) -> tuple[MidiFile, list[str]]:
    """The header and tracks of a file, whatever the header claims about them, and warnings."""
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        data = _riff_data(data)
    if not data.startswith(b"MThd"):
        raise ScoreError(f"{name} is not a MIDI file.", code="not_midi")
    if len(data) < 14:
        raise ScoreError(f"{name} is cut off inside its header.", code="truncated")
    header_bytes, kind, claimed, division = struct.unpack(">IHHH", data[4:14])
    if kind > 2:
        raise ScoreError(f"{name} claims MIDI format {kind}, which does not exist.", code="damaged")
    if division & 0x8000:
        reason = "counts time in video frames (SMPTE), so it has no beats"
        raise ScoreError(f"{name} {reason}.", code="no_beats")
    if division == 0:
        raise ScoreError(f"{name} has 0 ticks per beat, so no durations.", code="zero_ticks")
    tracks: list[bytes] = []
    is_cut, impossible = False, 0
    offset = 8 + max(header_bytes, 6)
    while offset + 8 <= len(data):
        chunk, length = struct.unpack(">4sI", data[offset : offset + 8])
        is_cut = offset + 8 + length > len(data)
        if chunk == b"MTrk":
            track, left_out = _rewritten(data[offset + 8 : offset + 8 + length])
            tracks.append(track)
            impossible += left_out
        elif is_cut:  # not a chunk at all
            is_cut = False
            break
        offset += 8 + length
    check_count(name, len(tracks), "tracks", MAX_PARTS)
    warnings = []
    if impossible:
        warnings.append(f"{count_of(impossible, 'impossible time signature')} left out.")
    if offset < len(data):
        warnings.append(f"After the last track {count_of(len(data) - offset, 'byte')} ignored.")
    if len(tracks) > claimed:
        warnings.append(f"The header claims {claimed} tracks; all {len(tracks)} were read.")
    if kind == 2 and len(tracks) > 1:
        warnings.append(
            f"Its {len(tracks)} sequences are independent (format 2); they were read as parts of "
            "one piece."
        )
    return MidiFile(kind, division, tuple(tracks), is_cut), warnings


def _riff_data(riff: bytes) -> bytes:
    """The data chunk of a RIFF file; the file itself if it has none."""
    offset = 12
    while offset + 8 <= len(riff):
        name, length = struct.unpack("<4sI", riff[offset : offset + 8])
        if name == b"data":
            return riff[offset + 8 : offset + 8 + length]
        offset += 8 + length + length % 2
    return riff


def check_count(name: str, count: int, noun: str, limit: int) -> None:
    """Refuse what would take too much memory."""
    if count > limit:
        raise ScoreError(
            f"{name} holds {count:,} {noun}; the limit is {limit:,}.", code="too_large"
        )


def count_of(count: int, noun: str) -> str:
    """Such as "1 note was" and "3 notes were"."""
    return f"{counted(count, noun)} {'was' if count == 1 else 'were'}"


class Event(NamedTuple):
    """What happens at one time, with its status byte, as a track stores it."""

    time: int  # ticks
    data: bytes


class EventNotes(NamedTuple):
    """The notes of tracks of events as columns ``(n,)``, int64, in the order of their ends."""

    track: NDArray[np.int64]
    channel: NDArray[np.int64]  # 0 to 15; drums are on 9
    program: NDArray[np.int64]  # that its channel has then
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    onset: NDArray[np.int64]  # ticks
    end: NDArray[np.int64]
    onset_event: NDArray[np.int64]  # index in its track
    end_event: NDArray[np.int64]


Tracks = tuple[tuple[Event, ...], ...]


def read_events(source: MidiSource) -> tuple[MidiFile, Tracks]:
    """The chunks of a file, and the events of each track.

    Raises:
        ScoreError: as ``read_midi`` does.
        ValueError: there is anything in a track that is not a whole event.
    """
    file, _ = read_chunks(*read_content(source))
    return file, tuple(tuple(_events(track)) for track in file.tracks)


def file_of_events(ticks_per_beat: int, tracks: Iterable[Iterable[Event]]) -> bytes:
    """A MIDI file of format 1 with the events of each track, in the order of their times."""
    chunks = [_track_bytes(events) for events in tracks]
    header = struct.pack(">4sIHHH", b"MThd", 6, 1, len(chunks), ticks_per_beat)
    return header + b"".join(struct.pack(">4sI", b"MTrk", len(c)) + c for c in chunks)


def notes_of_events(tracks: Tracks) -> EventNotes:
    """Pair the note-ons and note-offs; of several notes of a pitch the first to begin ends first.

    Of a note that never ends, the end and its event are -1.
    """
    rows = []
    for number, events in enumerate(tracks):
        programs = [0] * 16
        begun: dict[tuple[int, int], deque[tuple[int, ...]]] = defaultdict(deque)
        for index, (time, data) in enumerate(events):
            kind, channel = data[0] >> 4, data[0] & 15
            if kind == 0xC:
                programs[channel] = data[1]
            elif kind == 9 and data[2]:
                program, velocity = programs[channel], data[2]
                begun[channel, data[1]].append((program, data[1], velocity, time, index))
            elif kind in (8, 9) and begun[channel, data[1]]:
                *note, first = begun[channel, data[1]].popleft()
                rows.append((number, channel, *note, time, first, index))
        for (channel, _), opened in begun.items():
            rows += [(number, channel, *note, -1, first, -1) for *note, first in opened]
    return EventNotes(*np.array(rows, np.int64).reshape(-1, 9).T)


def _rewritten(track: bytes) -> tuple[bytes, int]:
    """A track that symusic reads rightly, and how many impossible signatures were left out."""
    if not _NEEDS_REWRITING.search(track):
        return track, 0
    try:
        events = _events(track)
    except ValueError:
        return track, 0
    possible = [e for e in events if e.data[:3] != b"\xff\x58\x04" or e.data[4] < 8]
    return _track_bytes(possible), len(events) - len(possible)


def _events(track: bytes) -> list[Event]:
    events, time, offset, status = [], 0, 0, 0
    try:
        while offset < len(track):
            delta, offset = _number(track, offset)
            time += delta
            first, start = track[offset], offset
            if first in (0xF0, 0xF7, 0xFF):
                length, offset = _number(track, offset + 1 + (first == 0xFF))
                offset += length
                if offset > len(track):
                    raise ValueError("an event is cut off")
                data = track[start:offset]
                if data[1:2] == END_OF_TRACK[1:2] and first == 0xFF:
                    data = END_OF_TRACK
                    offset = len(track)
            elif first > 0xF0 or not (first | status) & 0x80:
                raise ValueError("an event has no valid status")
            else:
                if first & 0x80:  # else it continues in the running status
                    status, start = first, start + 1
                offset = start + (1 if status >> 4 in (0xC, 0xD) else 2)
                data = bytes([status]) + track[start:offset]
                if offset > len(track) or max(data[1:]) > 127:
                    raise ValueError("an event is cut off")
            events.append(Event(time, data))
    except IndexError:
        raise ValueError("an event is cut off") from None
    return events


def _number(track: bytes, offset: int) -> tuple[int, int]:
    """A number of variable length, and the offset after it."""
    value = 0
    for index in range(offset, offset + 4):
        value = value << 7 | track[index] & 0x7F
        if track[index] < 0x80:
            return value, index + 1
    raise ValueError("a number has more than four bytes")


def _track_bytes(events: Iterable[Event]) -> bytes:
    out, last, data = bytearray(), 0, b""
    for time, data in events:
        digits = [(time - last) & 0x7F]
        while (time - last) >> 7 * len(digits):
            digits.append((time - last) >> 7 * len(digits) & 0x7F | 0x80)
        out += bytes(reversed(digits)) + data
        last = time
    return bytes(out) if data == END_OF_TRACK else bytes(out) + b"\x00" + END_OF_TRACK
