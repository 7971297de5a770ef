"""Composed notes among the events of a given piece, none of which changes."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from deepmusic.composer.given import GivenBars
from deepmusic.music import Grid, Part
from deepmusic.music.midi_events import (
    DRUM_CHANNEL,
    END_OF_TRACK,
    Event,
    EventNotes,
    file_of_events,
)

_TEMPO = b"\xff\x51\x03"
_OTHER_PORT = b"\xff\x21\x01\x01"  # sixteen more channels
_END_MARKER = b"\xff\x06\x03end"

# the order of events at one tick: composed notes end before given events, and begin after them
_ENDS, _GIVEN, _BEGINS = range(3)


_Row = tuple[int, ...]
_Timed = tuple[int, int, bytes]  # tick, order at this tick, event


class _Target(NamedTuple):
    track: int
    channel: int


def spliced(
    bars: GivenBars,
    grid: Grid,
    fixed: Grid,
    *,
    shift: int,
    parts: tuple[Part, ...],
    is_under: bool,
    tempo: tuple[float, float] | None = None,
) -> bytes:
    """The given piece as a MIDI file, with what was composed in the free bars.

    Given notes that begin in these bars are left out, unless the composed ones are under a melody.

    Args:
        bars: of the given piece.
        grid: what was composed, with the fixed notes.
        fixed: the notes that the model was given.
        shift: semitones from the pitches of both grids to those of the piece.
        parts: the instruments of the model's parts, for those that the given piece lacks.
        is_under: whether all composed parts are new, and given notes stay everywhere.
        tempo: the lowest and highest beats per minute, into which tempos are brought.
    """
    piece = bars.piece
    notes, tracks = piece.notes, [list(track) for track in piece.tracks]
    left_out = np.zeros_like(bars.is_rewritten) if is_under else bars.is_rewritten
    kept = EventNotes(*(column[~left_out] for column in notes))
    drop: dict[int, set[int]] = defaultdict(set)
    for index in np.flatnonzero(left_out).tolist():
        events = (int(notes.onset_event[index]), int(notes.end_event[index]))
        drop[int(notes.track[index])].update(events)
    merged: list[list[_Timed]] = [
        [(time, _GIVEN, data) for n, (time, data) in enumerate(track) if n not in drop[number]]
        for number, track in enumerate(tracks)
    ]
    rows = _composed(bars, grid, fixed, shift)
    targets = _targets(bars, rows, len(parts), merged, parts, is_under=is_under)
    _insert(merged, rows, targets, kept)
    end = max(piece.score.end, int(bars.ticks[bars.free[1]]))
    lasts = [time for track in merged for time, _, data in track if data[0] >> 4 in (8, 9)]
    if max(lasts, default=0) < end and not _has_marker(piece.tracks, end):
        merged[-1].append((end, _GIVEN, _END_MARKER))
    if tempo is not None:
        # the tempo that holds where the file names none
        usual = min(max(120.0, tempo[0]), tempo[1])
        merged[0].insert(0, (0, _GIVEN, _tempo_event(usual)))
    made = (_in_order(track, tempo) for track in merged)
    return file_of_events(piece.score.ticks_per_beat, made)


def _composed(bars: GivenBars, grid: Grid, fixed: Grid, shift: int) -> list[_Row]:
    """Part, pitch, onset, end and velocity of the composed notes, in ticks, by onset."""
    codes = [g.onset * 2**16 + g.part.astype(np.int64) * 2**8 + g.pitch for g in (grid, fixed)]
    first, end = bars.steps[list(bars.free)]
    is_new = ~np.isin(codes[0], codes[1]) & (grid.onset >= first) & (grid.onset < end)
    step, part = grid.onset[is_new], grid.part[is_new].astype(np.int64)
    begin, stop = bars.ticks_of(step, step + grid.duration[is_new])
    position = step - bars.steps[np.searchsorted(bars.steps, step, side="right") - 1]
    strength = np.where(position == 0, 92, np.where(position % grid.steps_per_beat == 0, 84, 76))
    velocity = strength - 12 * (part > 0)
    # as loud as what is around it
    velocity += round(float(bars.piece.notes.velocity[bars.is_read].mean()) - 84)
    columns = (
        part,
        grid.pitch[is_new].astype(np.int64) + shift,
        begin,
        stop,
        np.clip(velocity, 1, 127),
    )
    return [tuple(row) for row in np.stack(columns, axis=1).tolist()]


def _targets(
    bars: GivenBars,
    rows: list[_Row],
    count: int,
    merged: list[list[_Timed]],
    parts: tuple[Part, ...],
    *,
    is_under: bool,
) -> list[_Target]:
    """The track and channel of each composed note; new tracks are appended.

    A note goes where the given part of its number was last played, of several the one with the
    nearest pitches; a part that was not given gets a track.
    """
    notes, part = bars.piece.notes, bars.piece.part
    mean = [float(notes.pitch[part == index].mean()) for index in range(part.max() + 1)]
    order = np.argsort(notes.onset, kind="stable")
    indices = [order[part[order] == index] for index in range(len(mean))]
    used = {data[0] & 15 for track in merged for _, _, data in track if data[0] < 0xF0}
    free = [channel for channel in range(16) if channel not in used | {DRUM_CHANNEL}]
    new: dict[int, _Target] = {}
    targets = []
    for number, pitch, onset, *_ in rows:
        fitting = [i for i in range(len(mean)) if min(i, count - 1) == number and not is_under]
        if fitting:
            own = indices[min(fitting, key=lambda i: abs(mean[i] - pitch))]
            index = own[max(int(np.searchsorted(notes.onset[own], onset)) - 1, 0)]
            targets.append(_Target(int(notes.track[index]), int(notes.channel[index])))
            continue
        if number not in new:
            port = [] if len(new) < len(free) else [(0, _GIVEN, _OTHER_PORT)]
            channel = [*free, *range(DRUM_CHANNEL)][len(new)]
            name = parts[number].name.encode()[:127]
            new[number] = _Target(len(merged), channel)
            program = bytes([0xC0 | channel, parts[number].program])
            title = b"\xff\x03" + bytes([len(name)]) + name
            merged.append([(0, _GIVEN, title), *port, (0, _GIVEN, program)])
        targets.append(new[number])
    return targets


def _insert(
    merged: list[list[_Timed]],
    rows: list[_Row],
    targets: list[_Target],
    kept: EventNotes,
) -> None:
    """Add composed notes; one makes way for a given note of its pitch, track and channel."""
    sounding: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
    columns = (kept.track, kept.channel, kept.pitch, kept.onset, kept.end)
    for *key, onset, end in np.stack(columns, axis=1).tolist():
        sounding[tuple(key)].append((onset, end))
    for spans in sounding.values():
        spans.sort()
    for (_, pitch, onset, end, velocity), (track, channel) in zip(rows, targets, strict=True):
        spans = sounding[track, channel, pitch]
        index = bisect_right(spans, (onset, 2**40))
        if any(until > onset for _, until in spans[:index]) or (onset, onset) in spans[:index]:
            continue
        stop = min(end, spans[index][0]) if index < len(spans) else end
        insort(spans, (onset, stop))
        merged[track].append((onset, _BEGINS, bytes([0x90 | channel, pitch, velocity])))
        merged[track].append((stop, _ENDS, bytes([0x80 | channel, pitch, 0])))


def _in_order(events: list[_Timed], tempo: tuple[float, float] | None) -> list[Event]:
    """The events of a track by time, and its end last."""
    last = max((time for time, *_ in events), default=0)
    made = []
    for time, _, data in sorted(events, key=lambda event: event[:2]):
        if data == END_OF_TRACK:
            continue
        if tempo is not None and data.startswith(_TEMPO) and len(data) == 6 and any(data[3:]):
            given = 60e6 / int.from_bytes(data[3:], "big")
            data = _tempo_event(min(max(given, tempo[0]), tempo[1]))
        made.append(Event(time, data))
    return [*made, Event(last, END_OF_TRACK)]


def _tempo_event(beats_per_minute: float) -> bytes:
    return _TEMPO + round(60e6 / beats_per_minute).to_bytes(3, "big")


def _has_marker(tracks: Iterable[Iterable[Event]], time: int) -> bool:
    return any(event == (time, _END_MARKER) for track in tracks for event in track)
