"""Options that several commands share."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from deepmusic.parallel import cores

_F = TypeVar("_F", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A finite number in a range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Refuse infinity and NaN, which Python reads as numbers."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class Share(Number):
    """A share of the tracks, or the word ``official``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Keep the word as it is."""
        return value if value == "official" else super().convert(value, param, ctx)


POSITIVE = Number(min=0, min_open=True)


def at_least(minimum: int) -> click.IntRange:
    """A whole number from ``minimum`` up."""
    return click.IntRange(min=minimum)


def option(
    usage: str, description: str, *, name: str | None = None, **settings: Any
) -> Callable[[_F], _F]:
    """An option, declared as its help shows it.

    Args:
        usage: its names and, unless it is a flag, a word for its value or the choices, such as
            ``"-o, --output FILE"`` or ``"--protocol [grouped|random]"``.
        description: for the help.
        name: of the parameter, where it is not the long name.
        settings: the other arguments of `click.option`.
    """
    words = usage.replace(", ", " ").split()
    flags = [word for word in words if word.startswith("-")]
    metavar = " ".join(words[len(flags) :]) or None
    if metavar is None:
        settings["is_flag"] = True
    elif metavar.startswith("["):
        settings["type"] = click.Choice(metavar.strip("[]").split("|"))
    names = flags if name is None else [*flags, name]
    return click.option(*names, metavar=metavar, help=description, **settings)


def _refused(complaint: Callable[[str], str]) -> Callable[..., str | None]:
    """A callback of an option that refuses values, before any work, for the reason returned."""

    def check(ctx: Any, param: Any, value: str | None, name: str | None = None) -> str | None:
        if value is not None and (message := complaint(value)):
            raise click.BadParameter(message, ctx, param, name)
        return value

    return check


@_refused
def output_file(value: str) -> str:
    """Why a file cannot be written; empty where it can."""
    folder = Path(value).absolute().parent
    if Path(value).is_dir():
        return f"{value} is a folder; name a file."
    if not folder.is_dir():
        return f"the folder of {value} does not exist; make it first."
    is_open = os.access(folder, os.W_OK)
    return "" if is_open else f"the folder of {value} may not be written; choose another."


@_refused
def output_folder(value: str) -> str:
    """Why a folder cannot be made or written; empty where it can."""
    path = Path(value).absolute()
    there = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if not there.is_dir():
        return f"{there} is a file; name a folder."
    return "" if os.access(there, os.W_OK) else f"{there} may not be written; choose another."


def _device(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|xpu|cuda(:\d+)?", value):
        raise click.BadParameter(f"there is no device {value!r}.", ctx, param)
    return value


def combined(*decorators: Callable[[Any], Any]) -> Callable[[_F], _F]:
    """One decorator for several options, which the help lists in this order."""

    def decorate(function: _F) -> _F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def format_option(*forms: str) -> Callable[[_F], _F]:
    """``--format``, as the parameter ``form``; the first form is the default."""
    usage = f"--format [{'|'.join(forms)}]"
    return option(usage, "Output format.", name="form", default=forms[0])


def max_minutes(default: float, description: str) -> Callable[[_F], _F]:
    """``--max-minutes``, as the parameter ``max_seconds``."""
    return option(
        "--max-minutes M",
        description,
        name="max_seconds",
        type=POSITIVE,
        default=default,
        callback=lambda ctx, param, minutes: 60 * minutes,
    )


def _one_of(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Check that not both ``--workers`` and ``--dask`` are given."""
    other = {"workers": "dask", "dask": "workers"}[param.name or ""]
    if value not in (None, 1) and ctx.params.get(other) not in (None, 1):
        raise click.UsageError(
            "--workers is for this machine, --dask for a cluster; choose one.", ctx
        )
    return value


def _processes(
    usage: str, description: str, check: Callable[..., Any] = lambda ctx, param, value: value
) -> Callable[[_F], _F]:
    """An option for a number of processes, of which there is at most one per core."""

    def limited(ctx: click.Context, param: click.Parameter, value: int) -> Any:
        if value > (most := cores()):
            there = "is 1 core" if most == 1 else f"are {most} cores"
            note = f"{param.opts[0]} {value}: one process per core is used, and there {there}."
            click.echo(note, err=True)
        return check(ctx, param, min(value, most))

    return option(usage, description, type=at_least(1), default=1, callback=limited)


JOBS = _processes("--jobs N", "Processes that classify files; one per core at most.")
WORKERS = _processes("--workers N", "Processes on this machine; one per core at most.")
WORKERS_OR_DASK = combined(
    _processes("--workers N", "Processes on this machine; one per core at most.", _one_of),
    option("--dask ADDRESS", "Use the Dask cluster of this scheduler instead.", callback=_one_of),
)
DEVICE = option("--device NAME", "cpu, cuda, mps or auto.", default="auto", callback=_device)

PROTOCOL = option(
    "--protocol [grouped|official|random]",
    "By whole artists, albums and copies; as published (FMA, GTZAN); or at random, which leaks.",
    default="grouped",
)
MUSIC = option(
    "--data DATA",
    "A folder with one folder of music per genre, a table of tracks, GTZAN, or FMA.",
    required=True,
)

RUN = combined(
    option(
        "--out RUN",
        "Folder for all results.  [default: runs/NAME-OF-DIR]",
        callback=output_folder,
    ),
    option("--resume", "Continue a run that was stopped or killed."),
)
TRAINING = combined(
    option("--epochs N", "Maximum passes over the data.", type=at_least(1)),
    option("--batch-size N", "Items in one step.", type=at_least(1)),
    option("--learning-rate R", "Peak learning rate.", type=POSITIVE),
    option("--patience N", "Stop after N epochs without a better validation.", type=at_least(1)),
    option("--seed N", "Seed of all randomness.", type=at_least(0)),
    option("--device [auto|cpu|cuda|mps]", "Device for the network.", default="auto"),
    option(
        "--compile/--no-compile",
        "Compile the network first, which takes minutes; worth it on a GPU.",
        name="compiled",
        default=None,
    ),
)
"""Settings of a network's training: fields of `deepmusic.training.TrainingConfig`."""

SPLITS = combined(
    option(
        "--tracks CSV",
        "Table with the columns path, artist and, optionally, genre and album.  "
        "[default: DIR/tracks.csv, else the files' tags]",
        name="table",
    ),
    option(
        "--test SHARE",
        "Share of the tracks held out for the test; 0 trains on all; official: as published for "
        "FMA or GTZAN.  [default: official for FMA, else 0.2]",
        type=Share(0, 0.5),
    ),
    option("--splits FILE", "Hold out the test tracks of this file, written by `data split`."),
    option("--fold N", "Which fold of --splits, from 0.", type=at_least(0), default=0),
)
"""What a training holds out for its test."""
