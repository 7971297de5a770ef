"""From a request to a plan: everything that a request leaves open is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.request import BARS, Request, read_metre
from deepmusic.composer.style_profile import RANGE_MARGIN, StyleProfile
from deepmusic.errors import RequestError, ScoreError
from deepmusic.music import Grid, Key, Part, TimeSignature

_USUAL_BARS = 16


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
        temperature: below 1 favours likely notes.
        top_p: share of the probability to sample from, in (0, 1].
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

    Args:
        request: with styles that have profiles.
        config: of the composer.
        profiles: of the styles.
        poses: ``(s, d)``.

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
        signature = _requested_signature(request, profile)
        bars = request.bars or _USUAL_BARS
    else:
        from deepmusic.composer.given import read_given

        fixed, key, shift, given_tempo = read_given(request, config, profile)
        tempo = request.tempo or round(given_tempo, 2)
        signature = _given_signature(fixed.time_signatures[0], profile, warnings)
        bar = signature.bar_steps(config.steps_per_beat)
        bars = _bars_with_given(request, -(-fixed.steps // bar))
        is_fixed = _fixed_steps(request, fixed.steps, (bars * bar, config.parts), bar)
        fixed = replace(fixed, steps=bars * bar)
    weights = np.array([request.styles.get(name, 0) for name in config.styles], np.float32)
    chosen = [profiles[name] for name in request.styles]
    widest = max(chosen, key=lambda profile: len(profile.parts))
    return Plan(
        bars=bars,
        time_signature=signature,
        styles=weights,
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


def _requested_signature(request: Request, profile: StyleProfile) -> TimeSignature:
    """The time signature of a request without a given piece."""
    if request.metre is None:
        return profile.signatures[0]
    signature = read_metre(request.metre)
    if signature not in profile.signatures:
        listed = ", ".join(f"{s.numerator}/{s.denominator}" for s in profile.signatures)
        raise RequestError(f"The style has no music in {request.metre}; it has {listed}.")
    return signature


def _given_signature(
    given: TimeSignature, profile: StyleProfile, warnings: list[str]
) -> TimeSignature:
    """The time signature of a given piece, or the style's if that has none such."""
    given = replace(given, time=0)
    usual = profile.signatures[0]
    if given in profile.signatures:
        return given
    warnings.append(
        f"The style has no {given.numerator}/{given.denominator}; the bars are read as "
        f"{usual.numerator}/{usual.denominator}."
    )
    return usual


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
            ranges[part, 0] = min(ranges[part, 0], low - RANGE_MARGIN)
            ranges[part, 1] = max(ranges[part, 1], high + RANGE_MARGIN)
    ranges[:, 0] = np.maximum(ranges[:, 0], -shift)
    ranges[:, 1] = np.minimum(ranges[:, 1], 127 - shift)
    return ranges
