"""Writing music: one step after the other, within what is asked for.

What is asked for acts as masks and forced notes on the exact distribution of each step: notes that
are given are written whatever their chances, and all others are drawn as they follow from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import UNKNOWN_LEFT, encode, places_of, written
from deepmusic.composer.model import Batch, ComposerNetwork, Condition
from deepmusic.composer.repetition import RepeatFinder, scattered
from deepmusic.music import Bars, Frames, Grid, Part, TimeSignature


@dataclass(frozen=True, eq=False)
class Given:
    """Notes that stand already.

    Args:
        grid: in the composer's key and parts, as long as the plan.
        is_fixed: ``(steps, parts)`` bool, where the part is just as in the grid; elsewhere the
            grid says nothing.
    """

    grid: Grid
    is_fixed: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Plan:
    """What to write, in the composer's own key.

    Args:
        bars: how many.
        metre: time signature of all of them.
        styles: ``(s,)`` weights that add up to one.
        poses: ``(s, d)``.
        is_minor: A minor rather than C major.
        range: ``(parts, 2)`` lowest and highest MIDI pitch of each; a part whose lowest is above
            its highest is silent.
        has_end: whether the piece ends with the last bar, rather than breaking off: the decoder is
            told how many bars are left, and in the last half bar no notes sound but those of the
            tonic triad: of several parts the first, and of three or more the last as well, has the
            tonic alone.
        temperature: below 1 more usual, above 1 less.
        top_p: share of the chances to draw from, in (0, 1].
        given: notes that stand.
    """

    bars: int
    metre: TimeSignature
    styles: NDArray[np.float32]
    poses: NDArray[np.float32]
    is_minor: bool
    range: NDArray[np.int64]
    has_end: bool = True
    temperature: float = 1.0
    top_p: float = 1.0
    given: Given | None = None

    def bar_steps(self, config: ComposerConfig) -> int:
        """Steps of a bar."""
        return self.metre.bar_steps(config.steps_per_beat)

    def places(self, config: ComposerConfig) -> NDArray[np.uint8]:
        """Places of all steps, as in ``Excerpt``."""
        length = self.bar_steps(config)
        bars = Bars(
            np.arange(self.bars) * length,
            np.full(self.bars, length),
            np.full(self.bars, self.metre.is_compound),
        )
        places = places_of(bars, self.bars * length, self.bars)
        if not self.has_end:
            places[:, 3] = UNKNOWN_LEFT
        return places


@dataclass(frozen=True, eq=False)
class Written:
    """One result.

    Args:
        grid: the music, in C major or A minor.
        log_prob: of all of it, given the pose; nats.
    """

    grid: Grid
    log_prob: float


@torch.inference_mode()
def write_music(
    network: ComposerNetwork,
    plan: Plan,
    *,
    candidates: int,
    random: np.random.Generator,
    parts: tuple[Part, ...],
    on_bar: Callable[[int, int], None] | None = None,
) -> list[Written]:
    """Write several pieces to one plan, side by side.

    Args:
        network: in evaluation mode.
        plan: what to write.
        candidates: how many.
        random: where chance comes from.
        parts: what plays; as many as the network has parts, or fewer.
        on_bar: called with the bars written, and all of them.

    Returns:
        As many results; the same plan and the same state of ``random`` give the same.
    """
    config = network.config
    device = next(network.parameters()).device
    page = _Page(config, candidates, plan.places(config), plan.bar_steps(config))
    forced = None if plan.given is None else _Forced(config, plan.given)
    in_range, closing = _in_range(config, plan.range), _closing(config, plan)
    condition = Condition(
        torch.from_numpy(plan.styles).expand(candidates, -1).to(device),
        torch.from_numpy(plan.poses).expand(candidates, -1, -1).to(device),
        torch.full((candidates,), plan.is_minor, device=device),
    )
    log_prob = torch.zeros(candidates, dtype=torch.float64, device=device)
    decoder, memory = network.decoder, None
    for step in range(page.steps):
        batch = Batch(*(tensor.to(device) for tensor in page.batch(step)))
        contexts, memory = decoder.contexts(batch, condition, memory)
        context, before = contexts[:, 0], batch.before[:, 0]
        possible = decoder.possible(before)
        suggested = decoder.suggested(batch, batch.is_step)
        wanted = torch.from_numpy(in_range).expand(candidates, -1).to(device)
        # a given note out of range may go on
        wanted = wanted | decoder.held(before)
        if plan.has_end and step >= page.steps - page.bar_steps // 2:
            wanted = wanted & torch.from_numpy(closing).to(device)
        required = None
        # a piece begins in its first bar, at the latest with an upbeat to the second
        is_late = step >= page.bar_steps - config.steps_per_beat
        is_filled = torch.from_numpy(page.is_silent & is_late).to(device)
        if forced is not None:
            must, free = forced.at(step, page.was(step))
            is_filled = is_filled & ~torch.from_numpy(must.any(axis=1)).to(device)
            required = torch.from_numpy(must).to(device)
            wanted = wanted & torch.from_numpy(free).to(device)
        drawn = decoder.head.sample(
            context,
            random,
            temperature=plan.temperature,
            top_p=plan.top_p,
            allowed=possible,
            wanted=wanted,
            required=required,
            is_filled=is_filled,
            suggested=suggested,
        )
        log_prob += drawn.log_probs.double()
        page.write(step, drawn.sets.cpu().numpy())
        if on_bar and (step + 1) % page.bar_steps == 0:
            on_bar((step + 1) // page.bar_steps, plan.bars)
    return [
        Written(page.grid(number, parts, plan.metre), float(log_prob[number]))
        for number in range(candidates)
    ]


class _Page:
    """What is written so far, of several pieces at once."""

    def __init__(
        self, config: ComposerConfig, pieces: int, places: NDArray[np.uint8], bar_steps: int
    ) -> None:
        self.config, self.pieces, self.bar_steps = config, pieces, bar_steps
        self.steps, self.places = len(places), torch.from_numpy(places).long()
        # one silent step before the first
        shape = (pieces, self.steps + 1, config.elements)
        self.sounding, self.struck = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        self._is_silent = np.ones(pieces, np.bool_)
        self.symbols = np.zeros((pieces, self.steps, config.symbols), np.bool_)
        self.finders = [[RepeatFinder() for _ in range(config.parts)] for _ in range(pieces)]
        pitch = np.arange(config.keys, dtype=np.uint64) + np.uint64(config.lowest)
        self.held_code = np.tile(scattered(2 * pitch), config.parts)
        self.struck_code = np.tile(scattered(2 * pitch + np.uint64(1)), config.parts)
        self.part = np.arange(config.symbols) // config.states // config.keys

    @property
    def is_silent(self) -> NDArray[np.bool_]:
        """Which pieces have no note yet, ``(pieces,)``."""
        return self._is_silent

    def was(self, step: int) -> NDArray[np.bool_]:
        """What sounds before a step, ``(pieces, e)``."""
        return self.sounding[:, step]

    def batch(self, step: int) -> Batch:
        """The step to come, for all pieces."""
        config = self.config
        before = np.stack([self.sounding[:, step], self.struck[:, step]], axis=2)
        repeated = np.zeros((self.pieces, config.symbols), np.bool_)
        likeness = np.zeros((self.pieces, config.parts), np.int64)
        if config.repeats:
            for piece, finders in enumerate(self.finders):
                for part, finder in enumerate(finders):
                    source, likeness[piece, part] = finder.next()
                    if source >= 0:
                        mine = self.part == part
                        repeated[piece, mine] = self.symbols[piece, source, mine]
        earlier = np.zeros_like(repeated)
        if step >= self.bar_steps:
            earlier = self.symbols[:, step - self.bar_steps]

        def one(array: NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(array).unsqueeze(1)

        return Batch(
            before=one(before.reshape(self.pieces, -1)).float(),
            written=torch.empty(0),
            repeated=one(repeated),
            likeness=one(likeness),
            earlier=one(earlier),
            places=self.places[step].expand(self.pieces, 1, -1),
            is_step=torch.ones(self.pieces, 1, dtype=torch.bool),
        )

    def write(self, step: int, symbols: NDArray[np.bool_]) -> None:
        """Take the sets ``(pieces, y)`` of a step."""
        config = self.config
        was = self.sounding[:, step]
        if config.has_onsets:
            struck = symbols[:, 1::2]
            sounding = symbols[:, 0::2] | struck
        else:
            sounding, struck = symbols, symbols & ~was
        self.symbols[:, step] = symbols
        self._is_silent &= ~symbols.any(axis=1)
        self.sounding[:, step + 1], self.struck[:, step + 1] = sounding, struck
        if not config.repeats:
            return
        with np.errstate(over="ignore"):
            codes = np.where(struck, self.struck_code, np.where(sounding, self.held_code, 0))
            sums = codes.reshape(self.pieces, config.parts, config.keys).sum(axis=2)
        for finders, row in zip(self.finders, sums.tolist(), strict=True):
            for finder, code in zip(finders, row, strict=True):
                finder.append(code)

    def grid(self, piece: int, parts: tuple[Part, ...], metre: TimeSignature) -> Grid:
        """What is written, as a grid."""
        sounding, struck = self.sounding[piece, 1:], self.struck[piece, 1:]
        step, element = np.nonzero(sounding)
        offsets = np.concatenate([[0], np.cumsum(sounding.sum(axis=1))]).astype(np.int64)
        return Grid.from_frames(
            Frames(
                offsets,
                (element % self.config.keys + self.config.lowest).astype(np.uint8),
                np.minimum(element // self.config.keys, len(parts) - 1).astype(np.int16),
                struck[step, element],
            ),
            steps_per_beat=self.config.steps_per_beat,
            parts=parts,
            time_signatures=(metre,),
        )


class _Forced:
    """Given notes, as symbols that must be and symbols that may be."""

    def __init__(self, config: ComposerConfig, given: Given) -> None:
        self.config = config
        piece = encode(config, given.grid)
        self.sounding, self.struck = piece.frames(0, len(given.is_fixed))
        self.is_fixed = given.is_fixed
        self.part = np.arange(config.elements) // config.keys

    def at(self, step: int, was: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Symbols that must be written and those that are free, ``(n, y)``, after what sounded."""
        config = self.config
        is_fixed = self.is_fixed[step][self.part]
        sounds = self.sounding[step] & is_fixed
        # a note whose beginning was not given cannot go on, so it is struck here
        struck = sounds & (self.struck[step] | ~was)
        must = written(config, np.broadcast_to(sounds, struck.shape), struck)
        free = np.repeat(~is_fixed, config.states)
        return must, np.tile(free, (len(must), 1))


def _in_range(config: ComposerConfig, limits: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Symbols ``(y,)`` within the range of their part."""
    element = np.arange(config.symbols) // config.states
    pitch = element % config.keys + config.lowest
    low, high = limits[element // config.keys].T
    result: NDArray[np.bool_] = (pitch >= low) & (pitch <= high)
    return result


def _closing(config: ComposerConfig, plan: Plan) -> NDArray[np.bool_]:
    """Symbols ``(y,)`` that may sound at the end."""
    element = np.arange(config.symbols) // config.states
    pitch_class = (element % config.keys + config.lowest) % 12
    tonic, triad = (9, (9, 0, 4)) if plan.is_minor else (0, (0, 4, 7))
    result: NDArray[np.bool_] = np.isin(pitch_class, triad)
    (parts,) = np.nonzero(plan.range[:, 0] <= plan.range[:, 1])
    outer = parts[:1] if len(parts) == 2 else parts[[0, -1]] if len(parts) > 2 else parts[:0]
    result &= ~np.isin(element // config.keys, outer) | (pitch_class == tonic)
    return result
