"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


def combined(*decorators: Callable[[Any], Any]) -> Callable[[_F], _F]:
    """One decorator for several options, which the help lists in this order."""

    def decorate(function: _F) -> _F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def at_least(minimum: int) -> click.IntRange:
    """A whole number from ``minimum`` up."""
    return click.IntRange(min=minimum)


def format_option(*forms: str) -> Callable[[_F], _F]:
    """``--format``, as the parameter ``form``; the first form is the default."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help="For people or for programs.",
    )


JOBS = click.option(
    "--jobs",
    metavar="N",
    type=at_least(1),
    default=1,
    show_default=True,
    help="Processes that classify files at the same time.",
)
WORKERS = click.option(
    "--workers",
    metavar="N",
    type=at_least(1),
    default=1,
    show_default=True,
    help="Processes on this machine.",
)
DASK = click.option(
    "--dask", metavar="ADDRESS", help="Use the Dask cluster of this scheduler instead."
)
DEVICE = click.option("--device", default="auto", show_default=True, help="cpu, cuda, mps or auto.")

RUN = combined(
    click.option(
        "--out", metavar="RUN", help="Folder for all results.  [default: runs/NAME-OF-DIR]"
    ),
    click.option("--resume", is_flag=True, help="Continue a run that was stopped or killed."),
)

TRAINING = combined(
    click.option("--epochs", metavar="N", type=at_least(1), help="Maximum passes over the data."),
    click.option("--batch-size", metavar="N", type=at_least(1), help="Items in one step."),
    click.option(
        "--learning-rate",
        metavar="R",
        type=click.FloatRange(min=0, min_open=True),
        help="Peak learning rate.",
    ),
    click.option(
        "--patience",
        metavar="N",
        type=at_least(1),
        help="Stop after N epochs without a better validation.",
    ),
    click.option("--seed", metavar="N", type=at_least(0), help="Seed of all randomness."),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "mps"]),
        default="auto",
        show_default=True,
    ),
    click.option(
        "--compile/--no-compile",
        "compiled",
        default=None,
        help="Compile the network first, which takes minutes; worth it on a GPU.",
    ),
)
"""Settings of a network's training; `deepmusic.cli.train.training_config` takes them."""

SPLITS = combined(
    click.option(
        "--tracks",
        metavar="CSV",
        help="Table with the columns path, artist and, optionally, genre and album.  "
        "[default: DIR/tracks.csv, else the files' tags]",
    ),
    click.option(
        "--test",
        metavar="SHARE",
        type=click.FloatRange(0, 0.5),
        default=0.2,
        show_default=True,
        help="Share of the tracks held out for the test; 0 trains on all.",
    ),
    click.option(
        "--splits",
        metavar="FILE",
        help="Hold out the test tracks of this file, written by `data split`.",
    ),
    click.option(
        "--fold",
        metavar="N",
        type=at_least(0),
        default=0,
        help="Which fold of --splits, from 0.",
    ),
)
