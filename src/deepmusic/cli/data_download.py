"""``deepmusic data download`` and ``data get``: public data sets, or single tracks of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmusic.cli.output import printable
from deepmusic.cli.progress import Display, display
from deepmusic.errors import DeepMusicError

if TYPE_CHECKING:
    from deepmusic.datasets.fetch import StageProgress
    from deepmusic.datasets.registry import DatasetInfo

_FROM = click.option(
    "--from",
    "source",
    metavar="SOURCE",
    help="Use this file, folder or address instead; the address of a folder ends in /.",
)


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--to", "root", metavar="DIR", required=True, help="The data folder; made if needed.")
@_FROM
@click.option("--no-unpack", is_flag=True, help="Leave audio archives packed.")
@click.option("--keep", is_flag=True, help="Keep a downloaded archive once it is unpacked.")
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
            with display(unit="bytes", label=info.name) as shown:
                is_new = fetch_dataset(
                    info,
                    root,
                    source=source,
                    unpack=not no_unpack,
                    keep_archive=keep,
                    on_progress=_advance(shown),
                )
        except DeepMusicError as error:
            failures += 1
            click.echo(printable(f"{info.name}: {error}"), err=True)
            continue
        if is_new:
            click.echo(f"{info.name}: licence: {info.licence}", err=True)
        is_unpacked = info.layout == "archive" and not no_unpack
        _report(Path(root) / (info.folder if is_unpacked else info.path), is_new)
    return 1 if failures else 0


@click.command()
@click.argument("name", metavar="NAME", type=click.Choice(["fma"]))
@click.option(
    "--track",
    "tracks",
    metavar="NUMBER",
    type=click.IntRange(0, 999_999),
    multiple=True,
    required=True,
    help="The track, such as 2; may be given more than once.",
)
@click.option(
    "--subset",
    type=click.Choice(["small", "medium", "large", "full"]),
    default="large",
    show_default=True,
    help="The archive to take it from: full has full-length tracks, the others clips of 30 s.",
)
@click.option("--to", "root", metavar="DIR", required=True, help="Output folder; made if needed.")
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
                _report(target, is_new)
            except DeepMusicError as error:
                failures += 1
                click.echo(printable(f"track {track}: {error}"), err=True)
    return 1 if failures else 0


def _advance(shown: Display) -> StageProgress:
    return lambda stage, done, total: shown.advance(done, total=total, note=stage)


def _report(path: Path, is_new: bool) -> None:
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
