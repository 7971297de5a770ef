"""``deepmusic classify``: the genre of recordings, files and whole libraries."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from deepmusic.cli.options import (
    DEVICE,
    JOBS,
    Number,
    at_least,
    combined,
    format_option,
    max_minutes,
    option,
    output_file,
    output_folder,
)
from deepmusic.cli.output import Format, cells, named_line, printable, report, writer
from deepmusic.errors import AudioError, DeepMusicError
from deepmusic.extras import need
from deepmusic.files import make_folder
from deepmusic.parallel import use_one_thread

if TYPE_CHECKING:
    from deepmusic.classifier.ear.classifier import EarClassifier
    from deepmusic.classifier.inference import Classifier
    from deepmusic.classifier.verdict import Verdict
    from deepmusic.studies.tabular_io import FittedTable

_NAME_BYTES = 200  # of a picture; file systems take 255, extension and number included

_OUTPUT = combined(
    option("--top N", "List the N most probable genres.", type=at_least(1)),
    format_option("text", "json", "csv"),
    option("--tags", "Show mood, voice, instruments and decade, too (text and JSON)."),
    option("--timeline", "Show the genre over time (text and JSON)."),
    option(
        "--timeline-picture FILE.png|DIR", "Plot the genre over time; several tracks need a folder."
    ),
    option(
        "--explain FILE.png|DIR",
        "Plot what in time and frequency made the model choose the genre; several tracks "
        "need a folder.",
        name="explanation_picture",
    ),
)
_TAGS = combined(
    option(
        "--write-tags",
        "Write the genre to files that have none, as the tags of the other files spell it.",
    ),
    option("--overwrite-tags", "Replace existing genres, too."),
    option("--genres N", "Give up to N genres to a track.", type=at_least(1), name="most_genres"),
    option(
        "--genre-threshold P",
        "A second genre has at least this probability.  [default: 0.2]",
        type=Number(0, 1),
    ),
    option(
        "--genre-map FILE",
        "Names of genres in your library: a CSV or TOML of the model's genre and yours; or "
        "beets' tree, aliases (YAML) or whitelist (text). May be repeated.",
        multiple=True,
    ),
    option("--dry-run", "List the tags that would change, and change nothing."),
    option(
        "--tag-log FILE",
        "Log of changed tags, from which they can be undone.",
        default="deepmusic-tags.db",
    ),
    option(
        "--undo-tags LOG", "Undo the changes in LOG, and stop; moved files are searched in PATH."
    ),
)


@click.command(no_args_is_help=True)
@click.argument("paths", metavar="PATH...", nargs=-1)
@_OUTPUT
@JOBS
@option(
    "--results FILE",
    "Keep verdicts in FILE (SQLite); the next time only new or changed files are classified.",
    callback=output_file,
)
@_TAGS
@option(
    "--model RUN",
    "A run of your own training; or small, the model of four genres that needs no pretrained ear.",
    default="classifier",
)
@option(
    "--trust TYPE",
    "Allow a RUN of `train baseline` to hold this class, such as package.module.Class, whose "
    "code then runs.",
    name="trusted",
    multiple=True,
)
@DEVICE
@max_minutes(360.0, "Analyse at most this much of a track.")
@click.pass_context
def classify(
    ctx: click.Context,
    paths: tuple[str, ...],
    *,
    top: int | None,
    form: Format,
    tags: bool,
    timeline: bool,
    timeline_picture: str | None,
    explanation_picture: str | None,
    jobs: int,
    results: str | None,
    write_tags: bool,
    overwrite_tags: bool,
    most_genres: int | None,
    genre_threshold: float | None,
    genre_map: tuple[str, ...],
    dry_run: bool,
    tag_log: str,
    undo_tags: str | None,
    model: str,
    trusted: tuple[str, ...],
    device: str,
    max_seconds: float,
) -> None:
    """Print the genre of each PATH: sound files, videos, folders and playlists of them.

    Verdicts go to standard output, everything else to standard error. A track without a clear
    genre is called unsure. Exit status: 0 all well, 1 some files failed, 2 wrong usage.
    """
    if dry_run and not (write_tags or undo_tags):
        raise click.UsageError("--dry-run is about tags; add --write-tags or --undo-tags LOG.")
    if overwrite_tags and not write_tags:
        raise click.UsageError("--overwrite-tags needs --write-tags.")
    if genre_threshold is not None and (most_genres or 1) < 2:
        raise click.UsageError("--genre-threshold is about further genres; add --genres 2 or more.")
    if (genre_map or most_genres) and not (write_tags or form == "json"):
        name = "--genre-map" if genre_map else "--genres"
        raise click.UsageError(f"{name} needs --write-tags, or --format json to show the genres.")
    for name, is_wanted in (("--timeline", timeline), ("--tags", tags)):
        if is_wanted and form == "csv":
            raise click.UsageError(f"CSV cannot hold {name}; use --format json or text.")
    if undo_tags is not None:
        if write_tags:
            raise click.UsageError("--undo-tags and --write-tags are two different runs.")
        from deepmusic.cli.tagging import undo_changes

        ctx.exit(0 if undo_changes(undo_tags, paths, dry_run=dry_run) else 1)
    if not paths:
        raise click.UsageError("name at least one file or folder.")
    if write_tags:
        output_file(ctx, None, tag_log, "--tag-log")

    from deepmusic.audio.genre_names import GenreNames, folded, read_genre_rules

    rules = read_genre_rules(genre_map)
    classifier = load_classifier(model, device=device, trusted=trusted)  # before NumPy is imported

    if note := getattr(classifier, "note", None):
        click.echo(note, err=True)
    if unknown := rules.names.keys() - set(map(folded, classifier.genres)):
        listed = ", ".join(sorted(unknown))
        click.echo(f"--genre-map: the model has no genre {printable(listed)}.", err=True)

    from deepmusic.audio import find_audio
    from deepmusic.classifier.files import classify_files
    from deepmusic.cli.progress import display

    entries = list(dict.fromkeys(find_audio(paths, on_note=report)))
    over_time = {
        "--timeline": timeline,
        "--timeline-picture": timeline_picture,
        "--explain": explanation_picture,
    }
    if not classifier.has_segments and any(over_time.values()):
        option = next(name for name, value in over_time.items() if value)
        raise click.UsageError(
            f"{option} needs a model of segments; {model} is a run of 'train baseline', which "
            "classifies a track as a whole."
        )
    tracks = sum(isinstance(entry, str) for entry in entries)
    timeline_name = _picture_names(timeline_picture, tracks, "--timeline-picture")
    explanation_name = _picture_names(explanation_picture, tracks, "--explain")
    tagger, names = None, GenreNames(rules=rules)
    if write_tags:
        from deepmusic.cli.tagging import Tagger, library_names

        names = library_names([entry for entry in entries if isinstance(entry, str)], rules)
        tagger = Tagger(tag_log, overwrite=overwrite_tags, dry_run=dry_run)

    def genres(verdict: Verdict) -> tuple[str, ...]:
        least = 0.2 if genre_threshold is None else genre_threshold
        return names(verdict.genres(most_genres or 1, least))

    failed = unexplained = 0
    segments = timeline or timeline_picture is not None
    with ExitStack() as stack:
        store = None
        if results is not None:
            from deepmusic.classifier import VerdictStore

            store = VerdictStore(
                results, model=classifier.digest, max_seconds=max_seconds, segments=segments
            )
            stack.enter_context(store)
        screen = stack.enter_context(display(len(entries)))
        write = stack.enter_context(
            writer(
                form,
                screen.echo,
                top=top,
                tags=tags,
                timeline=timeline,
                genres=genres,
                name_width=max(map(cells, classifier.genres)),
                on_terminal=sys.stdout.isatty(),
            )
        )
        for verdict in classify_files(
            entries,
            classifier,
            jobs=jobs,
            store=store,
            max_seconds=max_seconds,
            segments=segments,
        ):
            write(verdict)
            if verdict.error is not None:
                failed += 1
                if form == "text":
                    screen.report(named_line(verdict.path, verdict.error))
            if verdict.warning is not None:
                screen.report(named_line(verdict.path, verdict.warning))
            if timeline_name is not None and verdict.segments:
                from deepmusic.classifier.timeline import draw_timeline

                draw_timeline(
                    verdict.segments,
                    timeline_name(verdict.path),
                    silences=verdict.silences,
                    title=verdict.path,
                )
            if explanation_name is not None and verdict.top:
                try:
                    _explain(cast("EarClassifier", classifier), verdict, explanation_name)
                except AudioError as error:  # such as ten minutes of silence at the start
                    unexplained += 1
                    screen.report(named_line(verdict.path, f"no explanation: {error}"))
            if tagger is not None and (found := genres(verdict)):
                screen.report(tagger.tag(verdict, found, store))
            screen.advance()
    if failed and len(entries) > 1:
        click.echo(f"{failed} of {len(entries)} files failed.", err=True)
    if tagger is not None:
        click.echo(tagger.summary(), err=True)
    ctx.exit(1 if failed or unexplained or (tagger is not None and tagger.failed) else 0)


def load_classifier(
    model: str, *, device: str, trusted: Collection[str] = ()
) -> Classifier | EarClassifier | FittedTable:
    """Load a shipped model, a run of ``train classifier`` or a run of ``train baseline``.

    Args:
        model: a name, a run of either kind, or a file of weights.
        device: for the networks; a run of ``train baseline`` uses the CPU.
        trusted: types that a run of ``train baseline`` may hold besides the usual ones.

    Raises:
        CheckpointError: there is no such model, or it is damaged.
        DeepMusicError: the device does not exist.
        MissingLibraryError: it is a run of ``train baseline``, and scikit-learn is not installed.
    """
    # more threads gain little within a track, and on busy cores they wait for each other
    use_one_thread()
    path = Path(model)
    folder = path.parent if path.name in ("model.json", "model.skops") else path
    if (folder / "model.skops").is_file():
        if device not in ("auto", "cpu"):
            raise DeepMusicError(
                f"{model} is a run of 'train baseline', which runs on the CPU only; omit --device."
            )
        if trusted and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # where 'train baseline' found the class
        need("study")
        from deepmusic.studies.tabular_io import FittedTable

        return FittedTable.load(model, trusted=trusted)
    if trusted:
        raise DeepMusicError(f"{model} is not a run of 'train baseline'; omit --trust.")
    gc.disable()  # imports make no garbage: collecting would be a sixth of the start
    try:
        from deepmusic.pretrained import load

        return load(model, device=device)
    finally:
        gc.freeze()
        gc.enable()


def _picture_names(target: str | None, tracks: int, option: str) -> Callable[[str], Path] | None:
    """A function from a track's path to that of its picture; None where none is asked for.

    Args:
        target: a ``.png`` file for one track, a folder otherwise; the folder is made when needed.
        tracks: number of tracks.
        option: name of the option, for messages.

    Raises:
        click.UsageError: neither a ``.png`` file nor a folder, or one file for several tracks.
    """
    if target is None:
        return None
    path = Path(target)
    is_file = bool(path.suffix) and not path.is_dir()
    if is_file and path.suffix.lower() != ".png":
        raise click.UsageError(f"{option}: pictures are PNG files; name FILE.png or a folder.")
    if is_file and tracks > 1:
        raise click.UsageError(f"{option}: {tracks} tracks need a folder, not one file.")
    (output_file if is_file else output_folder)(None, None, target, option)
    taken: set[str] = set()

    def name(track: str) -> Path:
        if is_file:
            return path
        stem = os.fsdecode(os.fsencode(os.path.basename(track))[:_NAME_BYTES])
        candidate, number = f"{stem}.png", 2
        while candidate.casefold() in taken:  # disks of Windows and macOS fold case
            candidate, number = f"{stem}.{number}.png", number + 1
        taken.add(candidate.casefold())
        return make_folder(path) / candidate

    return name


def _explain(
    classifier: Classifier | EarClassifier, verdict: Verdict, name: Callable[[str], Path]
) -> None:
    """Plot what made the model choose the first genre of a verdict."""
    from deepmusic.classifier.explanation import draw_explanation, explain

    best = verdict.top[0]
    genre = f"unsure, perhaps {best.genre}" if verdict.is_unsure else best.genre
    explanation = explain(classifier, verdict.path, genre=best.genre)
    title = f"{verdict.path}: {genre} ({best.probability:.0%})"
    draw_explanation(explanation, name(verdict.path), title)
