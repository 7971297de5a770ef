"""``deepmusic train``: models of one's own music."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from deepmusic.cli.figures import figures_summary
from deepmusic.cli.output import printable
from deepmusic.cli.progress import display
from deepmusic.cli.train_baseline import baseline
from deepmusic.errors import CheckpointError

if TYPE_CHECKING:
    from deepmusic.classifier.training import Trained
    from deepmusic.composer import TrainedComposer
    from deepmusic.datasets import Problem
    from deepmusic.training import Progress, TrainingConfig


@click.group()
def train() -> None:
    """Train a model of your own."""


train.add_command(baseline)


@train.command()
@click.option(
    "--data",
    metavar="DIR",
    required=True,
    help="A folder with one folder of music a genre, a table of tracks, GTZAN, or FMA.",
)
@click.option(
    "--out", metavar="RUN", help="Folder for all that is made.  [default: runs/NAME-OF-DIR]"
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
    "--networks",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Full networks, each validated on tracks that it does not learn from; four light ones, "
    "which learn from all, come on top.",
)
@click.option("--epochs", metavar="N", type=click.IntRange(min=1), help="Most passes a network.")
@click.option("--batch-size", metavar="N", type=click.IntRange(min=1), help="Segments a step.")
@click.option(
    "--learning-rate", metavar="R", type=click.FloatRange(min=0, min_open=True), help="The highest."
)
@click.option(
    "--patience",
    metavar="N",
    type=click.IntRange(min=1),
    help="Stop a network after N epochs without a better validation.",
)
@click.option("--seed", metavar="N", type=click.IntRange(min=0), help="Another one, another draw.")
@click.option("--workers", metavar="N", type=click.IntRange(min=0), help="Processes that load.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
)
@click.option(
    "--compile/--no-compile",
    "compiled",
    default=None,
    help="Compile the network first: worth its minutes on a GPU.",
)
@click.option(
    "--cache", metavar="DIR", help="Folder for the spectrograms.  [default: RUN/spectrograms]"
)
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped or killed.")
@click.pass_context
def classifier(
    ctx: click.Context,
    *,
    data: str,
    out: str | None,
    tracks: str | None,
    test: float,
    splits: str | None,
    fold: int,
    networks: int,
    cache: str | None,
    resume: bool,
    device: Literal["auto", "cpu", "cuda", "mps"],
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    patience: int | None,
    seed: int | None,
    workers: int | None,
    compiled: bool | None,
) -> None:
    """Train a classifier of the genres in DIR/GENRE/*.

    No artist stands on two sides of a split. Progress goes to standard error, the outcome to
    standard output. Exit status: 0 all well, 1 some files could not be used or nothing could be
    trained, 2 wrong usage. Several processes share the work under `torchrun`.
    """
    run, main = _run_folder(data, out, resume=resume), _is_main()

    from deepmusic.classifier.training import DEFAULT_TRAINING, train_classifier

    training = _chosen(
        DEFAULT_TRAINING,
        device=device,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        seed=seed,
        workers=workers,
        compiled=compiled,
    )
    try:
        with _Watch() as watch:
            trained = train_classifier(
                data,
                run,
                table=tracks,
                test=test,
                splits=splits,
                fold=fold,
                networks=networks,
                training=training,
                cache=cache,
                resume=resume,
                on_progress=watch.on_progress if main else None,
                on_spectrogram=watch.on_spectrogram if main else None,
            )
    except KeyboardInterrupt as stop:
        _tell_stopped(stop)
        ctx.exit(130)
    if not main:
        return  # with 0: at the first failure torchrun ends the main process before it has spoken
    _report(trained)
    ctx.exit(1 if trained.problems else 0)


@train.command()
@click.option(
    "--data",
    metavar="DIR",
    required=True,
    help="A folder with one folder of MIDI files a style, or that of the public data sets.",
)
@click.option(
    "--out", metavar="RUN", help="Folder for all that is made.  [default: runs/NAME-OF-DIR]"
)
@click.option("--epochs", metavar="N", type=click.IntRange(min=1), help="Most passes.")
@click.option(
    "--excerpts", metavar="N", type=click.IntRange(min=1), help="Excerpts of 16 bars in a pass."
)
@click.option("--batch-size", metavar="N", type=click.IntRange(min=1), help="Excerpts a step.")
@click.option(
    "--learning-rate", metavar="R", type=click.FloatRange(min=0, min_open=True), help="The highest."
)
@click.option(
    "--patience",
    metavar="N",
    type=click.IntRange(min=1),
    help="Stop after N epochs without a better validation.",
)
@click.option("--seed", metavar="N", type=click.IntRange(min=0), help="Another one, another draw.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
)
@click.option(
    "--compile/--no-compile",
    "compiled",
    default=None,
    help="Compile the network first: worth its minutes on a GPU.",
)
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped or killed.")
@click.pass_context
def composer(
    ctx: click.Context,
    *,
    data: str,
    out: str | None,
    resume: bool,
    device: Literal["auto", "cpu", "cuda", "mps"],
    excerpts: int | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    patience: int | None,
    seed: int | None,
    compiled: bool | None,
) -> None:
    """Train a composer of the styles in DIR/STYLE/*.mid.

    Of ten pieces about eight are learned from, by a hash of their notes; the others say how well it
    goes. Progress goes to standard error, the outcome to standard output. Exit status: 0 all well,
    1 some files could not be used or nothing could be trained, 2 wrong usage.
    """
    run, main = _run_folder(data, out, resume=resume), _is_main()

    from deepmusic.composer.training import DEFAULT_TRAINING, EXCERPTS, train_composer
    from deepmusic.datasets import load_midi_folder, load_styles
    from deepmusic.datasets.symbolic import has_styles
    from deepmusic.training import show_progress

    training = _chosen(
        DEFAULT_TRAINING,
        device=device,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        seed=seed,
        compiled=compiled,
    )
    dataset = load_styles(data) if has_styles(data) else load_midi_folder(data, steps_per_beat=4)
    if main:
        counts = ", ".join(
            f"{len(getattr(dataset, side))} {side}" for side in ("train", "validation", "test")
        )
        click.echo(f"{counts} pieces.", err=True)
    try:
        with ExitStack() as stack:
            trained = train_composer(
                dataset,
                run,
                training=training,
                excerpts=excerpts or EXCERPTS,
                resume=resume,
                on_progress=stack.enter_context(show_progress()) if main else None,
            )
    except KeyboardInterrupt as stop:
        _tell_stopped(stop)
        ctx.exit(130)
    if not main:
        return
    _report_composer(trained)
    ctx.exit(1 if trained.problems else 0)


def _run_folder(data: str, out: str | None, *, resume: bool) -> Path:
    """The folder of a run; where a run is to be resumed it must be there."""
    run = Path(out) if out is not None else Path("runs") / (Path(data).resolve().name or "music")
    if resume and not run.is_dir():
        raise CheckpointError(f"There is no run at {run} to resume; leave --resume away.")
    return run


def _is_main() -> bool:
    """Whether this process speaks for all, under torchrun or alone."""
    return int(os.environ.get("RANK", "0")) == 0


def _chosen(default: TrainingConfig, **options: Any) -> TrainingConfig:
    """The default settings but for what was asked."""
    return replace(default, **{name: v for name, v in options.items() if v is not None})


def _tell_stopped(stop: KeyboardInterrupt) -> None:
    """Say how to go on after Ctrl-C."""
    if _is_main():
        where = str(stop).partition(";")[0] or "Stopped"
        click.echo(f"{where}; to go on, give the same command with --resume.", err=True)


def _report_composer(trained: TrainedComposer) -> None:
    """The outcome to standard output, what could not be used to standard error."""
    _report_problems(trained.problems)
    run = printable(str(trained.run))
    for side, figures in trained.metrics.items():
        by_style = ", ".join(f"{s} {n:.2f}" for s, n in figures["without_pose"].items())
        click.echo(f"{side.capitalize()} pieces, nats a step: {by_style}")
    style = trained.composer.styles[0]
    click.echo(
        f"The run is in {run}; use it: deepmusic generate --model {run} --style {printable(style)}"
    )


class _Watch(AbstractContextManager["_Watch"]):
    """Shows on standard error how far a training is: the spectrograms, then each network."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._advance: Callable[[], None] | None = None
        self._show: Callable[[Progress], None] | None = None
        self._network = 0
        self._begun = 0.0

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def on_spectrogram(self, done: int, total: int) -> None:
        """Take how many of the tracks are heard."""
        if self._advance is None:
            click.echo(f"Hearing {total} tracks.", err=True)
            self._advance = self._stack.enter_context(display(total)).advance
        self._advance()
        if done == total:
            self._stack.close()

    def on_progress(self, network: int, networks: int, progress: Progress) -> None:
        """Take where the training of a network, from 1, is."""
        from deepmusic.training import show_progress

        if self._show is None:
            self._stack.close()
            self._show = self._stack.enter_context(show_progress())
        if network != self._network:
            self._network, self._begun = network, time.monotonic()
            click.echo(f"Network {network} of {networks}", err=True)
        # the networks to come are taken to need as long as this one
        this_s = time.monotonic() - self._begun + progress.seconds_left
        left_s = progress.seconds_left + (networks - network) * this_s
        self._show(replace(progress, seconds_left=left_s))


def _report_problems(problems: Sequence[Problem]) -> None:
    for problem in problems:
        named = problem.message.startswith(f"{problem.path}: ")
        said = problem.message if named else f"{problem.path}: {problem.message}"
        click.echo(printable(said), err=True)
    if problems:
        count = len(problems)
        click.echo(f"{count} {'file was' if count == 1 else 'files were'} left out.", err=True)


def _report(trained: Trained) -> None:
    """The outcome to standard output, what is wrong with the data to standard error."""
    _report_problems(trained.problems)
    for note in trained.notes:
        click.echo(printable(note), err=True)
    run = printable(str(trained.run))
    figures = trained.metrics.get("test")
    if figures is None:
        figures = trained.metrics["validation"]
        click.echo(
            f"No test tracks were kept. On {figures['tracks']} validation tracks, which also chose "
            "the weights and the threshold, so that it flatters:"
        )
    else:
        click.echo(f"On {figures['tracks']} test tracks by artists it has never heard:")
    click.echo(figures_summary(figures), nl=False)
    click.echo(f"The run is in {run}; use it: deepmusic classify song.mp3 --model {run}")
