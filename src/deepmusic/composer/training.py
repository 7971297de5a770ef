"""From a data set of scores to a composer: pieces, training, poses, one file of weights."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepmusic.composer.composer import Composer
from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.critic_training import train_critic
from deepmusic.composer.encoding import StyledPiece, encode, normalised
from deepmusic.composer.exported import ExportedNetwork
from deepmusic.composer.graphs import export_graphs
from deepmusic.composer.likelihood import likelihood, poses_before
from deepmusic.composer.memorization import CopyIndex, HumanReference, human_reference
from deepmusic.composer.model import ComposerNetwork
from deepmusic.composer.planning import StyleProfile
from deepmusic.composer.task import ComposerTask, fit_poses
from deepmusic.datasets import Piece, Problem, SymbolicDataset
from deepmusic.errors import DataError, ScoreError
from deepmusic.extras import need
from deepmusic.files import write_json
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
"""Excerpts per epoch, of 64 beats (16 bars of four) each."""

_REFERENCE_BEATS = (32, 64, 128, 256)
_MIN_REFERENCE = 5  # pieces; with fewer the 95th percentile means nothing
_MAX_STEPS = 8192  # longer pieces are cut: seventeen minutes at 120 beats per minute

_Sides = dict[str, list[StyledPiece]]


@dataclass(frozen=True)
class TrainedComposer:
    """The result of a training.

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

    Pieces are transposed to C major or A minor. The run folder receives what
    ``deepmusic.training.fit`` writes, ``model.safetensors`` and ``metrics.json``.

    Args:
        dataset: pieces with styles; its grids have ``config.steps_per_beat``.
        run: folder for the run; made if missing.
        config: of the composer; None takes the defaults and the styles of the data set.
        training: settings of the loop.
        excerpts: per epoch, drawn anew in each.
        resume: continue an interrupted run.
        on_progress: called after every step.

    Raises:
        DataError: no piece can be used.
        CheckpointError: the run exists already and ``resume`` is off, or it is of other data.
        MissingLibraryError: the extra ``train`` is not installed.
    """
    need("train")  # for the export after the training
    run = Path(run)
    config, sides, problems = _prepared(dataset, config)
    # with few pieces the random split may leave validation empty; training pieces then stand in
    validation = sides["validation"] or sides["train"][:50]
    task = ComposerTask(
        config,
        sides["train"],
        sample_pieces(validation, 12_000),  # enough to compare epochs
        seed=training.seed,
        steps=64 * dataset.steps_per_beat,
        excerpts=excerpts,
        balance=0.7,
        metadata={"data": _dataset_digest(dataset)},
    )
    fit(task, training, run, resume=resume, on_progress=on_progress)
    model = task.model
    assert isinstance(model, ComposerNetwork)
    if config.capsules:
        fit_poses(model, sides["train"])
    composer = _composer(model.cpu().eval(), dataset, sides, training)
    metrics = composer.training["metrics"]
    if is_main_process():
        composer.save(run / "model.safetensors")
        write_json(run / "metrics.json", metrics)
    return TrainedComposer(run, composer, metrics, (*dataset.problems, *problems))


def _composer(
    model: ComposerNetwork, dataset: SymbolicDataset, sides: _Sides, training: TrainingConfig
) -> Composer:
    """A trained network with everything else that a composer needs."""
    names = model.config.styles
    grids = [piece.grid for piece, _ in sides["train"]]
    styles = [names[style] for _, style in sides["train"]]
    copy_index = CopyIndex.build(grids)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return Composer(
        ExportedNetwork(model.config, weights, export_graphs(model.config)),
        {name: profile_style(sides["train"], n, dataset.train) for n, name in enumerate(names)},
        train_critic(grids, styles, seed=training.seed),
        copy_index,
        _references(copy_index, sides, model.config),
        training={
            "data": _dataset_digest(dataset),
            "pieces": {side: len(pieces) for side, pieces in sides.items()},
            "training": training.to_dict(),
            "metrics": _metrics(model, sides),
        },
    )


def _prepared(
    dataset: SymbolicDataset, config: ComposerConfig | None
) -> tuple[ComposerConfig, _Sides, list[Problem]]:
    """The configuration, the pieces of each side, and the pieces that cannot be used."""
    most_parts = max((len(piece.grid.parts) for piece in dataset.train), default=1)
    chosen = config or ComposerConfig(
        styles=tuple(dict.fromkeys(piece.style for piece in dataset.train)) or ("none",),
        parts=min(most_parts, 4),
        steps_per_beat=dataset.steps_per_beat,
        passage_steps=32 * dataset.steps_per_beat,
    )
    sides, problems = encoded_sides(dataset, chosen)
    if not sides["train"]:
        others = len(dataset.validation) + len(dataset.test)
        why = f": {others} fell to validation and test, so add more" if others else ""
        raise DataError(f"{dataset.name} holds no training piece that can be used{why}.")
    trained = {chosen.styles[style] for _, style in sides["train"]}
    missing = [style for style in chosen.styles if style not in trained]
    if config is not None and missing:
        raise DataError(f"{dataset.name} holds no training piece of {missing[0]!r}.")
    reported = {problem.path for problem in problems}
    for piece in (*dataset.validation, *dataset.test):
        if config is None and piece.style not in trained and piece.name not in reported:
            why = f"{piece.name}: no piece of its style is for training; add more."
            problems.append(Problem(piece.name, "no_training", why))
    if missing:
        chosen = replace(chosen, styles=tuple(name for name in chosen.styles if name in trained))
        sides, _ = encoded_sides(dataset, chosen)
    return chosen, sides, problems


def _references(
    copy_index: CopyIndex, sides: _Sides, config: ComposerConfig
) -> dict[str, tuple[HumanReference, ...]]:
    """How much validation and test pieces of each style share with the training music."""
    references = {}
    for style, name in enumerate(config.styles):
        grids = [p.grid for p, s in (*sides["validation"], *sides["test"]) if s == style]
        lengths = [beats * config.steps_per_beat for beats in _REFERENCE_BEATS]
        references[name] = tuple(
            human_reference(copy_index, grids, style=name, excerpt_steps=length)
            for length in lengths
            if sum(grid.steps >= length for grid in grids) >= _MIN_REFERENCE
        )
    return references


def encoded_sides(dataset: SymbolicDataset, config: ComposerConfig) -> tuple[_Sides, list[Problem]]:
    """The encoded pieces of each side of a data set, and those that had to be left out."""
    problems = []
    sides: _Sides = {"train": [], "validation": [], "test": []}
    for side, pieces in sides.items():
        for piece in getattr(dataset, side):
            if piece.style not in config.styles:
                continue
            try:
                pieces.append(styled(piece, config))
            except ScoreError as error:
                problems.append(Problem(piece.name, error.code, f"{piece.name}: {error}"))
    return sides, problems


def styled(piece: Piece, config: ComposerConfig) -> StyledPiece:
    """A piece in C major or A minor, without drums, cut where it is overlong.

    Raises:
        ScoreError: it has no note that can be used, or exceeds the pitches.
    """
    grid = piece.grid
    is_drum = np.array([part.is_drum for part in grid.parts], bool)
    kept = ~is_drum[grid.part] & (grid.onset < _MAX_STEPS)
    if not kept.any():
        raise ScoreError("It has no note with a pitch, drums apart.", code="no_notes")
    pitched_index = np.cumsum(~is_drum) - 1
    steps = min(grid.steps, _MAX_STEPS)
    grid = replace(
        grid,
        steps=steps,
        onset=grid.onset[kept],
        duration=np.minimum(grid.duration[kept], steps - grid.onset[kept]),
        pitch=grid.pitch[kept],
        part=pitched_index[grid.part[kept]],
        velocity=grid.velocity[kept],
        parts=tuple(part for part in grid.parts if not part.is_drum),
        time_signatures=tuple(s for s in grid.time_signatures if s.time < steps),
    )
    grid, key, _ = normalised(grid, lowest=config.lowest, pitches=config.pitches)
    encoded = encode(config, grid, is_minor=key.is_minor)
    return StyledPiece(encoded, config.styles.index(piece.style))


def profile_style(pieces: Sequence[StyledPiece], style: int, raw: Sequence[Piece]) -> StyleProfile:
    """Measure a style on its training pieces."""
    chosen = [piece for piece, of in pieces if of == style]
    config = pieces[0].piece.config
    parts = Counter(
        tuple((part.name, part.program) for part in piece.grid.parts[: config.parts])
        for piece in chosen
    )
    signatures = [piece.grid.time_signatures[0] for piece in chosen]
    metres = Counter((signature.numerator, signature.denominator) for signature in signatures)
    # the default tempo of a file that gives none is not evidence
    tempos = [
        tempo.beats_per_minute
        for piece in raw
        if piece.style == config.styles[style]
        for tempo in piece.grid.tempos[:1]
    ]
    ranges = []
    for part in range(config.parts):
        rows = [p.element[p.element // config.pitches == part] % config.pitches for p in chosen]
        pitch = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        ends = np.percentile(pitch, [1, 99]) if len(pitch) else [0, config.pitches - 1]
        ranges.append((int(ends[0]) + config.lowest, int(ends[1]) + config.lowest))
    return StyleProfile(
        parts=parts.most_common(1)[0][0] if parts else (),
        metres=tuple((a, b, n / len(chosen)) for (a, b), n in metres.most_common(8)),
        minor_share=float(np.mean([piece.is_minor for piece in chosen])) if chosen else 0.0,
        tempo=round(float(np.median(tempos)), 1) if tempos else 120.0,
        bars=int(np.median([len(piece.grid.bars().start) for piece in chosen])) if chosen else 32,
        ranges=tuple(ranges),
        pieces=len(chosen),
    )


def sample_pieces(pieces: Sequence[StyledPiece], max_steps: int) -> list[StyledPiece]:
    """Pieces of each style up to this many steps, style by style."""
    chosen, steps = [], Counter[int]()
    for styled_piece in sorted(pieces, key=lambda piece: piece.style):
        if steps[styled_piece.style] < max_steps:
            chosen.append(styled_piece)
            steps[styled_piece.style] += len(styled_piece.piece)
    return chosen


def _metrics(model: ComposerNetwork, sides: _Sides) -> dict[str, Any]:
    """Nats per step of validation and test pieces by style, and the accuracy of the capsules."""
    config = model.config
    metrics: dict[str, Any] = {}
    for side in ("validation", "test"):
        pieces = sample_pieces(sides[side], 50_000)
        if not pieces:
            continue
        scored = {"without_pose": likelihood(model, pieces)}
        metrics[side] = {}
        if model.encoder is not None:
            hop = 4 * config.steps_per_beat
            poses = [poses_before(model, piece, hop=hop) for piece, _ in pieces]
            scored["causal_pose"] = likelihood(model, pieces, poses=poses)
            metrics[side]["style_accuracy"] = style_accuracy(model, pieces)
        for name, result in scored.items():
            by_style = result.by_style(config.styles)
            metrics[side][name] = {style: round(nats, 4) for style, nats in by_style.items()}
    return metrics


@torch.no_grad()
def style_accuracy(model: ComposerNetwork, pieces: Sequence[StyledPiece]) -> float:
    """Share of pieces whose longest style capsule, by mean over passages, is the right one."""
    correct = [
        int(model.encode(piece).lengths.mean(dim=0).argmax()) == style for piece, style in pieces
    ]
    return float(np.mean(correct))


def _dataset_digest(dataset: SymbolicDataset) -> str:
    """Of names, styles and sides, so that a run resumes only with the same data."""
    digest = hashlib.sha256()
    for side in ("train", "validation", "test"):
        for piece in getattr(dataset, side):
            digest.update(f"{side}\0{piece.style}\0{piece.name}\0{piece.grid.steps}\n".encode())
    return digest.hexdigest()[:16]
