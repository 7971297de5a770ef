"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

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


POSITIVE = Number(min=0, min_open=True)


def at_least(minimum: int) -> click.IntRange:
    """A whole number from ``minimum`` up."""
    return click.IntRange(min=minimum)


def combined(*decorators: Callable[[Any], Any]) -> Callable[[_F], _F]:
    """One decorator for several options, which the help lists in this order."""

    def decorate(function: _F) -> _F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def format_option(*forms: str) -> Callable[[_F], _F]:
    """``--format``, as the parameter ``form``; the first form is the default."""
    choice = click.Choice(forms)
    return click.option("--format", "form", type=choice, default=forms[0], help="Output format.")


def max_minutes(default: float, description: str) -> Callable[[_F], _F]:
    """``--max-minutes``, as the parameter ``max_seconds``."""
    return click.option(
        "--max-minutes",
        "max_seconds",
        metavar="M",
        type=POSITIVE,
        default=default,
        callback=lambda ctx, param, minutes: 60 * minutes,
        help=description,
    )


def _one_of(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Check that not both ``--workers`` and ``--dask`` are given."""
    other = {"workers": "dask", "dask": "workers"}[param.name or ""]
    if value not in (None, 1) and ctx.params.get(other) not in (None, 1):
        raise click.UsageError(
            "--workers is for this machine, --dask for a cluster; choose one.", ctx
        )
    return value


JOBS = click.option(
    "--jobs", metavar="N", type=at_least(1), default=1, help="Processes that classify files."
)
WORKERS = click.option(
    "--workers", metavar="N", type=at_least(1), default=1, help="Processes on this machine."
)
WORKERS_OR_DASK = combined(
    click.option(
        "--workers",
        metavar="N",
        type=at_least(1),
        default=1,
        callback=_one_of,
        help="Processes on this machine.",
    ),
    click.option(
        "--dask",
        metavar="ADDRESS",
        callback=_one_of,
        help="Use the Dask cluster of this scheduler instead.",
    ),
)
DEVICE = click.option("--device", default="auto", help="cpu, cuda, mps or auto.")

RUN = combined(
    click.option(
        "--out", metavar="RUN", help="Folder for all results.  [default: runs/NAME-OF-DIR]"
    ),
    click.option("--resume", is_flag=True, help="Continue a run that was stopped or killed."),
)
TRAINING = combined(
    click.option("--epochs", metavar="N", type=at_least(1), help="Maximum passes over the data."),
    click.option("--batch-size", metavar="N", type=at_least(1), help="Items in one step."),
    click.option("--learning-rate", metavar="R", type=POSITIVE, help="Peak learning rate."),
    click.option(
        "--patience",
        metavar="N",
        type=at_least(1),
        help="Stop after N epochs without a better validation.",
    ),
    click.option("--seed", metavar="N", type=at_least(0), help="Seed of all randomness."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto"),
    click.option(
        "--compile/--no-compile",
        "compiled",
        default=None,
        help="Compile the network first, which takes minutes; worth it on a GPU.",
    ),
)
"""Settings of a network's training: fields of `deepmusic.training.TrainingConfig`."""

SPLITS = combined(
    click.option(
        "--tracks",
        "table",
        metavar="CSV",
        help="Table with the columns path, artist and, optionally, genre and album.  "
        "[default: DIR/tracks.csv, else the files' tags]",
    ),
    click.option(
        "--test",
        metavar="SHARE",
        type=Number(0, 0.5),
        default=0.2,
        help="Share of the tracks held out for the test; 0 trains on all.",
    ),
    click.option(
        "--splits",
        metavar="FILE",
        help="Hold out the test tracks of this file, written by `data split`.",
    ),
    click.option(
        "--fold", metavar="N", type=at_least(0), default=0, help="Which fold of --splits, from 0."
    ),
)
"""What a training holds out for its test."""
