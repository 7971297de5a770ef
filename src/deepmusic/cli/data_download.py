"""``deepmusic data list``, ``download`` and ``get``: public data sets, or single tracks of one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.options import format_option, option, output_folder
from deepmusic.cli.output import printable, report
from deepmusic.cli.progress import display
from deepmusic.errors import DeepMusicError

if TYPE_CHECKING:
    from deepmusic.datasets.registry import DatasetInfo

_TO = option(
    "--to DIR", "Folder; made if needed.", name="root", required=True, callback=output_folder
)
_FROM = option(
    "--from SOURCE",
    "Use this file, folder or address instead; the address of a folder ends in /.",
    name="source",
)


@click.command("list")
@option("--to DIR", "A data folder, to show what is there already.", name="root")
@format_option("text", "json", "bibtex")
def list_datasets(root: str | None, form: str) -> None:
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

    path = root / info.path
    if (root / info.folder).is_dir() if info.layout == "archive" else path.is_file():
        return "complete"
    if path.is_file():
        return "archive, not unpacked"
    if part_path(path).exists() or part_path(path.with_name(path.name + ".source")).exists():
        return "partly downloaded"
    return "missing"


def _lines(row: dict[str, Any]) -> Iterator[str]:
    from rich.filesize import decimal

    size, unpacked = row["size"], row["unpacked_size"]
    cost = f"{'' if row['size_is_exact'] else 'about '}{decimal(size)}"
    if unpacked:
        cost += f", about {decimal(unpacked)} unpacked; {decimal(size + unpacked)} of disk for both"
    yield f"{row['name']:<15}  {row['title']}"
    if row["state"]:
        yield f"state: {row['state']}"
    yield f"size: {cost}"
    if row["note"]:
        yield f"note: {row['note']}"
    for label, key in {"licence": "licence", "homepage": "homepage", "cite": "citation"}.items():
        yield f"{label}: {row[key]}"


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_TO
@_FROM
@option("--no-unpack", "Leave audio archives packed.")
@option("--keep", "Keep a downloaded archive once it is unpacked.")
def download(
    names: tuple[str, ...], root: str, source: str | None, no_unpack: bool, keep: bool
) -> int:
    """Download data sets by NAME into DIR, where the other commands look for them.

    Interrupted downloads resume; what is already there and correct is not downloaded again.
    Archives of audio are unpacked and then deleted if they were downloaded for it. `deepmusic data
    list` shows names and sizes. Exit status: 0 all are there, 1 some failed, 2 wrong usage.
    """
    from deepmusic.datasets.fetch import fetch_dataset

    datasets, failures = _find_datasets(names), 0
    if source is not None and not _is_folder(source) and len(datasets) > 1:
        raise click.UsageError(
            "--from names one file for several data sets; give a folder, an address that ends in "
            "/, or one NAME."
        )
    for info in datasets:
        try:
            with display(unit="bytes", label=info.name) as screen:
                is_new = fetch_dataset(
                    info,
                    root,
                    source=source,
                    unpack=not no_unpack,
                    keep_archive=keep,
                    on_progress=lambda stage, done, total: screen.advance(done, total, stage),
                )
        except DeepMusicError as error:
            failures += 1
            report(f"{info.name}: {error}")
            continue
        if is_new:
            report(f"{info.name}: licence: {info.licence}")
        is_unpacked = info.layout == "archive" and not no_unpack
        _print(Path(root) / (info.folder if is_unpacked else info.path), is_new)
    return 1 if failures else 0


@click.command()
@click.argument("name", metavar="NAME", type=click.Choice(["fma"]))
@option(
    "--track NUMBER",
    "The track, such as 2; may be given more than once.",
    name="tracks",
    type=click.IntRange(0, 999_999),
    multiple=True,
    required=True,
)
@option(
    "--subset [small|medium|large|full]",
    "The archive to take it from: full has full-length tracks, the others clips of 30 s.",
    default="large",
)
@_TO
@_FROM
def get(name: str, tracks: tuple[int, ...], subset: str, root: str, source: str | None) -> int:
    """Download single tracks of fma into DIR, without the archive of many GB that holds them.

    The archive's directory (a few MB) is read first, then one request per track. Track 2 becomes
    DIR/000/000002.mp3. Exit status: 0 all are there, 1 some failed, 2 wrong usage.
    """
    from deepmusic.datasets.archives import ZipReader
    from deepmusic.datasets.fetch import resolve_source
    from deepmusic.datasets.fma import track_path
    from deepmusic.datasets.registry import REGISTRY

    info, failures = REGISTRY[f"{name}-{subset}"], 0
    if source is not None:
        _is_folder(source)  # refuses other addresses
    with ZipReader(info.urls[0] if source is None else resolve_source(info, source)) as archive:
        for track in dict.fromkeys(tracks):
            target = Path(root) / track_path(track)
            try:
                is_new = archive.save(f"{info.archive_folder}/{track_path(track)}", target)
                _print(target, is_new)
            except DeepMusicError as error:
                failures += 1
                report(f"track {track}: {error}")
    return 1 if failures else 0


def _print(path: Path, is_new: bool) -> None:
    click.echo(f"{'downloaded' if is_new else 'exists':<10}  {printable(str(path))}")


def _is_folder(source: str) -> bool:
    """Whether a source holds several files; refuses addresses that are not http(s)."""
    from deepmusic.datasets.download import is_url

    try:
        return source.endswith("/") if is_url(source) else Path(source).is_dir()
    except DeepMusicError as error:
        raise click.UsageError(str(error)) from error


def _find_datasets(names: tuple[str, ...]) -> list[DatasetInfo]:
    """The data sets of these names, each once; FMA's may be spelled like its archives."""
    from deepmusic.datasets.registry import REGISTRY

    datasets = {}
    for name in names:
        spelled = name.lower().replace("_", "-").removesuffix(".zip")
        if spelled not in REGISTRY:
            raise click.UsageError(
                f"There is no data set called {name!r}; choose from {', '.join(REGISTRY)}."
            )
        datasets[spelled] = REGISTRY[spelled]
    return list(datasets.values())
