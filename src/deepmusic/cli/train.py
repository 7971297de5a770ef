"""``deepmusic train``: models of your own music, and baselines on its features."""

from __future__ import annotations

import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from deepmusic.cli.data_options import fma_options, has_failures
from deepmusic.cli.options import (
    MUSIC,
    RUN,
    SPLITS,
    TRAINING,
    WORKERS,
    at_least,
    option,
    output_folder,
)
from deepmusic.cli.output import print_training, printable, report, report_problems, test_tracks
from deepmusic.cli.progress import Display, display, resumable, training_progress
from deepmusic.errors import CheckpointError, DeepMusicError, counted
from deepmusic.extras import need
from deepmusic.parallel import is_main_process, use_one_thread

if TYPE_CHECKING:
    from deepmusic.classifier.training import Trained
    from deepmusic.composer import TrainedComposer
    from deepmusic.studies.train_baseline import TrainedBaseline
    from deepmusic.training import Progress


_RESUME = "run the same command with --resume"


@click.command()
@MUSIC
@RUN
@SPLITS
@fma_options
@option(
    "--networks N",
    "Full networks, each validated on tracks that it does not learn from; four networks of "
    "textures alone, which learn from all tracks, are added.",
    type=at_least(1),
    default=1,
)
@TRAINING
@option("--workers N", "Processes that load segments.", type=at_least(0))
@option(
    "--cache DIR",
    "Folder for what was computed from each track.  [default: in RUN]",
    callback=output_folder,
)
@option(
    "--from-scratch", "Train whole networks without the pretrained ear, which takes much longer."
)
@option("--min-tracks N", "Leave out genres with fewer tracks.", type=at_least(1), default=1)
@click.pass_context
def classifier(
    ctx: click.Context,
    /,
    *,
    data: str,
    out: str | None,
    resume: bool,
    table: str | None,
    test: float | Literal["official"] | None,
    splits: str | None,
    fold: int,
    subset: str,
    level: int,
    audio: str | None,
    networks: int,
    cache: str | None,
    from_scratch: bool,
    min_tracks: int,
    **training: Any,
) -> None:
    """Train a classifier of the genres in DIR/GENRE/*.

    Capsules are trained on what the pretrained ear hears in each track, a minute for a hundred
    tracks; of the settings of a network, --epochs, --batch-size, --learning-rate and --seed count
    then. No artist is on two sides of a split. Progress goes to standard error, results to standard
    output. Exit status: 0 all well, 1 some files could not be used or nothing could be trained,
    2 wrong usage. With --from-scratch several processes share the work under `torchrun`.
    """
    need("train")
    if not from_scratch:
        _need_ear(ctx)
    elif min_tracks > 1:
        raise click.UsageError("--min-tracks is for training on the ear; omit --from-scratch.")
    run = _run_folder(data, out, resume=resume)

    from deepmusic.datasets import load_dataset
    from deepmusic.datasets.split_files import read_split_file

    if splits is not None:
        read_split_file(splits)  # refuses what is no such file before the data are read
    loaded = load_dataset(data, table=table, subset=subset, level=level, audio=audio)
    if loaded.kind == "fma" and is_main_process():
        report(loaded.about)
    held_out = test if splits is None else (splits, fold)
    if not from_scratch:
        names = ("epochs", "batch_size", "learning_rate", "seed")
        chosen = {name: training[name] for name in names if training[name] is not None}

        from deepmusic.classifier.ear.fitting import FitOptions
        from deepmusic.classifier.ear.training import train_on_ear

        with resumable(_RESUME), display(unit="tracks") as screen:
            trained = train_on_ear(
                loaded,
                run,
                test=held_out,
                min_tracks=min_tracks,
                options=FitOptions(**chosen),
                cache=cache,
                resume=resume,
                on_track=screen.advance,
                on_notes=lambda notes: screen.report("\n".join(map(printable, notes))),
            )
        _report_classifier(replace(trained, notes=()))
        ctx.exit(1 if has_failures(loaded, trained.problems) else 0)

    from deepmusic.classifier.training import DEFAULT_TRAINING, train_classifier

    with resumable(_RESUME), display(unit="tracks") as screen:
        callbacks = _classifier_progress(screen) if is_main_process() else {}
        trained = train_classifier(
            loaded,
            run,
            test=held_out,
            networks=networks,
            training=replace(DEFAULT_TRAINING, **_given(training)),
            cache=cache,
            resume=resume,
            **callbacks,
        )
    if is_main_process():  # torchrun ends the main process if another one fails
        _report_classifier(trained)
        ctx.exit(1 if has_failures(loaded, trained.problems) else 0)


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
    need("train")
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


def _need_ear(ctx: click.Context) -> None:
    """Refuse, before any work, what the ear cannot do or where it is missing."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise click.UsageError(
            "Training on the pretrained ear takes one process: omit torchrun, or add "
            "--from-scratch."
        )
    from_scratch_only = ("networks", "patience", "device", "compiled", "workers")
    for name in from_scratch_only:
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = "compile" if name == "compiled" else name
            raise click.UsageError(f"--{option} is for whole networks; add --from-scratch.")
    from deepmusic.classifier.ear.install import has_ear

    if not has_ear():
        raise DeepMusicError(
            "The pretrained ear is not installed; run once: deepmusic ear install, or add "
            "--from-scratch."
        )


def _run_folder(data: str, out: str | None, *, resume: bool) -> Path:
    """The folder of a run, which exists if the run is to be resumed."""
    run = Path(out) if out is not None else Path("runs") / (Path(data).resolve().name or "music")
    if resume and not run.is_dir():
        raise CheckpointError(f"There is no run at {run} to resume; omit --resume.")
    if (run / "config.json").exists() and not resume and is_main_process():
        raise CheckpointError(
            f"{run} already holds a run: resume it, or choose another folder for a new one."
        )
    return run


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _classifier_progress(screen: Display) -> dict[str, Any]:
    """Callbacks that show the spectrograms that are done, then the training of each network."""
    show, started = training_progress(screen), {}

    def on_spectrogram(done: int, total: int) -> None:
        if done == 1:
            screen.report(f"Computing the spectrograms of {counted(total, 'track')}.")
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


def _report_classifier(trained: Trained) -> None:
    report_problems(trained.problems, trained.notes, coding=trained.coding)
    figures = trained.metrics.get("test")
    tracks = test_tracks(trained.protocol, trained.unknown_artists)
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
@option(
    "--out RUN",
    "Folder for all results.  [default: runs/NAME-OF-DIR-MODEL]",
    callback=output_folder,
)
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
    need("study")
    use_one_thread()  # results must not depend on the number of cores
    if ":" in model and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # your own class, beside your data

    from deepmusic.datasets.split_files import read_split_file
    from deepmusic.studies.sklearn_class import read_parameters
    from deepmusic.studies.train_baseline import BaselineConfig, train_baseline

    if options["splits"] is not None:
        read_split_file(options["splits"])
    config = BaselineConfig(model=model, parameters=read_parameters(params), **options)
    with resumable(), display() as screen:
        trained = train_baseline(
            data,
            Path("runs") / _run_name(data, model) if out is None else out,
            config,
            workers=workers,
            on_progress=lambda stage, done, total: screen.advance(done, total, stage),
        )
    _report_baseline(trained)
    ctx.exit(1 if trained.problems else 0)


def _run_name(data: str, model: str) -> str:
    path = Path(data).resolve()
    name = (path.stem if path.is_file() else path.name) or "music"
    kind = re.sub(r"[^\w.-]+", ".", model)
    return f"{name}-{kind}"


def _report_baseline(trained: TrainedBaseline) -> None:
    """Print the result to standard output, problems with the data to standard error."""
    report_problems(trained.problems, trained.notes, coding=trained.coding)
    fitted, metrics = trained.model, trained.metrics
    if fitted.settings:
        chosen = ", ".join(f"{name.rpartition('__')[2]} {v}" for name, v in fitted.settings.items())
        click.echo(printable(f"{fitted.name}: {chosen}, searched within the training tracks."))
    figures = metrics.get("test")
    tracks = test_tracks(trained.protocol, fitted.training["unknown_artists"])
    if figures is None:
        figures = metrics.get("validation")
        tracks = "tracks of inner folds, which also selected hyper-parameters and threshold"
        caution = "the accuracy is not known" if figures is None else "these figures are optimistic"
        click.echo(f"No test tracks were held out; {caution}.")
    print_training(figures, tracks, trained.run)
