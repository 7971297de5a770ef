"""``deepmusic evaluate``: how well a trained classifier hears."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from deepmusic.cli.figures import figures_summary, figures_tables
from deepmusic.cli.models import load_classifier
from deepmusic.cli.output import printable
from deepmusic.errors import DataError

if TYPE_CHECKING:
    from deepmusic.classifier.inference import Classifier
    from deepmusic.datasets import FolderDataset
    from deepmusic.datasets.splits import Protocol
    from deepmusic.studies.table_classifier import TableClassifier


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--data",
    metavar="DIR",
    help="Hear DIR/GENRE/* now: the run's own data, or other music. Without it, RUN's record of "
    "its test is shown.",
)
@click.option("--tracks", metavar="CSV", help="Table for DIR, as in training.")
@click.option(
    "--all", "every", is_flag=True, help="Take every track of DIR, also those it has learned from."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people or for programs.",
)
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many tracks to hear at the same time.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, mps or auto.")
@click.pass_context
def evaluate(
    ctx: click.Context,
    run: str,
    *,
    data: str | None,
    tracks: str | None,
    every: bool,
    form: Literal["text", "json"],
    jobs: int,
    device: str,
) -> None:
    """Say how well the model in RUN hears: accuracy, macro-F1, confusion, calibration, coverage.

    With the data of its training, the test tracks are heard; with other data, all tracks. Exit
    status: 0 all well, 1 some files gave no verdict or nothing could be evaluated, 2 wrong usage.
    """
    if data is None:
        if every or tracks is not None:
            raise click.UsageError("--all and --tracks are about other data; name them by --data.")
        result = _recorded(Path(run))
    else:
        result = _heard(run, data, tracks=tracks, every=every, jobs=jobs, device=device)
    if form == "json":
        click.echo(json.dumps(result.to_dict(), indent=1))
    else:
        click.echo(f"{printable(result.about)}:")
        click.echo(figures_summary(result.figures))
        for line in figures_tables(result.figures):
            click.echo(line, nl=False)
    for note in result.notes:
        click.echo(printable(note), err=True)
    ctx.exit(1 if result.failed else 0)


@dataclass(frozen=True)
class _Result:
    """Figures, of what they are (``part``: test, validation or all), and what went wrong."""

    run: str
    data: str | None
    part: str
    about: str
    figures: dict[str, Any]
    unknown_genres: tuple[str, ...] = ()
    failed: tuple[dict[str, str | None], ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON types."""
        return {
            "run": self.run,
            "data": self.data,
            "part": self.part,
            **self.figures,
            "unknown_genres": list(self.unknown_genres),
            "failed": list(self.failed),
        }


def _recorded(run: Path) -> _Result:
    """What the training wrote down."""
    path = run / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        test = metrics.get("test")
        figures = metrics["validation"] if test is None else test
        tracks = int(figures["tracks"])
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}; name the folder of "
            "a finished run, or music to hear by --data."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged; name the data by --data to measure again.") from error
    if test is None:
        return _Result(
            run=str(run),
            data=None,
            part="validation",
            about=f"{run}, {tracks} validation tracks at the end of training",
            figures=figures,
            notes=(
                "No tracks were kept for a test. The validation tracks also chose the weights and "
                "the threshold, so these figures flatter; name other music by --data.",
            ),
        )
    return _Result(
        run=str(run),
        data=None,
        part="test",
        about=f"{run}, {tracks} test tracks at the end of training",
        figures=figures,
    )


def _heard(
    run: str, data: str, *, tracks: str | None, every: bool, jobs: int, device: str
) -> _Result:
    """What the model says of tracks now, as ``classify`` hears them."""
    # before NumPy is imported: it then works in one thread
    classifier = load_classifier(run, device=device)

    import numpy as np

    from deepmusic.classifier.evaluation import measure
    from deepmusic.classifier.library import classify_library
    from deepmusic.cli.progress import display
    from deepmusic.datasets.load import load_dataset

    dataset = load_dataset(data, table=tracks).dataset
    protocol, dataset = (None, dataset) if every else _test_part(Path(run), dataset)
    dataset, unknown, notes = _known(dataset, classifier)
    truth, said, failed = [], [], []
    with display(len(dataset.tracks)) as shown:
        files = [str(dataset.file(track)) for track in dataset.tracks]
        for track, verdict in zip(
            dataset.tracks, classify_library(files, classifier, jobs=jobs), strict=True
        ):
            if verdict.error is None:
                chances = {entry.genre: entry.probability for entry in verdict.top}
                truth.append(classifier.genres.index(track.genre))
                said.append([chances[genre] for genre in classifier.genres])
            else:
                failed.append({"path": track.path, "code": verdict.code, "error": verdict.error})
                shown.tell(printable(verdict.error))
            shown.advance()
    for problem in dataset.problems:
        failed.append({"path": problem.path, "code": problem.code, "error": problem.message})
        click.echo(printable(f"{problem.path}: {problem.message}"), err=True)
    if not truth:
        raise DataError(f"Of the tracks in {data}, none could be heard.")
    figures = measure(
        np.array(said),
        np.array(truth),
        classifier.genres,
        threshold=classifier.calibration.threshold,
    )
    whose = "tracks" if protocol is None else _WHOSE[protocol]
    return _Result(
        run=run,
        data=data,
        part="all" if protocol is None else "test",
        about=f"{run} on {data}, {len(truth)} {whose}",
        figures=figures,
        unknown_genres=unknown,
        failed=tuple(failed),
        notes=notes,
    )


_WHOSE: dict[Protocol, str] = {
    "grouped": "test tracks, by artists it has not learned from",
    "official": "test tracks of the official split",
    "random": "test tracks drawn at random: their artists may stand on both sides",
}


def _test_part(run: Path, dataset: FolderDataset) -> tuple[Protocol | None, FolderDataset]:
    """The test tracks where the data are the run's own; of other data all, by no protocol.

    Raises:
        DataError: the data are the run's own, and have changed or hold no test tracks.
    """
    from deepmusic.datasets import read_splits

    splits = run / "splits.json"
    if not splits.exists():  # a file of weights: it does not say what it has learned from
        return None, dataset
    try:
        known = {entry["path"] for entry in json.loads(splits.read_text("utf-8"))["tracks"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{splits} cannot be read or is damaged; judge on all by --all.") from error
    # new files, and those that could not be used in training, are in no part
    ours = replace(dataset, tracks=tuple(t for t in dataset.tracks if t.path in known), problems=())
    if 2 * len(ours.tracks) < len(known):
        return None, dataset
    present = {track.genre for track in ours.tracks}
    ours = replace(ours, genres=tuple(genre for genre in dataset.genres if genre in present))
    try:
        divided = read_splits(splits, ours)
    except DataError as error:
        raise DataError(
            f"{str(error).rstrip('.')}; if they are other music, or you want every track, add "
            "--all."
        ) from error
    (split,) = divided
    if not split.test:
        raise DataError(
            f"{run} has learned from all of {dataset.root}: no tracks were kept for a test. Name "
            "other music, or see what all of it gives by --all."
        )
    return divided.protocol, replace(ours, tracks=tuple(ours.tracks[index] for index in split.test))


def _known(
    dataset: FolderDataset, classifier: Classifier | TableClassifier
) -> tuple[FolderDataset, tuple[str, ...], tuple[str, ...]]:
    """The tracks whose genres the model knows, the genres that it does not, and what to say."""
    counts = Counter(t.genre for t in dataset.tracks if t.genre not in classifier.genres)
    unknown = tuple(sorted(counts))
    if not counts:
        return dataset, (), ()
    listed = ", ".join(f"{genre} ({counts[genre]})" for genre in unknown)
    knows = ", ".join(classifier.genres)
    tracks = tuple(t for t in dataset.tracks if t.genre in classifier.genres)
    if not tracks:
        raise DataError(
            f"The model knows none of the genres in {dataset.root} ({', '.join(unknown)}); it "
            f"knows {knows}."
        )
    note = f"The model does not know, and these tracks do not count: {listed}. It knows {knows}."
    return replace(dataset, tracks=tracks), unknown, (note,)
