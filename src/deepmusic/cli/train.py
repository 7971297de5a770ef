"""``deepmusic train``: models of your own music."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.figures import figures_summary
from deepmusic.cli.options import RUN, SPLITS, TRAINING, at_least
from deepmusic.cli.output import named_line, printable
from deepmusic.cli.progress import display, show_training
from deepmusic.cli.train_baseline import baseline
from deepmusic.errors import CheckpointError
from deepmusic.parallel import is_main_process

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
    help="A folder with one folder of music per genre, a table of tracks, GTZAN, or FMA.",
)
@RUN
@SPLITS
@click.option(
    "--networks",
    metavar="N",
    type=at_least(1),
    default=1,
    show_default=True,
    help="Full networks, each validated on tracks that it does not learn from; four networks of "
    "textures alone, which learn from all tracks, are added.",
)
@TRAINING
@click.option("--workers", metavar="N", type=at_least(0), help="Processes that load segments.")
@click.option(
    "--cache", metavar="DIR", help="Folder for the spectrograms.  [default: RUN/spectrograms]"
)
@click.pass_context
def classifier(
    ctx: click.Context,
    /,
    *,
    data: str,
    out: str | None,
    resume: bool,
    tracks: str | None,
    test: float,
    splits: str | None,
    fold: int,
    networks: int,
    cache: str | None,
    **training: Any,
) -> None:
    """Train a classifier of the genres in DIR/GENRE/*.

    No artist is on two sides of a split. Progress goes to standard error, results to standard
    output. Exit status: 0 all well, 1 some files could not be used or nothing could be trained,
    2 wrong usage. Several processes share the work under `torchrun`.
    """
    run, main = _run_folder(data, out, resume=resume), is_main_process()

    from deepmusic.classifier.training import DEFAULT_TRAINING, train_classifier

    with _stopped_by_interrupt(ctx), _classifier_progress() as (on_spectrogram, on_progress):
        trained = train_classifier(
            data,
            run,
            table=tracks,
            test=test if splits is None else (splits, fold),
            networks=networks,
            training=_training_config(DEFAULT_TRAINING, training),
            cache=cache,
            resume=resume,
            on_progress=on_progress if main else None,
            on_spectrogram=on_spectrogram if main else None,
        )
    if main:  # torchrun ends the main process if another one fails
        _report(trained)
        ctx.exit(1 if trained.problems else 0)


@train.command()
@click.option(
    "--data",
    metavar="DIR",
    required=True,
    help="A folder with one folder of MIDI files per style, or that of the public data sets.",
)
@RUN
@click.option("--excerpts", metavar="N", type=at_least(1), help="Excerpts of 16 bars in one pass.")
@TRAINING
@click.pass_context
def composer(
    ctx: click.Context,
    /,
    *,
    data: str,
    out: str | None,
    resume: bool,
    excerpts: int | None,
    **training: Any,
) -> None:
    """Train a composer of the styles in DIR/STYLE/*.mid.

    About eight pieces of ten are learned from, chosen by a hash of their notes; the others are for
    validation and test. Progress goes to standard error, results to standard output. Exit status:
    0 all well, 1 some files could not be used or nothing could be trained, 2 wrong usage.
    """
    run, main = _run_folder(data, out, resume=resume), is_main_process()

    from deepmusic.composer.training import DEFAULT_TRAINING, EXCERPTS, train_composer
    from deepmusic.datasets import load_midi_folder, load_styles
    from deepmusic.datasets.symbolic import has_styles

    dataset = load_styles(data) if has_styles(data) else load_midi_folder(data, steps_per_beat=4)
    if main:
        sides = ("train", "validation", "test")
        counts = ", ".join(f"{len(getattr(dataset, side))} {side}" for side in sides)
        click.echo(f"{counts} pieces.", err=True)
    with _stopped_by_interrupt(ctx), show_training() as on_progress:
        trained = train_composer(
            dataset,
            run,
            training=_training_config(DEFAULT_TRAINING, training),
            excerpts=excerpts or EXCERPTS,
            resume=resume,
            on_progress=on_progress if main else None,
        )
    if main:
        _report_composer(trained)
        ctx.exit(1 if trained.problems else 0)


def _run_folder(data: str, out: str | None, *, resume: bool) -> Path:
    """The folder of a run, which exists if the run is to be resumed."""
    run = Path(out) if out is not None else Path("runs") / (Path(data).resolve().name or "music")
    if resume and not run.is_dir():
        raise CheckpointError(f"There is no run at {run} to resume; omit --resume.")
    return run


def _training_config(default: TrainingConfig, options: dict[str, Any]) -> TrainingConfig:
    return replace(default, **{name: v for name, v in options.items() if v is not None})


@contextmanager
def _stopped_by_interrupt(ctx: click.Context) -> Iterator[None]:
    """Say how to continue after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if is_main_process():
            where = str(stop).partition(";")[0] or "Stopped"
            click.echo(f"{where}; to continue, run the same command with --resume.", err=True)
        ctx.exit(130)


@contextmanager
def _classifier_progress() -> Iterator[
    tuple[Callable[[int, int], None], Callable[[int, int, Progress], None]]
]:
    """Callbacks that show the spectrograms that are done, then the training of each network."""
    with ExitStack() as stack:
        bar = show = None
        current, started = 0, 0.0

        def on_spectrogram(done: int, total: int) -> None:
            nonlocal bar
            if bar is None:
                click.echo(f"Computing the spectrograms of {total} tracks.", err=True)
                bar = stack.enter_context(display(total, unit="tracks"))
            bar.advance()
            if done == total:
                stack.close()

        def on_progress(network: int, networks: int, progress: Progress) -> None:
            nonlocal show, current, started
            if show is None:
                show = stack.enter_context(show_training())
            if network != current:
                current, started = network, time.monotonic()
                click.echo(f"Network {network} of {networks}", err=True)
            # the remaining networks are assumed to take as long as this one
            this_s = time.monotonic() - started + progress.seconds_left
            left_s = progress.seconds_left + (networks - network) * this_s
            show(replace(progress, seconds_left=left_s))

        yield on_spectrogram, on_progress


def report_problems(problems: Sequence[Problem]) -> None:
    """Report on standard error which files could not be used."""
    for problem in problems:
        click.echo(named_line(problem.path, problem.message), err=True)
    if problems:
        count = len(problems)
        click.echo(f"{count} {'file was' if count == 1 else 'files were'} not used.", err=True)


def _report_composer(trained: TrainedComposer) -> None:
    report_problems(trained.problems)
    run = printable(str(trained.run))
    for side, figures in trained.metrics.items():
        by_style = ", ".join(f"{s} {n:.2f}" for s, n in figures["without_pose"].items())
        click.echo(f"{side.capitalize()} pieces, nats per step: {by_style}")
    style = printable(trained.composer.styles[0])
    click.echo(f"The run is in {run}; use it: deepmusic generate --model {run} --style {style}")


def _report(trained: Trained) -> None:
    report_problems(trained.problems)
    for note in trained.notes:
        click.echo(printable(note), err=True)
    run = printable(str(trained.run))
    figures = trained.metrics.get("test")
    if figures is None:
        figures = trained.metrics["validation"]
        click.echo(
            f"No test tracks were held out. On {figures['tracks']} validation tracks, which also "
            "chose the weights and the threshold, so these figures are optimistic:"
        )
    else:
        click.echo(f"On {figures['tracks']} test tracks by artists it has not learned from:")
    click.echo(figures_summary(figures), nl=False)
    click.echo(f"The run is in {run}; use it: deepmusic classify song.mp3 --model {run}")
