"""``deepmusic classify``: the genre of recordings, files and whole libraries."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import click

from deepmusic.cli.models import load_classifier
from deepmusic.cli.options import DEVICE, JOBS, at_least, combined, format_option
from deepmusic.cli.output import Format, named_line, writer
from deepmusic.errors import AudioError

if TYPE_CHECKING:
    from deepmusic.classifier.inference import Classifier
    from deepmusic.classifier.verdict import Verdict

_OUTPUT = combined(
    click.option("--top", metavar="N", type=at_least(1), help="List the N most probable genres."),
    format_option("text", "json", "csv"),
    click.option("--timeline", is_flag=True, help="Show the genre over time (text and JSON)."),
    click.option(
        "--timeline-picture",
        metavar="FILE.png|DIR",
        help="Plot the genre over time; several tracks need a folder.",
    ),
    click.option(
        "--explain",
        "explanation_picture",
        metavar="FILE.png|DIR",
        help="Plot what in time and frequency made the model choose the genre; several tracks "
        "need a folder.",
    ),
)
_TAGS = combined(
    click.option("--write-tags", is_flag=True, help="Write the genre to each file without one."),
    click.option("--overwrite-tags", is_flag=True, help="Replace existing genres, too."),
    click.option("--dry-run", is_flag=True, help="Say which tags would change; change nothing."),
    click.option(
        "--tag-log",
        metavar="FILE",
        default="deepmusic-tags.db",
        show_default=True,
        help="Log of changed tags, from which they can be undone.",
    ),
    click.option("--undo-tags", metavar="LOG", help="Undo the changes in LOG, and stop."),
)


@click.command(no_args_is_help=True)
@click.argument("paths", metavar="PATH...", nargs=-1)
@_OUTPUT
@JOBS
@click.option(
    "--results",
    metavar="FILE",
    help="Keep verdicts in FILE (SQLite); the next time only new or changed files are classified.",
)
@_TAGS
@click.option("--model", metavar="RUN", default="classifier", help="A run of your own training.")
@click.option(
    "--trust",
    "trusted",
    metavar="TYPE",
    multiple=True,
    help="Allow a RUN of `train baseline` to hold this class, such as package.module.Class, whose "
    "code then runs.",
)
@DEVICE
@click.option(
    "--max-minutes",
    metavar="M",
    type=click.FloatRange(min=0, min_open=True),
    default=360.0,
    show_default=True,
    help="Analyse at most this much of a track.",
)
@click.pass_context
def classify(
    ctx: click.Context,
    paths: tuple[str, ...],
    *,
    top: int | None,
    form: Format,
    timeline: bool,
    timeline_picture: str | None,
    explanation_picture: str | None,
    jobs: int,
    results: str | None,
    write_tags: bool,
    overwrite_tags: bool,
    dry_run: bool,
    tag_log: str,
    undo_tags: str | None,
    model: str,
    trusted: tuple[str, ...],
    device: str,
    max_minutes: float,
) -> None:
    """Print the genre of each PATH: sound files, videos, and folders of them.

    Verdicts go to standard output, everything else to standard error. A track without a clear
    genre is called unsure. Exit status: 0 all well, 1 some files failed, 2 wrong usage.
    """
    if dry_run and not (write_tags or undo_tags):
        raise click.UsageError("--dry-run is about tags; add --write-tags or --undo-tags LOG.")
    if overwrite_tags and not write_tags:
        raise click.UsageError("--overwrite-tags needs --write-tags.")
    if timeline and form == "csv":
        raise click.UsageError("CSV cannot hold a --timeline; use --format json or text.")
    if undo_tags is not None:
        if paths or write_tags:
            raise click.UsageError("--undo-tags LOG stands alone: the log names the files.")
        from deepmusic.cli.tagging import undo_changes

        ctx.exit(0 if undo_changes(undo_tags, dry_run=dry_run) else 1)
    if not paths:
        raise click.UsageError("name at least one file or folder.")

    classifier = load_classifier(model, device=device, trusted=trusted)  # before NumPy is imported

    from deepmusic.audio import find_audio
    from deepmusic.classifier.files import VerdictStore, classify_files
    from deepmusic.cli.progress import display

    entries = list(dict.fromkeys(find_audio(paths)))
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
    plots = _Plots(
        timeline_picture,
        explanation_picture,
        cast("Classifier", classifier),
        tracks=sum(isinstance(entry, str) for entry in entries),
    )
    tagger = None
    if write_tags:
        from deepmusic.cli.tagging import Tagger

        tagger = Tagger(tag_log, overwrite=overwrite_tags, dry_run=dry_run)

    failed = unexplained = 0
    segments = timeline or timeline_picture is not None
    with ExitStack() as stack:
        store = None
        if results is not None:
            store = VerdictStore(
                results, model=classifier.digest, max_seconds=60 * max_minutes, segments=segments
            )
            stack.enter_context(store)
        screen = stack.enter_context(display(len(entries)))
        write = stack.enter_context(
            writer(
                form,
                screen.echo,
                top=top,
                timeline=timeline,
                name_width=max(map(len, classifier.genres)),
                on_terminal=sys.stdout.isatty(),
            )
        )
        for verdict in classify_files(
            entries,
            classifier,
            jobs=min(jobs, len(entries)),
            store=store,
            max_seconds=60 * max_minutes,
            segments=segments,
        ):
            write(verdict)
            if verdict.error is not None:
                failed += 1
                if form == "text":
                    screen.report(named_line(verdict.path, verdict.error))
            if verdict.warning is not None:
                screen.report(named_line(verdict.path, verdict.warning))
            try:
                plots.draw(verdict)
            except AudioError as error:  # such as ten minutes of silence at the start
                unexplained += 1
                screen.report(named_line(verdict.path, f"no explanation: {error}"))
            if tagger is not None and verdict.genre is not None:
                screen.report(tagger.tag(verdict, verdict.genre, store))
            screen.advance()
    if failed and len(entries) > 1:
        click.echo(f"{failed} of {len(entries)} files failed.", err=True)
    if tagger is not None:
        click.echo(tagger.summary(), err=True)
    ctx.exit(1 if failed or unexplained or (tagger is not None and tagger.failed) else 0)


class _Plots:
    """The plots of each verdict that were asked for."""

    def __init__(
        self, timeline: str | None, explanation: str | None, classifier: Classifier, *, tracks: int
    ) -> None:
        from deepmusic.cli.pictures import picture_names

        self._classifier = classifier
        self._timeline = self._explanation = None
        if timeline is not None:
            self._timeline = picture_names(timeline, tracks=tracks, option="--timeline-picture")
        if explanation is not None:
            self._explanation = picture_names(explanation, tracks=tracks, option="--explain")

    def draw(self, verdict: Verdict) -> None:
        if self._timeline is not None and verdict.segments:
            from deepmusic.classifier.timeline import draw_timeline

            path = self._timeline(verdict.path)
            draw_timeline(verdict.segments, path, title=verdict.path)
        if self._explanation is not None and verdict.top:
            from deepmusic.classifier.explanation import draw_explanation, explain

            best = verdict.top[0]
            genre = f"unsure, perhaps {best.genre}" if verdict.is_unsure else best.genre
            explanation = explain(self._classifier, verdict.path, genre=best.genre)
            title = f"{verdict.path}: {genre} ({best.probability:.0%})"
            draw_explanation(explanation, self._explanation(verdict.path), title)
