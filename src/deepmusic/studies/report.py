"""The figures of a study: models, paired differences, leakage, learning curves, what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deepmusic.datasets.groups import group_tracks, unknown_artists
from deepmusic.datasets.split_files import Leaks, leaks
from deepmusic.datasets.splits import Folds
from deepmusic.studies.comparison import (
    MIN_FOLDS,
    Difference,
    Score,
    difference_by_fold,
    difference_by_track,
    score,
)
from deepmusic.studies.jobs import EXPLAINED_MODEL, JobRecord, records_of
from deepmusic.studies.models import StudyModel
from deepmusic.studies.plan import QUICK_MODELS, StudyConfig, StudyJob, StudyPlan

if TYPE_CHECKING:
    from deepmusic.datasets.folder import Problem
    from deepmusic.studies.data import StudyData
    from deepmusic.studies.occlusion import Occlusion

Results = Mapping[str, JobRecord]
"""Records by the key of their job."""

_MAX_PROBLEMS = 20
_HIGHLIGHTS = 5  # models in a plot with room for few, where kinds are fewer


class ModelRow(NamedTuple):
    """One model of the report."""

    name: str
    model: StudyModel
    score: Score
    jobs: int  # that are done
    wanted: int  # jobs of the plan
    difference: Difference | None = None  # to the reference on the same tracks; None for itself

    @property
    def is_complete(self) -> bool:
        """Whether no job is missing, so that the figures are of all tracks."""
        return self.jobs == self.wanted

    @property
    def accuracy(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.score.accuracy))

    @property
    def seed_spread(self) -> float:
        """Standard deviation of the accuracy over seeds; NaN for one."""
        return spread(self.score.accuracy)


class LeakRow(NamedTuple):
    """Accuracy of a model with artists kept apart, and on folds drawn at random."""

    name: str
    grouped: float
    random: float
    difference: Difference  # random minus grouped, with an interval over artists


class SizeRow(NamedTuple):
    """Accuracy of a model trained on a share of the tracks."""

    name: str
    tracks: float  # that it was trained on, mean over folds
    accuracy: float  # mean over seeds
    spread: float  # standard deviation over seeds; NaN for one


@dataclass(frozen=True, eq=False)
class Report:
    """All figures of a study."""

    about: tuple[str, ...]  # where the data come from
    config: StudyConfig
    counts: Mapping[str, int]  # genre -> tracks
    groups: int  # of the same artist, album or recording
    unknown_artists: int  # tracks that name none
    has_leaks: Leaks  # whether such a group is on two sides of a fold
    split: tuple[int, int, int]  # tracks to train, validate and test, of the first fold
    problems: tuple[str, ...]  # of the data set
    rows: tuple[ModelRow, ...]  # the best first, those with missing jobs last
    reference: str | None  # the model that others are compared with
    leaks: tuple[LeakRow, ...]
    sizes: tuple[SizeRow, ...]
    occlusion: Occlusion | None
    missing: tuple[str, ...]  # what is not in the report, and why
    is_resumed: bool  # whether the training time of a network lacks that before an interruption

    @property
    def genres(self) -> tuple[str, ...]:
        """Names of the genres, sorted."""
        return tuple(self.counts)

    def row(self, name: str | None) -> ModelRow | None:
        """The row of a model."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def highlights(self) -> tuple[ModelRow, ...]:
        """Rows for plots with room for few: the reference, the best of each kind, the next best."""
        best = {row.model.kind: row.name for row in reversed(self.rows)}
        names = dict.fromkeys([self.reference, *best.values()])
        others = [row.name for row in self.rows if row.name not in names]
        names |= dict.fromkeys(others[: max(_HIGHLIGHTS - len(names), 0)])
        return tuple(row for row in self.rows if row.name in names)


def make_report(
    data: StudyData,
    plan: StudyPlan,
    results: Results,
    failures: Mapping[str, str],  # one sentence by key of a job that failed
    about: Sequence[str] = (),
    occlusion: Occlusion | None = None,
    missing: Sequence[str] = (),
) -> Report:
    """Compute the figures of a study from the results of the jobs that are done."""
    jobs = plan.jobs_by_model()
    records = {name: ours for name, wanted in jobs.items() if (ours := records_of(results, wanted))}
    rows = [
        ModelRow(name, plan.models[name], score(ours), len(ours), len(jobs[name]))
        for name, ours in records.items()
    ]
    rows.sort(key=lambda row: (not row.is_complete, -row.accuracy))
    reference = _reference([row.name for row in rows])
    groups = groups_by_path(data)
    for index, row in enumerate(rows):
        if reference is not None and row.name != reference:
            difference = _difference(plan, row.name, reference, jobs, records, groups)
            rows[index] = row._replace(difference=difference)
    fold = next(iter(plan.folds.values()))
    counts = Counter(track.genre for track in data.dataset.tracks)
    return Report(
        about=tuple(about),
        config=plan.config,
        counts={genre: counts[genre] for genre in data.genres},
        groups=len(set(groups.values())),
        unknown_artists=unknown_artists(data.dataset.tracks),
        has_leaks=leaks(Folds((fold,), protocol=plan.config.protocol), data.dataset),
        split=(len(fold.train), len(fold.validation), len(fold.test)),
        problems=(*_problems(data.dataset.problems), *data.dataset.notes),
        rows=tuple(rows),
        reference=reference,
        leaks=tuple(_leaks(plan, results, groups)),
        sizes=tuple(_sizes(plan, results)),
        occlusion=occlusion,
        missing=(*_missing(plan, jobs, results, failures), *plan.notes, *missing),
        is_resumed=any(record.get("is_resumed") for record in results.values()),
    )


def groups_by_path(data: StudyData) -> dict[str, int]:
    """The group (artist, album, copies) of each track, by path."""
    tracks = data.dataset.tracks
    return dict(zip([track.path for track in tracks], group_tracks(tracks), strict=True))


def spread(values: Iterable[float]) -> float:
    """Standard deviation; NaN for a single value."""
    values = list(values)
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _reference(names: Sequence[str]) -> str | None:
    """The model to compare with: the shipped capsules, else the best capsules, else the best."""
    capsules = [name for name in names if name.startswith("capsules")]
    shipped = [name for name in names if name == EXPLAINED_MODEL]
    return next(iter([*shipped, *capsules, *names]), None)


def _difference(
    plan: StudyPlan,
    name: str,
    reference: str,
    jobs: Mapping[str, Sequence[StudyJob]],
    records: Mapping[str, Sequence[JobRecord]],
    groups: Mapping[str, int],
) -> Difference:
    ours, theirs = records[name], records[reference]
    if plan.config.protocol == "official":
        difference = difference_by_track(ours, theirs, groups)
    else:
        difference = difference_by_fold(ours, theirs)
    our_folds, their_folds = ({(r["seed"], r["fold"]) for r in some} for some in (ours, theirs))
    is_cut = any(len(records[n]) < len(jobs[n]) for n in (name, reference))
    if is_cut and (our_folds != their_folds or len(our_folds) < MIN_FOLDS):
        # the few folds that both have may be the easy ones of either
        return Difference(difference.mean)
    return difference


def _leaks(plan: StudyPlan, results: Results, groups: Mapping[str, int]) -> Iterator[LeakRow]:
    for name in QUICK_MODELS if plan.config.protocol == "grouped" else ():
        jobs = [job for job in plan.jobs if job.model == name and job.protocol == "random"]
        leaking, grouped = (records_of(results, js) for js in (jobs, plan.main_jobs([name])))
        if leaking and grouped:
            apart, mixed = (float(np.mean(score(r).accuracy)) for r in (grouped, leaking))
            yield LeakRow(name, apart, mixed, difference_by_track(leaking, grouped, groups))


def _sizes(plan: StudyPlan, results: Results) -> Iterator[SizeRow]:
    for name in QUICK_MODELS:
        ours = [j for j in plan.jobs if j.model == name and j.protocol == plan.config.protocol]
        sizes = sorted({job.size for job in ours})
        for size in sizes if len(sizes) > 1 else ():
            records = records_of(results, [job for job in ours if job.size == size])
            if records:
                accuracy = score(records).accuracy
                tracks = float(np.mean([record["trained_on"] for record in records]))
                yield SizeRow(name, tracks, float(np.mean(accuracy)), spread(accuracy))


def _missing(
    plan: StudyPlan,
    jobs: Mapping[str, Sequence[StudyJob]],
    results: Results,
    failures: Mapping[str, str],
) -> Iterator[str]:
    extras = [job for job in plan.jobs if not plan.is_main(job)]
    for name, wanted in {**jobs, "Leakage and learning curves": extras}.items():
        left = [job for job in wanted if job.key not in results]
        if left:
            reasons = dict.fromkeys(failures[job.key] for job in left if job.key in failures)
            is_pooled = left[0].kind in ("hybrid", "average")
            default = "Some of its parts are missing." if is_pooled else "They were not run yet."
            reason = " ".join([*reasons][:3]) or default
            yield f"{name}: {len(left)} of {len(wanted)} jobs are missing. {reason}"
    if not any(name in plan.config.models for name in QUICK_MODELS):
        names = " and ".join(QUICK_MODELS)
        yield f"Leakage and learning curves are measured with {names}, which were not asked for."


def _problems(problems: Sequence[Problem]) -> Iterator[str]:
    yield from (problem.message for problem in problems[:_MAX_PROBLEMS])
    if len(problems) > _MAX_PROBLEMS:
        yield f"{len(problems) - _MAX_PROBLEMS} more tracks were left out."
