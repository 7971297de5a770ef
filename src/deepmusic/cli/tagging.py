"""Writing genres into tags, and undoing it, as the ``classify`` command does."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

import click

from deepmusic.audio.tags import TagChange, TagLog, undo, write_genre
from deepmusic.classifier.results import ResultsFile, content_hash
from deepmusic.classifier.verdict import Verdict
from deepmusic.cli.output import printable
from deepmusic.errors import DataError


class Tagger:
    """Writes the genres of verdicts into their files, and counts what became of it.

    Args:
        log: path of the log from which all can be undone.
        overwrite: whether to replace genres that others set.
        dry_run: whether to say only what would be done.
    """

    def __init__(self, log: str, *, overwrite: bool, dry_run: bool) -> None:
        self._log = TagLog(log)
        self._overwrite = overwrite
        self._dry_run = dry_run
        self._counts: Counter[str] = Counter()

    @property
    def failed(self) -> int:
        """How many files could not be tagged."""
        return self._counts["failed"]

    def tag(self, verdict: Verdict, genre: str, results: ResultsFile | None) -> str:
        """Write one genre, and give a line that says what became of it.

        Results are told of the new content: the next run must not take the file for a new one.
        """
        change = write_genre(
            verdict.path, genre, overwrite=self._overwrite, dry_run=self._dry_run, log=self._log
        )
        self._counts[change.status] += 1
        if change.status == "written" and results is not None:
            with suppress(OSError):  # gone since: then there is nothing to remember
                results.add(content_hash(verdict.path), verdict)
        return _line(change)

    def summary(self) -> str:
        """One line on all files."""
        counts = self._counts
        said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        line = f"Tags: {said or 'none'}."
        if counts["written"]:
            line += f" To undo: deepmusic classify --undo-tags {printable(str(self._log.path))}"
        return line


def undo_changes(log: str, *, dry_run: bool) -> bool:
    """Undo what a log holds, say so on standard error, and tell whether all went well."""
    if not Path(log).is_file():
        raise DataError(f"There is no log {log!r}.")
    changes = undo(TagLog(log), dry_run=dry_run)
    for change in changes:
        click.echo(_line(change), err=True)
    counts = Counter(change.status for change in changes)
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    click.echo(f"Tags: {said or 'nothing to undo'}.", err=True)
    return not counts["failed"]


def _line(change: TagChange) -> str:
    words = f"{', '.join(change.before) or 'no genre'} -> {', '.join(change.after) or 'no genre'}"
    said = words if change.status in ("written", "planned", "restored") else change.reason or ""
    return printable(f"{change.path}: tag {change.status}{': ' + said if said else ''}")
