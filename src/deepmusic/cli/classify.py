"""``deepmusic classify``: the genre of recordings, files and whole libraries."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import click

from deepmusic.cli.models import is_table_run, load_classifier, start_workers
from deepmusic.cli.output import Format, failure_line, printable, writer
from deepmusic.cli.pictures import picture_names
from deepmusic.errors import AudioError

if TYPE_CHECKING:
    from deepmusic.classifier.inference import Classifier
    from deepmusic.classifier.verdict import Verdict

_DEFAULT_TAG_LOG = "deepmusic-tags.db"


@click.command(no_args_is_help=True)
@click.argument("paths", metavar="PATH...", nargs=-1)
@click.option("--top", metavar="N", type=click.IntRange(min=1), help="List the N likeliest genres.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    show_default=True,
    help="For people or for programs.",
)
@click.option("--timeline", is_flag=True, help="Show the genre over time (text and JSON).")
@click.option(
    "--timeline-picture",
    metavar="FILE.png|DIR",
    help="Draw the genre over time; several tracks need a folder.",
)
@click.option(
    "--explain",
    "explain_picture",
    metavar="FILE.png|DIR",
    help="Draw what in time and frequency spoke for the genre; several tracks need a folder.",
)
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many tracks to hear at the same time.",
)
@click.option(
    "--results",
    "results_path",
    metavar="FILE",
    help="Keep verdicts in FILE (JSON lines); run again, only new or changed files are heard.",
)
@click.option("--write-tags", is_flag=True, help="Write the genre into each file that has none.")
@click.option("--overwrite-tags", is_flag=True, help="Replace genres that are set already, too.")
@click.option("--dry-run", is_flag=True, help="Say what would be done to tags, and do nothing.")
@click.option(
    "--tag-log",
    metavar="FILE",
    default=_DEFAULT_TAG_LOG,
    show_default=True,
    help="Where changes of tags are noted, so that they can be undone.",
)
@click.option("--undo-tags", metavar="LOG", help="Undo the changes of tags noted in LOG, and stop.")
@click.option("--model", metavar="RUN", default="classifier", help="A run of your own training.")
@click.option(
    "--trust",
    "trusted",
    metavar="TYPE",
    multiple=True,
    help="Let a RUN of `train baseline` hold this class, such as package.module.Class; its code "
    "runs.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, mps or auto.")
@click.option(
    "--max-minutes",
    metavar="M",
    type=click.FloatRange(min=0, min_open=True),
    default=360.0,
    show_default=True,
    help="Hear no more than this of a track.",
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
    explain_picture: str | None,
    jobs: int,
    results_path: str | None,
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
    """Say which genre each PATH is: sound files, videos, and folders of them.

    Verdicts go to standard output, all else to standard error. A track that no genre claims is
    called unsure. Exit status: 0 all well, 1 some files failed, 2 wrong usage.
    """
    if dry_run and not (write_tags or undo_tags):
        raise click.UsageError("--dry-run is about tags; add --write-tags or --undo-tags LOG.")
    if overwrite_tags and not write_tags:
        raise click.UsageError("--overwrite-tags needs --write-tags.")
    if timeline and form == "csv":
        raise click.UsageError("--timeline has no place in CSV; use --format json or text.")
    if is_table_run(model):
        _refuse_over_time(
            model,
            {
                "--timeline": timeline,
                "--timeline-picture": timeline_picture,
                "--explain": explain_picture,
            },
        )
    if undo_tags is not None:
        if paths or write_tags:
            raise click.UsageError("--undo-tags LOG stands alone: the log names the files.")
        from deepmusic.cli.tagging import undo_changes

        ctx.exit(0 if undo_changes(undo_tags, dry_run=dry_run) else 1)
    if not paths:
        raise click.UsageError("name at least one file or folder.")

    from deepmusic.classifier.library import classify_library, walk_audio
    from deepmusic.classifier.results import ResultsFile
    from deepmusic.cli.progress import display

    entries = list(walk_audio(paths))
    tracks = sum(isinstance(entry, str) for entry in entries)
    picture_of = explanation_of = None
    if timeline_picture is not None:
        picture_of = picture_names(timeline_picture, tracks=tracks, option="--timeline-picture")
    if explain_picture is not None:
        explanation_of = picture_names(explain_picture, tracks=tracks, option="--explain")
    tagger = None
    if write_tags:
        from deepmusic.cli.tagging import Tagger

        tagger = Tagger(tag_log, overwrite=overwrite_tags, dry_run=dry_run)

    failed = unexplained = 0
    max_seconds = 60 * max_minutes
    jobs = max(1, min(jobs, tracks))
    with ExitStack() as stack:
        workers = start_workers(jobs, device=device)
        if workers is not None:
            stack.enter_context(workers)
        # nothing to hear needs no model
        classifier = load_classifier(model, device=device, trusted=trusted) if tracks else None
        results = None
        if results_path is not None and classifier is not None:
            results = stack.enter_context(
                ResultsFile(results_path, model=classifier.digest, max_seconds=max_seconds)
            )
        shown = stack.enter_context(display(len(entries)))
        write = stack.enter_context(
            writer(
                form,
                shown.echo,
                top=top,
                timeline=timeline,
                name_width=max(map(len, classifier.genres)) if classifier else 0,
                on_terminal=sys.stdout.isatty(),
            )
        )
        verdicts = (
            iter([entry for entry in entries if not isinstance(entry, str)])
            if classifier is None
            else classify_library(
                entries,
                classifier,
                jobs=jobs,
                results=results,
                max_seconds=max_seconds,
                segments=timeline or picture_of is not None,
                workers=workers,
            )
        )
        for verdict in verdicts:
            write(verdict)
            if verdict.error is not None:
                failed += 1
                if form == "text":
                    shown.tell(failure_line(verdict))
            if verdict.warning is not None:
                shown.tell(printable(f"{verdict.path}: {verdict.warning}"))
            if picture_of is not None and verdict.segments:
                _draw(verdict, picture_of(verdict.path))
            if explanation_of is not None and classifier is not None and verdict.top:
                try:
                    _explain(
                        verdict, cast("Classifier", classifier), str(explanation_of(verdict.path))
                    )
                except AudioError as error:  # such as ten minutes of silence first
                    unexplained += 1
                    shown.tell(printable(f"{verdict.path}: no explanation: {error}"))
            if tagger is not None and verdict.genre is not None:
                shown.tell(tagger.tag(verdict, verdict.genre, results))
            shown.advance()
    if failed and len(entries) > 1:
        click.echo(f"{failed} of {len(entries)} files gave no verdict.", err=True)
    if tagger is not None:
        click.echo(tagger.summary(), err=True)
    ctx.exit(1 if failed or unexplained or (tagger is not None and tagger.failed) else 0)


def _refuse_over_time(model: str, options: dict[str, object]) -> None:
    """Refuse what needs segments: a run of ``train baseline`` hears a track as one."""
    for option, value in options.items():
        if value:
            raise click.UsageError(
                f"{option} needs a model that hears segments; {model} is a run of 'train "
                "baseline', which hears a track as one."
            )


def _draw(verdict: Verdict, path: object) -> None:
    from deepmusic.classifier.timeline import draw_timeline

    draw_timeline(verdict.segments, str(path), title=verdict.path)


def _explain(verdict: Verdict, classifier: Classifier, path: str) -> None:
    from deepmusic.classifier.explanation import draw_explanation, explain

    likeliest = verdict.top[0]
    said = "unsure, likeliest" if verdict.is_unsure else "heard as"
    title = f"{verdict.path}: {said} {likeliest.genre} ({likeliest.probability:.0%})"
    explanation = explain(classifier, verdict.path, genre=likeliest.genre)
    draw_explanation(explanation, path, title)
