"""Writing genres to tags, and undoing it, for the ``classify`` command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from deepmusic.audio.genre_names import GenreNames, GenreRules
from deepmusic.audio.metadata import read_tags
from deepmusic.audio.tag_log import TagLog
from deepmusic.audio.tags import TagChange, undo, write_genre
from deepmusic.classifier.verdict import Verdict
from deepmusic.classifier.verdict_store import VerdictStore
from deepmusic.cli.output import printable, report
from deepmusic.cli.progress import display
from deepmusic.datasets.folder import map_threads
from deepmusic.errors import DataError


def library_names(paths: Sequence[str], rules: GenreRules) -> GenreNames:
    """Read how the tags of files spell their genres."""
    with display() as screen:
        tags = map_threads(
            read_tags, paths, on_progress=lambda done, total: screen.advance(done, total, "tags")
        )
        return GenreNames((genre for each in tags for genre in each.genres), rules)


class Tagger:
    """Writes the genres of verdicts to their files, and counts the results.

    Args:
        log: path of the log from which the changes can be undone.
        overwrite: whether to replace existing genres.
        dry_run: whether to change nothing.
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

    def tag(self, verdict: Verdict, genres: Sequence[str], store: VerdictStore | None) -> str:
        """Write genres, and return a line on the result.

        The store gets the verdict again, as the content of the file has changed.
        """
        change = write_genre(
            verdict.path, genres, overwrite=self._overwrite, dry_run=self._dry_run, log=self._log
        )
        self._counts[change.status] += 1
        if change.status == "written" and store is not None:
            store.keep(store.key(verdict.path), verdict)
        return _line(change)

    def summary(self) -> str:
        """One line on all files."""
        line = f"Tags: {_counted(self._counts) or 'none'}."
        if self._counts["written"]:
            line += f" To undo: deepmusic classify --undo-tags {printable(str(self._log.path))}"
        return line


def undo_changes(log: str, folders: Sequence[str], *, dry_run: bool) -> bool:
    """Undo the changes in a log, report each on standard error, and return whether all succeeded.

    Files that were moved are searched in ``folders`` and where they were.

    Raises:
        DataError: there is no such log.
    """
    if not Path(log).is_file():
        raise DataError(f"There is no log {log!r}; name the file that --tag-log wrote.")
    changes = undo(TagLog(log), folders=folders, dry_run=dry_run)
    for change in changes:
        click.echo(_line(change), err=True)
    counts = Counter[str](change.status for change in changes)
    report(f"Tags: {_counted(counts) or 'nothing to undo'}.")
    return not counts["failed"]


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if count)


def _line(change: TagChange) -> str:
    detail = change.reason
    if change.status in ("written", "planned", "restored"):
        genres = [", ".join(names) or "no genre" for names in (change.before, change.after)]
        detail = " -> ".join(genres) + (f" ({change.reason})" if change.reason else "")
    return printable(f"{change.path}: tag {change.status}{f': {detail}' if detail else ''}")
