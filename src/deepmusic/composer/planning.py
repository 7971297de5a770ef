"""From a request to a plan: what a request leaves open comes from the style or a given piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.barlines import USUAL_BARS, Barlines, BarRange, bars_to_read
from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.given import GivenBars, Reading, read_bars, read_given
from deepmusic.composer.request import BARS, TEMPOS, Request, read_metre
from deepmusic.errors import RequestError, counted
from deepmusic.music import Grid, Key, Part, Score, TimeSignature

_RANGE_MARGIN = 3  # semitones that a part may go beyond the usual range of its style


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
        is_fixed: ``(steps, parts)`` bool, where nothing is added to ``fixed``.
        given: the bars that the fixed notes are from.
        tempo_limits: beats per minute into which the tempos of a given piece are brought; None
            keeps them.
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
    given: GivenBars | None = None
    tempo_limits: tuple[float, float] | None = None
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
    fixed = is_fixed = given = limits = None
    if request.given is None:
        key, shift = _key(request, profile)
        tempo = request.tempo or profile.tempo
        signature = _signature(request, profile)
        bars = request.bars or USUAL_BARS
    else:
        given, reading, signature, warnings = _given(request, config, profile)
        fixed, is_fixed, key, shift, _ = reading
        tempo, limits, reasons = _tempo(request, given.piece.score)
        warnings += reasons
        bars = len(given.layout.start)
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
        given=given,
        tempo_limits=limits,
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


def read_piece(path: str, config: ComposerConfig, profile: StyleProfile) -> Grid:
    """A MIDI file, of a long one the last bars, as the composer reads it, in C major or A minor.

    Raises:
        ScoreError: the file cannot be used.
    """
    piece = read_given(path)
    lines = Barlines(piece.score, profile.signatures[0], config.steps_per_beat)
    last = lines.number(int(piece.notes.end.max()) - 1) + 1
    first = max(lines.number(int(piece.notes.onset.min())), last - BARS[1])
    chosen = BarRange((first, last), (last, last), (first, last))
    bars = GivenBars.of(piece, lines, chosen, profile.signatures, config.steps_per_beat)
    return read_bars(bars, config, len(profile.parts)).fixed


def _given(
    request: Request, config: ComposerConfig, profile: StyleProfile
) -> tuple[GivenBars, Reading, TimeSignature, list[str]]:
    """The bars of a given piece, what is read of them, their time signature, and warnings."""
    assert request.given is not None
    piece = read_given(request.given, request.melody)
    lines = Barlines(piece.score, profile.signatures[0], config.steps_per_beat)
    chosen = bars_to_read(request, piece.score, lines)
    bars = GivenBars.of(piece, lines, chosen, profile.signatures, config.steps_per_beat)
    (low, high), (start, stop) = chosen.read, chosen.sounding
    warnings = list(piece.warnings)
    if low == start > 0:
        bars_of_rest = counted(start, "silent bar")
        warnings.append(f"The model does not read the {bars_of_rest} at the beginning.")
    elif low > start or high < stop:
        read = counted(min(high, stop) - low, "bar")
        warnings.append(f"The model reads {read} of the {stop - start:,} given.")
    signatures = [lines.signature(bar) for bar in range(low, high)]
    signature = max(signatures, key=signatures.count)
    if signature not in profile.signatures:
        warnings.append(
            f"The style has no {signature}: its bars are composed like {profile.signatures[0]}."
        )
    melody_range = None
    if request.harmonize is not None:
        if len(profile.parts) < 2:
            raise RequestError(
                "This style has one part, which the melody would fill: harmonize in a style with "
                "more."
            )
        lowest, highest = profile.ranges[0]
        melody_range = (lowest - 2 * _RANGE_MARGIN, highest + 2 * _RANGE_MARGIN)
        name = f" ({piece.parts[0]})" if piece.parts[0] else ""
        others = "; --melody names another" if len(piece.parts) > 1 else ""
        warnings.append(
            f"The melody is the top of part {piece.melody} of {len(piece.parts)}{name}{others}."
        )
    reading = read_bars(bars, config, len(profile.parts), melody_range=melody_range)
    if np.any(bars.is_rewritten) and np.any(piece.part < 0):
        warnings.append("Drums are kept in all bars.")
    return bars, reading, signature, [*warnings, *reading.warnings]


def _tempo(request: Request, score: Score) -> tuple[float, tuple[float, float] | None, list[str]]:
    """The tempo of a given piece, limits into which to bring its tempos, and warnings."""
    if request.tempo is not None:
        return request.tempo, (request.tempo, request.tempo), []
    tempo = 60 * float(score.beats) / score.seconds
    within = min(max(tempo, TEMPOS[0]), TEMPOS[1])
    if within == tempo:
        return round(tempo, 2), None, []
    reason = f"The tempo, {tempo:.4g} beats per minute, was brought into range: {within:g}."
    return within, TEMPOS, [reason]
