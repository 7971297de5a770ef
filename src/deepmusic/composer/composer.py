"""The composer: writes a piece that is requested, checks it, and reports about it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import ATTRIBUTES, encode, transposed
from deepmusic.composer.exported import ExportedNetwork
from deepmusic.composer.memorization import CopyIndex, CopyReport, HumanReference
from deepmusic.composer.planning import Plan, StyleProfile, plan_request, read_piece
from deepmusic.composer.request import Request
from deepmusic.composer.sampling import write_music
from deepmusic.composer.splicing import spliced
from deepmusic.composer.style_critic import StyleCritic
from deepmusic.errors import CheckpointError, CopyingError, DeepMusicError, RequestError
from deepmusic.music import Grid, Score, Tempo, grid_to_score, midi_bytes, read_midi
from deepmusic.training import load_model, save_weights
from deepmusic.version import __version__

_KIND = "composer"
_ROUNDS = 4  # of candidates, where all of one copy too much
_SILENT_PART_WEIGHT = 3.0  # a silent part of three costs as much as a third of the probability


@dataclass(frozen=True, eq=False)
class Tune:
    """A piece that was composed.

    Args:
        score: the music.
        request: what was requested.
        report: facts about it, in JSON types: the request in full, the model, the pose, the style
            critic's probabilities, what it copies, and its likelihood.
        midi: the music as a MIDI file; with a given piece, also what a score does not hold of it,
            such as pitch bends and pedals.
    """

    score: Score
    request: Request
    report: dict[str, Any]
    midi: bytes


@dataclass(frozen=True, eq=False)
class Composer:
    """Writes music in the styles that it was trained on.

    Args:
        network: what writes; ``ComposerNetwork.of`` gives it in PyTorch.
        profiles: of each style, by name.
        critic: classifies styles; trained separately.
        copy_index: of the training music.
        references: for each style how much people's pieces share with the training music, by
            length.
        training: how it was trained, in JSON types.
        digest: of the file that it was read from; empty for one that was just trained.

    Example::

        composer = Composer.load("runs/mine")
        tune = composer.compose(Request(style={"folk": 1}, bars=16, seed=7))
        write_midi(tune.score, "tune.mid")
    """

    network: ExportedNetwork
    profiles: Mapping[str, StyleProfile]
    critic: StyleCritic
    copy_index: CopyIndex
    references: Mapping[str, tuple[HumanReference, ...]]
    training: Mapping[str, Any]
    digest: str = ""

    @property
    def config(self) -> ComposerConfig:
        """Sizes and choices of the network."""
        return self.network.config

    @property
    def styles(self) -> tuple[str, ...]:
        """The names of the styles."""
        return self.config.styles

    def compose(self, request: Request) -> Tune:
        """Write a piece.

        Raises:
            RequestError: it asks for what is impossible here; the message says what is possible.
            ScoreError: a file that it names cannot be used.
            CopyingError: all candidates copy too much, or are silent.
        """
        request = self.resolved(request)
        plan = self.plan(request)
        grid, log_prob, copying, tried = self._best(request, plan)
        if plan.given is None or plan.fixed is None:
            score = grid_to_score(_finished(grid, plan))
            midi = midi_bytes(score)
        else:
            midi = spliced(
                plan.given,
                grid,
                plan.fixed,
                shift=plan.shift,
                parts=plan.parts,
                is_under=request.harmonize is not None,
                tempo=plan.tempo_limits,
            )
            score = read_midi(midi)
        probabilities = self.critic.probabilities(grid)
        files = [path for path in (request.given, request.pose_from) if path is not None]
        report = {
            "deepmusic": __version__,
            "model": self.digest,
            "request": request.to_dict(),
            "files": {path: _digest(path) for path in files},
            "key": plan.key.name,
            "tempo": plan.tempo,
            "metre": str(plan.time_signature),
            "bars": plan.bars,
            "seconds": round(score.seconds, 2),
            "notes": len(score.notes),
            "pose": {
                name: [round(float(x), 4) for x in plan.poses[self.styles.index(name)]]
                for name in request.styles
            },
            "style_probabilities": {name: round(p, 4) for name, p in probabilities.items()},
            "copying": None if copying is None else copying.to_dict(),
            "nats_per_step": round(-log_prob / max(grid.steps, 1), 4),
            "candidates_tried": tried,
            "warnings": list(plan.warnings),
        }
        return Tune(score, request, report, midi)

    def resolved(self, request: Request) -> Request:
        """The request with a style: the first of this composer where it names none."""
        return replace(request, style=request.style or {self.styles[0]: 1.0})

    def plan(self, request: Request) -> Plan:
        """What ``compose`` would write, with everything decided that the request leaves open.

        It raises what ``compose`` raises before it writes.
        """
        for style in request.styles:
            if style not in self.profiles:
                listed = ", ".join(self.profiles)
                raise RequestError(f"There is no style {style!r}; there are {listed}.")
        return plan_request(request, self.config, self.profiles, self.poses_for(request))

    def _best(self, request: Request, plan: Plan) -> tuple[Grid, float, CopyReport | None, int]:
        """The best candidate that does not copy, its log probability, and how many were tried."""
        # given notes may be from the training music, and are not the composer's copy
        may_copy = request.allow_copies or request.given is not None
        tried, has_copied = 0, False
        for attempt in range(_ROUNDS):
            candidates = write_music(
                self.network,
                plan,
                candidates=request.candidates,
                random=np.random.default_rng([request.seed, attempt]),
            )
            tried += len(candidates)
            audible = [candidate for candidate in candidates if len(candidate[0].onset)]
            merits = [self._merit(grid, log_prob, request, plan) for grid, log_prob in audible]
            for index in np.argsort(-np.array(merits), kind="stable").tolist():
                grid, log_prob = audible[index]
                copying = self._copying(grid, request)
                if copying is None or not copying.is_beyond or may_copy:
                    return grid, log_prob, copying, tried
                has_copied = True
        why, what = "are silent", "another seed or a higher temperature"
        if has_copied:
            why = "share longer passages with the training music than people's pieces do"
            what += ", or allow copies"
        raise CopyingError(f"All {tried} candidates {why}: try {what}.")

    def _merit(self, grid: Grid, log_prob: float, request: Request, plan: Plan) -> float:
        """The value by which candidates are ranked.

        Around given notes that is the log probability; otherwise the critic's of the styles, less
        where parts are silent, which the critic does not consider.
        """
        if plan.fixed is not None:
            return log_prob
        audible = len(np.unique(grid.part)) / len(plan.parts)
        merit = _SILENT_PART_WEIGHT * float(np.log(audible))
        probabilities = self.critic.probabilities(grid)
        for name, weight in request.styles.items():
            merit += weight * float(np.log(max(probabilities[name], 1e-9)))
        return merit

    def _copying(self, grid: Grid, request: Request) -> CopyReport | None:
        references = self.references[request.main_style]
        if not references:
            return None
        fitting = [r for r in references if (r.excerpt_steps or 0) <= grid.steps]
        reference = fitting[-1] if fitting else references[0]
        return CopyReport(*self.copy_index.overlap(grid), grid.steps, reference)

    def pose_of(self, path: str | os.PathLike[str], style: str) -> NDArray[np.float32]:
        """The pose ``(d,)`` of a style's capsule for a MIDI file, the mean over passages.

        Raises:
            ScoreError: the file cannot be used.
        """
        grid = read_piece(os.fspath(path), self.config, self.profiles[style])
        _, poses = self.network.encode(encode(self.config, grid).passages())
        pose: NDArray[np.float32] = poses[:, self.styles.index(style)].mean(axis=0)
        return pose

    def poses_for(self, request: Request) -> NDArray[np.float32]:
        """The poses ``(s, d)`` of a request: drawn by its seed or taken from a piece, and moved."""
        poses = np.zeros((len(self.styles), self.config.pose_dim), np.float32)
        if not self.config.capsules:
            if request.pose or request.pose_from:
                raise RequestError("This composer has no capsules, and so no poses to move.")
            return poses
        random = np.random.default_rng([request.seed, 2**32])
        for index, name in enumerate(self.styles):
            drawn = random.standard_normal(self.config.pose_dim).astype(np.float32)
            if name not in request.styles:
                continue
            if request.pose_from is not None:
                pose = self.pose_of(request.pose_from, name)
            else:
                pose = self.network.pose_mean[index] + self.network.pose_spread[index] @ drawn
            poses[index] = pose + self.pose_shift(request.pose, index)
        return poses

    def pose_shift(self, moves: Mapping[str, float], style: int) -> NDArray[np.float32]:
        """The shift ``(d,)`` of the pose of a style (by index) by dimensions or attributes."""
        total = np.zeros(self.config.pose_dim, np.float32)
        directions = self.network.pose_directions[style]
        for name, amount in moves.items():
            if name in ATTRIBUTES:
                total += np.float32(amount) * directions[ATTRIBUTES.index(name)]
            elif name.isdecimal() and int(name) < self.config.pose_dim:
                total[int(name)] += amount
            else:
                raise RequestError(
                    f"A pose has no {name!r}; it has dimensions 0 to {self.config.pose_dim - 1} "
                    f"and {', '.join(ATTRIBUTES)}."
                )
        return total

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything as one safetensors file, the network in half precision.

        Raises:
            DeepMusicError: the file cannot be written.
        """
        import torch

        parts: dict[str, Mapping[str, NDArray[Any]]] = {
            "network": {n: a.astype(np.float16) for n, a in self.network.weights.items()},
            "graph": {n: np.frombuffer(g, np.uint8) for n, g in self.network.graphs.items()},
            "critic": self.critic.to_arrays(),
            "copy_index": self.copy_index.to_arrays(),
        }
        arrays = {
            f"{prefix}.{name}": torch.tensor(array)
            for prefix, part in parts.items()
            for name, array in part.items()
        }
        metadata = {
            "kind": _KIND,
            "config": self.config.to_dict(),
            "profiles": {name: asdict(profile) for name, profile in self.profiles.items()},
            "references": {
                name: [asdict(reference) for reference in references]
                for name, references in self.references.items()
            },
            "critic": list(self.critic.styles),
            "training": dict(self.training),
        }
        save_weights(path, arrays, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Composer:
        """Read what ``save`` wrote; a folder is taken for a run.

        Raises:
            CheckpointError: the file is missing, damaged or not a composer of ours.
        """
        file, arrays, metadata = load_model(path, _KIND)
        prefixes = ("network", "graph", "critic", "copy_index")
        parts: dict[str, dict[str, NDArray[Any]]] = {prefix: {} for prefix in prefixes}
        for full_name, array in arrays.items():
            prefix, _, name = full_name.partition(".")
            parts[prefix][name] = array
        try:
            return cls(
                ExportedNetwork(
                    ComposerConfig.from_dict(metadata["config"]),
                    parts["network"],
                    {name: array.tobytes() for name, array in parts["graph"].items()},
                ),
                {name: StyleProfile.from_dict(p) for name, p in metadata["profiles"].items()},
                StyleCritic.from_arrays(parts["critic"], metadata["critic"]),
                CopyIndex.from_arrays(parts["copy_index"]),
                {
                    name: tuple(HumanReference.from_dict(entry) for entry in entries)
                    for name, entries in metadata["references"].items()
                },
                metadata["training"],
                _digest(file),
            )
        except (KeyError, TypeError, ValueError, AttributeError, DeepMusicError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{file} is not a composer that fits: {reason}.") from error


def _finished(grid: Grid, plan: Plan) -> Grid:
    """A piece in its key and tempo, louder on the bar and the beat and in the first part."""
    position = grid.onset % plan.time_signature.bar_steps(grid.steps_per_beat)
    strength = np.where(position == 0, 92, np.where(position % grid.steps_per_beat == 0, 84, 76))
    return replace(
        transposed(grid, plan.shift),
        velocity=(strength - 12 * (grid.part > 0)).astype(np.uint8),
        tempos=(Tempo(0, round(60e6 / plan.tempo)),),
        key_signatures=(plan.key.signature,),
    )


def _digest(path: str | os.PathLike[str]) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
