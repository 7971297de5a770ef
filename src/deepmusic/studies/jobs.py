"""The jobs of a study: one model on one fold of one seed, each kept as soon as it is done.

A job travels to a worker as text; the worker reads tracks, columns and the fold from the folder of
the study, trains, hears the test tracks, and sends the result back. Results are lines of
``results.jsonl``. A job is known by a mark of the data, the fold, the model and the version of
DeepMusic, so that a second call does what is missing and mixes nothing up.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets.folder import FolderDataset, dataset_digest
from deepmusic.datasets.groups import group_tracks
from deepmusic.datasets.splits import Fold, Protocol, make_folds, random_folds
from deepmusic.errors import DataError, DeepMusicError, RequestError
from deepmusic.files import write_atomically
from deepmusic.parallel import map_files
from deepmusic.studies.data import StudyData, keep_study_data, read_study_data
from deepmusic.studies.models import QUICK_KINDS, Kind
from deepmusic.version import __version__

if TYPE_CHECKING:
    from deepmusic.studies.models import StudyModel

Models = Mapping[str, "StudyModel"]
Result = dict[str, Any]

QUICK = ("logistic", "svc-rbf")
"""Models that also learn from random folds, and from parts of the tracks."""
SHOWN_CAPSULES = "capsules"
"""The model whose networks of the first seed are kept, to show what they hear."""

_KINDS = get_args(Kind)  # in the order of the jobs
_EXACT = 6  # decimals of a probability
_HISTORY = "history.jsonl"


@dataclass(frozen=True)
class StudyConfig:
    """What is measured.

    Args:
        models: names of those that are trained.
        averages: names of :data:`deepmusic.studies.averages.PARTS`, which are computed from what
            their parts say; all parts are among ``models``.
        protocol: ``"grouped"`` (no artist, album or copy on two sides), ``"official"`` (the split
            published with FMA or GTZAN) or ``"random"``, which leaks.
        folds: of each seed; an official split is one.
        seeds: 0 to this less one; each deals the tracks to other folds.
        sizes: shares of the training tracks, in (0, 1], with which :data:`QUICK` models show how
            accuracy grows; 1 costs nothing more.

    Raises:
        RequestError: a number is out of range.
    """

    models: tuple[str, ...]
    averages: tuple[str, ...] = ()
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


@dataclass(frozen=True)
class Job:
    """One model on one fold.

    Args:
        model: its name.
        kind: of the model.
        protocol: how the fold was made.
        size: share of the training tracks that it learns from.
        seed, fold: which one.
        fold_mark: names the fold by its content.
        mark: names the job by all that its result depends on.
    """

    model: str
    kind: str
    protocol: str
    size: float
    seed: int
    fold: int
    fold_mark: str
    mark: str

    @property
    def name(self) -> str:
        """How people are told of it."""
        beside = "" if self.size == 1 else f", {self.size:.0%} of the tracks"
        return f"{self.model}, {self.protocol} folds{beside}, seed {self.seed}, fold {self.fold}"


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Args:
        path: the job as text; :func:`deepmusic.parallel.map_files` knows it by this.
        result: the line for ``results.jsonl``; None where there is none.
        error: one sentence on why.
        is_skipped: whether the time that was allowed was over before it began.
    """

    path: str
    result: Result | None = None
    error: str = ""
    is_skipped: bool = False

    @property
    def job(self) -> Job:
        """Which job it was."""
        return Job(**json.loads(self.path)["job"])


@dataclass(frozen=True)
class Plan:
    """All jobs of a study.

    Args:
        config: what is measured.
        jobs: quick ones first.
        folds: by mark.
        notes: sentences on what could not be planned.
    """

    config: StudyConfig
    jobs: tuple[Job, ...]
    folds: Mapping[str, Fold]
    notes: tuple[str, ...] = ()

    def main(self, models: Iterable[str] | None = None) -> list[Job]:
        """The jobs of the protocol itself, without leaks and smaller sizes."""
        wanted = set(self.config.models if models is None else models)
        return [
            job
            for job in self.jobs
            if job.model in wanted and job.protocol == self.config.protocol and job.size == 1
        ]


def plan_study(
    data: StudyData,
    config: StudyConfig,
    models: Models,
    *,
    official: Callable[[FolderDataset], Fold] | None = None,
) -> Plan:
    """Divide the data, and list the jobs.

    Args:
        data: what models learn from.
        config: what is measured.
        models: by name.
        official: gives the published split of the data set.

    Raises:
        DataError: the data cannot be divided so; the sentence says why.
    """
    dataset = data.dataset
    found = dataset_digest(dataset)
    columns = "" if data.columns is None else _digest(np.ascontiguousarray(data.columns).tobytes())
    folds: dict[str, Fold] = {}
    jobs: list[Job] = []
    notes: list[str] = []

    def add(
        names: Iterable[str], fold: Fold, protocol: str, size: float, seed: int, n: int
    ) -> None:
        mark = _digest(json.dumps([found, fold.train, fold.validation, fold.test]).encode())
        folds[mark] = fold
        for name in names:
            kind = models[name].kind
            beside = columns if kind in ("features", "hybrid") else ""
            job = _digest(json.dumps([mark, name, seed, beside, __version__]).encode())
            jobs.append(Job(name, kind, protocol, size, seed, n, mark, job))

    quick = [name for name in QUICK if name in config.models]
    groups = group_tracks(dataset.tracks)
    for seed in range(config.seeds):
        for number, fold in enumerate(_folds(dataset, config, seed, official)):
            add(config.models, fold, config.protocol, 1.0, seed, number)
            for size in sorted(size for size in set(config.sizes) if size < 1):
                part = smaller_fold(fold, groups, dataset.labels, size, seed=seed)
                add(quick, part, config.protocol, size, seed, number)
        if config.protocol == "grouped" and quick:
            try:
                leaking = random_folds(dataset, folds=config.folds, seed=seed)
            except DataError as error:
                notes.append(f"What random folds leak could not be measured: {error}")
                continue
            for number, fold in enumerate(leaking):
                add(quick, fold, "random", 1.0, seed, number)
    place = {name: number for number, name in enumerate(models)}

    def cost(job: Job) -> tuple[int, bool, int, int, int]:
        is_extra = job.protocol != config.protocol or job.size != 1
        return (_KINDS.index(job.kind), is_extra, job.seed, place[job.model], job.fold)

    return Plan(config, tuple(sorted(jobs, key=cost)), folds, tuple(dict.fromkeys(notes)))


def _folds(
    dataset: FolderDataset,
    config: StudyConfig,
    seed: int,
    official: Callable[[FolderDataset], Fold] | None,
) -> Iterable[Fold]:
    if config.protocol == "official":
        if official is None:
            raise DataError(f"{dataset.root} has no official split; only FMA and GTZAN have one.")
        return [official(dataset)]
    if config.protocol == "random":
        return random_folds(dataset, folds=config.folds, seed=seed)
    return make_folds(dataset, folds=config.folds, seed=seed)


def smaller_fold(
    fold: Fold, groups: Sequence[int], labels: Sequence[int], size: float, *, seed: int = 0
) -> Fold:
    """A fold with the same test part and about a share of the tracks to learn from.

    Whole groups are taken, in an order drawn by the seed, so that fewer tracks are also fewer
    artists, and a smaller share is part of a larger one. Every genre keeps at least one group.

    Args:
        fold: the division.
        groups: of each track of the data set.
        labels: likewise.
        size: the share, in (0, 1].
        seed: of the order.
    """
    rng = np.random.default_rng(seed)
    order = {group: place for place, group in enumerate(rng.permutation(max(groups) + 1).tolist())}

    def part(places: Sequence[int]) -> tuple[int, ...]:
        members: dict[int, list[int]] = {}
        for place in places:
            members.setdefault(groups[place], []).append(place)
        genres = max(labels) + 1
        counts = {
            group: np.bincount([labels[i] for i in members[group]], minlength=genres)
            for group in sorted(members, key=order.__getitem__)
        }
        total, passed, seen = np.zeros(genres), np.zeros(genres), np.zeros(genres, bool)
        for count in counts.values():
            total[count.argmax()] += count.max()
        kept: list[int] = []
        for group, count in counts.items():
            # a group of several genres counts for the one that it has most of
            genre = int(count.argmax())
            is_first = bool((count.astype(bool) & ~seen).any())
            if is_first or passed[genre] + count[genre] / 2 <= size * total[genre]:
                kept += members[group]
            passed[genre] += count[genre]
            seen |= count > 0
        return tuple(sorted(kept))

    return Fold(part(fold.train), part(fold.validation), fold.test)


class Results:
    """The lines of ``results.jsonl``; a line cut short by a kill is passed over.

    Args:
        path: made with the first result.

    Raises:
        DataError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_mark: dict[str, Result] = {}
        """Results by the mark of their job; a later line counts over an earlier one."""
        try:
            content = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise self._trouble(error) from error
        self._is_cut = bool(content) and not content.endswith(b"\n")
        for line in content.splitlines():
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                record = json.loads(line)
                if _is_whole(record):
                    self.by_mark[record["mark"]] = record

    def add(self, result: Result) -> None:
        """Keep a result.

        Raises:
            DataError: it cannot be written, such as on a full disk.
        """
        # on a line of its own even after one that was cut short
        line = ("\n" if self._is_cut else "") + json.dumps(result) + "\n"
        try:
            with open(self.path, "ab", buffering=0) as file:
                rest = memoryview(line.encode("ascii"))
                while rest:
                    rest = rest[file.write(rest) :]
        except OSError as error:
            raise self._trouble(error) from error
        self._is_cut = False
        self.by_mark[result["mark"]] = result

    def of(self, jobs: Iterable[Job]) -> list[Result]:
        """The results of those jobs that are done."""
        return [self.by_mark[job.mark] for job in jobs if job.mark in self.by_mark]

    def _trouble(self, error: OSError) -> DataError:
        reason = (error.strerror or str(error)).lower()
        return DataError(f"The results {self.path} cannot be used: {reason}.")


def _is_whole(record: Any) -> bool:
    """Whether a line holds what the report reads."""
    numbers = ("seed", "fold", "tracks", "correct", "trained_on", "seconds", "parameters", "size")
    return (
        isinstance(record["mark"], str)
        and all(isinstance(record[name], int | float) for name in numbers)
        and len(record["truth"]) == len(record["probabilities"]) == record["tracks"] > 0
        and all(len(row) == len(record["genres"]) for row in record["probabilities"].values())
    )


def run_jobs(
    data: StudyData,
    plan: Plan,
    study: Path,
    results: Results,
    *,
    models: Models | None = None,
    workers: int = 1,
    dask: str | None = None,
    seconds: float | None = None,
) -> Iterator[Outcome]:
    """Do the jobs that have no result yet, and give what came of each.

    Args:
        data: what models learn from.
        plan: the jobs.
        study: folder of the study; gets ``data/`` and ``work/``.
        results: gets each result before it is handed on.
        models: by name; None takes :data:`deepmusic.studies.models.MODELS`. They are pickled for
            workers.
        workers: processes of this machine.
        dask: address of the scheduler of a Dask cluster whose workers see the same folders.
        seconds: no job is begun later than this.

    Yields:
        An outcome a job, in any order.

    Raises:
        DeepMusicError: the folder cannot be written, or the cluster cannot be reached.
    """
    # of small data, a part of the tracks may be all of them: the same job twice
    by_mark = {job.mark: job for job in reversed(plan.jobs)}
    left = [job for job in plan.jobs if job is by_mark[job.mark]]
    left = [job for job in left if job.mark not in results.by_mark]
    if not left:
        return
    study = study.absolute()
    keep_study_data(data, study / "data")
    (study / "data" / "folds").mkdir(exist_ok=True)
    for mark in {job.fold_mark for job in left}:
        with write_atomically(_fold_path(study, mark)) as file:
            json.dump(asdict(plan.folds[mark]), file)
    deadline = None if seconds is None else time.time() + seconds
    function = partial(run_job, models=models, deadline=deadline)
    texts = [
        json.dumps({"study": os.fspath(study), "job": asdict(job), "keeps": _keeps(job, plan)})
        for job in left
    ]
    for outcome in map_files(function, texts, _died, workers=workers, dask=dask):
        if outcome.result is not None:
            results.add(outcome.result)
        yield outcome


def pool_averages(plan: Plan, results: Results) -> None:
    """Compute hybrids and averages where all their parts are done, and keep them as results.

    Seconds and parameters are those of all parts together.

    Args:
        plan: whose ``config.averages`` are wanted.
        results: of the parts; gets the results.

    Raises:
        DeepMusicError: a result cannot be written.
    """
    from deepmusic.studies.averages import combine

    for job, parts in average_jobs(plan):
        found = results.of(parts)
        if job.mark in results.by_mark or len(found) < len(parts):
            continue
        first = found[0]
        rows = {
            result["model"]: np.array([result["probabilities"][p] for p in first["probabilities"]])
            for result in found
        }
        heard = combine(job.model, rows)
        truth = [first["genres"].index(genre) for genre in first["truth"]]
        peaks = [size for result in found if (size := result["peak_memory_bytes"]) is not None]
        results.add(
            {
                **first,
                **asdict(job),
                "parts": [part.model for part in parts],
                "correct": int((heard.argmax(axis=1) == truth).sum()),
                "seconds": round(sum(result["seconds"] for result in found), 4),
                "is_resumed": any(result["is_resumed"] for result in found),
                "seconds_per_track": round(sum(r["seconds_per_track"] for r in found), 7),
                "peak_memory_bytes": max(peaks, default=None),
                "parameters": sum(result["parameters"] for result in found),
                "probabilities": _rows(first["probabilities"], heard),
            }
        )


def average_jobs(plan: Plan) -> list[tuple[Job, list[Job]]]:
    """The hybrids and averages of a plan, each with the jobs of its parts."""
    from deepmusic.studies.averages import PARTS
    from deepmusic.studies.models import MODELS

    main = plan.main()
    by_key = {(job.model, job.seed, job.fold): job for job in main}
    jobs = []
    for name in plan.config.averages:
        for first in [job for job in main if job.model == PARTS[name][0]]:
            parts = [by_key[part, first.seed, first.fold] for part in PARTS[name]]
            mark = _digest(json.dumps([name, *(part.mark for part in parts)]).encode())
            jobs.append((replace(first, model=name, kind=MODELS[name].kind, mark=mark), parts))
    return jobs


def seconds_left(
    jobs: Iterable[Job], results: Iterable[Mapping[str, Any]], *, workers: int = 1
) -> tuple[float, bool]:
    """How long jobs will take by what their models have taken, and whether all models are known.

    A model that has done no job yet counts nothing: then it is at least so long.

    Args:
        jobs: that are left.
        results: of jobs that are done.
        workers: that share the work.
    """
    taken: dict[str, list[float]] = {}
    for result in results:
        taken.setdefault(result["model"], []).append(result["seconds"])
    means = {name: statistics.fmean(values) for name, values in taken.items()}
    wanted = [job.model for job in jobs]
    total = sum(means.get(name, 0.0) for name in wanted)
    return total / workers, all(name in means for name in wanted)


def work_folder(study: Path, job: Job) -> Path:
    """Where a job works, and keeps the history of its networks."""
    size = "" if job.size == 1 else f"-{100 * job.size:g}"
    name = f"{job.protocol}{size}-seed{job.seed}-fold{job.fold}-{job.mark[:8]}"
    return study / "work" / job.model / name


def run_job(text: str, *, models: Models | None = None, deadline: float | None = None) -> Outcome:
    """Train one model on one fold and hear its test tracks; errors become a sentence.

    Args:
        text: the job, as :func:`run_jobs` writes it.
        models: by name; None takes all that there are.
        deadline: time of day, as :func:`time.time` counts, after which nothing is begun.
    """
    if deadline is not None and time.time() > deadline:
        return Outcome(text, is_skipped=True)
    found = json.loads(text)
    job = Job(**found["job"])
    try:
        return Outcome(text, _trained(Path(found["study"]), job, models, found["keeps"]))
    except DeepMusicError as error:
        return Outcome(text, error=str(error))
    except MemoryError:
        return Outcome(text, error="It needs more memory than there is; use fewer --workers.")
    except Exception as error:  # one model that fails must not cost the others
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return Outcome(text, error=f"Unexpected {said}.")


def _trained(study: Path, job: Job, models: Models | None, keeps: bool) -> Result:
    if models is None:
        from deepmusic.studies.models import MODELS

        models = MODELS
    if job.kind not in QUICK_KINDS:
        import torch

        torch.set_num_threads(1)  # as many workers as cores
    stamp = os.stat(study / "data" / "tracks.json").st_mtime_ns
    data = _data(study / "data", stamp)
    fold = _read_fold(_fold_path(study, job.fold_mark))
    work = work_folder(study, job)
    is_resumed = work.is_dir() and any(work.iterdir())
    work.mkdir(parents=True, exist_ok=True)
    peak = _PeakMemory()
    began = time.perf_counter()
    fitted = models[job.model].fit(data, fold, job.seed, work)
    trained = time.perf_counter()
    heard = np.asarray(fitted.predict_proba(data, fold.test), np.float64)
    done = time.perf_counter()
    peak_bytes = peak.bytes()
    _check(heard, (len(fold.test), len(data.genres)))
    if keeps:
        fitted.save(work / "model")
    _tidy(work, is_shown=keeps)
    tested = [data.dataset.tracks[place] for place in fold.test]
    truth = data.labels[list(fold.test)]
    return {
        **asdict(job),
        "tracks": len(truth),
        "correct": int((heard.argmax(axis=1) == truth).sum()),
        "trained_on": len(fold.train) + len(fold.validation),
        "seconds": round(trained - began, 4),
        "is_resumed": is_resumed,
        "seconds_per_track": round((done - trained) / len(truth), 7),
        "peak_memory_bytes": peak_bytes,
        "parameters": int(fitted.parameters),
        "version": __version__,
        "genres": list(data.genres),
        "truth": [track.genre for track in tested],
        "probabilities": _rows([track.path for track in tested], heard),
    }


def _rows(paths: Iterable[str], heard: NDArray[np.float64]) -> dict[str, list[float]]:
    return {
        path: [round(float(value), _EXACT) for value in row]
        for path, row in zip(paths, heard, strict=True)
    }


def _check(heard: NDArray[np.float64], shape: tuple[int, int]) -> None:
    if heard.shape != shape:
        raise DeepMusicError(
            f"It gave probabilities of shape {heard.shape}, not {shape} (tracks, genres)."
        )
    if not np.isfinite(heard).all() or (heard < -1e-6).any():
        raise DeepMusicError("It gave probabilities that are negative or no numbers.")
    if np.abs(heard.sum(axis=1) - 1).max() > 1e-3:
        raise DeepMusicError("It gave probabilities that do not add up to 1.")


def _keeps(job: Job, plan: Plan) -> bool:
    is_main = job.protocol == plan.config.protocol and job.size == 1
    return job.model == SHOWN_CAPSULES and is_main and job.seed == 0


def _tidy(work: Path, *, is_shown: bool) -> None:
    """Remove checkpoints, which fill the disk.

    Histories of epochs stay for the report; of networks that are shown also the model itself, and
    the weights of each network, which have the decoder too.
    """
    kept = {work / "config.json"}  # says which networks of a committee are validated
    for path in sorted(work.rglob("*"), reverse=True):  # what is in a folder before the folder
        is_of_model = is_shown and (work / "model" in path.parents or path.parent.name == "best")
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()  # refuses where something is left in it
            elif path.name != _HISTORY and path not in kept and not is_of_model:
                path.unlink()
    for folder in (work, work.parent):
        with suppress(OSError):
            folder.rmdir()


def _died(text: str) -> Outcome:
    return Outcome(text, error="It twice ended the process that worked on it; is memory enough?")


@lru_cache(maxsize=1)
def _data(folder: Path, stamp: int) -> StudyData:
    return read_study_data(folder)


def _fold_path(study: Path, mark: str) -> Path:
    return study / "data" / "folds" / f"{mark}.json"


@lru_cache(maxsize=64)
def _read_fold(path: Path) -> Fold:
    found = json.loads(path.read_text(encoding="utf-8"))
    return Fold(*(tuple(found[name]) for name in ("train", "validation", "test")))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@dataclass
class _PeakMemory:
    """The greatest size of this process since this object was made.

    Linux can start the count anew; elsewhere it is the greatest since the process began.
    """

    _is_exact: bool = field(init=False)

    def __post_init__(self) -> None:
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            self._is_exact = True
        except OSError:
            self._is_exact = False

    def bytes(self) -> int | None:
        if self._is_exact:
            with suppress(OSError, ValueError), open("/proc/self/status") as file:
                for line in file:
                    if line.startswith("VmHWM:"):
                        return 1024 * int(line.split()[1])
        try:
            import resource
        except ImportError:  # on Windows
            return None
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else 1024 * size
