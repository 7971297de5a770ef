"""``deepmusic data list``: the data sets that can be fetched."""

from __future__ import annotations

import json

import click

__all__ = ["list_data"]

_SHOWN = ("name", "file", "size", "sha256", "licence", "description", "urls")


@click.command("list")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people or for programs.",
)
def list_data(form: str) -> None:
    """List the data sets that can be fetched, with their licences as far as known."""
    from deepmusic.datasets import CATALOGUE
    from deepmusic.datasets.download import byte_count

    if form == "json":
        rows = [{key: getattr(entry, key) for key in _SHOWN} for entry in CATALOGUE.values()]
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(map(len, CATALOGUE))
    for name, entry in CATALOGUE.items():
        click.echo(f"{name:<{width}}  {byte_count(entry.size):>8}  {entry.description}")
        click.echo(f"{'':{width}}  {'':8}  licence: {entry.licence}")
