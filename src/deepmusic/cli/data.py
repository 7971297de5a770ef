"""``deepmusic data``: data sets, from the download to splits that leak nothing."""

from __future__ import annotations

import click

from deepmusic.cli import LazyGroup

_COMMANDS = {
    "list": "deepmusic.cli.data_list:list_data",
    "download": "deepmusic.cli.data_download",
    "get": "deepmusic.cli.data_download",
    "check": "deepmusic.cli.data_check",
    "build": "deepmusic.cli.data_build",
    "stats": "deepmusic.cli.data_stats",
    "split": "deepmusic.cli.data_split",
}


@click.command(cls=LazyGroup, modules=_COMMANDS)
def data() -> None:
    """Data sets: list, download, get, check, build, stats, split."""
