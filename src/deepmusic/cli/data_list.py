"""``deepmusic data list``: the data sets that can be downloaded, and what is there already."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from deepmusic.datasets.registry import DatasetInfo


@click.command("list")
@click.option("--to", "root", metavar="DIR", help="A data folder, to show what is there already.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json", "bibtex"]),
    default="text",
    show_default=True,
    help="For people, for programs, or what to cite.",
)
def list_data(root: str | None, output_format: str) -> None:
    """List the data sets that can be downloaded: size, state, licence, citation.

    A size after "about" is rounded; unpacked sizes are estimates.
    """
    from deepmusic.datasets.registry import REGISTRY

    if output_format == "bibtex":
        entries = dict.fromkeys(info.reference.bibtex.strip() for info in REGISTRY.values())
        click.echo("\n\n".join(entries))
        return
    states = {
        info.name: None if root is None else _state(info, Path(root)) for info in REGISTRY.values()
    }
    if output_format == "json":
        rows = []
        for info in REGISTRY.values():
            row: dict[str, Any] = dataclasses.asdict(info)
            rows.append(row | row.pop("reference") | {"state": states[info.name]})
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(map(len, REGISTRY))
    for info in REGISTRY.values():
        click.echo(("\n" + " " * (width + 2)).join(_lines(info, states[info.name], width)))


def _state(info: DatasetInfo, root: Path) -> str:
    """What of a data set is there: complete, the archive, a part of the download, or nothing."""
    from deepmusic.datasets.download import part_size

    path, is_archive = root / info.path, info.layout == "archive"
    if (root / info.folder).is_dir() if is_archive else path.is_file():
        return "complete"
    if path.is_file():
        return "archive, not unpacked"
    if part_size(path) or part_size(path.with_name(path.name + ".source")):
        return "partly downloaded"
    return "missing"


def _lines(info: DatasetInfo, state: str | None, width: int) -> list[str]:
    """What is printed of a data set."""
    from rich.filesize import decimal as format_bytes

    size = f"size: {'' if info.size_is_exact else 'about '}{format_bytes(info.size)}"
    if info.unpacked_size:
        needed = format_bytes(info.size + info.unpacked_size)
        size += f", about {format_bytes(info.unpacked_size)} unpacked; {needed} of disk for both"
    optional = {"state": state, "note": info.note}
    return [
        f"{info.name:<{width}}  {info.title}",
        *(f"{label}: {text}" for label, text in optional.items() if text),
        size,
        f"licence: {info.licence}",
        f"homepage: {info.reference.homepage}",
        f"cite: {info.reference.citation}",
    ]
