"""``deepmusic study``: every model of the field on one data set, in one honest table."""

from __future__ import annotations

import click

from deepmusic.cli import LazyGroup

_COMMANDS = {
    "genres": "deepmusic.cli.study_genres",
    "fma-baselines": "deepmusic.cli.study_fma:fma_baselines",
}


@click.command(cls=LazyGroup, modules=_COMMANDS)
def study() -> None:
    """Studies: all models on your own data, and FMA's table of baselines."""
