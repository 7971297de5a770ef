"""``deepmusic train classifier`` and ``train composer``: models of your own music."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.options import MUSIC, RUN, SPLITS, TRAINING, at_least, option
from deepmusic.cli.output import TEST_TRACKS, print_training, printable, report_problems
from deepmusic.cli.progress import Display, display, resumable, training_progress
from deepmusic.errors import CheckpointError
from deepmusic.parallel import is_main_process

if TYPE_CHECKING:
    from deepmusic.classifier.training import Trained
    from deepmusic.composer import TrainedComposer
    from deepmusic.training import Progress

_RESUME = "run the same command with --resume"


@click.command()
@MUSIC
@RUN
@SPLITS
@option(
    "--networks N",
    "Full networks, each validated on tracks that it does not learn from; four networks of "
    "textures alone, which learn from all tracks, are added.",
    type=at_least(1),
    default=1,
)
@TRAINING
@option("--workers N", "Processes that load segments.", type=at_least(0))
@option("--cache DIR", "Folder for the spectrograms.  [default: RUN/spectrograms]")
@click.pass_context
def classifier(
    ctx: click.Context,
    /,
    *,
    data: str,
    out: str | None,
    resume: bool,
    table: str | None,
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
    run = _run_folder(data, out, resume=resume)

    from deepmusic.classifier.training import DEFAULT_TRAINING, train_classifier

    with resumable(_RESUME), display(unit="tracks") as screen:
        callbacks = _classifier_progress(screen) if is_main_process() else {}
        trained = train_classifier(
            data,
            run,
            table=table,
            test=test if splits is None else (splits, fold),
            networks=networks,
            training=replace(DEFAULT_TRAINING, **_given(training)),
            cache=cache,
            resume=resume,
            **callbacks,
        )
    if is_main_process():  # torchrun ends the main process if another one fails
        _report(trained)
        ctx.exit(1 if trained.problems else 0)


@click.command()
@option(
    "--data DIR",
    "A folder with one folder of MIDI files per style, or that of the public data sets.",
    required=True,
)
@RUN
@option("--excerpts N", "Excerpts of 16 bars in one pass.", type=at_least(1))
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
    run = _run_folder(data, out, resume=resume)

    from deepmusic.composer.training import DEFAULT_TRAINING, EXCERPTS, train_composer
    from deepmusic.datasets import load_midi_folder, load_styles
    from deepmusic.datasets.symbolic import has_styles

    dataset = load_styles(data) if has_styles(data) else load_midi_folder(data, steps_per_beat=4)
    if is_main_process():
        sides = ("train", "validation", "test")
        counts = ", ".join(f"{len(getattr(dataset, side))} {side}" for side in sides)
        click.echo(f"{counts} pieces.", err=True)
    with resumable(_RESUME), display() as screen:
        trained = train_composer(
            dataset,
            run,
            training=replace(DEFAULT_TRAINING, **_given(training)),
            excerpts=excerpts or EXCERPTS,
            resume=resume,
            on_progress=training_progress(screen) if is_main_process() else None,
        )
    if is_main_process():
        _report_composer(trained)
        ctx.exit(1 if trained.problems else 0)


def _run_folder(data: str, out: str | None, *, resume: bool) -> Path:
    """The folder of a run, which exists if the run is to be resumed."""
    run = Path(out) if out is not None else Path("runs") / (Path(data).resolve().name or "music")
    if resume and not run.is_dir():
        raise CheckpointError(f"There is no run at {run} to resume; omit --resume.")
    return run


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _classifier_progress(screen: Display) -> dict[str, Callable[..., None]]:
    """Callbacks that show the spectrograms that are done, then the training of each network."""
    show, started = training_progress(screen), {}

    def on_spectrogram(done: int, total: int) -> None:
        if done == 1:
            screen.report(f"Computing the spectrograms of {total} tracks.")
        screen.advance(done, total)

    def on_progress(network: int, networks: int, progress: Progress) -> None:
        if network not in started:
            started[network] = time.monotonic()
            screen.report(f"Network {network} of {networks}")
        # the remaining networks are assumed to take as long as this one
        this_s = time.monotonic() - started[network] + progress.seconds_left
        left_s = progress.seconds_left + (networks - network) * this_s
        show(replace(progress, seconds_left=left_s))

    return {"on_spectrogram": on_spectrogram, "on_progress": on_progress}


def _report(trained: Trained) -> None:
    report_problems(trained.problems, trained.notes)
    figures, tracks = trained.metrics.get("test"), TEST_TRACKS["grouped"]
    if figures is None:
        click.echo("No test tracks were held out; these figures are optimistic.")
        figures = trained.metrics["validation"]
        tracks = "validation tracks, which also selected the weights and the threshold"
    print_training(figures, tracks, trained.run)


def _report_composer(trained: TrainedComposer) -> None:
    report_problems(trained.problems)
    for side, figures in trained.metrics.items():
        by_style = ", ".join(f"{s} {n:.2f}" for s, n in figures["without_pose"].items())
        click.echo(f"{side.capitalize()} pieces, nats per step: {by_style}")
    run, style = printable(str(trained.run)), printable(trained.composer.styles[0])
    click.echo(f"The run is in {run}; use it: deepmusic generate --model {run} --style {style}")
