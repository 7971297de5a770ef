"""Writing music step after step, within the constraints of a plan.

Constraints act as masks and forced notes on the exact distribution of each step: fixed notes are
written whatever their probability, and all others are sampled as they follow from them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import RepeatFinder, bar_positions, encode, scattered, symbol_sets
from deepmusic.composer.exported import ExportedNetwork
from deepmusic.composer.planning import Plan
from deepmusic.composer.set_sampling import sample_sets
from deepmusic.music import Bars, Frames, Grid


def write_music(
    network: ExportedNetwork,
    plan: Plan,
    *,
    candidates: int,
    random: np.random.Generator,
) -> list[tuple[Grid, float]]:
    """Write several pieces to one plan, in one batch; equal states of ``random`` give equal ones.

    Returns:
        Grids in C major or A minor, and the log probability of each in nats, given the pose.
    """
    config = network.config
    draft = _Draft(config, plan, candidates)
    constraints = _Constraints(config, plan)
    condition = (
        np.tile(plan.styles, (candidates, 1)),
        np.tile(plan.poses, (candidates, 1, 1)),
        np.full(candidates, plan.key.is_minor),
    )
    memory = [np.zeros((candidates, config.hidden), np.float32)] * 2
    log_prob = np.zeros(candidates)
    for step in range(draft.steps):
        start, bias, *memory = network.step(*draft.inputs(step), *condition, *memory)
        wanted, required, is_filled = constraints.at(step, draft)
        sets, log_probs = sample_sets(
            network.next_symbol,
            start,
            bias,
            random,
            states=config.states,
            temperature=plan.temperature,
            top_p=plan.top_p,
            wanted=wanted,
            required=required,
            is_filled=is_filled,
        )
        log_prob += log_probs
        draft.write(step, sets)
    return [(draft.grid(number), float(log_prob[number])) for number in range(candidates)]


class _Draft:
    """What is written so far, of several pieces at once."""

    def __init__(self, config: ComposerConfig, plan: Plan, pieces: int) -> None:
        self.config, self.plan, self.pieces = config, plan, pieces
        self.bar_steps = plan.time_signature.bar_steps(config.steps_per_beat)
        self.steps = plan.bars * self.bar_steps
        bars = Bars(
            np.arange(plan.bars) * self.bar_steps,
            np.full(plan.bars, self.bar_steps),
            np.full(plan.bars, plan.time_signature.is_compound),
        )
        if plan.given is not None:
            bars, self.steps = plan.given.layout, int(plan.given.steps[-1])
        lengths = np.diff(bars.start, append=self.steps)
        self.bar_ago = (np.arange(self.steps) - np.repeat(lengths, lengths)).tolist()
        positions = bar_positions(bars, self.steps, has_end=plan.has_end)
        self.positions = positions.astype(np.int64)
        # one silent step before the first
        shape = (pieces, self.steps + 1, config.elements)
        self.sounding, self.onsets = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        self.is_silent = np.ones(pieces, np.bool_)
        self.symbols = np.zeros((pieces, self.steps, config.symbols), np.bool_)
        self.finders = [[RepeatFinder() for _ in range(config.parts)] for _ in range(pieces)]
        pitch = np.arange(config.pitches, dtype=np.uint64) + np.uint64(config.lowest)
        self.sustain_codes = np.tile(scattered(2 * pitch), config.parts)
        self.onset_codes = np.tile(scattered(2 * pitch + np.uint64(1)), config.parts)
        self.part = np.arange(config.symbols) // config.states // config.pitches

    def inputs(self, step: int) -> tuple[NDArray[Any], ...]:
        """What the network reads of the next step: ``Excerpt`` without a target, by piece."""
        config = self.config
        before = np.stack([self.sounding[:, step], self.onsets[:, step]], axis=2, dtype=np.float32)
        repeated = np.zeros((self.pieces, config.symbols), np.bool_)
        match_level = np.zeros((self.pieces, config.parts), np.int64)
        if config.repeats:
            for piece, finders in enumerate(self.finders):
                for part, finder in enumerate(finders):
                    source, match_level[piece, part] = finder.next
                    if source >= 0:
                        in_part = self.part == part
                        repeated[piece, in_part] = self.symbols[piece, source, in_part]
        bar_ago = np.zeros_like(repeated)
        if self.bar_ago[step] >= 0:
            bar_ago = self.symbols[:, self.bar_ago[step]]
        positions = np.tile(self.positions[step], (self.pieces, 1))
        return before.reshape(self.pieces, -1), repeated, match_level, bar_ago, positions

    def write(self, step: int, symbols: NDArray[np.bool_]) -> None:
        """Append the sets ``(pieces, y)`` of a step."""
        config = self.config
        if config.has_onsets:
            onsets = symbols[:, 1::2]
            sounding = symbols[:, 0::2] | onsets
        else:
            sounding, onsets = symbols, symbols & ~self.sounding[:, step]
        self.symbols[:, step] = symbols
        self.is_silent &= ~symbols.any(axis=1)
        self.sounding[:, step + 1], self.onsets[:, step + 1] = sounding, onsets
        if not config.repeats:
            return
        with np.errstate(over="ignore"):
            codes = np.where(onsets, self.onset_codes, np.where(sounding, self.sustain_codes, 0))
            sums = codes.reshape(self.pieces, config.parts, config.pitches).sum(axis=2)
        for finders, row in zip(self.finders, sums.tolist(), strict=True):
            for finder, code in zip(finders, row, strict=True):
                finder.append(code)

    def grid(self, piece: int) -> Grid:
        """A piece as a grid."""
        parts = self.plan.parts
        sounding, onsets = self.sounding[piece, 1:], self.onsets[piece, 1:]
        step, element = np.nonzero(sounding)
        part = np.minimum(element // self.config.pitches, len(parts) - 1)
        return Grid.from_frames(
            Frames(
                np.concatenate([[0], np.cumsum(sounding.sum(axis=1))]).astype(np.int64),
                (element % self.config.pitches + self.config.lowest).astype(np.uint8),
                part.astype(np.int16),
                onsets[step, element],
            ),
            steps_per_beat=self.config.steps_per_beat,
            parts=parts,
            time_signatures=(self.plan.time_signature,),
        )


class _Constraints:
    """What a plan requires and excludes in each step, on its exact distribution."""

    def __init__(self, config: ComposerConfig, plan: Plan) -> None:
        self.config, self.plan = config, plan
        element = np.arange(config.symbols) // config.states
        pitch, part = element % config.pitches + config.lowest, element // config.pitches
        low, high = plan.range[part].T
        self.in_range = (pitch >= low) & (pitch <= high)
        # symbols of the tonic triad, in the outer parts of the tonic alone
        tonic, triad = (9, (9, 0, 4)) if plan.key.is_minor else (0, (0, 4, 7))
        (parts,) = np.nonzero(plan.range[:, 0] <= plan.range[:, 1])
        outer = parts[:1] if len(parts) == 2 else parts[[0, -1]] if len(parts) > 2 else parts[:0]
        is_tonic = pitch % 12 == tonic
        self.closing = np.isin(pitch % 12, triad) & (~np.isin(part, outer) | is_tonic)
        if plan.fixed is not None:
            self.fixed = encode(config, plan.fixed).frames(0, plan.fixed.steps)

    def at(
        self, step: int, draft: _Draft
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None, NDArray[np.bool_]]:
        """Wanted and required symbols ``(n, y)``, and which sets must not be empty, ``(n,)``.

        They are those of the next step of the draft.
        """
        sounded = draft.sounding[:, step]
        # a fixed note out of range may continue
        wanted = self.in_range | symbol_sets(self.config, sounded, np.zeros_like(sounded))
        if self.plan.has_end and step >= draft.steps - draft.bar_steps // 2:
            wanted &= self.closing
        # a piece begins in its first bar, at the latest with an upbeat to the second
        is_late = step >= draft.bar_steps - self.config.steps_per_beat
        is_filled = draft.is_silent & is_late
        if self.plan.is_fixed is None:
            return wanted, None, is_filled
        required, free = self._fixed_at(step, self.plan.is_fixed[step], sounded)
        is_filled &= ~required.any(axis=1) & free.any()
        return wanted & free | required, required, is_filled

    def _fixed_at(
        self, step: int, parts: NDArray[np.bool_], sounded: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Required symbols ``(n, y)`` and free ones ``(y,)``; ``sounded`` is ``(n, e)``."""
        is_fixed = np.repeat(parts, self.config.pitches)
        sounding, onsets = self.fixed
        sounds = sounding[step]
        begins = np.broadcast_to(sounds & onsets[step], sounded.shape)
        must = symbol_sets(self.config, np.broadcast_to(sounds, begins.shape), begins)
        return must, np.repeat(~is_fixed & ~sounds, self.config.states)
