"""Writing the report of a study into its folder: pages, pictures, and what the capsules use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmusic.errors import DeepMusicError
from deepmusic.files import make_folder
from deepmusic.plotting import save_png
from deepmusic.store import Store
from deepmusic.studies.data import StudyData
from deepmusic.studies.jobs import EXPLAINED_MODEL, study_results, work_folder
from deepmusic.studies.models import TABLE_KINDS
from deepmusic.studies.plan import StudyJob, StudyPlan
from deepmusic.studies.report import Report, Results, groups_by_path, make_report
from deepmusic.studies.report_pages import write_pages
from deepmusic.studies.report_pictures import (
    Picture,
    draw_curves,
    draw_map,
    draw_occlusion,
    draw_reconstruction,
    report_pictures,
)

if TYPE_CHECKING:
    from deepmusic.classifier import Classifier
    from deepmusic.studies.occlusion import TrackOcclusion

    KeptClassifiers = Sequence[tuple[StudyJob, Classifier]]

_CAPSULES, _MAP = "What the capsules use", "Map of the tracks"  # sections
_MAX_ON_MAP = 3000  # tracks; more points would hide each other


def write_report(
    data: StudyData,
    plan: StudyPlan,
    store: Store,
    study: Path,
    *,
    failures: Mapping[str, str] | None = None,
    about: Sequence[str] = (),
    explains: bool = True,
    on_progress: Callable[[int, int], object] | None = None,
) -> Report:
    """Write ``report.html``, ``report.md``, ``table.csv`` and ``pictures/`` from what is done.

    Args:
        data: as the plan was made for.
        plan: the jobs.
        store: the results; also keeps the occlusion of tracks.
        study: the folder of the study.
        failures: one sentence by key of a job that failed.
        about: sentences on the data, to come first.
        explains: whether to test explanations by occlusion where that was not done before.
        on_progress: called with the tracks explained and the tracks to explain.

    Raises:
        DeepMusicError: the folder cannot be written.
    """
    folder = make_folder(study / "pictures")
    for path in folder.glob("*.png"):  # of an earlier report
        path.unlink(missing_ok=True)
    results = study_results(store)
    missing: list[str] = []
    classifiers = _kept_classifiers(plan, results, study) if data.spectrograms else []
    pictures = [*_learning_curves(plan, results, study), *_map(data, plan, classifiers, missing)]
    tracks = _occlusions(data, plan, store, classifiers, missing, explains, on_progress)
    occlusion = None
    if tracks:
        from deepmusic.studies.occlusion import summarize

        occlusion = summarize(tracks, groups_by_path(data))
        pictures += _examples(data, tracks, classifiers, study, missing)
    report = make_report(data, plan, results, failures or {}, about, occlusion, missing)
    pictures = [*report_pictures(report), *pictures]
    for picture in pictures:
        if picture.figure is not None:
            save_png(picture.figure, folder / picture.file, dpi=110)
    write_pages(report, pictures, study)
    return report


def _learning_curves(plan: StudyPlan, results: Results, study: Path) -> Iterator[Picture]:
    """Loss and accuracy by epoch of the networks whose jobs are done."""
    histories: dict[str, list[list[dict[str, Any]]]] = {}
    for job in plan.main_jobs():
        if job.kind not in TABLE_KINDS and job.key in results:
            histories.setdefault(job.model, []).extend(read_histories(work_folder(study, job)))
    for measure in ("loss", "accuracy"):
        curves = {name: mean_curves(ours, measure) for name, ours in histories.items()}
        curves = {name: sides for name, sides in curves.items() if "train" in sides}
        if curves:
            file, figure = f"learning-{measure}.png", draw_curves(curves, measure)
            yield Picture(file, "Learning", "learning", figure, {"measure": measure})


def read_histories(folder: Path) -> list[list[dict[str, Any]]]:
    """The histories of a job's networks that have validation tracks of their own.

    In an ensemble these are its full networks, not those of textures alone.
    """
    from deepmusic.training.progress import read_history

    networks = 0
    with suppress(OSError, ValueError):
        networks = json.loads((folder / "config.json").read_text("utf-8")).get("networks", 0)
    runs = [folder / "networks" / str(number) for number in range(networks)]
    histories = []
    for run in runs or [folder]:
        with suppress(DeepMusicError):  # damaged since
            histories.append(read_history(run))
    return histories


def mean_curves(
    histories: Sequence[Sequence[Mapping[str, Any]]], measure: str
) -> dict[str, list[float]]:
    """Mean of a measure by epoch over the networks still in training, while at least half are.

    The keys are ``train`` and ``validation``, as far as histories have them.
    """
    import pandas as pd

    curves = {}
    for side in ("train", "validation"):
        by_epoch = pd.DataFrame(
            pd.Series(
                [r[side][measure] for r in records if measure in r.get(side, {})], dtype=float
            )
            for records in histories
        )
        training = by_epoch.count()
        if training.any():
            curves[side] = by_epoch.mean()[training >= training.max() / 2].tolist()
    return curves


def _map(
    data: StudyData, plan: StudyPlan, classifiers: KeptClassifiers, missing: list[str]
) -> Iterator[Picture]:
    """The map of tracks by the capsules of the first fold's network, else by their features."""
    indices = np.arange(len(data.labels))
    indices = indices[:: -(-len(indices) // _MAX_ON_MAP)]
    is_test = np.ones(len(indices), bool)
    if classifiers and classifiers[0][1].config.routing != "none":
        from deepmusic.studies.occlusion import genre_poses

        job, classifier = classifiers[0]
        vectors, content = genre_poses(classifier, data, indices), "poses of the genre capsules"
        is_test = np.isin(indices, plan.folds[job.fold_key].test)
    elif data.columns is not None:
        vectors, content = data.columns[indices], "feature columns"
    else:
        missing.append(f"{_MAP}: there are neither capsule networks nor feature columns.")
        return
    figure, explained = draw_map(vectors, data.labels[indices], is_test, data.genres)
    values = {"content": content, "explained": explained, "has_training": not is_test.all()}
    yield Picture("map.png", _MAP, "map", figure, values)


def _kept_classifiers(plan: StudyPlan, results: Results, study: Path) -> KeptClassifiers:
    """The capsule classifiers of the first seed, one per fold, as far as they were kept."""
    kept = []
    for job in plan.main_jobs([EXPLAINED_MODEL]):
        path = work_folder(study, job) / "model" / "weights.safetensors"
        if job.seed == 0 and job.key in results and path.exists():
            from deepmusic.classifier import Classifier

            with suppress(DeepMusicError):  # damaged since
                kept.append((job, Classifier.load(path, device="cpu")))
    return kept


def _occlusions(
    data: StudyData,
    plan: StudyPlan,
    store: Store,
    classifiers: KeptClassifiers,
    missing: list[str],
    explains: bool,
    on_progress: Callable[[int, int], object] | None,
) -> list[TrackOcclusion]:
    """The occlusion of test tracks, from the store or computed now."""
    if not classifiers:
        missing.append(f"{_CAPSULES}: no classifier of {EXPLAINED_MODEL!r} was trained.")
        return []
    from deepmusic.studies.occlusion import TrackOcclusion, occlude_tracks

    keys = " ".join(job.key for job, _ in classifiers)
    key = f"occlusion {hashlib.sha256(keys.encode()).hexdigest()[:16]}"
    record = store.get(key)
    if record is None and not explains:
        missing.append(f"{_CAPSULES}: not computed yet, since the run was interrupted.")
        return []
    if record is None:
        tested = [(classifier, plan.folds[job.fold_key].test) for job, classifier in classifiers]
        tracks, problems = occlude_tracks(data, tested, on_progress=on_progress)
        record = {"tracks": [track._asdict() for track in tracks], "problems": problems}
        store.put(key, record)
    missing += record["problems"]
    return [TrackOcclusion(**track) for track in record["tracks"]]


def _examples(
    data: StudyData,
    tracks: Sequence[TrackOcclusion],
    classifiers: KeptClassifiers,
    study: Path,
    missing: list[str],
) -> Iterator[Picture]:
    """The occlusion of all tracks, and examples with explanation and reconstruction."""
    from deepmusic.classifier.explanation import draw_explanation, explain
    from deepmusic.studies.occlusion import MAX_SECONDS, example_tracks, reconstruct

    yield Picture("occlusion.png", _CAPSULES, "occlusion", draw_occlusion(tracks))
    assert data.spectrograms is not None
    indices = {track.path: index for index, track in enumerate(data.dataset.tracks)}
    for number, track in enumerate(example_tracks(tracks)):
        job, classifier = classifiers[track.fold]
        index = indices[track.path]
        path = data.dataset.file(data.dataset.tracks[index])
        file = f"track-{number}.png"
        try:
            shown = explain(classifier, path, genre=track.genre, max_seconds=MAX_SECONDS)
            draw_explanation(shown, study / "pictures" / file, track.title)
            log_mel = data.spectrograms(index)
            rebuilt = reconstruct(work_folder(study, job), log_mel, track.genre)
        except DeepMusicError as error:
            missing.append(f"The picture of {track.path!r}: {error}")
            continue
        yield Picture(file, _CAPSULES, "track", None, {"track": track})
        if rebuilt is None:
            missing.append(f"The reconstruction of {track.path!r}: the network has no decoder.")
            continue
        file, figure = f"reconstruction-{number}.png", draw_reconstruction(rebuilt, track.title)
        yield Picture(file, _CAPSULES, "reconstruction", figure, {"track": track})
