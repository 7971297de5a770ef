"""Pictures of a run: training and validation, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepmusic.files import write_atomically


def draw_history(
    history: Sequence[Mapping[str, Any]], folder: Path, *, best_epoch: int = 0
) -> list[Path]:
    """Draw ``loss.png`` and ``accuracy.png``, as far as the history has these measures.

    Args:
        history: records of the epochs.
        folder: where the pictures go.
        best_epoch: the epoch to mark, from 1; 0 for none.

    Returns:
        The pictures that were drawn.

    Raises:
        DeepMusicError: a picture cannot be written.
    """
    # Here and not above: matplotlib takes half a second that training alone can do without.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    drawn = []
    for measure in ("loss", "accuracy"):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for part, style in (("train", "--"), ("validation", "-")):
            points = [(r["epoch"], r[part][measure]) for r in history if measure in r[part]]
            if points:
                # a line of one point would be invisible
                axes.plot(*zip(*points, strict=True), style, label=part, marker=".")
        if not axes.lines:
            continue
        if best_epoch:
            axes.axvline(best_epoch, color="grey", linewidth=1, label=f"best: epoch {best_epoch}")
        if measure == "accuracy":
            axes.set_ylim(0, 1)
        axes.set(xlabel="epoch", ylabel=measure, title=f"{measure} by epoch".capitalize())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
        path = folder / f"{measure}.png"
        with write_atomically(path, "wb") as file:
            figure.savefig(file, format="png", dpi=120)
        drawn.append(path)
    return drawn
