"""``deepmusic data split``: training, validation and test parts without leaks."""

from __future__ import annotations

from collections import Counter
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
from deepmusic.cli.options import WORKERS
from deepmusic.cli.output import printable

if TYPE_CHECKING:
    from deepmusic.datasets.folder import FolderDataset, Track
    from deepmusic.datasets.load import LoadedDataset
    from deepmusic.datasets.splits import Folds, Protocol

_LARGE_GROUP = 0.1  # a share of the tracks that leaves few ways to divide the others


@click.command(no_args_is_help=True)
@dataset_options
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="splits.json",
    show_default=True,
    help="The file to write.",
)
@click.option(
    "--test",
    metavar="SHARE",
    type=click.FloatRange(0, 0.5),
    help="Share of the tracks to test on; 0 for none.  [default: 0.2]",
)
@click.option(
    "--validation",
    metavar="SHARE",
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Share to validate on; with --folds, of each fold's remaining tracks.  [default: 0.2]",
)
@click.option(
    "--folds",
    metavar="K",
    type=click.IntRange(min=2),
    help="Make K folds for cross-validation instead of one split.",
)
@click.option("--seed", metavar="N", type=click.IntRange(min=0), help="Seed of the random draw.")
@click.option(
    "--protocol",
    type=click.Choice(["grouped", "official", "random"]),
    default="grouped",
    show_default=True,
    help="By whole artists, albums and copies; as published (FMA, GTZAN); or at random, which "
    "leaks.",
)
@click.option(
    "--fingerprint/--no-fingerprint",
    default=True,
    show_default=True,
    help="Whether to find near-duplicates by acoustic fingerprints, which decodes every track.",
)
@click.option(
    "--cache",
    metavar="FILE",
    help="Where to keep fingerprints for the next time.  [default: FILE of -o + .fingerprints]",
)
@WORKERS
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
    fingerprint: bool,
    cache: str | None,
    workers: int,
) -> None:
    """Divide a data set into training, validation and test parts, and write them as JSON.

    DATA is a folder DIR/GENRE/*, with or without tracks.csv, a CSV, GTZAN or FMA. By default no
    artist, album, copy or near-duplicate is on two sides, and each part has its share of each
    genre. The parts are summarized on standard output. Exit status: 0 success, 1 some files could
    not be used or no such split exists, 2 wrong usage.
    """
    if folds is not None and test is not None:
        raise click.UsageError("--folds tests on each track once; omit --test.")
    if protocol == "official" and any(o is not None for o in (folds, test, validation, seed)):
        raise click.UsageError(
            "An official split is fixed; omit --folds, --test, --validation and --seed."
        )
    if Path(output).is_dir():
        raise click.UsageError(f"-o: {output} is a folder; name a file.")
    if not Path(output).absolute().parent.is_dir():
        raise click.UsageError(f"-o: the folder of {output} does not exist; make it first.")

    from deepmusic.datasets.splits import Folds, make_folds, make_split, write_splits

    loaded = load_with_progress(data, kind, table, subset, audio)
    dataset = loaded.dataset
    if protocol == "grouped" and fingerprint:
        from deepmusic.datasets.near_duplicates import with_duplicates

        cache = cache or f"{output}.fingerprints"
        with file_progress() as on_progress:
            dataset = with_duplicates(
                dataset, workers=workers, cache=cache, on_progress=on_progress
            )
        loaded = replace(loaded, dataset=dataset)
    report_problems(dataset)

    seed = seed or 0
    validation = 0.2 if validation is None else validation
    test = 0.2 if test is None else test
    if protocol == "official":
        made = Folds((loaded.official_split(),), 0, "official")
    elif folds is not None:
        made = make_folds(dataset, folds=folds, validation=validation, seed=seed, protocol=protocol)
    else:
        fold = make_split(dataset, test=test, validation=validation, seed=seed, protocol=protocol)
        made = Folds((fold,), seed, protocol)
    write_splits(output, made, dataset)
    for line in (*_part_table(made, dataset), "", *_group_table(dataset)):
        click.echo(line)
    for line in _warnings(made, loaded, has_fingerprints=fingerprint):
        click.echo(line, err=True)
    count = "one split" if len(made) == 1 else f"{len(made)} folds"
    click.echo(printable(f"{output}: {count}, protocol {made.protocol}."), err=True)
    ctx.exit(1 if has_failures(loaded) else 0)


def _part_table(made: Folds, dataset: FolderDataset) -> Iterator[str]:
    """Tracks and artists by genre, of the parts of a split or the test parts of folds."""
    if len(made) == 1:
        columns = {name: getattr(made[0], name) for name in ("train", "validation", "test")}
        unused = set(range(len(dataset.tracks))).difference(*columns.values())
        if unused:
            columns["in no part"] = tuple(sorted(unused))
    else:
        columns = {f"test {n}": fold.test for n, fold in enumerate(made, start=1)}
    width = max(len(printable(genre)) for genre in (*dataset.genres, "genre"))
    yield f"{'':<{width}}" + "".join(f"  {name:>16}" for name in columns)
    yield f"{'genre':<{width}}" + f"  {'tracks':>7}{'artists':>9}" * len(columns)
    for genre in (*dataset.genres, None):
        cells = ""
        for indices in columns.values():
            tracks = [dataset.tracks[index] for index in indices]
            cells += _cell([t for t in tracks if genre in (None, t.genre)])
        yield f"{'all' if genre is None else printable(genre):<{width}}{cells}"


def _cell(tracks: Sequence[Track]) -> str:
    from deepmusic.datasets.groups import artist_members

    artists = {members for track in tracks if (members := artist_members(track.artist))}
    return f"  {len(tracks):>7}{len(artists) or '-':>9}"


def _group_table(dataset: FolderDataset) -> Iterator[str]:
    """The groups of tracks, and what they share."""
    from deepmusic.datasets.groups import group_tracks, shared_attributes

    sizes = Counter(group_tracks(dataset.tracks))
    yield (
        f"{len(dataset.tracks)} tracks form {len(sizes)} groups; the largest has "
        f"{max(sizes.values())}."
    )
    shared = {k: found for k, found in shared_attributes(dataset.tracks).items() if found.things}
    if shared:
        yield "shared         count   tracks"
    for kind, found in shared.items():
        yield f"{kind:<12}  {found.things:>6}  {found.tracks:>7}"


def _warnings(made: Folds, loaded: LoadedDataset, *, has_fingerprints: bool) -> Iterator[str]:
    from deepmusic.datasets.groups import group_tracks
    from deepmusic.datasets.splits import leaking_groups

    groups = group_tracks(loaded.dataset.tracks)
    leaking = max(len(leaking_groups(fold, groups)) for fold in made)
    if made.protocol == "random":
        yield (
            "Warning: a random split leaks: artists and copies are in both training and test, so "
            "scores are too high. The file says so."
        )
    if leaking:
        yield f"Warning: {leaking} groups of tracks are on two sides."
    if made.protocol == "official" or (made.protocol == "grouped" and not has_fingerprints):
        yield "Near-duplicates were not searched for; they may be on two sides."
    if made.protocol == "grouped":
        largest = max(Counter(groups).values())
        if largest > _LARGE_GROUP * len(groups):
            yield f"One group holds {largest} of {len(groups)} tracks, which stay on one side."
        if loaded.kind in ("gtzan", "fma"):
            yield "This data set has an official split: --protocol official."
