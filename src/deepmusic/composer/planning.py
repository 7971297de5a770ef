"""From a request to a plan: what a request leaves open comes from the style or a given piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic import music
from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import normalised, transposed
from deepmusic.composer.request import BARS, Request, read_metre
from deepmusic.errors import RequestError, ScoreError
from deepmusic.music import (
    Grid,
    Key,
    Part,
    Score,
    TimeSignature,
    read_midi,
)

_USUAL_BARS = 16
_RANGE_MARGIN = 3  # semitones that a part may go beyond the usual range of its style
_OCTAVES = (0, -12, 12, -24, 24, -36, 36)  # for a melody, the nearest first


@dataclass(frozen=True)
class StyleProfile:
    """What is usual in a style, measured on its training pieces.

    Args:
        parts: name and General MIDI program of each.
        metres: ``(numerator, denominator, share of the pieces)``, the commonest first.
        minor_share: share of pieces in a minor key.
        tempo: in beats per minute, the median of pieces that give one, else 120.
        bars: the median number of bars.
        ranges: lowest and highest pitch of each part in C major or A minor, without the rarest
            hundredth of notes at either end.
        pieces: number of pieces.
    """

    parts: tuple[tuple[str, int], ...]
    metres: tuple[tuple[int, int, float], ...]
    minor_share: float
    tempo: float
    bars: int
    ranges: tuple[tuple[int, int], ...]
    pieces: int

    @property
    def signatures(self) -> tuple[TimeSignature, ...]:
        """The time signatures of the style, the commonest first."""
        return tuple(TimeSignature(0, over, under) for over, under, _ in self.metres)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StyleProfile:
        """Read what ``dataclasses.asdict`` made of a profile, through JSON or not."""
        tables = {name: tuple(map(tuple, values[name])) for name in ("parts", "metres", "ranges")}
        return cls(**{**values, **tables})


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """What to write, in C major or A minor.

    Args:
        bars: number of bars.
        time_signature: of all of them.
        styles: ``(s,)`` weights that add up to one.
        poses: ``(s, d)``.
        key: of the finished piece.
        shift: semitones by which the finished piece is transposed.
        tempo: in beats per minute.
        parts: the instruments; as many as the network has parts, or fewer.
        range: ``(parts, 2)`` lowest and highest MIDI pitch of each; a part whose lowest is above
            its highest is silent.
        has_end: whether the piece ends with the last bar. If so the decoder reads how many bars
            are left, and in the last half bar only notes of the tonic triad sound: of several
            parts the first, and of three or more also the last, has the tonic alone.
        temperature, top_p: as in ``Request``.
        fixed: notes to keep, as long as the plan.
        is_fixed: ``(steps, parts)`` bool, where the piece is exactly as in ``fixed``.
        warnings: what could not be done as requested.
    """

    bars: int
    time_signature: TimeSignature
    styles: NDArray[np.float32]
    poses: NDArray[np.float32]
    key: Key
    range: NDArray[np.int64]
    parts: tuple[Part, ...]
    shift: int = 0
    tempo: float = 120.0
    has_end: bool = True
    temperature: float = 1.0
    top_p: float = 1.0
    fixed: Grid | None = None
    is_fixed: NDArray[np.bool_] | None = None
    warnings: tuple[str, ...] = ()


def plan_request(
    request: Request,
    config: ComposerConfig,
    profiles: Mapping[str, StyleProfile],
    poses: NDArray[np.float32],
) -> Plan:
    """Decide what a request leaves open, at random from its seed where need be.

    The styles of the request have profiles, and the poses have shape ``(s, d)``.

    Raises:
        RequestError: it asks for what is impossible; the message says what is possible.
        ScoreError: a file that it names cannot be used.
    """
    profile = profiles[request.main_style]
    warnings: list[str] = []
    fixed = is_fixed = None
    if request.given is None:
        key, shift = _key(request, profile)
        tempo = request.tempo or profile.tempo
        signature = _signature(request, profile)
        bars = request.bars or _USUAL_BARS
    else:
        fixed, key, moved, given_tempo = read_piece(request.given, config, len(profile.parts))
        if request.harmonize is not None:
            fixed, octave = _melody(fixed, profile, request.harmonize)
            moved += octave
        shift = -moved
        tempo = request.tempo or round(given_tempo, 2)
        signature = replace(fixed.time_signatures[0], time=0)
        if signature not in profile.signatures:
            unusual, signature = signature, profile.signatures[0]
            warnings.append(f"The style has no {unusual}; the bars are read as {signature}.")
        bar = signature.bar_steps(config.steps_per_beat)
        bars = _bars_with_given(request, -(-fixed.steps // bar))
        is_fixed = _fixed_steps(request, fixed.steps, (bars * bar, config.parts), bar)
        fixed = replace(fixed, steps=bars * bar)
    chosen = [profiles[name] for name in request.styles]
    widest = max(chosen, key=lambda profile: len(profile.parts))
    return Plan(
        bars=bars,
        time_signature=signature,
        styles=np.array([request.styles.get(name, 0) for name in config.styles], np.float32),
        poses=poses,
        key=key,
        shift=shift,
        tempo=tempo,
        parts=tuple(Part(name, program=program) for name, program in widest.parts),
        range=_ranges(config, chosen, shift),
        has_end=request.has_end,
        temperature=request.temperature,
        top_p=request.top_p,
        fixed=fixed,
        is_fixed=is_fixed,
        warnings=tuple(warnings),
    )


def _key(request: Request, profile: StyleProfile) -> tuple[Key, int]:
    """The key requested or drawn, and the semitones to it from C major or A minor."""
    if request.key is not None:
        key = Key.named(request.key)
        return key, (key.tonic - 9 * key.is_minor + 5) % 12 - 5
    random = np.random.default_rng([request.seed, 2**33])
    is_minor, shift = random.random() < profile.minor_share, int(random.integers(-5, 7))
    return Key((shift + 9 * is_minor) % 12, bool(is_minor)), shift


def _signature(request: Request, profile: StyleProfile) -> TimeSignature:
    """The time signature of a request without a given piece."""
    if request.metre is None:
        return profile.signatures[0]
    signature = read_metre(request.metre)
    if signature not in profile.signatures:
        listed = ", ".join(map(str, profile.signatures))
        raise RequestError(f"The style has no music in {request.metre}; it has {listed}.")
    return signature


def _bars_with_given(request: Request, given: int) -> int:
    """The number of bars of a piece that keeps notes of a given one of ``given`` bars."""
    if given > BARS[1]:
        raise ScoreError(
            f"{request.given} has {given} bars; {BARS[1]} at most can be used.", code="too_long"
        )
    if request.infill is not None:
        if request.infill[1] > given:
            raise RequestError(
                f"{request.given} has {given} bars, so bars up to {request.infill[1]} cannot be "
                "rewritten."
            )
        return given
    if request.harmonize is not None:
        bars = request.bars or max(given, BARS[0])
        if bars < given:
            raise RequestError(
                f"The melody in {request.harmonize} has {given} bars, more than the {bars} "
                "requested: request as many, or omit bars."
            )
        return bars
    bars = request.bars or min(given + _USUAL_BARS, BARS[1])
    if bars <= given:
        raise RequestError(
            f"The primer {request.primer} has {given} bars, and the piece is to have {bars}: "
            "request more bars, or shorten the primer."
        )
    return bars


def _fixed_steps(
    request: Request, given_steps: int, shape: tuple[int, int], bar: int
) -> NDArray[np.bool_]:
    """Where the piece is exactly as given, ``(steps, parts)``."""
    is_fixed = np.zeros(shape, np.bool_)
    if request.harmonize is not None:
        is_fixed[:, 0] = True  # after its last note the melody is silent
    elif request.infill is not None:
        first, last = request.infill
        is_fixed[:] = True
        is_fixed[(first - 1) * bar : last * bar] = False
    else:
        is_fixed[: -(-given_steps // bar) * bar] = True
    return is_fixed


def _ranges(config: ComposerConfig, profiles: list[StyleProfile], shift: int) -> NDArray[np.int64]:
    """Pitches that each part may use, ``(parts, 2)``; none for a part that no style has.

    Transposed by ``shift`` they remain MIDI pitches.
    """
    ranges = np.tile(np.array([128, -1]), (config.parts, 1))
    for profile in profiles:
        for part, (low, high) in enumerate(profile.ranges[: len(profile.parts)]):
            ranges[part, 0] = min(ranges[part, 0], low - _RANGE_MARGIN)
            ranges[part, 1] = max(ranges[part, 1], high + _RANGE_MARGIN)
    ranges[:, 0] = np.maximum(ranges[:, 0], -shift)
    ranges[:, 1] = np.minimum(ranges[:, 1], 127 - shift)
    return ranges


def read_piece(path: str, config: ComposerConfig, parts: int) -> tuple[Grid, Key, int, float]:
    """A MIDI file as the composer reads it, in at most this many parts.

    Returns:
        The grid in C major or A minor, its key, by how many semitones it was transposed, and its
        tempo in beats per minute.

    Raises:
        ScoreError: the file cannot be used.
    """
    raw = read_midi(path)
    score = music.aligned(_in_parts(raw, parts, path), config.steps_per_beat)
    grid = music.score_to_grid(score, config.steps_per_beat)
    last = int((grid.onset + grid.duration).max())
    # later changes would only move bars about
    grid = replace(grid, steps=last, time_signatures=grid.time_signatures[:1], tempos=())
    grid, key, shift = normalised(grid, lowest=config.lowest, pitches=config.pitches)
    return grid, key, shift, raw.tempos[0].beats_per_minute


def _in_parts(score: Score, count: int, path: str) -> Score:
    """The score without drums, its further parts merged into the last of ``count``."""
    pitched = [index for index, part in enumerate(score.parts) if not part.is_drum]
    index_of = {index: min(number, count - 1) for number, index in enumerate(pitched)}
    notes = [replace(n, part=index_of[n.part]) for n in score.notes if n.part in index_of]
    if not notes:
        raise ScoreError(f"{path} has no notes but drums; name a file with a melody.", code="drums")
    first = min(note.part for note in notes)
    notes = [replace(note, part=note.part - first) for note in notes]
    return replace(score, notes=tuple(notes), parts=(Part(),) * count)


def _melody(grid: Grid, profile: StyleProfile, path: str) -> tuple[Grid, int]:
    """The highest notes of the first part, one at a time, in an octave that suits the style.

    Returns:
        The melody, and by how many semitones it was transposed.
    """
    if len(profile.parts) < 2:
        raise RequestError(
            "This style has one part, which the melody would fill: harmonize in a style with more."
        )
    in_part = np.flatnonzero(grid.part == grid.part.min())
    top = np.full(grid.steps, -1)
    for note in in_part:
        span = slice(int(grid.onset[note]), int(grid.onset[note] + grid.duration[note]))
        top[span] = np.maximum(top[span], int(grid.pitch[note]))
    kept = in_part[top[grid.onset[in_part]] == grid.pitch[in_part]]
    onset, pitch = grid.onset[kept], grid.pitch[kept].astype(np.int64)
    low, high = profile.ranges[0][0] - 2 * _RANGE_MARGIN, profile.ranges[0][1] + 2 * _RANGE_MARGIN
    octaves = [o for o in _OCTAVES if low <= pitch.min() + o and pitch.max() + o <= high]
    if not octaves:
        raise RequestError(
            f"The melody in {path} spans {np.ptp(pitch)} semitones, which is out of range: the "
            f"{profile.parts[0][0] or 'first part'} of this style spans {high - low} at most."
        )
    melody = replace(
        grid,
        onset=onset,
        duration=np.minimum(grid.duration[kept], np.diff(onset, append=grid.steps)),
        pitch=pitch,
        part=np.zeros(len(kept), np.int64),
        velocity=grid.velocity[kept],
    )
    return transposed(melody, octaves[0]), octaves[0]
