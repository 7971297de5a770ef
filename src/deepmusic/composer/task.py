"""What the training loop needs to train a composer: excerpts, passages, loss, validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepmusic.capsules import margin_loss
from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import UNKNOWN_LEFT, Encoded, Excerpt, StyledPiece
from deepmusic.composer.model import Batch, ComposerNetwork, Condition, Heard
from deepmusic.composer.passages import MANNER, manner, passage, passages_of

_AT_ONCE = 16  # excerpts that are scored together
_RIDGE = 0.1
_NO_POSE, _UNKNOWN_LEFT = 0.25, 0.1  # shares of excerpts that do without


class _Item(NamedTuple):
    """One training item."""

    excerpt: Excerpt
    style: int
    is_minor: bool
    passage: NDArray[np.bool_]
    manner: NDArray[np.float64]
    has_pose: bool


def batched(excerpts: Sequence[Excerpt]) -> Batch:
    """Excerpts as tensors, padded to the longest."""
    longest = max(len(excerpt.before) for excerpt in excerpts)

    def padded(name: str, dtype: torch.dtype) -> Tensor:
        arrays = [getattr(excerpt, name) for excerpt in excerpts]
        result = torch.zeros(len(arrays), longest, arrays[0].shape[1], dtype=dtype)
        for row, array in zip(result, arrays, strict=True):
            row[: len(array)] = torch.from_numpy(array)
        return result

    lengths = torch.tensor([len(excerpt.before) for excerpt in excerpts])
    return Batch(
        before=padded("before", torch.float32),
        written=padded("written", torch.bool),
        repeated=padded("repeated", torch.bool),
        likeness=padded("likeness", torch.long),
        earlier=padded("earlier", torch.bool),
        places=padded("places", torch.long),
        is_step=torch.arange(longest) < lengths.unsqueeze(1),
    )


@dataclass(frozen=True)
class _Excerpts:
    """Training items: excerpts drawn anew in each epoch, every style as often as it is weighed."""

    pieces: Sequence[StyledPiece]
    steps: int
    count: int
    seed: int
    shift: int
    chances: NDArray[np.float64]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: tuple[int, int], /) -> _Item:
        random = np.random.default_rng([self.seed, *key])
        piece, style = self.pieces[random.choice(len(self.pieces), p=self.chances)]
        start = int(random.integers(max(len(piece) - self.steps, 0) + 1))
        stop = min(start + self.steps, len(piece))
        excerpt = piece.excerpt(start, stop)
        if random.random() < _UNKNOWN_LEFT:
            excerpt.places[:, 3] = UNKNOWN_LEFT
        excerpt = excerpt.transposed(piece.config, _shift(random, piece, self.shift))
        heard = passage(piece, _elsewhere(random, len(piece), start, stop, piece.config))
        has_pose = random.random() >= _NO_POSE
        return _Item(excerpt, style, piece.is_minor, heard, manner(piece.config, heard), has_pose)


def _shift(random: np.random.Generator, piece: Encoded, most: int) -> int:
    """By how many semitones to move an excerpt so that all of its piece stays in the keys."""
    config = piece.config
    key = piece.element % config.keys
    least, greatest = int(key.min(initial=config.keys)), int(key.max(initial=0))
    low, high = max(-most, -least), min(most, config.keys - 1 - greatest)
    return int(random.integers(low, high + 1)) if most and low <= high else 0


def _elsewhere(
    random: np.random.Generator, steps: int, start: int, stop: int, config: ComposerConfig
) -> int:
    """Where to hear a passage: beside the excerpt if the piece is long enough, else anywhere."""
    length, beat = config.passage_steps, config.steps_per_beat
    room = [(0, start - length), (stop, steps - length)]
    places = [np.arange(a, b + 1, beat) for a, b in room if b >= a]
    if not places:
        places = [np.arange(0, max(steps - length, 0) + 1, beat)]
    return int(random.choice(np.concatenate(places)))


class ComposerTask:
    """What :func:`deepmusic.training.fit` needs to train a composer.

    Args:
        config: of the composer.
        train, validation: pieces with the numbers of their styles.
        seed: of weights and excerpts.
        steps: of an excerpt.
        excerpts: in an epoch; None takes as many as it takes to read every step about once.
        balance: 0 draws styles by how many steps they have, 1 all alike, in between in between.
        shift: semitones by which excerpts are moved at most; 0 for music in one key.
        pose_noise: deviation of the noise on poses while training.
        metadata: saved with the weights, beside the configuration.
    """

    monitor = "nats_per_step"
    higher_is_better = False

    def __init__(
        self,
        config: ComposerConfig,
        train: Sequence[StyledPiece],
        validation: Sequence[StyledPiece],
        *,
        seed: int,
        steps: int = 256,
        excerpts: int | None = None,
        balance: float = 0.0,
        shift: int = 0,
        pose_noise: float = 0.1,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        lengths = np.array([max(len(piece), steps) for piece, _ in train], float)
        styles = np.array([style for _, style in train])
        totals = np.bincount(styles, weights=lengths, minlength=len(config.styles))
        weights = lengths * totals[styles] ** -balance
        count = excerpts or round(lengths.sum() / steps)
        self.config, self.pose_noise, self._validation = config, pose_noise, validation
        self.dataset = _Excerpts(train, steps, count, seed, shift, weights / weights.sum())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model: nn.Module = ComposerNetwork(config)
        self._train = train
        self._manner_mean, self._manner_scale = self._spread_of_manner()
        self.metadata: Mapping[str, Any] = {
            "config": config.to_dict(),
            "steps": steps,
            "balance": balance,
            "shift": shift,
            "pose_noise": pose_noise,
            **(metadata or {}),
        }

    def _spread_of_manner(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the properties of training passages."""
        if not self.config.capsules:
            return torch.zeros(len(MANNER)), torch.ones(len(MANNER))
        random = np.random.default_rng(self.dataset.seed)
        chosen = random.choice(len(self._train), size=min(400, 2 * len(self._train)))
        rows = []
        for place in chosen:
            piece = self._train[place].piece
            start = int(random.integers(max(len(piece) - self.config.passage_steps, 0) + 1))
            rows.append(manner(self.config, passage(piece, start)))
        table = torch.tensor(np.array(rows), dtype=torch.float32)
        return table.mean(dim=0), table.std(dim=0).clamp_min(1e-3)

    @staticmethod
    def collate(items: list[_Item]) -> tuple[Batch, Condition, Tensor, Tensor]:
        """Items as tensors: excerpts, what goes with them, passages and their properties."""
        styles = torch.tensor([item.style for item in items])
        is_minor = torch.tensor([item.is_minor for item in items])
        uses = torch.tensor([float(item.has_pose) for item in items])
        return (
            batched([item.excerpt for item in items]),
            Condition(styles, uses, is_minor),
            torch.from_numpy(np.stack([item.passage for item in items])).float(),
            torch.from_numpy(np.stack([item.manner for item in items])).float(),
        )

    def loss(
        self, model: nn.Module, batch: tuple[Batch, Condition, Tensor, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Mean nats per step, margin loss of the styles, and how far poses miss the manner."""
        excerpts, (styles, uses, is_minor), passages, properties = batch
        config = self.config
        one_hot = nn.functional.one_hot(styles, len(config.styles)).to(excerpts.before.dtype)
        shape = (len(styles), len(config.styles), config.pose_dim)
        # noise on all but absent poses bounds what a pose can tell of its piece
        noise = 1 + self.pose_noise * torch.randn(shape, device=styles.device)
        condition = Condition(one_hot, uses[:, None, None] * noise, is_minor)
        log_probs, heard = model(excerpts, condition, passages if config.capsules else None)
        nats = -log_probs.mean()
        measures: dict[str, Tensor | float] = {"nats_per_step": nats.detach()}
        if heard is None:
            return nats, measures
        margin = margin_loss(heard.lengths, styles)
        told = heard.manner[torch.arange(len(styles)), styles]
        wanted = (properties - self._manner_mean.to(told)) / self._manner_scale.to(told)
        missed = nn.functional.smooth_l1_loss(told, wanted)
        measures["accuracy"] = (heard.lengths.argmax(dim=1) == styles).float().mean()
        measures["manner_error"] = missed.detach()
        return nats + 0.2 * margin + 0.1 * missed, measures

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Nats per step of whole pieces, without a pose; with several styles also of each."""
        assert isinstance(model, ComposerNetwork)
        scored = likelihood(model, self._validation)
        by_style = {
            f"nats_per_step_{name}": scored.of(style)
            for style, name in enumerate(self.config.styles)
            if len(self.config.styles) > 1 and (scored.styles == style).any()
        }
        mean = float(np.mean(list(by_style.values()))) if by_style else scored.of(None)
        return {"nats_per_step": mean, **by_style}


class Likelihood(NamedTuple):
    """How well pieces are foretold.

    Args:
        nats: ``(pieces,)``, minus the log probability of each.
        steps: ``(pieces,)``.
        symbols: ``(pieces,)``, symbols written, the end symbols of all steps among them.
        styles: ``(pieces,)``.
    """

    nats: NDArray[np.float64]
    steps: NDArray[np.int64]
    symbols: NDArray[np.int64]
    styles: NDArray[np.int64]

    def of(self, style: int | None) -> float:
        """Nats per step over all steps of a style, or of all."""
        chosen = slice(None) if style is None else self.styles == style
        return float(self.nats[chosen].sum() / max(self.steps[chosen].sum(), 1))


@torch.no_grad()
def likelihood(
    model: ComposerNetwork,
    pieces: Sequence[StyledPiece],
    *,
    poses: Sequence[Tensor] | None = None,
) -> Likelihood:
    """Score whole pieces, exactly.

    Args:
        model: in evaluation mode.
        pieces: with the numbers of their styles.
        poses: for each piece ``(s, d)``, or ``(steps, s, d)``; None scores without a pose.
    """
    config = model.config
    device = next(model.parameters()).device
    order = sorted(range(len(pieces)), key=lambda place: len(pieces[place].piece))
    nats, symbols = np.zeros(len(pieces)), np.zeros(len(pieces), np.int64)
    steps = np.array([len(piece) for piece, _ in pieces], np.int64)
    for first in range(0, len(order), _AT_ONCE):
        places = [place for place in order[first : first + _AT_ONCE] if steps[place]]
        if not places:
            continue
        batch = batched([pieces[p].piece.excerpt(0, len(pieces[p].piece)) for p in places])
        length = batch.before.shape[1]
        given = torch.zeros(len(places), 1, len(config.styles), config.pose_dim)
        if poses is not None:
            given = torch.stack([_through(poses[p], length) for p in places])
        styles = torch.tensor([pieces[p].style for p in places])
        condition = Condition(
            nn.functional.one_hot(styles, len(config.styles)).float().to(device),
            given.to(device),
            torch.tensor([pieces[p].piece.is_minor for p in places], device=device),
        )
        batch = Batch(*(tensor.to(device) for tensor in batch))
        log_probs, _ = model(batch, condition)
        piece_of = batch.is_step.nonzero()[:, 0]
        totals = torch.zeros(len(places), dtype=torch.float64, device=device)
        nats[places] = -totals.index_add(0, piece_of, log_probs.double()).cpu().numpy()
        written = batch.written.sum(dim=(1, 2)).cpu().numpy()
        symbols[places] = written + steps[places]
    return Likelihood(nats, steps, symbols, np.array([style for _, style in pieces], np.int64))


def _through(pose: Tensor, steps: int) -> Tensor:
    """A pose for each step, ``(steps, s, d)``; the last goes on."""
    if pose.ndim == 2:
        return pose.expand(steps, -1, -1)
    return torch.cat([pose[:steps], pose[-1:].expand(max(steps - len(pose), 0), -1, -1)])


@torch.no_grad()
def poses_before(model: ComposerNetwork, piece: Encoded, *, hop: int) -> Tensor:
    """The causal capsule memory: poses ``(steps, s, d)`` routed from the past alone.

    The pose of a step is routed from the passage that ends where the step's hop begins, and is
    zero in the first hop. Steps inside a hop share a pose.

    Args:
        model: in evaluation mode.
        piece: the music.
        hop: steps after which the past is routed again, such as a bar.
    """
    assert model.encoder is not None
    config = model.config
    device = next(model.parameters()).device
    ends = np.arange(hop, len(piece), hop)
    poses = torch.zeros(1, len(config.styles), config.pose_dim)
    if len(ends):
        passages = np.stack([passage(piece, int(end) - config.passage_steps) for end in ends])
        heard = model.encoder(torch.from_numpy(passages).float().to(device))
        poses = torch.cat([poses, heard.poses.cpu()])
    return poses.repeat_interleave(hop, dim=0)[: len(piece)]


@torch.no_grad()
def hear(model: ComposerNetwork, piece: Encoded) -> Heard:
    """What the encoder makes of the passages that follow one another through a piece."""
    assert model.encoder is not None
    device = next(model.parameters()).device
    heard: Heard = model.encoder(torch.from_numpy(passages_of(piece)).float().to(device))
    return heard


@torch.no_grad()
def fit_poses(model: ComposerNetwork, pieces: Sequence[StyledPiece]) -> None:
    """Set how poses are spread in each style, and how they go with what can be measured.

    Args:
        model: put into evaluation mode, and its buffers filled.
        pieces: the training pieces; all their passages count.
    """
    assert model.encoder is not None
    model.eval()
    device = next(model.parameters()).device
    found: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for piece, style in pieces:
        passages = passages_of(piece)
        heard = model.encoder(torch.from_numpy(passages).float().to(device))
        measured = np.array([manner(model.config, frames) for frames in passages])
        row = heard.poses[:, style].double().cpu(), torch.from_numpy(measured)
        found.setdefault(style, []).append(row)
    for style, rows in found.items():
        poses, properties = (torch.cat(tables) for tables in zip(*rows, strict=True))
        mean = poses.mean(dim=0)
        apart = poses - mean
        count = max(len(poses) - 1, 1)
        ridge = 1e-6 * torch.eye(len(mean), dtype=torch.float64)
        model.pose_mean[style] = mean.float()
        model.pose_spread[style] = torch.linalg.cholesky(apart.T @ apart / count + ridge).float()
        scaled = properties - properties.mean(dim=0)
        scaled = scaled / (scaled.square().sum(dim=0) / count).sqrt().clamp_min(1e-6)
        # properties go together: a ridge keeps what cannot be told apart from being blown up
        among = scaled.T @ scaled / count + _RIDGE * torch.eye(len(MANNER), dtype=torch.float64)
        model.pose_moves[style] = torch.linalg.solve(among, scaled.T @ apart / count).float()
