"""Parsing MIDI chunks with symusic, and recovering notes without a note-off, which it drops."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from symusic.core import ScoreTick

from deepmusic.music.score import LAST_TICK, Part

# Larger files are refused: a symphony takes less than 1 MB, and every note takes memory.
MAX_BYTES = 32 * 2**20
MAX_NOTES = 1_000_000

LONGEST_DELTA = 2**28 - 1
"""The longest delta time, in four bytes."""

_LONGEST_NAME = 200  # characters of the name of a part
_END_OF_TRACK = b"\xff\x2f\x00"


@dataclass(frozen=True)
class MidiFile:
    """The chunks of a file; ``is_cut`` when its last track should be longer."""

    format: int
    ticks_per_beat: int
    tracks: tuple[bytes, ...]
    is_cut: bool


def parse(file: MidiFile) -> ScoreTick:
    """Parse a file with a correct header.

    Data bytes above 127 are replaced by 127: symusic 0.5.9 would write beyond its tables.
    """
    header = struct.pack(">4sIHHH", b"MThd", 6, file.format, len(file.tracks), file.ticks_per_beat)
    chunks = (struct.pack(">4sI", b"MTrk", len(track)) + track for track in file.tracks)
    return ScoreTick.from_midi(b"".join([header, *chunks]), True)


class Line(NamedTuple):
    """The notes of one part as columns ``(n,)``."""

    part: Part
    onset: NDArray[np.int64]
    duration: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]


def lines_of(parsed: ScoreTick) -> list[Line]:
    """The tracks that have notes."""
    lines = []
    for track in parsed.tracks:
        if track.notes:
            table = track.notes.numpy()
            names = ("time", "duration", "pitch", "velocity")
            name = "".join(filter(str.isprintable, track.name))[:_LONGEST_NAME]
            columns = (table[name].astype(np.int64) for name in names)
            lines.append(Line(Part(name, track.program, track.is_drum), *columns))
    return lines


def has_overflow(line: Line) -> bool:
    """Whether ticks have overflowed: symusic counts in 32 bits."""
    return bool(
        line.onset.min() < 0
        or line.duration.min() < 0
        or (line.onset + line.duration).max() > LAST_TICK
    )


# A note-off of every pitch on every channel; after the first the status byte is implied.
_ALL_NOTES_OFF = b"".join(
    bytes([0, 0x80 | channel, 0, 0]) + b"".join(bytes([0, pitch, 0]) for pitch in range(1, 128))
    for channel in range(16)
)
_REPEATS = 8  # a pitch may have several onsets without a note-off


def with_unreleased(file: MidiFile, lines: list[Line]) -> tuple[list[Line], int]:
    """The parts with the notes that symusic drops as they have no note-off, and their number.

    The file is parsed again with note-offs of all pitches appended to each track, after the
    longest rest there is: notes that last so long were never released.
    """
    longest = max((int(line.duration.max()) for line in lines), default=0)
    last = max((int((line.onset + line.duration).max()) for line in lines), default=0)
    appended = len(file.tracks) * _REPEATS * len(_ALL_NOTES_OFF)
    if longest >= LONGEST_DELTA or last + LONGEST_DELTA > LAST_TICK or appended > MAX_BYTES:
        return lines, 0
    tracks = tuple(_with_note_offs(track) for track in file.tracks)
    try:
        again = lines_of(parse(replace(file, tracks=tracks)))
    except Exception:  # as in read_midi
        return lines, 0
    total = sum(len(line.onset) for line in again)
    unreleased = total - sum(len(line.onset) for line in lines)
    if unreleased <= 0 or total > MAX_NOTES or any(map(has_overflow, again)):
        return lines, 0
    return [_released(line, file.ticks_per_beat) for line in again], unreleased


def _with_note_offs(track: bytes) -> bytes:
    body = track.removesuffix(_END_OF_TRACK)
    # the delta time of the removed event stays, so an event without effect follows it
    body += b"\x80\x00\x00" if len(body) < len(track) else b""
    longest_delta = b"\xff\xff\xff\x7f"
    return body + longest_delta + (_ALL_NOTES_OFF * _REPEATS)[1:] + b"\x00" + _END_OF_TRACK


def _released(line: Line, ticks_per_beat: int) -> Line:
    """A part whose unreleased notes end after a beat, or at the next onset of their pitch.

    As in all MIDI, a note ends no sooner than one of its pitch that began before it.
    """
    is_endless = line.duration >= LONGEST_DELTA
    end = np.where(is_endless, 0, line.onset + line.duration)
    order = np.argsort(line.onset, kind="stable")
    for index in order[is_endless[order]]:
        onset = line.onset[index]
        is_same = line.pitch == line.pitch[index]
        next_onset = line.onset[is_same & (line.onset > onset)].min(initial=onset + ticks_per_beat)
        end[index] = end[is_same & (line.onset <= onset)].max(initial=next_onset)
    return line._replace(duration=end - line.onset)
