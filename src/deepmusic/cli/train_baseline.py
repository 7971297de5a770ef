"""``deepmusic train baseline``: any scikit-learn classifier on the 518 feature columns."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.options import MUSIC, SPLITS, WORKERS, option
from deepmusic.cli.output import TEST_TRACKS, print_training, printable, report_problems
from deepmusic.cli.progress import display, resumable
from deepmusic.parallel import use_one_thread

if TYPE_CHECKING:
    from deepmusic.studies.train_baseline import TrainedBaseline


@click.command()
@MUSIC
@option(
    "--model NAME|package.module:Class",
    "majority, logistic, knn, svc-linear, svc-rbf, tree, forest, adaboost, boosting, mlp, "
    "naive-bayes, lda, qda, or the class of any classifier with scikit-learn's interface.",
    default="logistic",
)
@option(
    "--param NAME=VALUE",
    "A parameter of the estimator, such as C=0.5; it is fixed, not searched. Repeatable.",
    name="params",
    multiple=True,
)
@option(
    "--features TABLE",
    "Table of `features extract`, or FMA's features.csv.  [default: computed, and kept in "
    "RUN/features]",
)
@option(
    "--recipe NAME",
    "Recipe of a TABLE in CSV, which does not name it: fma, fma-librosa, fma-corrected.  "
    "[default: fma]",
)
@option("--out RUN", "Folder for all results.  [default: runs/NAME-OF-DIR-MODEL]")
@SPLITS
@option(
    "--seed N", "Of the split and the model.", type=click.IntRange(min=0, max=2**32 - 1), default=0
)
@WORKERS
@click.pass_context
def baseline(
    ctx: click.Context,
    /,
    *,
    data: str,
    model: str,
    params: tuple[str, ...],
    out: str | None,
    workers: int,
    **options: Any,
) -> None:
    """Train a scikit-learn classifier on the 518 features of FMA of the tracks in DATA.

    Missing values are filled, columns are scaled, and hyper-parameters are searched within the
    training tracks. No artist is on two sides of a split. Progress goes to standard error, the
    result to standard output; after an interruption, run the same command again. Exit status: 0 all
    well, 1 some files could not be used or nothing could be trained, 2 wrong usage.
    """
    use_one_thread()  # results must not depend on the number of cores
    if ":" in model and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # your own class, beside your data

    from deepmusic.studies.sklearn_class import read_parameters
    from deepmusic.studies.train_baseline import BaselineConfig, train_baseline

    config = BaselineConfig(model=model, parameters=read_parameters(params), **options)
    with resumable(), display() as screen:
        trained = train_baseline(
            data,
            Path("runs") / _run_name(data, model) if out is None else out,
            config,
            workers=workers,
            on_progress=lambda stage, done, total: screen.advance(done, total, stage),
        )
    _report(trained)
    ctx.exit(1 if trained.problems else 0)


def _run_name(data: str, model: str) -> str:
    path = Path(data).resolve()
    name = (path.stem if path.is_file() else path.name) or "music"
    kind = re.sub(r"[^\w.-]+", ".", model)
    return f"{name}-{kind}"


def _report(trained: TrainedBaseline) -> None:
    """Print the result to standard output, problems with the data to standard error."""
    report_problems(trained.problems, trained.notes)
    fitted, metrics = trained.model, trained.metrics
    if fitted.settings:
        chosen = ", ".join(f"{name.rpartition('__')[2]} {v}" for name, v in fitted.settings.items())
        click.echo(printable(f"{fitted.name}: {chosen}, searched within the training tracks."))
    figures, tracks = metrics.get("test"), TEST_TRACKS[trained.protocol]
    if figures is None:
        figures = metrics.get("validation")
        tracks = "tracks of inner folds, which also selected hyper-parameters and threshold"
        caution = "the accuracy is not known" if figures is None else "these figures are optimistic"
        click.echo(f"No test tracks were held out; {caution}.")
    print_training(figures, tracks, trained.run)
