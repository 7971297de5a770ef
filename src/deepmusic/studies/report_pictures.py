"""The pictures of a study's report, each a PNG file in its folder ``pictures``."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.files import write_atomically
from deepmusic.studies.comparison import heard
from deepmusic.studies.report import Report, Row
from deepmusic.studies.report_text import Picture, clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from deepmusic.studies.explanations import Explained

_COLOURS = {
    "features": "#5b7ea4",
    "textures": "#b0413e",
    "segments": "#8a8f98",
    "hybrid": "#3d9970",
    "average": "#8e6bb0",
    "capsules": "#e07b00",
}
_LINES = ("#e07b00", "#3b6fb0", "#3d9970", "#b0413e", "#8e6bb0", "#7a6a53", "#4fb0c6", "#555b65")
_BINS = 10
_OPEN = 4  # pictures of confusion that a page shows without being asked
_DPI = 110
_OTHER_LOSS = (
    ", and by the loss that is trained (of most capsules the margin loss), validation by the log "
    "loss: compare the courses, not the heights"
)


def draw_figures(report: Report, folder: Path) -> list[Picture]:
    """Draw what follows from the results alone: accuracy, genres, confusion, calibration, growth.

    Args:
        report: with at least one model, or nothing is drawn.
        folder: where the files go; it exists.

    Raises:
        DeepMusicError: a file cannot be written.
    """
    if not report.rows:
        return []
    found = [_accuracy(report, folder), _genres(report, folder)]
    shown = [row.name for row in report.shown][:_OPEN]
    order = sorted(report.rows, key=lambda row: (row.name not in shown, -row.accuracy))
    for number, row in enumerate(order):
        found.append(_confusion(report, row, folder, is_folded=number >= _OPEN))
    found.append(_reliability(report, folder))
    if len({size.tracks for size in report.sizes}) > 1:
        found.append(_sizes(report, folder))
    return found


def draw_histories(work: Mapping[str, Sequence[Path]], folder: Path) -> list[Picture]:
    """Draw loss and accuracy of networks over the epochs, training and validation.

    Args:
        work: by model, the folders in which its networks were trained; each ``history.jsonl`` at or
            below one is a network.
        folder: where the files go; it exists.

    Returns:
        A picture a measure that some history has.

    Raises:
        DeepMusicError: a file cannot be written.
    """
    histories = {name: list(_histories(folders)) for name, folders in work.items()}
    histories = {name: found for name, found in histories.items() if found}
    pictures = []
    for measure in ("loss", "accuracy"):
        curves = {
            name: _mean_curves(found, measure)
            for name, found in histories.items()
            if any(measure in record.get("train", {}) for record in found[0])
        }
        if not curves:
            continue
        figure, axes = _grid(len(curves), width=3.1, height=2.4, sharey=measure == "accuracy")
        for axis, (name, sides) in zip(axes, curves.items(), strict=False):
            for side, style, colour in (
                ("train", "--", "#8a8f98"),
                ("validation", "-", "#e07b00"),
            ):
                if side in sides:
                    epochs = np.arange(1, len(sides[side]) + 1)
                    axis.plot(epochs, sides[side], style, color=colour, label=side)
            axis.set_title(_plain(name), fontsize="medium")
            axis.grid(alpha=0.3)
        axes[0].legend(frameon=False, fontsize="small")
        figure.supxlabel("epoch", fontsize="medium")
        figure.supylabel(measure, fontsize="medium")
        _save(figure, folder / f"learning-{measure}.png")
        pictures.append(
            Picture(
                f"learning-{measure}.png",
                f"{measure} by epoch".capitalize(),
                "Mean over the networks that were still in training, of all folds and seeds; "
                "training dashed, validation solid. Training is measured with augmentation and "
                "dropout" + _OTHER_LOSS * (measure == "loss") + ".",
                "learning",
            )
        )
    return pictures


def draw_map(
    vectors: NDArray[np.floating],
    labels: Sequence[int],
    tested: Sequence[bool],
    genres: Sequence[str],
    of: str,
    folder: Path,
) -> Picture:
    """Draw tracks on two axes, by principal components and by t-SNE.

    Args:
        vectors: ``(tracks, numbers)``; NaN counts as the median of its column.
        labels: ``(tracks,)``, place of each genre.
        tested: ``(tracks,)``, whether the model has not learned from it.
        genres: names.
        of: what the vectors are, such as "poses of the genre capsules".
        folder: where the file goes; it exists.

    Raises:
        DeepMusicError: the file cannot be written.
    """
    from matplotlib.figure import Figure
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    scaled = _scaled(np.asarray(vectors, np.float64))
    kept = min(30, *scaled.shape)
    # a fixed solver: the automatic one draws at random for large tables
    components = PCA(kept, svd_solver="full").fit(scaled)
    places = components.transform(scaled)
    views = {"principal components": places[:, :2]}
    if len(scaled) >= 10:
        near = min(30.0, (len(scaled) - 1) / 3)
        maker = TSNE(perplexity=near, init="pca", learning_rate="auto", random_state=0)
        views["t-SNE"] = maker.fit_transform(places)
    figure = Figure(figsize=(5.2 * len(views), 4.6), layout="constrained")
    kind, test = np.asarray(labels), np.asarray(tested, bool)
    for axis, (name, points) in zip(
        np.atleast_1d(figure.subplots(1, len(views))), views.items(), strict=True
    ):
        if points.shape[1] < 2:
            points = np.column_stack([points[:, 0], np.zeros(len(points))])
        for number, genre in enumerate(genres):
            ours = kind == number
            colour = _colour(number, len(genres))
            axis.scatter(*points[ours & ~test].T, s=14, color=colour, alpha=0.35, linewidths=0)
            axis.scatter(
                *points[ours & test].T, s=26, color=colour, label=_legend(genre), linewidths=0
            )
        axis.set_title(name, fontsize="medium")
        axis.set_xticks([])
        axis.set_yticks([])
    figure.legend(
        *axis.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False
    )
    _save(figure, folder / "map.png")
    explained = 100 * float(components.explained_variance_ratio_[:2].sum())
    says = f"Two principal components hold {explained:.0f} % of the variance."
    if not test.all():
        says += " Strong points were not learned from, faint ones were."
    return Picture("map.png", f"Map of the tracks by {of}", says, "map")


def draw_occlusion(explained: Sequence[Explained], folder: Path) -> Picture:
    """Draw, for each track, what hiding the marked cells did against hiding others.

    Raises:
        DeepMusicError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 4.8), layout="constrained")
    axis = figure.add_subplot()
    for is_right, colour, label in (
        (True, "#e07b00", "genre right"),
        (False, "#5b7ea4", "genre wrong"),
    ):
        ours = [e for e in explained if (e.genre == e.truth) == is_right]
        axis.scatter(
            [100 * e.random for e in ours],
            [100 * e.marked for e in ours],
            s=16,
            color=colour,
            alpha=0.7,
            linewidths=0,
            label=label,
        )
    values = [100 * v for e in explained for v in (e.random, e.marked)]
    ends = min([0.0, *values]) - 2, max([0.0, *values]) + 2
    axis.plot(ends, ends, color="black", linewidth=0.8)
    axis.set(
        xlim=ends,
        ylim=ends,
        xlabel="points lost: the same pattern elsewhere",
        ylabel="points lost: marked cells",
    )
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    _save(figure, folder / "occlusion.png")
    return Picture(
        "occlusion.png",
        "Hiding what is marked, and hiding elsewhere",
        "A point a test track: above the line, the marked cells mattered more.",
        "hearing",
    )


def _accuracy(report: Report, folder: Path) -> Picture:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = report.rows[::-1]
    figure = Figure(figsize=(8, 0.8 + 0.27 * len(rows)), layout="constrained")
    axis = figure.add_subplot()
    for place, row in enumerate(rows):
        colour = _COLOURS[_group(row)]
        folds = [100 * value for value in row.score.folds.values()]
        axis.scatter(folds, [place] * len(folds), s=12, color=colour, alpha=0.3, linewidths=0)
        spread = 0.0 if math.isnan(row.over_seeds) else 100 * row.over_seeds
        axis.errorbar(
            100 * row.accuracy, place, xerr=spread, fmt="o", color=colour, capsize=3, markersize=6
        )
    axis.set_yticks(range(len(rows)), [_plain(row.name) for row in rows])
    axis.set_xlabel("tracks right, per cent")
    axis.grid(axis="x", alpha=0.3)
    axis.set_ylim(-0.7, len(rows) - 0.3)
    kinds = dict.fromkeys(_group(row) for row in report.rows)
    names = {"segments": "networks"}
    axis.legend(
        [Line2D([], [], marker="o", linestyle="", color=_COLOURS[kind]) for kind in kinds],
        [names.get(kind, kind) for kind in kinds],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
    )
    _save(figure, folder / "accuracy.png")
    return Picture(
        "accuracy.png",
        "Accuracy of all models",
        "Mean and standard deviation over seeds; small points are single folds.",
        "models",
    )


def _genres(report: Report, folder: Path) -> Picture:
    rows = report.rows[::-1]
    figure, axes = _grid(
        len(report.genres), width=2.6, height=0.7 + 0.2 * len(rows), sharey=True, sharex=True
    )
    for number, (genre, axis) in enumerate(zip(report.genres, axes, strict=False)):
        values = [100 * float(row.score.recall[number]) for row in rows]
        axis.barh(range(len(rows)), values, color=[_COLOURS[_group(row)] for row in rows])
        axis.set_title(_plain(genre), fontsize="medium")
        axis.set_xlim(0, 100)
        axis.grid(axis="x", alpha=0.3)
        axis.set_yticks(range(len(rows)), [_plain(row.name) for row in rows], fontsize="small")
    figure.supxlabel("tracks of the genre that are heard as it, per cent", fontsize="medium")
    _save(figure, folder / "genres.png")
    return Picture("genres.png", "Recall of each genre", "Models from the best down.", "genres")


def _confusion(report: Report, row: Row, folder: Path, *, is_folded: bool) -> Picture:
    from matplotlib.figure import Figure

    counts = row.score.confusion
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.2 + 0.55 * len(report.genres)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axis = figure.add_subplot()
    axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for y, x in np.ndindex(share.shape):
        dark = share[y, x] > 50
        axis.text(
            x, y, f"{share[y, x]:.0f}", ha="center", va="center", color="white" if dark else "black"
        )
    names = [_plain(_short(genre)) for genre in report.genres]
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="heard as", ylabel="truth")
    file = f"confusion-{row.name}.png"
    _save(figure, folder / file)
    return Picture(
        file,
        f"Confusion of {row.name}",
        "Per cent of each genre's tracks, all seeds together.",
        "genres",
        is_folded=is_folded,
    )


def _reliability(report: Report, folder: Path) -> Picture:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axis = figure.add_subplot()
    axis.plot([0, 100], [0, 100], color="black", linewidth=0.8)
    for number, row in enumerate(report.shown):
        rows, labels = heard(row.results)
        confidence, right = rows.max(axis=1), rows.argmax(axis=1) == labels
        bins = np.array_split(np.argsort(confidence, kind="stable"), min(_BINS, len(labels)))
        axis.plot(
            [100 * confidence[part].mean() for part in bins],
            [100 * right[part].mean() for part in bins],
            marker="o",
            markersize=4,
            color=_LINES[number % len(_LINES)],
            label=f"{_legend(row.name)}, error {100 * row.score.calibration:.1f}",
        )
    axis.set(xlim=(0, 100), ylim=(0, 100), xlabel="confidence, per cent", ylabel="right, per cent")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize="small")
    _save(figure, folder / "reliability.png")
    return Picture(
        "reliability.png",
        "Reliability",
        "Tracks in ten bins of equal count by confidence, all seeds together: below the line a "
        "model is too sure of itself.",
        "calibration",
    )


def _sizes(report: Report, folder: Path) -> Picture:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4), layout="constrained")
    axis = figure.add_subplot()
    for number, name in enumerate(dict.fromkeys(size.name for size in report.sizes)):
        ours = [size for size in report.sizes if size.name == name]
        axis.errorbar(
            [size.tracks for size in ours],
            [100 * size.accuracy for size in ours],
            yerr=[0.0 if math.isnan(size.spread) else 100 * size.spread for size in ours],
            marker="o",
            capsize=3,
            color=_LINES[number % len(_LINES)],
            label=_legend(name),
        )
    axis.set_xscale("log")
    ticks = sorted({round(size.tracks) for size in report.sizes})
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    axis.set(xlabel="tracks learned from", ylabel="tracks right, per cent")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    _save(figure, folder / "sizes.png")
    return Picture(
        "sizes.png",
        "Accuracy by the number of tracks",
        "Whole artists are left out of the training, the test stays as it is; bars are standard "
        "deviations over seeds.",
        "sizes",
    )


def _group(row: Row) -> str:
    return "capsules" if row.name.startswith("capsules") else row.kind


def _histories(folders: Sequence[Path]) -> Iterator[list[dict[str, Any]]]:
    for folder in folders:
        for path in sorted(folder.rglob("history.jsonl")):
            if not _is_validated(path.relative_to(folder).parts, folder):
                continue
            with suppress(OSError, ValueError):
                lines = path.read_text(encoding="utf-8").splitlines()
                records = [json.loads(line) for line in lines if line]
                if records:
                    yield records


def _is_validated(parts: tuple[str, ...], folder: Path) -> bool:
    """Whether a network of a committee speaks, and is validated on tracks that it did not learn.

    Judges only calibrate others, and the light networks learn from all tracks that they have.
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


def _mean_curves(histories: Sequence[Sequence[Mapping[str, Any]]], measure: str) -> dict[str, Any]:
    """Mean by side of those that still trained, epoch by epoch, while at least half do."""
    curves: dict[str, Any] = {}
    for side in ("train", "validation"):
        rows = [
            [float(r[side][measure]) for r in records if measure in r.get(side, {})]
            for records in histories
        ]
        rows = [row for row in rows if row]
        if not rows:
            continue
        lengths = sorted((len(row) for row in rows), reverse=True)
        whole = lengths[(len(lengths) - 1) // 2]
        curves[side] = [
            float(np.mean([row[epoch] for row in rows if len(row) > epoch]))
            for epoch in range(whole)
        ]
    return curves


def _scaled(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns without holes, of mean 0 and deviation 1; outliers count as eight deviations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column of holes only
        medians = np.nan_to_num(np.nanmedian(vectors, axis=0))
    filled = np.where(np.isnan(vectors), medians, vectors)
    deviation = filled.std(axis=0)
    scaled: NDArray[np.float64] = (filled - filled.mean(axis=0)) / np.where(
        deviation > 0, deviation, 1
    )
    return scaled.clip(-8, 8)


def _grid(
    panels: int, *, width: float, height: float, sharey: bool = False, sharex: bool = False
) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    columns = min(4, panels)
    rows = -(-panels // columns)
    figure = Figure(figsize=(width * columns + 0.6, height * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey, sharex=sharex).ravel()
    for axis in axes[panels:]:
        axis.set_visible(False)
    return figure, list(axes[:panels])


def _colour(number: int, of: int) -> Any:
    if of <= len(_LINES):
        return _LINES[number]
    import matplotlib

    return matplotlib.colormaps["turbo"]((number + 0.5) / of)


def _plain(text: str) -> str:
    """Text that matplotlib takes for no formula."""
    return clean(text).replace("$", r"\$")


def _legend(text: str) -> str:
    # a leading underscore would hide the entry
    return ("\u200b" if text.startswith("_") else "") + _plain(text)


def _short(text: str) -> str:
    return text if len(text) <= 16 else text[:15] + "…"


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings(), write_atomically(path, "wb") as file:
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script the font lacks
        figure.savefig(file, format="png", dpi=_DPI)
