"""The figures of a study's report: models, differences, leakage, growth, and what is missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deepmusic.datasets.groups import group_tracks
from deepmusic.studies.comparison import Score, heard, score
from deepmusic.studies.jobs import (
    QUICK,
    SHOWN_CAPSULES,
    Job,
    Plan,
    Results,
    average_jobs,
)
from deepmusic.studies.significance import (
    Difference,
    bootstrap_difference,
    resampled_difference,
)
from deepmusic.version import __version__

if TYPE_CHECKING:
    from deepmusic.studies.data import StudyData
    from deepmusic.studies.explanations import Occlusion
    from deepmusic.studies.models import StudyModel

Result = Mapping[str, Any]

_SHOWN = 5  # models in a picture with room for few, where kinds are fewer


@dataclass(frozen=True, eq=False)
class Row:
    """One model of the report.

    Args:
        name: of the model.
        kind: ``"features"``, ``"segments"``, ``"hybrid"`` or ``"average"``.
        summary: one sentence on what it is.
        score: its figures.
        results: that they are of.
        wanted: jobs that were asked for.
        difference: to the reference, on the same tracks; None for the reference itself.
    """

    name: str
    kind: str
    summary: str
    score: Score
    results: tuple[Result, ...]
    wanted: int
    difference: Difference | None

    @property
    def is_whole(self) -> bool:
        """Whether no job is missing: only then its figures are of all tracks."""
        return len(self.results) == self.wanted

    @property
    def accuracy(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.score.accuracy))

    @property
    def over_seeds(self) -> float:
        """Standard deviation over seeds; NaN for one."""
        return spread(self.score.accuracy)

    @property
    def over_folds(self) -> float:
        """Standard deviation over all folds; NaN for one."""
        return spread(list(self.score.folds.values()))


class Leak(NamedTuple):
    """What random folds make of a model.

    Attributes:
        name: of the model.
        grouped, random: accuracy with artists apart, and with folds drawn blindly.
        difference: random less grouped, of the same tracks, with an interval over artists.
    """

    name: str
    grouped: float
    random: float
    difference: Difference


class Size(NamedTuple):
    """A model that learned from a share of the tracks.

    Attributes:
        name: of the model.
        tracks: it learned from, in the mean over folds.
        accuracy: mean over seeds.
        spread: standard deviation over seeds; NaN for one.
    """

    name: str
    tracks: float
    accuracy: float
    spread: float


@dataclass(frozen=True, eq=False)
class Report:
    """All figures of a study.

    Args:
        about: sentences on the data and how they were divided.
        genres: names.
        rows: a model each, the best first, those with missing jobs last.
        reference: the model that others are compared with; None where there is no model.
        leaks: what random folds would have made of the quick models.
        sizes: how accuracy grows with the tracks.
        occlusion: whether what the capsules mark matters; None where it was not measured.
        missing: sentences on what is not in the report, and why.
        warnings: sentences on what may mislead.
        notes: sentences on how things were measured.
    """

    about: tuple[str, ...]
    genres: tuple[str, ...]
    rows: tuple[Row, ...]
    reference: str | None
    leaks: tuple[Leak, ...]
    sizes: tuple[Size, ...]
    occlusion: Occlusion | None
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    def row(self, name: str) -> Row | None:
        """The row of a model."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def shown(self) -> tuple[Row, ...]:
        """Rows for pictures with room for few: the reference, the best of each kind, the best."""
        best: dict[str, Row] = {}
        for row in self.rows:
            best.setdefault(row.kind, row)
        names = {row.name for row in best.values()} | {self.reference}
        for row in self.rows:
            if len(names) < _SHOWN:
                names.add(row.name)
        return tuple(row for row in self.rows if row.name in names)


def make_report(
    data: StudyData,
    plan: Plan,
    results: Results,
    models: Mapping[str, StudyModel],
    *,
    failures: Mapping[str, str] | None = None,
    about: Sequence[str] = (),
    occlusion: Occlusion | None = None,
    missing: Sequence[str] = (),
) -> Report:
    """Put the figures of a study together.

    Args:
        data: what was learned from.
        plan: the jobs.
        results: of those that are done.
        models: by name.
        failures: one sentence by mark of a job that failed.
        about: sentences on the data, to stand first.
        occlusion: whether what the capsules mark matters.
        missing: further sentences on what could not be shown.
    """
    failures = failures or {}
    groups = dict(
        zip([t.path for t in data.dataset.tracks], group_tracks(data.dataset.tracks), strict=True)
    )
    jobs: dict[str, list[Job]] = {}
    for job in [*plan.main(), *(job for job, _ in average_jobs(plan))]:
        jobs.setdefault(job.model, []).append(job)
    found = {name: tuple(results.of(wanted)) for name, wanted in jobs.items()}
    scores = {name: score(ours) for name, ours in found.items() if ours}
    is_cut = {name: len(found[name]) < len(jobs[name]) for name in scores}
    order = sorted(scores, key=lambda n: (is_cut[n], -float(np.mean(scores[n].accuracy))))
    reference = _reference(order)
    rows = []
    for name in order:
        difference = None
        if reference is not None and name != reference:
            difference = _difference(
                found[name],
                found[reference],
                groups,
                is_one_split=plan.config.protocol == "official",
            )
            mine, other = scores[name].folds, scores[reference].folds
            if (is_cut[name] or is_cut[reference]) and (
                mine.keys() != other.keys() or len(mine) < 3
            ):
                # the few folds that both have may be the easy ones of either
                difference = Difference(difference.mean, math.nan, math.nan, math.nan)
        model = models[name]
        rows.append(
            Row(
                name,
                model.kind,
                model.summary,
                scores[name],
                found[name],
                len(jobs[name]),
                difference,
            )
        )
    lacking = [
        *_lacking(jobs, results, failures),
        *_lacking_extras(plan, results, failures),
        *plan.notes,
        *missing,
    ]
    return Report(
        about=(*about, *_about(data, plan)),
        genres=data.genres,
        rows=tuple(rows),
        reference=reference,
        leaks=tuple(_leaks(plan, results, groups)),
        sizes=tuple(_sizes(plan, results)),
        occlusion=occlusion,
        missing=tuple(lacking),
        warnings=tuple(_warnings(data, plan, reference)),
        notes=tuple(_notes(plan, rows)),
    )


def _reference(names: Sequence[str]) -> str | None:
    """The model to compare with: the shipped capsules, else the best capsules, else the best."""
    if SHOWN_CAPSULES in names:
        return SHOWN_CAPSULES
    capsules = [name for name in names if name.startswith("capsules")]
    return next(iter([*capsules, *names]), None)


def _difference(
    ours: Sequence[Result],
    theirs: Sequence[Result],
    groups: Mapping[str, int],
    *,
    is_one_split: bool,
) -> Difference:
    if is_one_split:
        return _by_track(ours, theirs, groups)
    both = [*ours, *theirs]
    overlap = sum(r["tracks"] for r in both) / sum(r["trained_on"] for r in both)
    return resampled_difference(score(ours).folds, score(theirs).folds, overlap=overlap)


def _by_track(
    ours: Sequence[Result], theirs: Sequence[Result], groups: Mapping[str, int]
) -> Difference:
    """The difference on the tracks that both have heard, drawn artist by artist."""
    mine, other = _right_by_track(ours), _right_by_track(theirs)
    shared = [path for path in mine if path in other]
    return bootstrap_difference(
        [mine[path] for path in shared],
        [other[path] for path in shared],
        [groups[path] for path in shared],
    )


def _right_by_track(results: Sequence[Result]) -> dict[str, float]:
    """In what share of the seeds each track was heard rightly."""
    right: dict[str, list[bool]] = {}
    for result in results:
        rows, labels = heard([result])
        for path, hit in zip(result["probabilities"], rows.argmax(axis=1) == labels, strict=True):
            right.setdefault(path, []).append(bool(hit))
    return {path: float(np.mean(hits)) for path, hits in right.items()}


def _lacking(
    jobs: Mapping[str, Sequence[Job]], results: Results, failures: Mapping[str, str]
) -> Iterable[str]:
    for name, wanted in jobs.items():
        left = [job for job in wanted if job.mark not in results.by_mark]
        if not left:
            continue
        reasons = list(dict.fromkeys(failures[job.mark] for job in left if job.mark in failures))
        is_pooled = left[0].kind in ("hybrid", "average")
        why = " ".join(reasons[:3]) or (
            "Its parts are not all there." if is_pooled else "They were not done yet."
        )
        jobs_are = "1 job is" if len(left) == 1 else f"{len(left)} jobs are"
        yield f"{name}: of {len(wanted)}, {jobs_are} missing. {why}"


def _lacking_extras(plan: Plan, results: Results, failures: Mapping[str, str]) -> Iterable[str]:
    extras = [j for j in plan.jobs if j.protocol != plan.config.protocol or j.size != 1]
    left = [job for job in extras if job.mark not in results.by_mark]
    if left:
        reasons = dict.fromkeys(failures[job.mark] for job in left if job.mark in failures)
        yield (
            f"Leakage and growth: {len(left)} of {len(extras)} jobs are missing. "
            + (" ".join([*reasons][:3]) or "They were not done yet.")
        )
    if not any(name in plan.config.models for name in QUICK):
        yield (
            "What random folds leak, and how accuracy grows with the tracks, is measured on "
            f"{' and '.join(QUICK)}, which are not among the models."
        )


def _about(data: StudyData, plan: Plan) -> Iterable[str]:
    tracks = data.dataset.tracks
    counts = Counter(track.genre for track in tracks)
    groups = len(set(group_tracks(tracks)))
    said = ", ".join(f"{genre} {counts[genre]}" for genre in data.genres)
    yield (
        f"{len(tracks)} tracks of {len(data.genres)} genres ({said}) in {groups} groups of tracks "
        "that belong together (artist, album, copies)."
    )
    config = plan.config
    seeds = f"{config.seeds} {'seed' if config.seeds == 1 else 'seeds'}"
    if config.protocol == "grouped":
        yield (
            f"{config.folds} folds x {seeds}, stratified by genre; each seed deals the artists to "
            "other folds, all models get the same ones, and no artist, album or copy is on two "
            "sides."
        )
    elif config.protocol == "official":
        fold = next(iter(plan.folds.values()))
        yield (
            f"The official split, {len(fold.train)} / {len(fold.validation)} / {len(fold.test)} "
            f"tracks to train, validate and test; {seeds} of training."
        )
    else:
        yield f"{config.folds} folds x {seeds}, drawn by genre alone."


def _warnings(data: StudyData, plan: Plan, reference: str | None) -> Iterable[str]:
    if plan.config.protocol == "random":
        yield (
            "These folds leak: an artist, an album or a copy may be both learned and tested, and "
            "all figures are too good. Use the protocol grouped."
        )
    if reference is not None and not reference.startswith("capsules"):
        yield f"No capsule network has results; differences are to {reference}."
    yield from (problem.message for problem in data.dataset.problems[:20])
    if len(data.dataset.problems) > 20:
        yield f"{len(data.dataset.problems) - 20} more tracks were left out."
    yield from data.dataset.notes


def _notes(plan: Plan, rows: Sequence[Row]) -> Iterable[str]:
    yield (
        "Accuracy, macro-F1 and recall are per cent of tracks. The folds of a seed are scored "
        "together; shown is the mean over seeds. The first spread is the standard deviation over "
        "seeds, the second over all folds."
    )
    if plan.config.protocol == "official":
        yield (
            "Differences are of the same tracks; the 95 % interval and p are of a bootstrap that "
            "draws whole artists: how the model would do on other tracks, not in other trainings."
        )
    else:
        yield (
            "Differences are paired by fold; the 95 % interval and p are of the corrected "
            "resampled t-test (Nadeau and Bengio 2003), which is wider than the spread over seeds, "
            "since the folds of several seeds share tracks."
        )
    if len(rows) > 2:
        yield (
            f"{len(rows) - 1} models are compared with one, and no p is corrected for that: one in "
            "twenty falls below 0.05 by chance."
        )
    yield (
        "Calibration error: mean gap between confidence and accuracy, in ten bins of equal count. "
        "Models on features learn from the training and the validation tracks; networks stop by "
        "the validation tracks. Training time (one thread) and parameters are medians over folds, "
        "without the making of features and spectrograms; time per track is that of the prediction "
        "from them; memory is the greatest of the whole process, libraries and data included. "
        "Those of hybrids and averages are of their parts together."
    )
    if any(result.get("is_resumed") for row in rows for result in row.results):
        yield "Some networks went on after an interruption: their time counts from there."
    yield f"DeepMusic {__version__}."


def _leaks(plan: Plan, results: Results, groups: Mapping[str, int]) -> Iterable[Leak]:
    if plan.config.protocol != "grouped":
        return
    for name in QUICK:
        leaking = results.of(j for j in plan.jobs if j.model == name and j.protocol == "random")
        grouped = results.of(plan.main([name]))
        if leaking and grouped:
            yield Leak(
                name,
                float(np.mean(score(grouped).accuracy)),
                float(np.mean(score(leaking).accuracy)),
                _by_track(leaking, grouped, groups),
            )


def _sizes(plan: Plan, results: Results) -> Iterable[Size]:
    for name in QUICK:
        ours = [j for j in plan.jobs if j.model == name and j.protocol == plan.config.protocol]
        sizes = sorted({job.size for job in ours})
        for size in sizes if len(sizes) > 1 else ():
            found = results.of(job for job in ours if job.size == size)
            if found:
                accuracy = score(found).accuracy
                tracks = float(np.mean([result["trained_on"] for result in found]))
                yield Size(name, tracks, float(np.mean(accuracy)), spread(accuracy))


def spread(values: Sequence[float]) -> float:
    """Standard deviation; NaN for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
