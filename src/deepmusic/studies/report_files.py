"""Writing the report of a study into its folder: pages, pictures, and what the capsules use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmusic.errors import DeepMusicError, os_reason
from deepmusic.store import Store
from deepmusic.studies.data import StudyData
from deepmusic.studies.jobs import EXPLAINED_MODEL, study_results, work_folder
from deepmusic.studies.models import TABLE_KINDS
from deepmusic.studies.plan import Models, StudyJob, StudyPlan
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

_CAPSULES, _MAP = "What the capsules use", "Map of the tracks"  # sections
_MAX_ON_MAP = 3000  # tracks; more points would hide each other


def write_report(
    data: StudyData,
    plan: StudyPlan,
    store: Store,
    study: Path,
    models: Models,
    *,
    failures: Mapping[str, str] | None = None,
    about: Sequence[str] = (),
    explains: bool = True,
    on_progress: Callable[[int, int], object] | None = None,
) -> Report:
    """Write ``report.html``, ``report.md``, ``table.csv`` and ``pictures/`` from what is done.

    Args:
        data: of the study.
        plan: of the study.
        models: by name.
        store: the results; also keeps the occlusion of tracks.
        study: the folder of the study.
        failures: one sentence by key of a job that failed.
        about: sentences on the data, to come first.
        explains: whether to test explanations by occlusion where that was not done before.
        on_progress: called with the tracks explained and the tracks to explain.

    Raises:
        DeepMusicError: the folder cannot be written.
    """
    folder = study / "pictures"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeepMusicError(f"{folder} cannot be created: {os_reason(error)}.") from error
    for path in folder.glob("*.png"):  # of an earlier report
        path.unlink(missing_ok=True)
    results = study_results(store)
    missing: list[str] = []
    classifiers = _kept_classifiers(plan, set(results), study) if data.spectrograms else []
    pictures = [*_learning_curves(plan, results, study), *_map(data, plan, classifiers, missing)]
    tracks = _occlusions(data, plan, store, classifiers, missing, explains, on_progress)
    occlusion = None
    if tracks:
        from deepmusic.studies.occlusion import summarize

        occlusion = summarize(tracks, groups_by_path(data))
        pictures += _examples(data, tracks, classifiers, study, missing)
    texts = {"about": about, "missing": missing}
    report = make_report(
        data, plan, results, models, failures=failures, occlusion=occlusion, **texts
    )
    pictures = [*report_pictures(report), *pictures]
    for picture in pictures:
        picture.save(folder)
    write_pages(report, pictures, study)
    return report


def _kept_classifiers(
    plan: StudyPlan, done: set[str], study: Path
) -> list[tuple[StudyJob, Classifier]]:
    """The capsule classifiers of the first seed, one per fold, as far as they were kept."""
    kept = []
    for job in plan.main_jobs([EXPLAINED_MODEL]):
        path = work_folder(study, job) / "model" / "weights.safetensors"
        if job.seed == 0 and job.key in done and path.exists():
            from deepmusic.classifier import Classifier

            with suppress(DeepMusicError):  # damaged since
                kept.append((job, Classifier.load(path, device="cpu")))
    return kept


def _occlusions(
    data: StudyData,
    plan: StudyPlan,
    store: Store,
    classifiers: Sequence[tuple[StudyJob, Classifier]],
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
        tracks, problems = occlude_tracks(
            data,
            [(classifier, plan.folds[job.fold_key].test) for job, classifier in classifiers],
            on_progress=on_progress,
        )
        record = {"tracks": [track._asdict() for track in tracks], "problems": problems}
        store.put(key, record)
    missing += record["problems"]
    return [TrackOcclusion(**track) for track in record["tracks"]]


def _examples(
    data: StudyData,
    tracks: Sequence[TrackOcclusion],
    classifiers: Sequence[tuple[StudyJob, Classifier]],
    study: Path,
    missing: list[str],
) -> Iterator[Picture]:
    """The occlusion of all tracks, and examples with explanation and reconstruction."""
    from deepmusic.classifier.explanation import draw_explanation, explain
    from deepmusic.studies.occlusion import MAX_SECONDS, example_tracks, reconstruct

    yield Picture(
        "occlusion.png",
        "Hiding what is marked, and hiding elsewhere",
        "One point per test track; above the line, the marked cells mattered more.",
        _CAPSULES,
        draw_occlusion(tracks),
    )
    indices = {track.path: index for index, track in enumerate(data.dataset.tracks)}
    has_decoders = True
    for number, track in enumerate(example_tracks(tracks)):
        verdict = "correct" if track.genre == track.truth else f"in truth {track.truth}"
        file, title = f"track-{number}.png", f"{track.path}: {track.genre}, {verdict}"
        job, classifier = classifiers[track.fold]
        index = indices[track.path]
        try:
            explanation = explain(
                classifier,
                data.dataset.file(data.dataset.tracks[index]),
                genre=track.genre,
                max_seconds=MAX_SECONDS,
            )
            draw_explanation(explanation, study / "pictures" / file, title)
            assert data.spectrograms is not None
            log_mel = data.spectrograms(index)
            reconstruction = reconstruct(work_folder(study, job), log_mel, track.genre)
        except DeepMusicError as error:
            missing.append(f"The picture of {track.path!r}: {error}")
            continue
        caption = (
            f"Probability {track.probability:.0%}. Orange cells are evidence for the genre, blue "
            f"ones against it. Hiding the marked tenth lowers the probability by "
            f"{100 * track.marked:.1f} points, hiding elsewhere by {100 * track.random:.1f}."
        )
        yield Picture(file, title, caption, _CAPSULES)
        if reconstruction is None:
            has_decoders = False
            continue
        yield Picture(
            f"track-{number}-reconstruction.png",
            f"{track.path}: reconstruction",
            f"The segment in which the capsule of {track.genre} is longest, averaged to 16 "
            "columns, and what the decoder makes of the pose of that capsule alone.",
            _CAPSULES,
            draw_reconstruction(reconstruction, f"{track.path}: {track.genre}"),
        )
    if not has_decoders:
        missing.append("Reconstructions: some networks have no decoder.")


def _map(
    data: StudyData,
    plan: StudyPlan,
    classifiers: Sequence[tuple[StudyJob, Classifier]],
    missing: list[str],
) -> Iterator[Picture]:
    """The map of tracks by the capsules of the first fold's network, else by their features."""
    indices = np.arange(len(data.labels))
    indices = indices[:: -(-len(indices) // _MAX_ON_MAP)]
    is_test = np.ones(len(indices), bool)
    faint = ""
    if classifiers and classifiers[0][1].config.routing != "none":
        from deepmusic.studies.occlusion import genre_poses

        job, classifier = classifiers[0]
        vectors, content = genre_poses(classifier, data, indices), "poses of the genre capsules"
        is_test = np.isin(indices, plan.folds[job.fold_key].test)
        faint = " Strong points are test tracks, faint ones were trained on."
    elif data.columns is not None:
        vectors, content = data.columns[indices], "feature columns"
    else:
        missing.append(f"{_MAP}: there are neither capsule networks nor feature columns.")
        return
    figure, explained = draw_map(vectors, data.labels[indices], is_test, data.genres)
    yield Picture(
        "map.png",
        f"{_MAP} by {content}",
        f"The two principal components hold {explained:.0%} of the variance.{faint}",
        _MAP,
        figure,
    )


def _learning_curves(plan: StudyPlan, results: Results, study: Path) -> Iterator[Picture]:
    """Loss and accuracy by epoch of the networks whose jobs are done."""
    folders: dict[str, list[Path]] = {}
    for job in plan.main_jobs():
        if job.kind not in TABLE_KINDS and job.key in results:
            folders.setdefault(job.model, []).append(work_folder(study, job))
    histories = {name: list(read_histories(ours)) for name, ours in folders.items()}
    for measure in ("loss", "accuracy"):
        curves = {name: mean_curves(records, measure) for name, records in histories.items()}
        curves = {name: sides for name, sides in curves.items() if "train" in sides}
        if not curves:
            continue
        caption = (
            "Mean over the networks that were still in training, of all folds and seeds. Training "
            "is measured with augmentation and dropout."
        )
        if measure == "loss":
            caption += (
                " It is the loss that is minimized (for most capsules the margin loss), whereas "
                "validation is the log loss: compare the shapes, not the heights."
            )
        yield Picture(
            f"learning-{measure}.png",
            f"{measure} by epoch".capitalize(),
            caption,
            "Learning",
            draw_curves(curves, measure),
        )


def read_histories(folders: Sequence[Path]) -> Iterator[list[dict[str, Any]]]:
    """Training histories of networks with validation tracks of their own, below some folders."""
    for folder in folders:
        for path in sorted(folder.rglob("history.jsonl")):
            if not _is_validated(path.relative_to(folder).parts, folder):
                continue
            with suppress(OSError, ValueError):
                lines = path.read_text(encoding="utf-8").splitlines()
                yield [json.loads(line) for line in lines if line]


def mean_curves(
    histories: Sequence[Sequence[Mapping[str, Any]]], measure: str
) -> dict[str, list[float]]:
    """Mean of a measure by epoch over the networks still in training, while at least half are.

    The keys are ``train`` and ``validation``, as far as histories have them.
    """
    curves: dict[str, list[float]] = {}
    for side in ("train", "validation"):
        rows = [
            [float(r[side][measure]) for r in records if measure in r.get(side, {})]
            for records in histories
        ]
        lengths = sorted((len(row) for row in rows if row), reverse=True)
        if lengths:
            curves[side] = [
                float(np.mean([row[epoch] for row in rows if len(row) > epoch]))
                for epoch in range(lengths[(len(lengths) - 1) // 2])
            ]
    return curves


def _is_validated(parts: tuple[str, ...], folder: Path) -> bool:
    """Whether a history is of a network that is validated on tracks that it is not trained on.

    In an ensemble, networks for calibration and those of textures alone are not.
    """
    if parts[0] == "calibration":
        return False
    if parts[0] != "networks":
        return True
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return int(parts[1]) < int(config["networks"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
