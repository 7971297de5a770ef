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
from deepmusic.plotting import draw_confusion, new_figure, plain_text, save_png
from deepmusic.store import Store
from deepmusic.studies.data import StudyData
from deepmusic.studies.jobs import EXPLAINED_MODEL, study_results, work_folder
from deepmusic.studies.models import TABLE_KINDS
from deepmusic.studies.plan import Models, StudyJob, StudyPlan
from deepmusic.studies.report import ModelRow, Report, groups_by_path, make_report
from deepmusic.studies.report_pages import Picture, write_pages

if TYPE_CHECKING:
    from deepmusic.classifier import Classifier
    from deepmusic.studies.occlusion import TrackOcclusion

_SECTION = "What the capsules use"
_DPI = 110


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
    occlusion, explained = None, []
    classifiers = _kept_classifiers(plan, set(results), study) if data.spectrograms else []
    tracks = _occlusions(data, plan, store, classifiers, missing, explains, on_progress)
    if tracks:
        from deepmusic.studies.occlusion import summarize

        occlusion = summarize(tracks, groups_by_path(data))
        explained = [draw_occlusion(tracks, folder)]
        explained += _draw_examples(data, tracks, [c for _, c in classifiers], folder, missing)
    networks: dict[str, list[Path]] = {}
    for job in plan.main_jobs():
        if job.kind not in TABLE_KINDS and job.key in results:
            networks.setdefault(job.model, []).append(work_folder(study, job))
    texts = {"about": about, "missing": missing}
    report = make_report(
        data, plan, results, models, failures=failures, occlusion=occlusion, **texts
    )
    pictures = [*draw_confusions(report, folder), *draw_histories(networks, folder), *explained]
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
        missing.append(f"{_SECTION}: no classifier of {EXPLAINED_MODEL!r} was trained.")
        return []
    from deepmusic.studies.occlusion import TrackOcclusion, occlude_tracks

    keys = " ".join(job.key for job, _ in classifiers)
    key = f"occlusion {hashlib.sha256(keys.encode()).hexdigest()[:16]}"
    record = store.get(key)
    if record is None and not explains:
        missing.append(f"{_SECTION}: not computed yet, since the run was interrupted.")
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


def _draw_examples(
    data: StudyData,
    tracks: Sequence[TrackOcclusion],
    classifiers: Sequence[Classifier],
    folder: Path,
    missing: list[str],
) -> list[Picture]:
    """The explanation of one track per genre, and of an error."""
    from deepmusic.classifier.explanation import draw_explanation, explain
    from deepmusic.studies.occlusion import MAX_SECONDS, example_tracks

    files = {track.path: data.dataset.file(track) for track in data.dataset.tracks}
    pictures = []
    for number, track in enumerate(example_tracks(tracks)):
        verdict = "correct" if track.genre == track.truth else f"in truth {track.truth}"
        file, title = f"track-{number}.png", f"{track.path}: {track.genre}, {verdict}"
        try:
            explanation = explain(
                classifiers[track.fold],
                files[track.path],
                genre=track.genre,
                max_seconds=MAX_SECONDS,
            )
            draw_explanation(explanation, folder / file, title)
        except DeepMusicError as error:
            missing.append(f"The picture of {track.path!r}: {error}")
            continue
        caption = (
            f"Probability {track.probability:.0%}. Orange cells are evidence for the genre, blue "
            f"ones against it. Hiding the marked tenth lowers the probability by "
            f"{100 * track.marked:.1f} points, hiding elsewhere by {100 * track.random:.1f}."
        )
        pictures.append(Picture(file, title, caption, _SECTION))
    return pictures


def draw_confusions(report: Report, folder: Path) -> list[Picture]:
    """Draw the confusion matrices of the reference and of the best model of each kind."""
    best: dict[str, ModelRow] = {}
    for row in report.rows:
        best.setdefault("reference" if row.name == report.reference else row.kind, row)
    pictures = []
    for row in best.values():
        counts = row.score.confusion
        size = 2.2 + 0.55 * len(report.genres)
        figure = new_figure(size + 0.8, size)
        shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        draw_confusion(figure.add_subplot(), shares.round(), report.genres)
        file = f"confusion-{row.name}.png"
        save_png(figure, folder / file, dpi=_DPI)
        caption = "Per cent of each genre's tracks, all seeds together."
        pictures.append(Picture(file, f"Confusion of {row.name}", caption, "Genres"))
    return pictures


def draw_histories(work: Mapping[str, Sequence[Path]], folder: Path) -> list[Picture]:
    """Draw loss and accuracy by epoch of the networks below each model's folders."""
    histories = {name: list(read_histories(folders)) for name, folders in work.items()}
    pictures = []
    for measure in ("loss", "accuracy"):
        curves = {name: mean_curves(found, measure) for name, found in histories.items()}
        curves = {name: sides for name, sides in curves.items() if "train" in sides}
        if not curves:
            continue
        columns = min(4, len(curves))
        rows = -(-len(curves) // columns)
        figure = new_figure(3.1 * columns + 0.6, 2.4 * rows + 0.4)
        grid = figure.subplots(rows, columns, squeeze=False, sharey=measure == "accuracy")
        axes = grid.ravel()
        for axis in axes[len(curves) :]:
            axis.set_visible(False)
        for axis, (name, sides) in zip(axes, curves.items(), strict=False):
            for side, style, color in (("train", "--", "#8a8f98"), ("validation", "-", "#e07b00")):
                if side in sides:
                    epochs = np.arange(1, len(sides[side]) + 1)
                    axis.plot(epochs, sides[side], style, color=color, label=side)
            axis.set_title(plain_text(name), fontsize="medium")
            axis.grid(alpha=0.3)
        axes[0].legend(frameon=False, fontsize="small")
        figure.supxlabel("epoch", fontsize="medium")
        figure.supylabel(measure, fontsize="medium")
        caption = (
            "Mean over the networks that were still in training, of all folds and seeds; training "
            "dashed, validation solid. Training is measured with augmentation and dropout."
        )
        if measure == "loss":
            caption += (
                " It is the loss that is minimized (for most capsules the margin loss), whereas "
                "validation is the log loss: compare the shapes, not the heights."
            )
        file, title = f"learning-{measure}.png", f"{measure} by epoch".capitalize()
        save_png(figure, folder / file, dpi=_DPI)
        pictures.append(Picture(file, title, caption, "Learning"))
    return pictures


def draw_occlusion(tracks: Sequence[TrackOcclusion], folder: Path) -> Picture:
    """Draw, for each track, the effect of hiding the marked cells against hiding others."""
    figure = new_figure(5.4, 4.8)
    axis = figure.add_subplot()
    for is_right, color in ((True, "#e07b00"), (False, "#5b7ea4")):
        ours = [t for t in tracks if (t.genre == t.truth) == is_right]
        axis.scatter(
            [100 * t.random for t in ours],
            [100 * t.marked for t in ours],
            s=16,
            color=color,
            alpha=0.7,
            linewidths=0,
            label="classified correctly" if is_right else "misclassified",
        )
    values = [100 * v for t in tracks for v in (t.random, t.marked)]
    ends = min([0.0, *values]) - 2, max([0.0, *values]) + 2
    axis.plot(ends, ends, color="black", linewidth=0.8)
    axis.set(xlim=ends, ylim=ends)
    axis.set_xlabel("points lost: the same pattern elsewhere")
    axis.set_ylabel("points lost: marked cells")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    title = "Hiding what is marked, and hiding elsewhere"
    caption = "One point per test track; above the line, the marked cells mattered more."
    save_png(figure, folder / "occlusion.png", dpi=_DPI)
    return Picture("occlusion.png", title, caption, _SECTION)


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
