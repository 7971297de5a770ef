"""``deepmusic data split``: training, validation and test parts that leak nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmusic.cli.data_options import (
    dataset_options,
    file_progress,
    has_failures,
    load_with_progress,
    report_problems,
)
from deepmusic.cli.output import printable

if TYPE_CHECKING:
    from deepmusic.datasets.folder import FolderDataset, Track
    from deepmusic.datasets.load import LoadedDataset
    from deepmusic.datasets.splits import Folds, Protocol

_PARTS = ("train", "validation", "test")
_SHARE = 0.2
# A group this large leaves few ways to divide the rest.
_LARGE_GROUP = 0.1


@click.command(no_args_is_help=True)
@dataset_options
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="splits.json",
    show_default=True,
    help="Where the split is written.",
)
@click.option(
    "--test",
    metavar="SHARE",
    type=click.FloatRange(0, 0.5),
    help="Share of the tracks to judge on; 0 for none.  [default: 0.2]",
)
@click.option(
    "--validation",
    metavar="SHARE",
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Share to validate on; with --folds, of what a fold leaves.  [default: 0.2]",
)
@click.option(
    "--folds",
    metavar="K",
    type=click.IntRange(min=2),
    help="K folds for cross-validation instead of one split.",
)
@click.option("--seed", metavar="N", type=click.IntRange(min=0), help="Another one, another draw.")
@click.option(
    "--protocol",
    type=click.Choice(["grouped", "official", "random"]),
    default="grouped",
    show_default=True,
    help="By whole artists, albums and copies; as published (FMA, GTZAN); or blindly, which leaks.",
)
@click.option(
    "--fingerprint/--no-fingerprint",
    "listens",
    default=True,
    show_default=True,
    help="Whether to listen for near copies, which decodes every track.",
)
@click.option(
    "--cache",
    metavar="FILE",
    help="Where to keep fingerprints for the next time.  [default: FILE of -o + .fingerprints]",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that listen.",
)
@click.pass_context
def split(
    ctx: click.Context,
    *,
    data: str,
    kind: str | None,
    table: str | None,
    subset: str,
    audio: str | None,
    output: str,
    test: float | None,
    validation: float | None,
    folds: int | None,
    seed: int | None,
    protocol: Protocol,
    listens: bool,
    cache: str | None,
    workers: int,
) -> None:
    """Divide the data set in DATA for training, validation and test, and write it as JSON.

    DATA is a folder DIR/GENRE/*, with or without tracks.csv, a CSV, GTZAN or FMA. By default no
    artist, album, copy or near copy stands on two sides, and each part has its share of each genre.
    The parts are listed on standard output. Exit status: 0 all well, 1 some files could not be used
    or no such split exists, 2 wrong usage.
    """
    if folds is not None and test is not None:
        raise click.UsageError("--folds tests on each track once; leave --test out.")
    given = any(option is not None for option in (folds, test, validation, seed))
    if protocol == "official" and given:
        raise click.UsageError(
            "An official split is as it was published; leave --folds, --test, --validation and "
            "--seed out."
        )
    _refuse_output(output)
    loaded = load_with_progress(data, kind, table, subset, audio)
    dataset = loaded.dataset
    if protocol == "grouped" and listens:
        dataset = _heard(dataset, cache or f"{output}.fingerprints", workers)
    report_problems(dataset)
    made = _made(loaded, dataset, protocol, test, validation, folds, seed or 0)

    from deepmusic.datasets.splits import write_splits

    write_splits(output, made, dataset)
    for line in _table(made, dataset):
        click.echo(line)
    for line in _joined(dataset):
        click.echo(line)
    for line in _warnings(made, loaded, dataset, listens=listens):
        click.echo(printable(line), err=True)
    click.echo(printable(f"{output}: {_kind(made)}, protocol {made.protocol}."), err=True)
    ctx.exit(1 if has_failures(replace(loaded, dataset=dataset)) else 0)


def _refuse_output(output: str) -> None:
    """Say before the work if the output path cannot be written."""
    if Path(output).is_dir():
        raise click.UsageError(f"-o: {output} is a folder; name a file.")
    if not Path(output).absolute().parent.is_dir():
        raise click.UsageError(f"-o: the folder of {output} does not exist; make it first.")


def _heard(dataset: FolderDataset, cache: str, workers: int) -> FolderDataset:
    """The same tracks with near copies found by their sound."""
    from deepmusic.datasets.near_duplicates import with_duplicates

    with file_progress() as on_progress:
        return with_duplicates(dataset, workers=workers, cache=cache, on_progress=on_progress)


def _made(
    loaded: LoadedDataset,
    dataset: FolderDataset,
    protocol: Protocol,
    test: float | None,
    validation: float | None,
    folds: int | None,
    seed: int,
) -> Folds:
    from deepmusic.datasets.splits import Folds, make_folds, make_split, random_folds, random_split

    validation = _SHARE if validation is None else validation
    test = _SHARE if test is None else test
    if protocol == "official":
        return Folds((loaded.official_split(dataset),), 0, "official")
    if folds is not None:
        make = make_folds if protocol == "grouped" else random_folds
        return make(dataset, folds=folds, validation=validation, seed=seed)
    if protocol == "random":
        return random_split(dataset, test=test, validation=validation, seed=seed)
    return Folds((make_split(dataset, test=test, validation=validation, seed=seed),), seed)


def _kind(made: Folds) -> str:
    return "one split" if len(made) == 1 else f"{len(made)} folds"


def _table(made: Folds, dataset: FolderDataset) -> Iterator[str]:
    """Tracks and artists by genre, of the parts of a split or the test parts of folds."""
    if len(made) == 1:
        columns = {name: getattr(made[0], name) for name in _PARTS}
        unused = set(range(len(dataset.tracks))).difference(*columns.values())
        if unused:
            columns["in no part"] = tuple(sorted(unused))
    else:
        columns = {f"test {n}": fold.test for n, fold in enumerate(made, start=1)}
    genres = {genre: printable(genre) for genre in dataset.genres}
    width = max(map(len, [*genres.values(), "genre"]))
    yield f"{'':<{width}}" + "".join(f"  {name:>16}" for name in columns)
    yield f"{'genre':<{width}}" + f"  {'tracks':>7}{'artists':>9}" * len(columns)
    for genre, shown in genres.items():
        yield f"{shown:<{width}}" + "".join(
            _cell([t for index in indices if (t := dataset.tracks[index]).genre == genre])
            for indices in columns.values()
        )
    yield f"{'all':<{width}}" + "".join(
        _cell([dataset.tracks[index] for index in indices]) for indices in columns.values()
    )


def _cell(tracks: Sequence[Track]) -> str:
    from deepmusic.datasets.groups import artist_members

    artists = {members for track in tracks if (members := artist_members(track.artist))}
    return f"  {len(tracks):>7}{len(artists) or '-':>9}"


def _joined(dataset: FolderDataset) -> Iterator[str]:
    """What keeps tracks together."""
    from collections import Counter

    from deepmusic.datasets.groups import group_tracks, shared_attributes

    sizes = Counter(group_tracks(dataset.tracks))
    yield ""
    yield (
        f"{len(dataset.tracks)} tracks belong to {len(sizes)} groups; the largest has "
        f"{max(sizes.values())}."
    )
    shared = {
        kind: found for kind, found in shared_attributes(dataset.tracks).items() if found.things
    }
    if shared:
        yield "shared        things   tracks"
    for kind, found in shared.items():
        yield f"{kind:<12}  {found.things:>6}  {found.tracks:>7}"


def _warnings(
    made: Folds, loaded: LoadedDataset, dataset: FolderDataset, *, listens: bool
) -> Iterator[str]:
    from collections import Counter

    from deepmusic.datasets.groups import group_tracks
    from deepmusic.datasets.splits import leaking_groups

    groups = group_tracks(dataset.tracks)
    torn = max(len(leaking_groups(fold, groups)) for fold in made)
    if made.protocol == "random":
        yield (
            "Warning: a random split leaks: the same artists and copies are learned from and "
            "tested on, and figures from it are too good. The file says so."
        )
    if torn:
        yield f"Warning: {torn} groups of tracks that belong together stand on two sides."
    if made.protocol == "official" or (made.protocol == "grouped" and not listens):
        yield "Near copies were not listened for; they may stand on two sides."
    if made.protocol == "grouped":
        largest = max(Counter(groups).values())
        if largest > _LARGE_GROUP * len(groups):
            yield f"One group holds {largest} of {len(groups)} tracks, which stay on one side."
        if loaded.kind in ("gtzan", "fma"):
            yield "This data set has an official split: --protocol official."
