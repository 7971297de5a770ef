"""The pictures of a study's report: each plot is a function from figures of the study to a plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.plotting import (
    draw_confusion,
    genre_colors,
    legend_label,
    new_figure,
    plain_text,
)
from deepmusic.studies.report import ModelRow, Report, SizeRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from deepmusic.studies.occlusion import Reconstruction, TrackOcclusion

_KIND_COLORS = {
    "features": "#5b7ea4",
    "textures": "#b0413e",
    "ear": "#2a9db0",
    "segments": "#8a8f98",
    "hybrid": "#3d9970",
    "average": "#8e6bb0",
    "capsules": "#e07b00",
}
_OPEN_CONFUSIONS = 3


class Picture(NamedTuple):
    """A picture of the report."""

    file: str  # its name in the folder of pictures
    section: str  # title of the section that it belongs to
    text: str  # block of the template of texts that has its title and caption
    figure: Figure | None = None  # None where the file is written already
    values: Mapping[str, Any] = {}  # for the text
    is_folded: bool = False  # whether a page shows it on demand only


def report_pictures(report: Report) -> Iterator[Picture]:
    """The plots of the figures in a report."""
    if not report.rows:
        return
    yield Picture("accuracy.png", "Models", "accuracy", draw_accuracy(report.rows))
    yield Picture("recall.png", "Genres", "recall", draw_recall(report))
    highlights = report.highlights
    names = {row.name for row in highlights}
    by_interest = sorted(report.rows, key=lambda row: row.name not in names)
    for number, row in enumerate(by_interest):
        file, figure = f"confusion-{row.name}.png", draw_model_confusion(row, report.genres)
        is_folded = number >= _OPEN_CONFUSIONS
        yield Picture(file, "Genres", "confusion", figure, {"model": row.name}, is_folded)
    yield Picture("reliability.png", "Calibration", "reliability", draw_reliability(highlights))
    if len({size.tracks for size in report.sizes}) > 1:
        yield Picture("sizes.png", "Number of tracks", "sizes", draw_sizes(report.sizes))


def draw_accuracy(rows: Sequence[ModelRow]) -> Figure:
    """Accuracy of each model: mean over seeds, standard deviation, and single folds."""
    figure, axes = _axes(8, 0.9 + 0.27 * len(rows), "x", xlabel="accuracy (% of tracks)")
    kinds: dict[str, Any] = {}
    for y, row in enumerate(rows):
        kind = "capsules" if row.name.startswith("capsules") else row.model.kind
        color = _KIND_COLORS[kind]
        folds = [100 * accuracy for accuracy in row.score.folds.values()]
        axes.scatter(folds, [y] * len(folds), s=12, alpha=0.3, linewidths=0, color=color)
        deviation = 100 * np.nan_to_num(row.seed_spread)
        kinds[kind] = axes.errorbar(
            100 * row.accuracy, y, xerr=deviation, fmt="o", capsize=3, markersize=6, color=color
        )
    cut = ["" if row.is_complete else f" ({row.jobs} of {row.wanted} jobs)" for row in rows]
    names = [plain_text(row.name + suffix) for row, suffix in zip(rows, cut, strict=True)]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)  # the best at the top
    if len(kinds) > 1:
        labels = ["networks" if kind == "segments" else kind for kind in kinds]
        _legend(axes, list(kinds.values()), labels)
    return figure


def draw_recall(report: Report) -> Figure:
    """Recall of each genre by the highlighted models, among those of all models."""
    height = 0.9 + 0.5 * len(report.genres)
    figure, axes = _axes(8, height, "x", xlabel="recall (% of the genre's tracks)", xlim=(-2, 102))
    y = np.arange(len(report.genres))
    highlights = report.highlights
    names = {row.name for row in highlights}
    for row in report.rows:
        if row.name not in names:
            axes.scatter(100 * row.score.recall, y, s=60, marker="|", color="#c4c8ce")
    offsets = np.arange(len(highlights)) / 8
    for offset, color, row in zip(
        offsets - offsets.mean(),
        genre_colors([row.name for row in highlights]),
        highlights,
        strict=True,
    ):
        label = legend_label(row.name)
        axes.scatter(100 * row.score.recall, y + offset, s=30, color=color, label=label)
    axes.set_yticks(y, [plain_text(genre, 24) for genre in report.genres])
    axes.set_ylim(len(y) - 0.5, -0.5)
    _legend(axes)
    return figure


def draw_model_confusion(row: ModelRow, genres: Sequence[str]) -> Figure:
    """The confusion matrix of a model, in per cent of each genre's tracks."""
    size = 2.2 + 0.55 * len(genres)
    figure = new_figure(size, size - 0.4)
    counts = row.score.confusion
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    draw_confusion(figure.add_subplot(), shares.round(), genres)
    return figure


def draw_reliability(rows: Sequence[ModelRow]) -> Figure:
    """Accuracy by confidence of some models."""
    limits: dict[str, Any] = {"xlim": (0, 100), "ylim": (0, 100)}
    figure, axes = _axes(7.5, 4.8, xlabel="confidence (%)", ylabel="accuracy (%)", **limits)
    axes.plot([0, 100], [0, 100], color="black", linewidth=0.8)
    for color, row in zip(genre_colors([row.name for row in rows]), rows, strict=True):
        confidence, accuracy = 100 * row.score.reliability
        label = f"{legend_label(row.name)}, {100 * row.score.calibration:.1f}"
        axes.plot(confidence, accuracy, marker="o", markersize=4, color=color, label=label)
    _legend(axes)
    return figure


def draw_sizes(sizes: Sequence[SizeRow]) -> Figure:
    """Accuracy over the number of training tracks, one line per model."""
    figure, axes = _axes(7, 4, xlabel="training tracks", ylabel="accuracy (% of tracks)")
    names = dict.fromkeys(size.name for size in sizes)
    for color, name in zip(genre_colors(list(names)), names, strict=True):
        tracks, accuracy, deviation = np.array([size[1:] for size in sizes if size.name == name]).T
        bars = {"yerr": 100 * np.nan_to_num(deviation), "marker": "o", "capsize": 3}
        axes.errorbar(tracks, 100 * accuracy, color=color, label=legend_label(name), **bars)
    ticks = sorted({size.tracks for size in sizes})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    _legend(axes)
    return figure


def draw_curves(curves: Mapping[str, Mapping[str, Sequence[float]]], measure: str) -> Figure:
    """A measure by epoch, one panel per network; ``curves`` are by network and side."""
    from matplotlib.ticker import MaxNLocator

    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    figure = new_figure(3.1 * columns + 0.6, 2.4 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=measure == "accuracy").ravel()
    for axes in grid[len(curves) :]:
        axes.set_visible(False)
    for axes, (name, sides) in zip(grid, curves.items(), strict=False):
        for side, style, color in (("train", "--", "#8a8f98"), ("validation", "-", "#e07b00")):
            if side in sides:
                epochs = np.arange(1, len(sides[side]) + 1)
                axes.plot(epochs, sides[side], style, color=color, label=side)
        axes.set_title(plain_text(name), fontsize="medium")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    handles = grid[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper right", ncols=2, frameon=False)
    figure.supxlabel("epoch", fontsize="medium")
    figure.supylabel(measure, fontsize="medium")
    return figure


def draw_map(
    vectors: NDArray[np.floating],
    labels: NDArray[np.integer],
    is_test: NDArray[np.bool_],
    genres: Sequence[str],
) -> tuple[Figure, float]:
    """A map of tracks: two principal components, and t-SNE of the first thirty.

    Columns are standardized, outliers count as eight deviations, NaN as the median.

    Args:
        vectors: ``(tracks, columns)``, of three tracks or more.
        labels: ``(tracks,)``, index of the genre.
        is_test: ``(tracks,)``; the others are drawn faintly.
        genres: their names.

    Returns:
        The figure, and the share of the variance that the two components explain.
    """
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer
    from sklearn.manifold import TSNE
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaler = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
    )
    scaled = scaler.fit_transform(np.asarray(vectors, np.float64)).clip(-8, 8)
    # a fixed solver, as the automatic one is random for large tables
    pca = PCA(min(30, *scaled.shape), svd_solver="full")
    components = pca.fit_transform(scaled)
    perplexity = min(30.0, (len(scaled) - 1) / 3)
    embedded = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(components)
    figure = new_figure(10.4, 5)
    panels = figure.subplots(1, 2)
    for axes, name, points in zip(
        panels, ("principal components", "t-SNE"), (components[:, :2], embedded), strict=True
    ):
        for index, color in enumerate(genre_colors(genres)):
            x, y = points[labels == index].T
            test = is_test[labels == index]
            axes.scatter(x[~test], y[~test], s=14, color=color, alpha=0.35, linewidths=0)
            label = legend_label(plain_text(genres[index], 24))
            axes.scatter(x[test], y[test], s=26, color=color, linewidths=0, label=label)
        axes.set(title=name, xticks=[], yticks=[])
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=6, frameon=False)
    return figure, float(pca.explained_variance_ratio_[:2].sum())


def draw_occlusion(tracks: Sequence[TrackOcclusion]) -> Figure:
    """The effect of hiding the marked cells of each track against hiding others."""
    points = 100 * np.array([(track.random, track.marked) for track in tracks])
    ends = min(0.0, points.min()) - 2, max(0.0, points.max()) + 2
    figure, axes = _axes(7.5, 4.8, xlim=ends, ylim=ends)
    axes.set(xlabel="points lost: the same pattern elsewhere", ylabel="points lost: marked cells")
    is_right = np.array([track.genre == track.truth for track in tracks])
    for ours, color, label in (
        (is_right, "#e07b00", "classified correctly"),
        (~is_right, "#5b7ea4", "misclassified"),
    ):
        x, y = points[ours].T
        axes.scatter(x, y, s=16, color=color, alpha=0.7, linewidths=0, label=label)
    axes.plot(ends, ends, color="black", linewidth=0.8)
    _legend(axes)
    return figure


def draw_reconstruction(reconstruction: Reconstruction, title: str) -> Figure:
    """The coarse image of a segment beside its reconstruction from the genre's capsule."""
    figure = new_figure(8, 3.2)
    figure.suptitle(plain_text(title), fontsize="medium")
    limit = float(np.abs(reconstruction.original).max())
    extent = (reconstruction.start_s, reconstruction.end_s, 0.0, len(reconstruction.original))
    colors: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("original", "rebuilt"), strict=True):
        values = getattr(reconstruction, name)
        image = axes.imshow(values, origin="lower", aspect="auto", extent=extent, **colors)
        axes.set(title=name, xlabel="time (s)")
    panels[0].set_ylabel("mel band")
    figure.colorbar(image, ax=panels, label="standard deviations")
    return figure


def _axes(
    width: float, height: float, grid: Literal["both", "x"] = "both", **settings: Any
) -> tuple[Figure, Axes]:
    """A figure of this size in inches with one plot, and its settings as of ``Axes.set``."""
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    axes.grid(axis=grid, alpha=0.3)
    axes.set(**settings)
    return figure, axes


def _legend(axes: Axes, *entries: Any) -> None:
    """A legend beside the plot, where it covers nothing."""
    axes.legend(*entries, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
