"""``deepmusic data split``: training, validation and test parts without leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.data_options import dataset_options, has_failures, load_with_progress
from deepmusic.cli.options import PROTOCOL, WORKERS, Number, at_least, option, output_file
from deepmusic.cli.output import report, report_problems, table_lines
from deepmusic.cli.progress import display
from deepmusic.errors import counted
from deepmusic.extras import need

if TYPE_CHECKING:
    from deepmusic.datasets.folder import FolderDataset
    from deepmusic.datasets.load import LoadedDataset
    from deepmusic.datasets.splits import Folds, Protocol

_LARGE_GROUP = 0.1  # a share of the tracks that leaves few ways to divide the others


@click.command(no_args_is_help=True)
@click.argument("data", metavar="DATA")
@dataset_options
@option("-o, --output FILE", "The file to write.", default="splits.json", callback=output_file)
@option(
    "--test SHARE",
    "Share of the tracks to test on; 0 for none.  [default: 0.2]",
    type=Number(0, 0.5),
)
@option(
    "--validation SHARE",
    "Share to validate on; with --folds, of each fold's remaining tracks.  [default: 0.2]",
    type=Number(0, 0.5, min_open=True),
)
@option("--folds K", "Make K folds for cross-validation instead of one split.", type=at_least(2))
@option("--seed N", "Seed of the random draw.", type=at_least(0))
@PROTOCOL
@option(
    "--fingerprint/--no-fingerprint",
    "Whether to find near-duplicates by acoustic fingerprints, which decodes every track.",
    default=True,
)
@option(
    "--cache FILE",
    "Where to keep fingerprints for the next time.  [default: FILE of -o + .fingerprints]",
    callback=output_file,
)
@WORKERS
@click.pass_context
def split(
    ctx: click.Context,
    /,
    *,
    data: str,
    output: str,
    test: float | None,
    validation: float | None,
    folds: int | None,
    seed: int | None,
    protocol: Protocol,
    fingerprint: bool,
    cache: str | None,
    workers: int,
    **options: Any,
) -> None:
    """Divide a data set into training, validation and test parts, and write them as JSON.

    DATA is a folder DIR/GENRE/*, with or without tracks.csv, a CSV, GTZAN or FMA. By default no
    artist, album, copy or near-duplicate is on two sides, and each part has its share of each
    genre. The parts are summarized on standard output. Exit status: 0 success, 1 some files could
    not be used or no such split exists, 2 wrong usage.
    """
    need("data")
    if folds is not None and test is not None:
        raise click.UsageError("--folds tests on each track once; omit --test.")
    if protocol == "official" and any(o is not None for o in (folds, test, validation, seed)):
        raise click.UsageError(
            "An official split is fixed; omit --folds, --test, --validation and --seed."
        )

    from deepmusic.datasets.near_duplicates import with_duplicates
    from deepmusic.datasets.split_files import write_splits
    from deepmusic.datasets.splits import Folds, make_folds, make_split

    loaded = load_with_progress(data, options)
    dataset = loaded.dataset
    if protocol == "grouped" and fingerprint:
        cache = cache or f"{output}.fingerprints"
        with display() as screen:
            dataset = with_duplicates(
                dataset, workers=workers, cache=cache, on_progress=screen.advance
            )
        loaded = replace(loaded, dataset=dataset)
    report_problems(dataset.problems, dataset.notes)

    draw: dict[str, Any] = {
        "validation": 0.2 if validation is None else validation,
        "seed": seed or 0,
        "protocol": protocol,
    }
    if protocol == "official":
        made = Folds((loaded.official_split(),), 0, "official")
    elif folds is not None:
        made = make_folds(dataset, folds=folds, **draw)
    else:
        fold = make_split(dataset, test=0.2 if test is None else test, **draw)
        made = Folds((fold,), seed or 0, protocol)
    write_splits(output, made, dataset)
    for line in (*_part_table(made, dataset), "", *_group_table(dataset)):
        click.echo(line)
    for line in _warnings(made, loaded, has_fingerprints=fingerprint):
        click.echo(line, err=True)
    count = "one split" if len(made) == 1 else f"{len(made)} folds"
    report(f"{output}: {count}, protocol {made.protocol}.")
    ctx.exit(1 if has_failures(loaded) else 0)


def _part_table(made: Folds, dataset: FolderDataset) -> Iterator[str]:
    """Tracks and artists by genre, of the parts of a split or the test parts of folds."""
    from deepmusic.datasets.groups import artist_members

    if len(made) == 1:
        parts = {name: getattr(made[0], name) for name in ("train", "validation", "test")}
        unused = set(range(len(dataset.tracks))).difference(*parts.values())
        if unused:
            parts["in no part"] = tuple(sorted(unused))
    else:
        parts = {f"test {n}": fold.test for n, fold in enumerate(made, start=1)}
    rows: list[list[object]] = [["genre"]]
    for name in parts:
        rows[0] += [name, "artists"]
    for genre in (*dataset.genres, None):
        row: list[object] = [genre or "all"]
        for indices in parts.values():
            tracks = [dataset.tracks[index] for index in indices]
            tracks = [track for track in tracks if genre in (None, track.genre)]
            artists = {artist_members(track.artist) for track in tracks} - {frozenset()}
            row += [len(tracks), len(artists) or "-"]
        rows.append(row)
    yield from table_lines(rows)


def _group_table(dataset: FolderDataset) -> Iterator[str]:
    """The groups of tracks, and what they share."""
    from deepmusic.datasets.groups import group_tracks, shared_attributes

    sizes = Counter(group_tracks(dataset.tracks))
    yield (
        f"{counted(len(dataset.tracks), 'track')} in {counted(len(sizes), 'group')}; the largest "
        f"has {max(sizes.values())}."
    )
    shared = shared_attributes(dataset.tracks).items()
    rows = [(kind, *counts) for kind, counts in shared if any(counts)]
    if rows:
        yield from table_lines([("shared", "count", "tracks"), *rows])


def _warnings(made: Folds, loaded: LoadedDataset, *, has_fingerprints: bool) -> Iterator[str]:
    from deepmusic.datasets.groups import group_tracks, unknown_artists
    from deepmusic.datasets.split_files import leaking_groups

    groups = group_tracks(loaded.dataset.tracks)
    leaking = max(len(leaking_groups(fold, groups)) for fold in made)
    if made.protocol == "random":
        yield (
            "Warning: a random split leaks: artists and copies are in both training and test, so "
            "scores are too high. The file says so."
        )
    if leaking:
        yield f"Warning: {counted(leaking, 'group')} of tracks on two sides."
    if made.protocol != "random" and (unknown := unknown_artists(loaded.dataset.tracks)):
        yield (
            f"Whether an artist is on two sides is unknown: {unknown} of {len(groups)} tracks name "
            "none. The file says so."
        )
    if made.protocol == "official" or (made.protocol == "grouped" and not has_fingerprints):
        yield "Near-duplicates were not searched for; they may be on two sides."
    if made.protocol == "grouped":
        largest = max(Counter(groups).values())
        if largest > _LARGE_GROUP * len(groups):
            yield f"One group holds {largest} of {len(groups)} tracks, which stay on one side."
        if loaded.kind in ("gtzan", "fma"):
            yield "This data set has an official split: --protocol official."
