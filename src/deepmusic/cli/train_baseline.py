"""``deepmusic train baseline``: any scikit-learn classifier on the 518 feature columns."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmusic.cli.figures import figures_summary
from deepmusic.cli.output import printable
from deepmusic.cli.progress import display
from deepmusic.parallel import use_one_thread

if TYPE_CHECKING:
    from deepmusic.datasets.splits import Protocol
    from deepmusic.studies.baseline_runs import TrainedBaseline


@click.command()
@click.option(
    "--data",
    metavar="PLACE",
    required=True,
    help="A folder with one folder of music a genre, a table of tracks, GTZAN, or FMA.",
)
@click.option(
    "--model",
    metavar="NAME|package.module:Class",
    default="logistic",
    show_default=True,
    help="majority, logistic, knn, svc-linear, svc-rbf, tree, forest, adaboost, boosting, mlp, "
    "naive-bayes, lda, qda, or the class of any classifier with scikit-learn's interface.",
)
@click.option(
    "--param",
    "params",
    metavar="NAME=VALUE",
    multiple=True,
    help="A parameter of the estimator, such as C=0.5; it is then not searched. Repeatable.",
)
@click.option(
    "--features",
    metavar="TABLE",
    help="Table of `features extract`, or FMA's features.csv.  [default: computed, and kept in "
    "RUN/features]",
)
@click.option(
    "--recipe",
    metavar="NAME",
    help="Of a TABLE in CSV, which cannot say: fma, fma-librosa, fma-corrected.  [default: fma]",
)
@click.option(
    "--out", metavar="RUN", help="Folder for all that is made.  [default: runs/NAME-OF-DIR-MODEL]"
)
@click.option(
    "--tracks",
    metavar="CSV",
    help="Table with the columns path, artist and, if wanted, genre and album.  "
    "[default: DIR/tracks.csv, else the files' tags]",
)
@click.option(
    "--test",
    metavar="SHARE",
    type=click.FloatRange(0, 0.5),
    default=0.2,
    show_default=True,
    help="Share of the tracks to keep for the test; 0 trains on all.",
)
@click.option(
    "--splits",
    metavar="FILE",
    help="Hold the test tracks of this file out, which `data split` wrote.",
)
@click.option(
    "--fold",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    help="Which fold of --splits, from 0.",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0, max=2**32 - 1),
    default=0,
    show_default=True,
    help="Another one, another draw.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that compute features.",
)
@click.pass_context
def baseline(
    ctx: click.Context,
    *,
    data: str,
    model: str,
    params: tuple[str, ...],
    features: str | None,
    recipe: str | None,
    out: str | None,
    tracks: str | None,
    test: float,
    splits: str | None,
    fold: int,
    seed: int,
    workers: int,
) -> None:
    """Train a scikit-learn classifier on the 518 features of FMA of the tracks in PLACE.

    Missing values are filled, columns are scaled, and hyper-parameters are searched within the
    training tracks. No artist stands on two sides of a split. Progress goes to standard error, the
    outcome to standard output; stopped, the same command goes on. Exit status: 0 all well, 1 some
    files could not be used or nothing could be trained, 2 wrong usage.
    """
    use_one_thread()  # results must not depend on the number of cores
    if ":" in model and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a class of one's own, beside one's data

    from deepmusic.studies.baseline_runs import train_baseline
    from deepmusic.studies.given_models import read_parameters

    run = Path(out) if out is not None else Path("runs") / _run_name(data, model)
    try:
        with _Watch() as watch:
            trained = train_baseline(
                data,
                run,
                model=model,
                parameters=read_parameters(params),
                features=features,
                recipe=recipe,
                table=tracks,
                test=test,
                splits=splits,
                fold=fold,
                seed=seed,
                workers=workers,
                on_progress=watch.on_progress,
            )
    except KeyboardInterrupt:
        click.echo("Stopped; to go on, give the same command again.", err=True)
        ctx.exit(130)
    _report(trained)
    ctx.exit(1 if trained.problems else 0)


def _run_name(data: str, model: str) -> str:
    place = Path(data).resolve()
    name = (place.stem if place.is_file() else place.name) or "music"
    kind = re.sub(r"[^\w.-]+", ".", model)
    return f"{name}-{kind}"


class _Watch(AbstractContextManager["_Watch"]):
    """Shows on standard error how far the features are."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._advance: Callable[[], None] | None = None
        self._what = ""

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Take how many are done of how many."""
        if what != "features":
            return  # looking at files takes no time that is worth a word
        if self._what != what:
            self._what = what
            click.echo(f"Computing features of {total} tracks.", err=True)
            self._advance = self._stack.enter_context(display(total)).advance
        assert self._advance is not None
        self._advance()
        if done == total:
            self._stack.close()


_WHOSE: dict[Protocol, str] = {
    "grouped": ", by artists it has not learned from",
    "official": " of the official split",
    "random": " drawn at random: their artists may stand on both sides",
}


def _report(trained: TrainedBaseline) -> None:
    """The outcome to standard output, what is wrong with the data to standard error."""
    for problem in trained.problems:
        # a sentence of a file's features names the whole path
        named = repr(problem.path)[1:-1] in problem.message
        said = problem.message if named else f"{problem.path}: {problem.message}"
        click.echo(printable(said), err=True)
    if trained.problems:
        count = len(trained.problems)
        click.echo(f"{count} {'file was' if count == 1 else 'files were'} left out.", err=True)
    for note in trained.notes:
        click.echo(printable(note), err=True)
    fitted = trained.model
    if fitted.searched:
        chosen = ", ".join(
            f"{name.rpartition('__')[2]} {value}" for name, value in fitted.settings.items()
        )
        if chosen:
            click.echo(printable(f"{fitted.name}: {chosen}, searched within the training tracks."))
    if "test" in trained.metrics:
        figures = trained.metrics["test"]
        click.echo(f"On {figures['tracks']} test tracks{_WHOSE[trained.protocol]}:")
        click.echo(figures_summary(figures), nl=False)
    elif "validation" in trained.metrics:
        figures = trained.metrics["validation"]
        click.echo(
            f"No test tracks were kept. On {figures['tracks']} tracks of inner folds, which also "
            "chose the hyper-parameters and the threshold, so that it flatters:"
        )
        click.echo(figures_summary(figures), nl=False)
    else:
        click.echo("No test tracks were kept: nothing is known of how well it hears.")
    run = printable(str(trained.run))
    click.echo(f"The run is in {run}; use it: deepmusic classify song.mp3 --model {run}")
