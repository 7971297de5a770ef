"""The parts of a MIDI file, and the one of them that has the melody."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from deepmusic.music.midi_events import DRUM_CHANNEL, EventNotes, Tracks

_TRACK_NAME = b"\xff\x03"
_LONGEST_NAME = 60
_VOICES = 4  # of one program that a track of several instruments may have; more are one instrument
_MELODY_NAME = re.compile(
    r"melod|vocal|voice|sing|lead|sopran|cantus|gesang|canto|chant|tune|theme", re.IGNORECASE
)
# With these a melody that is not named is found in .78 of the files of POP909, where a second
# melody, often higher, is taken instead of it in the others.
_STEADY = 0.6  # of the bars in which the steadiest part begins a note
_CHORD_SEMITONES = 24.0  # that each further note at a time counts against a line
_STEP_SEMITONES = 20.0  # that moving by steps alone counts for it


def parts_of_notes(
    file_format: int, tracks: Tracks, notes: EventNotes
) -> tuple[NDArray[np.int64], list[str]]:
    """The part ``(n,)`` of each note, -1 for drums, and the names of the parts.

    A track is a part, with all its channels and programs. In a file of format 0, which has one
    track, channels are parts, but for channels of one program that are more than voices.
    """
    key = notes.track.copy()
    if file_format == 0:
        key = notes.channel.copy()
        programs = {
            channel: tuple(np.unique(notes.program[key == channel]).tolist())
            for channel in np.unique(key[key != DRUM_CHANNEL]).tolist()
        }
        for program in set(programs.values()):
            same = sorted(channel for channel in programs if programs[channel] == program)
            if len(same) > _VOICES:
                key[np.isin(key, same)] = same[0]
    is_drum = notes.channel == DRUM_CHANNEL
    kinds = np.unique(key[~is_drum])
    part = np.where(is_drum, -1, np.searchsorted(kinds, key))
    names = []
    for kind in kinds.tolist():
        events = () if file_format == 0 else tracks[kind]
        named = [data for _, data in events if data.startswith(_TRACK_NAME)]
        text = named[0][3:].decode("utf-8", "replace") if named else ""
        names.append("".join(filter(str.isprintable, text)).strip()[:_LONGEST_NAME])
    return part, names


def melody_part(notes: EventNotes, part: NDArray[np.int64], names: list[str]) -> int:
    """The part with the highest steady line.

    A part that is named for a melody comes first. Others are compared by the mean of their highest
    pitches, more for the share of steps between them and less for each further note that begins at
    the same time; parts that rest for long are left out.
    """
    steadiness, height = np.zeros(len(names)), np.zeros(len(names))
    span = max(int(notes.end.max()) // 64, 1)
    for index in range(len(names)):
        chosen = part == index
        onsets, which = np.unique(notes.onset[chosen], return_inverse=True)
        top = np.zeros(len(onsets))
        np.maximum.at(top, which, notes.pitch[chosen])
        steadiness[index] = len(np.unique(onsets // span))
        steps = float(np.mean(np.abs(np.diff(top)) <= 2)) if len(top) > 1 else 0.0
        height[index] = top.mean() + _STEP_SEMITONES * steps
        height[index] -= _CHORD_SEMITONES * (len(which) / len(onsets) - 1)
    is_named = np.array([_MELODY_NAME.search(name) is not None for name in names])
    is_steady = steadiness >= _STEADY * steadiness.max()
    if np.any(is_named & is_steady):
        is_steady &= is_named
    return int(np.argmax(np.where(is_steady, height, -np.inf)))
