"""Running the jobs of a study; each result is stored at once, so that a kill loses little.

Results are kept in ``results.db``, a ``Store``, under the key of the job, which covers the data,
the fold, the model and the version of DeepMusic: a second run does what is missing, and results of
other data or versions are ignored.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import DeepMusicError
from deepmusic.files import make_folder
from deepmusic.parallel import map_files
from deepmusic.store import Store
from deepmusic.studies.ensembles import combine
from deepmusic.studies.plan import StudyJob, StudyPlan
from deepmusic.version import __version__

if TYPE_CHECKING:
    from deepmusic.studies.data import StudyData

JobRecord = Mapping[str, Any]
"""A result as it is stored: the fields of its job, ``tracks`` and ``correct`` (numbers of test
tracks), ``trained_on`` (number of training tracks), ``seconds``, ``seconds_per_track``,
``peak_memory_bytes``, ``parameters``, ``genres``, ``truth`` (one genre per test track) and
``probabilities`` (path -> one number per genre), in the order of ``truth``."""

EXPLAINED_MODEL = "capsules"
"""The model whose networks of the first seed are kept, for the report to explain."""

_DECIMALS = 6  # of a probability


@dataclass(frozen=True)
class JobResult:
    """The result of a job, or the reason why there is none."""

    path: str  # key of the job; deepmusic.parallel.map_files needs it by this name
    record: JobRecord | None = None  # what is stored
    error: str = ""  # one sentence on why there is no record
    is_skipped: bool = False  # whether the time budget was used up before the job began


def open_results(study: Path) -> Store:
    """The store of results in the folder of a study; created if missing."""
    return Store(study / "results.db", "study results")


def study_results(store: Store) -> dict[str, JobRecord]:
    """The results in a store, by the key of their job."""
    return {key: record for key, record in store.items() if "model" in record}


def records_of(results: Mapping[str, JobRecord], jobs: Iterable[StudyJob]) -> list[JobRecord]:
    """The results of those jobs that are done."""
    return [results[job.key] for job in jobs if job.key in results]


def run_jobs(
    data: StudyData,
    plan: StudyPlan,
    study: Path,
    store: Store,
    *,
    workers: int = 1,
    dask: str | None = None,
    seconds: float | None = None,
) -> Iterator[JobResult]:
    """Do the jobs that have no result yet, and yield the results, in any order, once stored.

    Args:
        data: as the plan was made for.
        plan: the jobs.
        study: folder of the study; gets ``work/``.
        store: gets each record before it is yielded.
        workers: as in ``deepmusic.parallel.map_files``.
        dask: likewise; all machines see the same folders.
        seconds: no job begins later than this.

    Raises:
        DeepMusicError: the folder cannot be written, or the cluster cannot be reached.
    """
    missing = [key for key in dict.fromkeys(job.key for job in plan.jobs) if key not in store]
    if not missing:
        return
    study = study.absolute()
    deadline = None if seconds is None else time.time() + seconds
    with tempfile.TemporaryDirectory(dir=study) as folder:
        inputs: Any = (data, plan)
        if workers > 1 or dask is not None:  # written once, instead of pickled for every job
            inputs = Path(folder) / "inputs.joblib"
            joblib.dump((data, plan), inputs)
        function = partial(_run_job, inputs=inputs, study=study, deadline=deadline)
        for result in map_files(function, missing, _crashed, workers=workers, dask=dask):
            if result.record is not None:
                store.put(result.path, result.record)
            yield result


def _run_job(
    key: str,
    *,
    inputs: tuple[StudyData, StudyPlan] | Path,  # or the file that they were written to
    study: Path,
    deadline: float | None,  # as of time.time
) -> JobResult:
    """Do the job of this key; errors become a sentence."""
    if deadline is not None and time.time() > deadline:
        return JobResult(key, is_skipped=True)
    try:
        data, plan = _read_inputs(inputs) if isinstance(inputs, Path) else inputs
        return JobResult(key, _train_and_test(data, plan, plan.by_key[key], study))
    except DeepMusicError as error:
        return JobResult(key, error=str(error))
    except MemoryError:
        return JobResult(key, error="Not enough memory; use fewer --workers.")
    except Exception as error:  # one model that fails must not stop the others
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return JobResult(key, error=f"Unexpected {reason}.")


@lru_cache(maxsize=1)
def _read_inputs(path: Path) -> tuple[StudyData, StudyPlan]:
    inputs: tuple[StudyData, StudyPlan] = joblib.load(path, mmap_mode="r")
    return inputs


def _crashed(key: str) -> JobResult:
    return JobResult(key, error="It crashed its worker process twice; is there enough memory?")


def _train_and_test(data: StudyData, plan: StudyPlan, job: StudyJob, study: Path) -> dict[str, Any]:
    """Train the model of a job on its fold and predict its test tracks; the record to store."""
    fold = plan.folds[job.fold_key]
    work = work_folder(study, job)
    is_resumed = work.is_dir() and any(work.iterdir())
    make_folder(work)
    _reset_peak_memory()
    began = time.perf_counter()
    fitted = plan.models[job.model].fit(data, fold, job.seed, work)
    trained = time.perf_counter()
    predicted = np.asarray(fitted.predict_proba(data, fold.test), np.float64)
    done = time.perf_counter()
    peak_bytes = _peak_memory()
    _check(predicted, (len(fold.test), len(data.genres)))
    is_kept = job.model == EXPLAINED_MODEL and plan.is_main(job) and job.seed == 0
    if is_kept:
        fitted.save(work / "model")
    _remove_checkpoints(work, keeps_weights=is_kept)
    tested = [data.dataset.tracks[index] for index in fold.test]
    truth = data.labels[list(fold.test)]
    return {
        **asdict(job),
        "tracks": len(truth),
        "correct": int((predicted.argmax(axis=1) == truth).sum()),
        "trained_on": len(fold.train) + len(fold.validation),
        "seconds": round(trained - began, 4),
        "is_resumed": is_resumed,
        "seconds_per_track": round((done - trained) / len(truth), 7),
        "peak_memory_bytes": peak_bytes,
        "parameters": int(fitted.parameters),
        "version": __version__,
        "genres": list(data.genres),
        "truth": [track.genre for track in tested],
        "probabilities": _by_path([track.path for track in tested], predicted),
    }


def pool_ensembles(plan: StudyPlan, store: Store) -> None:
    """Pool hybrids and averages whose parts are all done, and store them as results.

    Seconds and parameters are the sums over the parts.
    """
    for job, parts in plan.ensemble_jobs():
        records = [record for part in parts if (record := store.get(part.key)) is not None]
        if job.key in store or len(records) < len(parts):
            continue
        first = records[0]
        paths = list(first["probabilities"])
        rows = {r["model"]: np.array([r["probabilities"][path] for path in paths]) for r in records}
        pooled = combine(job.model, rows)
        truth = [first["genres"].index(genre) for genre in first["truth"]]
        peaks = [r["peak_memory_bytes"] for r in records if r["peak_memory_bytes"] is not None]
        record = {
            **first,
            **asdict(job),
            "parts": [part.model for part in parts],
            "correct": int((pooled.argmax(axis=1) == truth).sum()),
            "is_resumed": any(r["is_resumed"] for r in records),
            "peak_memory_bytes": max(peaks, default=None),
            "probabilities": _by_path(paths, pooled),
        }
        for name in ("seconds", "seconds_per_track", "parameters"):
            record[name] = sum(r[name] for r in records)
        store.put(job.key, record)


def work_folder(study: Path, job: StudyJob) -> Path:
    """Where a job works, and keeps the training history of its networks."""
    size = "" if job.size == 1 else f"-{100 * job.size:g}"
    name = f"{job.protocol}{size}-seed{job.seed}-fold{job.fold}-{job.key[:8]}"
    return study / "work" / job.model / name


def _by_path(paths: Iterable[str], rows: NDArray[np.float64]) -> dict[str, list[float]]:
    return dict(zip(paths, rows.round(_DECIMALS).tolist(), strict=True))


def _check(predicted: NDArray[np.float64], shape: tuple[int, int]) -> None:
    if predicted.shape != shape:
        raise DeepMusicError(
            f"Its probabilities have shape {predicted.shape}, not {shape} (tracks, genres)."
        )
    if not np.isfinite(predicted).all() or (predicted < -1e-6).any():
        raise DeepMusicError("Its probabilities are negative or not finite.")
    if np.abs(predicted.sum(axis=1) - 1).max() > 1e-3:
        raise DeepMusicError("Its probabilities do not sum to 1.")


def _remove_checkpoints(work: Path, *, keeps_weights: bool) -> None:
    """Delete all but training histories and, if asked, the model with its networks' weights."""
    content = sorted(work.rglob("*"), reverse=True)  # of a folder before the folder
    for path in (*content, work, *work.parents[:2]):
        is_weights = work / "model" in path.parents or path.parent.name == "best"
        # config.json says which networks of an ensemble are validated
        is_kept = path.name == "history.jsonl" or path == work / "config.json"
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()  # fails where something is left in it
            elif not is_kept and not (keeps_weights and is_weights):
                path.unlink()


def _reset_peak_memory() -> None:
    with suppress(OSError):  # only Linux can
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> int | None:
    """Peak memory of this process in bytes since the reset; None where it is not known."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return None
