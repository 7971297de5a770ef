"""``deepmusic features``: the group of commands."""

from __future__ import annotations

import click

from deepmusic.cli import LazyGroup

_COMMANDS = {
    "extract": "deepmusic.cli.features_extract",
    "show": "deepmusic.cli.features_show",
    "check": "deepmusic.cli.features_check",
}


@click.command(cls=LazyGroup, modules=_COMMANDS)
def features() -> None:
    """The 518 features of FMA: extract, show, check."""
