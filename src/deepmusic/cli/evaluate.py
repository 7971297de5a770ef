"""``deepmusic evaluate``: how accurate a trained classifier is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.classify import load_classifier
from deepmusic.cli.data_options import fma_options
from deepmusic.cli.options import DEVICE, JOBS, format_option, option
from deepmusic.cli.output import (
    accuracy_lines,
    named_line,
    printable,
    report,
    shortened,
    table_lines,
    terminal_width,
    test_tracks,
)
from deepmusic.cli.progress import display
from deepmusic.errors import DataError, os_reason

if TYPE_CHECKING:
    from deepmusic.classifier.ear.classifier import EarClassifier
    from deepmusic.classifier.inference import Classifier
    from deepmusic.datasets import FolderDataset
    from deepmusic.datasets.split_files import Leaks
    from deepmusic.datasets.splits import Protocol
    from deepmusic.studies.tabular_io import FittedTable


_WORST = 10  # confusions to list where the table is too wide


@click.command()
@click.argument("run", metavar="RUN")
@option(
    "--data DIR",
    "Classify DIR/GENRE/* now: the run's own data, or other music. By default the figures "
    "that RUN recorded on its test tracks are shown.",
)
@option("--tracks CSV", "Table for DIR, as in training.")
@fma_options
@option("--all", "Use all tracks of DIR, training tracks too.", name="every")
@format_option("text", "json")
@JOBS
@DEVICE
@click.pass_context
def evaluate(
    ctx: click.Context,
    /,
    run: str,
    *,
    data: str | None,
    tracks: str | None,
    every: bool,
    form: str,
    jobs: int,
    device: str,
    **fma: Any,
) -> None:
    """Evaluate the model in RUN: accuracy, macro-F1, confusion, calibration, coverage.

    Of the data of its training the test tracks are classified, of other data all tracks. Exit
    status: 0 all well, 1 some files failed or nothing could be evaluated, 2 wrong usage.
    """
    if data is None:
        if every or tracks is not None:
            raise click.UsageError("--all and --tracks need --data.")
        result = _recorded(Path(run))
    else:
        result = _measured(run, data, every=every, jobs=jobs, device=device, table=tracks, **fma)
    if form == "json":
        record = {
            "run": run,
            "data": data,
            "part": result.part,
            "leaks": result.leaks,
            **result.figures,
            "unknown_genres": list(result.unknown_genres),
            "failed": list(result.failed),
        }
        click.echo(json.dumps(record, indent=1))
    else:
        click.echo(f"{printable(result.about)}:")
        for line in (*accuracy_lines(result.figures), "", *_tables(result.figures)):
            click.echo(line)
    if result.note:
        report(result.note)
    ctx.exit(1 if result.failed else 0)


@dataclass(frozen=True)
class _Result:
    """Figures on a ``part`` of some tracks: test, validation or all."""

    part: str
    about: str
    figures: dict[str, Any]
    leaks: Leaks | None = None  # None for music that the model was not trained on
    note: str = ""
    unknown_genres: tuple[str, ...] = ()
    failed: tuple[dict[str, str | None], ...] = ()


def _recorded(run: Path) -> _Result:
    """The figures that the training recorded."""
    path = run / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        test = metrics.get("test")
        figures = metrics["validation"] if test is None else test
        tracks = int(figures["tracks"])
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {os_reason(error)}; name the folder of a finished run, or "
            "music by --data."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged; name the data by --data to measure again.") from error
    (leaks, unknown), part, note = _leaks(run), "test", ""
    if leaks == "unknown":
        note = f"Whether test artists were trained on is unknown: {unknown} tracks name no artist."
    if test is None:
        part = "validation"
        note += (" " if note else "") + (
            "No tracks were held out for a test. The validation tracks also selected the weights "
            "and the threshold, so these figures are optimistic; name other music by --data."
        )
    return _Result(
        part, f"{run}, {tracks} {part} tracks at the end of training", figures, leaks, note
    )


def _measured(
    run: str, data: str, *, every: bool, jobs: int, device: str, **options: Any
) -> _Result:
    """The figures on tracks that are classified now; ``options`` are of `load_dataset`."""
    classifier = load_classifier(run, device=device)  # before NumPy is imported

    import numpy as np

    from deepmusic.classifier import classify_files, measure
    from deepmusic.datasets import load_dataset

    dataset = load_dataset(data, **options).dataset
    protocol, dataset = (None, dataset) if every else _test_part(Path(run), dataset)
    dataset, unknown, note = _with_known_genres(dataset, classifier)
    failed: list[dict[str, str | None]] = []
    for problem in dataset.problems:
        failed.append({"path": problem.path, "code": problem.code, "error": problem.message})
        click.echo(named_line(problem.path, problem.message), err=True)
    labels, rows = [], []
    verdicts = classify_files([str(dataset.file(t)) for t in dataset.tracks], classifier, jobs=jobs)
    with display(len(dataset.tracks)) as screen:
        for track, verdict in zip(dataset.tracks, verdicts, strict=True):
            if verdict.error is None:
                by_genre = {entry.genre: entry.probability for entry in verdict.top}
                labels.append(classifier.genres.index(track.genre))
                rows.append([by_genre[genre] for genre in classifier.genres])
            else:
                failed.append({"path": track.path, "code": verdict.code, "error": verdict.error})
                screen.report(printable(verdict.error))
            screen.advance()
    if not labels:
        raise DataError(f"None of the tracks in {data} could be decoded.")
    figures = measure(
        np.array(rows),
        np.array(labels),
        classifier.genres,
        threshold=classifier.calibration.threshold,
    )
    leaks, unknown_artists = _leaks(Path(run)) if protocol else (None, 0)
    kind = test_tracks(protocol, unknown_artists) if protocol else "tracks"
    about = f"{run} on {data}, {len(labels)} {kind}"
    part = "test" if protocol else "all"
    return _Result(part, about, figures, leaks, note, unknown, tuple(failed))


def _leaks(run: Path) -> tuple[Leaks | None, int]:
    """What the run's file of splits says about leaks, and how many tracks name no artist."""
    from deepmusic.datasets.split_files import read_split_file

    try:
        stored = read_split_file(run / "splits.json")
    except DataError:
        return None, 0
    unknown = stored.get("unknown_artists", 0)
    return stored.get("leaks") or ("unknown" if unknown else False), unknown


def _test_part(run: Path, dataset: FolderDataset) -> tuple[Protocol | None, FolderDataset]:
    """The test tracks and their protocol if the data are the run's own; otherwise all tracks.

    Raises:
        DataError: the data are the run's own, and have changed or hold no test tracks.
    """
    from deepmusic.datasets import read_splits

    splits = run / "splits.json"
    if not splits.exists():  # a file of weights does not say what it has learned from
        return None, dataset
    try:
        paths = {entry["path"] for entry in json.loads(splits.read_text("utf-8"))["tracks"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{splits} cannot be read; evaluate on all tracks by --all.") from error
    # new files, and those that could not be used in training, are in no part
    tracks = tuple(track for track in dataset.tracks if track.path in paths)
    if 2 * len(tracks) < len(paths):
        return None, dataset
    present = {track.genre for track in tracks}
    genres = tuple(genre for genre in dataset.genres if genre in present)
    dataset = replace(dataset, tracks=tracks, genres=genres, problems=())
    try:
        folds = read_splits(splits, dataset)
    except DataError as error:
        raise DataError(
            f"{str(error).rstrip('.')}; if they are other music, or you want every track, add "
            "--all."
        ) from error
    test = folds[0].test
    if not test:
        raise DataError(
            f"{run} has learned from all of {dataset.root}: no tracks were held out for a test. "
            "Name other music, or evaluate on all of it by --all."
        )
    return folds.protocol, replace(dataset, tracks=tuple(dataset.tracks[i] for i in test))


def _with_known_genres(
    dataset: FolderDataset, classifier: Classifier | EarClassifier | FittedTable
) -> tuple[FolderDataset, tuple[str, ...], str]:
    """The tracks of genres that the model knows, the other genres, and a note on these."""
    counts = Counter(t.genre for t in dataset.tracks if t.genre not in classifier.genres)
    unknown = tuple(sorted(counts))
    if not counts:
        return dataset, (), ""
    genres = ", ".join(classifier.genres)
    tracks = tuple(t for t in dataset.tracks if t.genre in classifier.genres)
    if not tracks:
        raise DataError(
            f"The model knows none of the genres in {dataset.root} ({', '.join(unknown)}); it "
            f"knows {genres}."
        )
    listed = ", ".join(f"{genre} ({counts[genre]})" for genre in unknown)
    note = f"Skipped, of genres that the model does not know: {listed}. It knows {genres}."
    return replace(dataset, tracks=tracks), unknown, note


def _tables(figures: Mapping[str, Any]) -> Iterator[str]:
    """The confusion matrix with each genre's recall, and accuracy by coverage."""
    genres, confusion = figures["genres"], figures["confusion"]
    recall = [f"{figures['recall'][g]:.0%}" if g in figures["recall"] else "-" for g in genres]
    rows: list[list[object]] = [["true", "recall", "predicted:", *genres]]
    for genre, share, counts in zip(genres, recall, confusion, strict=True):
        rows.append([genre, share, "", *counts])
    room = terminal_width()
    matrix = [*table_lines(rows, room)]
    if "" not in matrix:
        yield from matrix
    else:  # it is too wide: what each genre is taken for
        shown = [shortened(printable(genre), room // 3) for genre in genres]
        mistakes: list[tuple[int, int, int]] = []
        rows = [["true", "recall", "tracks"]]
        for true, counts in enumerate(confusion):
            rows.append([shown[true], recall[true], sum(counts)])
            mistakes += [(n, true, i) for i, n in enumerate(counts) if n and i != true]
        mistakes.sort(key=lambda mistake: -mistake[0])  # stable: as the genres come
        for true, line in enumerate(table_lines(rows), start=-1):
            taken = (f"{n} {shortened(shown[i], room // 5)}" for n, of, i in mistakes if of == true)
            listed = "predicted as" if true < 0 else ", ".join(taken)
            yield shortened(f"{line}  {listed}", room).rstrip()
        yield ""
        yield "Most often confused (all are in JSON):" if mistakes else "No track is confused."
        for count, true, predicted in mistakes[:_WORST]:
            yield shortened(f"  {count:>4}  {shown[true]}, predicted as {shown[predicted]}", room)
    yield ""
    rows = [["threshold", "coverage", "accuracy"]]
    for point in figures["coverage"]:
        accuracy = f"{point['accuracy']:.0%}" if "accuracy" in point else "-"
        rows.append([f"{point['threshold']:.0%}", f"{point['coverage']:.0%}", accuracy])
    yield from table_lines(rows)
