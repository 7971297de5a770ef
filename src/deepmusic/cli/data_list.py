"""``deepmusic data list``: the data sets that can be fetched, what is here, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from deepmusic.datasets.audio_archives import AudioArchive
    from deepmusic.datasets.catalogue import DataFile, Publication


@click.command("list")
@click.option("--to", "root", metavar="DIR", help="A folder of data, to say what is there.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "bibtex"]),
    default="text",
    show_default=True,
    help="For people, for programs, or what to cite.",
)
def list_data(root: str | None, form: str) -> None:
    """List the data sets that can be fetched: what they cost, what is here, licence, what to cite.

    A size after "about" is not known to the byte; what an archive unpacks to is always reckoned.
    """
    from deepmusic.datasets.audio_archives import AUDIO_ARCHIVES
    from deepmusic.datasets.catalogue import CATALOGUE

    entries: list[DataFile | AudioArchive] = [*AUDIO_ARCHIVES.values(), *CATALOGUE.values()]
    folder = None if root is None else Path(root)
    if form == "bibtex":
        found = (entry.publication for entry in entries)
        texts = dict.fromkeys(publication.bibtex for publication in found if publication)
        click.echo("\n\n".join(texts))
        return
    rows = [_row(entry, folder) for entry in entries]
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        click.echo(_text(row, width))


def _row(entry: DataFile | AudioArchive, root: Path | None) -> dict[str, Any]:
    """All that is known of a data set; None where nothing is."""
    from deepmusic.datasets.audio_archives import AudioArchive

    row: dict[str, Any] = {
        "name": entry.name,
        "description": entry.description,
        "file": entry.file,
        "folder": None,
        "size": entry.size,
        "size_is_exact": True,
        "unpacked_size": None,
        "disk_needed": entry.size,
        "tracks": None,
        "sha1": None,
        "sha256": None,
        "md5": None,
        "note": None,
    }
    if isinstance(entry, AudioArchive):
        row |= {
            "folder": entry.folder,
            "size_is_exact": entry.is_exact,
            "unpacked_size": entry.unpacked_size,
            "disk_needed": entry.disk,
            "tracks": entry.tracks or None,
            "sha1": entry.sha1,
            "md5": entry.md5,
            "note": entry.note or None,
        }
    row["sha256"] = entry.sha256
    about: Publication | None = entry.publication
    row |= {
        "licence": entry.licence,
        "citation": about.citation if about else None,
        "bibtex": about.bibtex if about else None,
        "homepage": about.homepage if about else None,
        "urls": entry.urls,
    }
    if root is not None:
        row |= _here(entry, root)
    return row


def _here(entry: DataFile | AudioArchive, root: Path) -> dict[str, Any]:
    """What of a data set is in a folder: ``here``, ``archive``, ``partly`` or ``missing``."""
    from deepmusic.datasets.archives import is_begun
    from deepmusic.datasets.audio_archives import AudioArchive
    from deepmusic.datasets.download import part_size

    file, done = root / entry.file, 0
    if isinstance(entry, AudioArchive):
        folder = root / entry.folder
        if folder.is_dir():
            return {"state": "here", "bytes_here": None}
        if file.is_file():
            state = "partly" if is_begun(folder) else "archive"
            return {"state": state, "bytes_here": file.stat().st_size}
        if is_begun(folder):
            return {"state": "partly", "bytes_here": None}
        done = part_size(file)
    elif file.is_file():
        return {"state": "here", "bytes_here": file.stat().st_size}
    else:
        done = max(part_size(file), part_size(file.with_name(file.name + ".source")))
    return {"state": "partly" if done else "missing", "bytes_here": done}


def _text(row: dict[str, Any], width: int) -> str:
    from deepmusic.datasets.web import byte_count

    about = "" if row["size_is_exact"] else "about "
    size = about + byte_count(row["size"])
    lines = [f"{row['name']:<{width}}  {row['description']}"]
    cost = f"costs: {size}"
    if row["unpacked_size"] is not None:
        cost += (
            f" to fetch, about {byte_count(row['unpacked_size'])} unpacked, "
            f"{byte_count(row['disk_needed'])} of disk for both"
        )
    if "state" in row:
        lines.append(f"{row['state']}: {_said_state(row)}")
    lines += [cost, f"licence: {row['licence']}"]
    lines += [f"{key}: {row[key]}" for key in ("note", "homepage") if row.get(key)]
    if row["citation"]:
        lines.append(f"cite: {row['citation']}")
    return ("\n" + " " * (width + 2)).join(lines)


def _said_state(row: dict[str, Any]) -> str:
    from deepmusic.datasets.web import byte_count

    place = row["folder"] or row["file"]
    if row["state"] == "here":
        return str(place)
    if row["state"] == "archive":
        return f"{row['file']}, not unpacked"
    if row["state"] == "missing":
        return f"{place} is not there"
    if row["bytes_here"]:
        return f"{byte_count(row['bytes_here'])} of the archive; download goes on"
    return "begun to be unpacked; download goes on"
