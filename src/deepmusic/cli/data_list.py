"""``deepmusic data list``: the data sets that can be downloaded, and what is there already."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from deepmusic.datasets.registry import DatasetInfo


@click.command("list")
@click.option("--to", "root", metavar="DIR", help="A data folder, to show what is there already.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "bibtex"]),
    default="text",
    show_default=True,
    help="For people, for programs, or what to cite.",
)
def list_data(root: str | None, form: str) -> None:
    """List the data sets that can be downloaded: size, state, licence, citation.

    A size after "about" is rounded; unpacked sizes are estimates.
    """
    from deepmusic.datasets.registry import REGISTRY

    if form == "bibtex":
        entries = dict.fromkeys(info.reference.bibtex.strip() for info in REGISTRY.values())
        click.echo("\n\n".join(entries))
        return
    rows: list[dict[str, Any]] = []
    for info in REGISTRY.values():
        row = dataclasses.asdict(info)
        rows.append(row | row.pop("reference") | {"state": root and _state(info, Path(root))})
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo("\n                 ".join(_lines(row)))


def _state(info: DatasetInfo, root: Path) -> str:
    """How much of a data set is there."""
    from deepmusic.datasets.download import part_path

    path, is_archive = root / info.path, info.layout == "archive"
    if (root / info.folder).is_dir() if is_archive else path.is_file():
        return "complete"
    if path.is_file():
        return "archive, not unpacked"
    if part_path(path).exists() or part_path(path.with_name(path.name + ".source")).exists():
        return "partly downloaded"
    return "missing"


def _lines(row: dict[str, Any]) -> Iterator[str]:
    from rich.filesize import decimal as format_bytes

    size, unpacked = row["size"], row["unpacked_size"]
    cost = f"{'' if row['size_is_exact'] else 'about '}{format_bytes(size)}"
    if unpacked:
        cost += f", about {format_bytes(unpacked)} unpacked; "
        cost += f"{format_bytes(size + unpacked)} of disk for both"
    yield f"{row['name']:<15}  {row['title']}"
    for label, text in {
        "state": row["state"],
        "size": cost,
        "note": row["note"],
        "licence": row["licence"],
        "homepage": row["homepage"],
        "cite": row["citation"],
    }.items():
        if text:
            yield f"{label}: {text}"
