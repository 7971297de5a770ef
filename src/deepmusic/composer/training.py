"""From a data set of scores to a composer: pieces, training, poses, one file of weights."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepmusic.composer.cards import style_card
from deepmusic.composer.composer import Composer
from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.copying import CopyIndex, HumanReference, human_reference
from deepmusic.composer.encoding import StyledPiece, encode, normalised
from deepmusic.composer.judge import Judge
from deepmusic.composer.model import ComposerNetwork
from deepmusic.composer.task import ComposerTask, fit_poses, hear, likelihood, poses_before
from deepmusic.datasets import Piece, Problem, SymbolicDataset
from deepmusic.errors import DataError, ScoreError
from deepmusic.files import write_atomically
from deepmusic.parallel import is_main_process
from deepmusic.training import Progress, TrainingConfig, fit

DEFAULT_TRAINING = TrainingConfig(
    epochs=12,
    batch_size=4,
    learning_rate=2e-3,
    weight_decay=0.01,
    clip_norm=1.0,
    warmup=0.02,
    patience=4,
    ema_decay=0.998,
)
"""What the shipped composer was trained with."""

EXCERPTS = 1600
"""Excerpts in an epoch: of 64 beats, 16 bars of four."""

_REFERENCE_BARS = (8, 16, 32, 64)  # of four beats
_FEWEST_FOR_REFERENCE = 5  # pieces; of fewer the 95th percentile says nothing

_MOST_STEPS = 8192  # longer pieces are cut: seventeen minutes at 120 beats a minute


@dataclass(frozen=True)
class TrainedComposer:
    """What came of a training.

    Args:
        run: the folder with everything.
        composer: ready to compose.
        metrics: what ``metrics.json`` holds.
        problems: pieces that could not be used.
    """

    run: Path
    composer: Composer
    metrics: dict[str, Any]
    problems: tuple[Problem, ...]


def train_composer(
    dataset: SymbolicDataset,
    run: str | os.PathLike[str],
    *,
    config: ComposerConfig | None = None,
    training: TrainingConfig = DEFAULT_TRAINING,
    excerpts: int = EXCERPTS,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> TrainedComposer:
    """Train a composer on the styles of a data set.

    Pieces are moved to C major or A minor. The run folder receives what :func:`deepmusic.training
    .fit` writes, ``model.safetensors`` and ``metrics.json``.

    Args:
        dataset: pieces with styles; its grids have ``config.steps_per_beat``.
        run: folder for the run; made if missing.
        config: of the composer, its styles those of the data set; None takes the defaults.
        training: settings of the loop.
        excerpts: in an epoch, drawn anew in each.
        resume: go on with a run that was interrupted.
        on_progress: called after every step.

    Raises:
        DataError: no piece can be used.
        CheckpointError: the run is there already and ``resume`` is off, or it is of other data.
    """
    run = Path(run)
    chosen = config or _default_config(dataset)
    sides, problems = encoded_sides(dataset, chosen)
    if not sides["train"]:
        others = len(dataset.validation) + len(dataset.test)
        why = f": {others} fell to validation and test, so add more" if others else ""
        raise DataError(f"{dataset.name} holds no piece to learn from that can be used{why}.")
    if config is None:
        learned = {chosen.styles[style] for _, style in sides["train"]}
        problems += _unlearned(dataset, learned, {problem.path for problem in problems})
        if len(learned) < len(chosen.styles):
            chosen = replace(chosen, styles=tuple(s for s in chosen.styles if s in learned))
            sides, _ = encoded_sides(dataset, chosen)
    config = chosen
    # with few pieces chance may leave validation empty; then the training pieces stand in
    judged = sides["validation"] or sides["train"][:50]
    steps = 64 * dataset.steps_per_beat
    for number, name in enumerate(config.styles):
        if not any(style == number for _, style in sides["train"]):
            raise DataError(f"{dataset.name} holds no piece of {name!r} to learn from.")
    cards = {
        name: style_card(sides["train"], number, dataset.train)
        for number, name in enumerate(config.styles)
    }
    task = ComposerTask(
        config,
        sides["train"],
        _sample(judged, len(config.styles)),
        seed=training.seed,
        steps=steps,
        excerpts=excerpts,
        balance=0.7,
        metadata={"data": _fingerprint(dataset)},
    )
    fit(task, training, run, resume=resume, on_progress=on_progress)
    model = task.model
    assert isinstance(model, ComposerNetwork)
    if config.capsules:
        fit_poses(model, sides["train"])
    metrics = _metrics(model, sides)
    composer = Composer(
        model.cpu().eval(),
        cards,
        *_judge_and_copies(sides, config, seed=training.seed),
        card={
            "data": task.metadata["data"],
            "pieces": {side: len(pieces) for side, pieces in sides.items()},
            "training": training.to_dict(),
            "metrics": metrics,
        },
    )
    if is_main_process():
        composer.save(run / "model.safetensors")
        with write_atomically(run / "metrics.json") as file:
            json.dump(metrics, file, indent=1)
            file.write("\n")
    return TrainedComposer(run, composer, metrics, (*dataset.problems, *problems))


def _default_config(dataset: SymbolicDataset) -> ComposerConfig:
    """That of a data set: its styles, and its parts up to four."""
    most = max((len(piece.grid.parts) for piece in dataset.train), default=1)
    return ComposerConfig(
        styles=tuple(dict.fromkeys(piece.style for piece in dataset.train)) or ("none",),
        parts=min(most, 4),
        steps_per_beat=dataset.steps_per_beat,
        passage_steps=32 * dataset.steps_per_beat,
    )


def _unlearned(dataset: SymbolicDataset, styles: set[str], named: set[str]) -> list[Problem]:
    """Pieces of no use since no piece of their style is there to learn from."""
    return [
        Problem(
            p.name, "no_training", f"{p.name}: no piece of its style is for training; add more."
        )
        for p in (*dataset.validation, *dataset.test)
        if p.style not in styles and p.name not in named
    ]


def _judge_and_copies(
    sides: Mapping[str, Sequence[StyledPiece]], config: ComposerConfig, *, seed: int
) -> tuple[Judge, CopyIndex, dict[str, tuple[HumanReference, ...]]]:
    """What judges results: trained on the same pieces, apart from the network."""
    train = sides["train"]
    grids = [piece.grid for piece, _ in train]
    judge = Judge.train(grids, [config.styles[style] for _, style in train], seed=seed)
    copies = CopyIndex.build(grids)
    references = {}
    for number, style in enumerate(config.styles):
        others = [p.grid for p, n in (*sides["validation"], *sides["test"]) if n == number]
        measured = []
        for bars in _REFERENCE_BARS:
            length = bars * 4 * config.steps_per_beat
            if sum(grid.steps >= length for grid in others) >= _FEWEST_FOR_REFERENCE:
                measured.append(human_reference(copies, others, style=style, excerpt_steps=length))
        references[style] = tuple(measured)
    return judge, copies, references


def encoded_sides(
    dataset: SymbolicDataset, config: ComposerConfig
) -> tuple[dict[str, list[StyledPiece]], list[Problem]]:
    """The pieces of each side, as the composer reads them, and what had to be left out."""
    problems = []
    sides: dict[str, list[StyledPiece]] = {}
    for side in ("train", "validation", "test"):
        sides[side] = []
        for piece in getattr(dataset, side):
            if piece.style not in config.styles:
                continue
            try:
                sides[side].append(styled(piece, config))
            except ScoreError as error:
                problems.append(Problem(piece.name, error.code, f"{piece.name}: {error}"))
    return sides, problems


def styled(piece: Piece, config: ComposerConfig) -> StyledPiece:
    """A piece in C major or A minor, without drums, cut where it is overlong.

    Raises:
        ScoreError: it has no note that can be used, or leaves the keys.
    """
    grid = piece.grid
    is_drum = np.array([part.is_drum for part in grid.parts], bool)
    kept = ~is_drum[grid.part] & (grid.onset < _MOST_STEPS)
    if not kept.any():
        raise ScoreError("It has no note with a pitch, drums apart.", code="no_notes")
    number = np.cumsum(~is_drum) - 1
    steps = min(grid.steps, _MOST_STEPS)
    grid = replace(
        grid,
        steps=steps,
        onset=grid.onset[kept],
        duration=np.minimum(grid.duration[kept], steps - grid.onset[kept]),
        pitch=grid.pitch[kept],
        part=number[grid.part[kept]],
        velocity=grid.velocity[kept],
        parts=tuple(part for part in grid.parts if not part.is_drum),
        time_signatures=tuple(s for s in grid.time_signatures if s.time < steps),
    )
    moved, key, _ = normalised(grid, lowest=config.lowest, keys=config.keys)
    return StyledPiece(
        encode(config, moved, is_minor=key.is_minor), config.styles.index(piece.style)
    )


def _sample(
    pieces: Sequence[StyledPiece], styles: int, most_steps: int = 12_000
) -> list[StyledPiece]:
    """Of each style as many pieces as have so many steps: enough to tell epochs apart."""
    chosen = []
    for style in range(styles):
        steps = 0
        for styled_piece in pieces:
            if styled_piece.style == style and steps < most_steps:
                chosen.append(styled_piece)
                steps += len(styled_piece.piece)
    return chosen


def _metrics(model: ComposerNetwork, sides: Mapping[str, Sequence[StyledPiece]]) -> dict[str, Any]:
    """Nats per step of validation and test pieces by style, and how well styles are told."""
    model.eval()
    config = model.config
    metrics: dict[str, Any] = {}
    for side in ("validation", "test"):
        pieces = _sample(sides[side], len(config.styles), 50_000)
        if not pieces:
            continue
        found: dict[str, Any] = {}
        scored = {"without_pose": likelihood(model, pieces)}
        if model.encoder is not None:
            poses = [
                poses_before(model, piece, hop=4 * config.steps_per_beat) for piece, _ in pieces
            ]
            scored["causal_pose"] = likelihood(model, pieces, poses=poses)
            found["style_accuracy"] = style_accuracy(model, pieces)
        for name, result in scored.items():
            found[name] = {
                style: round(result.of(n), 4)
                for n, style in enumerate(config.styles)
                if (result.styles == n).any()
            }
        metrics[side] = found
    return metrics


@torch.no_grad()
def style_accuracy(model: ComposerNetwork, pieces: Sequence[StyledPiece]) -> float:
    """Share of pieces whose longest style capsule, by mean over passages, is the right one."""
    assert model.encoder is not None
    right = 0
    for piece, style in pieces:
        lengths = hear(model, piece).lengths.mean(dim=0)
        right += int(lengths.argmax()) == style
    return right / len(pieces)


def _fingerprint(dataset: SymbolicDataset) -> str:
    """Of names, styles and sides, so that a run is resumed with the same data only."""
    digest = hashlib.sha256()
    for side in ("train", "validation", "test"):
        for piece in getattr(dataset, side):
            digest.update(f"{side}\0{piece.style}\0{piece.name}\0{piece.grid.steps}\n".encode())
    return digest.hexdigest()[:16]
