"""The jobs of a study: one model on one fold of one seed, each with a key of what it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, get_args

import numpy as np

from deepmusic.datasets.folder import FolderDataset, dataset_digest
from deepmusic.datasets.groups import group_tracks
from deepmusic.datasets.splits import Fold, Protocol, make_folds
from deepmusic.errors import DataError, RequestError
from deepmusic.studies.ensembles import PARTS
from deepmusic.studies.models import Kind, StudyModel
from deepmusic.version import __version__

if TYPE_CHECKING:
    from deepmusic.studies.data import StudyData

Models = Mapping[str, StudyModel]

QUICK_MODELS = ("logistic", "svc-rbf")
"""Models that are also trained on random folds, and on parts of the tracks."""

_KINDS = get_args(Kind)  # in the order of the jobs


@dataclass(frozen=True)
class StudyConfig:
    """What a study measures.

    Args:
        models: names of those that are trained.
        ensembles: names of ``deepmusic.studies.ensembles.PARTS``, pooled from the predictions
            of their parts, all of which are among ``models``.
        protocol: ``"grouped"`` (no artist, album or copy on two sides), ``"official"`` (the split
            published with FMA or GTZAN) or ``"random"``, which leaks.
        folds: per seed; an official split is one.
        seeds: 0 to this less one; each deals the tracks into other folds.
        sizes: shares of the training tracks, in (0, 1], for the learning curves of
            ``QUICK_MODELS``; 1 costs nothing more.

    Raises:
        RequestError: a number is out of range.
    """

    models: tuple[str, ...]
    ensembles: tuple[str, ...] = ()
    protocol: Protocol = "grouped"
    folds: int = 5
    seeds: int = 5
    sizes: tuple[float, ...] = (0.25, 0.5, 1.0)

    def __post_init__(self) -> None:
        if not self.models:
            raise RequestError("A study needs a model.")
        if self.folds < 2 or self.seeds < 1:
            raise RequestError(
                f"A study has at least 2 folds and 1 seed; got {self.folds} and {self.seeds}."
            )
        if bad := [size for size in self.sizes if not 0 < size <= 1]:
            raise RequestError(f"Sizes are shares of the tracks, above 0 to 1; got {bad[0]:g}.")

    @property
    def quick_models(self) -> tuple[str, ...]:
        """Those that are also trained on random folds, and on parts of the tracks."""
        return tuple(name for name in QUICK_MODELS if name in self.models)


@dataclass(frozen=True)
class StudyJob:
    """One model on one fold."""

    model: str
    kind: str
    protocol: str  # how the fold was made
    size: float  # share of the training tracks that are used
    seed: int
    fold: int
    fold_key: str  # hash of the fold's content
    key: str  # hash of everything that the result depends on

    @property
    def display_name(self) -> str:
        """What people read."""
        size = "" if self.size == 1 else f", {self.size:.0%} of the tracks"
        return f"{self.model}, {self.protocol} folds{size}, seed {self.seed}, fold {self.fold}"


@dataclass(frozen=True)
class StudyPlan:
    """All jobs of a study."""

    config: StudyConfig
    models: Models
    folds: Mapping[str, Fold]  # by key
    jobs: tuple[StudyJob, ...] = ()  # quick ones first
    notes: tuple[str, ...] = ()  # what could not be planned

    @cached_property
    def by_key(self) -> dict[str, StudyJob]:
        """Jobs by key; in small data a part of the tracks may be all of them: the same job."""
        return {job.key: job for job in reversed(self.jobs)}

    def main_jobs(self, models: Iterable[str] | None = None) -> list[StudyJob]:
        """The jobs of the protocol itself, on all tracks."""
        wanted = set(self.config.models if models is None else models)
        return [job for job in self.jobs if job.model in wanted and self.is_main(job)]

    def is_main(self, job: StudyJob) -> bool:
        """Whether a job is of the protocol itself, on all tracks."""
        return job.protocol == self.config.protocol and job.size == 1

    def jobs_by_model(self) -> dict[str, list[StudyJob]]:
        """The jobs of the protocol itself, on all tracks, and those of hybrids and averages."""
        jobs: dict[str, list[StudyJob]] = {}
        for job in [*self.main_jobs(), *(job for job, _ in self.ensemble_jobs())]:
            jobs.setdefault(job.model, []).append(job)
        return jobs

    def ensemble_jobs(self) -> list[tuple[StudyJob, list[StudyJob]]]:
        """The jobs of hybrids and averages, each with the jobs of its parts."""
        main = self.main_jobs()
        by_fold = {(job.model, job.seed, job.fold): job for job in main}
        jobs = []
        for name in self.config.ensembles:
            for first in [job for job in main if job.model == PARTS[name][0]]:
                parts = [by_fold[part, first.seed, first.fold] for part in PARTS[name]]
                key, kind = _key(name, *(part.key for part in parts)), self.models[name].kind
                jobs.append((replace(first, model=name, kind=kind, key=key), parts))
        return jobs


def plan_study(
    data: StudyData,
    config: StudyConfig,
    models: Models,
    *,
    official: Callable[[FolderDataset], Fold] | None = None,
) -> StudyPlan:
    """Divide the data into folds, and list the jobs.

    Args:
        data: tracks and columns.
        config: what is measured.
        models: by name.
        official: gives the published split of the data set.

    Raises:
        DataError: the data cannot be divided so; the sentence says why.
    """
    digest = dataset_digest(data.dataset)
    columns = "" if data.columns is None else hashlib.sha256(data.columns.tobytes()).hexdigest()
    folds: dict[str, Fold] = {}
    jobs: list[StudyJob] = []
    notes: dict[str, None] = {}
    for fold, protocol, size, seed, number in _all_folds(data.dataset, config, official, notes):
        fold_key = _key(digest, fold.train, fold.validation, fold.test)
        folds[fold_key] = fold
        is_main = protocol == config.protocol and size == 1
        for name in config.models if is_main else config.quick_models:
            kind = models[name].kind
            inputs = columns if kind in ("features", "hybrid") else ""
            key = _key(fold_key, name, seed, inputs, __version__)
            jobs.append(StudyJob(name, kind, protocol, size, seed, number, fold_key, key))
    plan = StudyPlan(config, models, folds, notes=tuple(notes))
    order = config.models.index
    jobs.sort(
        key=lambda j: (_KINDS.index(j.kind), not plan.is_main(j), j.seed, order(j.model), j.fold)
    )
    return replace(plan, jobs=tuple(jobs))


def _all_folds(
    dataset: FolderDataset,
    config: StudyConfig,
    official: Callable[[FolderDataset], Fold] | None,
    notes: dict[str, None],
) -> Iterator[tuple[Fold, str, float, int, int]]:
    """Each fold with its protocol, share of the training tracks, seed and number."""
    published = None
    if config.protocol == "official":
        if official is None:
            raise DataError(f"{dataset.root} has no official split; only FMA and GTZAN have one.")
        published = official(dataset)
    deal = partial(make_folds, dataset, folds=config.folds)
    groups = group_tracks(dataset.tracks)
    for seed in range(config.seeds):
        drawn = [published] if published else deal(seed=seed, protocol=config.protocol)
        for number, fold in enumerate(drawn):
            yield fold, config.protocol, 1.0, seed, number
            for size in sorted(set(config.sizes) - {1}) if config.quick_models else ():
                part = smaller_fold(fold, groups, dataset.labels, size, seed=seed)
                yield part, config.protocol, size, seed, number
        if config.protocol != "grouped" or not config.quick_models:
            continue
        try:
            leaking = deal(seed=seed, protocol="random")
        except DataError as error:
            notes[f"Leakage through random folds could not be measured: {error}"] = None
        else:
            for number, fold in enumerate(leaking):
                yield fold, "random", 1.0, seed, number


def smaller_fold(
    fold: Fold, groups: Sequence[int], labels: Sequence[int], size: float, *, seed: int = 0
) -> Fold:
    """A fold with the same test part and about a share, in (0, 1], of the training tracks.

    Whole groups are taken, in an order drawn by the seed, so that fewer tracks are also fewer
    artists, and a smaller share is a part of a larger one. Every genre keeps at least one group.
    Groups and labels are of all tracks of the data set.
    """
    rng = np.random.default_rng(seed)
    order = {group: rank for rank, group in enumerate(rng.permutation(max(groups) + 1).tolist())}

    def part(indices: Sequence[int]) -> tuple[int, ...]:
        members: dict[int, list[int]] = {}
        for index in indices:
            members.setdefault(groups[index], []).append(index)
        genres = max(labels) + 1
        in_order = [members[group] for group in sorted(members, key=order.__getitem__)]
        counts = [np.bincount([labels[i] for i in some], minlength=genres) for some in in_order]
        total, passed, met = np.zeros(genres), np.zeros(genres), np.zeros(genres, bool)
        for count in counts:
            total[count.argmax()] += count.max()
        kept: list[int] = []
        for some, count in zip(in_order, counts, strict=True):
            genre = count.argmax()  # a group of several genres counts for its largest
            is_first = ((count > 0) & ~met).any()
            if is_first or passed[genre] + count[genre] / 2 <= size * total[genre]:
                kept += some
            passed[genre] += count[genre]
            met |= count > 0
        return tuple(sorted(kept))

    return Fold(part(fold.train), part(fold.validation), fold.test)


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
