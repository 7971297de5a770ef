"""What commands print: verdicts, figures and tables, as text, JSON or CSV.

A file name may hold anything but a null: line breaks, terminal escapes, bytes that are not text.
Text escapes such characters; JSON keeps them by its own escapes (a byte that is not UTF-8 as a lone
surrogate, which `os.fsencode` turns back into the byte).
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import click

from deepmusic.errors import counted

if TYPE_CHECKING:
    from pathlib import Path

    from deepmusic.classifier.verdict import Verdict
    from deepmusic.datasets import Problem
    from deepmusic.datasets.coding import CodingReport
    from deepmusic.datasets.splits import Protocol

Format = Literal["text", "json", "csv"]
Echo = Callable[[str], None]
"""Takes text to show, line ends included."""
Write = Callable[["Verdict"], None]

CSV_COLUMNS = (
    *("path", "genre", "confidence", "unsure", "top"),
    *("duration_s", "bandwidth_hz", "error", "code", "warning"),
)

_MAX_LINES = 50  # of problems per reason; a subset of FMA may have fifty thousand
_JOINERS = "\u200c\u200d"  # shape letters and emoji, and are harmless


def printable(text: str) -> str:
    r"""Text with everything that could disturb a terminal escaped.

    ``"a\nb\x1b[31m"`` becomes ``"a\\nb\\x1b[31m"`` with visible backslashes; a byte that is not
    UTF-8 becomes ``\xff``.
    """
    return "".join(c if c.isprintable() or c in _JOINERS else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def report(message: object) -> None:
    """Print a message as one line on standard error."""
    click.echo(printable(str(message)), err=True)


def named_line(path: str, message: str) -> str:
    """A message as one line that names a file, unless it does so already."""
    named = repr(path) in message or message.startswith(f"{path}: ")
    return printable(message if named else f"{path}: {message}")


def codings(coding: CodingReport) -> list[str]:
    """The coding of a data set by genre, and whether it tells the genre."""
    heading = "Coding of the files, median (lowest to highest):"
    return [heading, *table_lines(coding.rows()), coding.summary]


def report_problems(
    problems: Sequence[Problem], notes: Iterable[str] = (), *, coding: CodingReport | None = None
) -> None:
    """Report on standard error which files could not be used, notes, and how files are coded."""
    counts: Counter[str] = Counter()
    for problem in problems:
        counts[problem.code] += 1
        if counts[problem.code] <= _MAX_LINES:
            click.echo(named_line(problem.path, problem.message), err=True)
    for code, count in counts.items():
        if count > _MAX_LINES:
            click.echo(f"{count - _MAX_LINES} more for the reason {code!r}.", err=True)
    if problems:
        count = len(problems)
        click.echo(f"{count} {'file was' if count == 1 else 'files were'} not used.", err=True)
    for note in (*notes, *(codings(coding) if coding else ())):
        report(note)


def table_lines(rows: Iterable[Sequence[object]], room: int | None = None) -> Iterator[str]:
    """Rows, the header among them, as lines with the first column left, the others right.

    Columns that do not fit into ``room``, by default the terminal if there is one, follow below,
    beside the first one again.

    Example:
        >>> list(table_lines([("genre", "tracks"), ("rock", 80)]))
        ['genre  tracks', 'rock       80']
    """
    texts = [[printable(str(value)) for value in row] for row in rows]
    columns = [*zip(*texts, strict=True)]
    widths = [max(map(cells, column)) for column in columns]
    if room is None:
        room = terminal_width() if sys.stdout.isatty() else sys.maxsize
    if sum(widths) + 2 * len(widths) - 2 > room:
        widths[0] = min(widths[0], max(room // 3, room - 2 - max(widths[1:], default=0)))
    for number, block in enumerate(_blocks(widths, room)):
        if number:
            yield ""
        for row in texts:
            others = (aligned(row[i], widths[i], right=True) for i in block)
            first = aligned(shortened(row[0], widths[0]), widths[0])
            yield "  ".join([first, *others]).rstrip()


def _blocks(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Indices of the columns after the first, divided so that each part fits beside it."""
    block: list[int] = []
    for index in range(1, len(widths)):
        if block and widths[0] + sum(widths[i] + 2 for i in [*block, index]) > room:
            yield block
            block = []
        block.append(index)
    yield block


def cells(text: str) -> int:
    """How many cells of a terminal a text takes; Chinese letters take two each."""
    from rich.cells import cell_len

    return cell_len(text)


def aligned(text: str, width: int, *, right: bool = False) -> str:
    """A text with spaces up to a width in cells."""
    space = " " * (width - cells(text))
    return space + text if right else text + space


def shortened(text: str, width: int) -> str:
    """A text cut to a width in cells, with an ellipsis where something is missing."""
    from rich.cells import set_cell_size

    return text if cells(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def terminal_width() -> int:
    """Cells in a line: of the terminal, or as ``COLUMNS`` says; 80 where there is neither."""
    return shutil.get_terminal_size().columns


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV (RFC 4180): None is empty, truth is ``true`` or ``false``."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows(
        [str(value).lower() if isinstance(value, bool) else value for value in row] for row in rows
    )
    return buffer.getvalue()


_TEST_TRACKS: dict[Protocol, str] = {
    "grouped": "test tracks, by artists it was not trained on",
    "official": "test tracks of the official split",
    "random": "test tracks drawn at random, whose artists may be among the training tracks",
}


def test_tracks(protocol: Protocol, unknown_artists: int) -> str:
    """What the test tracks of a split are, of a data set with tracks by unknown artists."""
    if protocol == "random" or not unknown_artists:
        return _TEST_TRACKS[protocol]
    kind = "test tracks of the official split" if protocol == "official" else "test tracks"
    return (
        f"{kind} (whether it was trained on their artists is unknown: "
        f"{counted(unknown_artists, 'track')} without one)"
    )


def print_training(figures: Mapping[str, Any] | None, tracks: str, run: Path) -> None:
    """Print how accurate a trained classifier is, on which tracks, and how to use it.

    Args:
        figures: as `deepmusic.classifier.measure` returns them; None where nothing was measured.
        tracks: what the tracks are.
        run: the folder of the run.
    """
    if figures is not None:
        click.echo(f"On {figures['tracks']} {tracks}:")
        click.echo("\n".join(accuracy_lines(figures)))
    name = printable(str(run))
    click.echo(f"The run is in {name}; use it: deepmusic classify song.mp3 --model {name}")


def accuracy_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """Two lines: how accurate a model is, and what being unsure costs and gains.

    Args:
        figures: as `deepmusic.classifier.measure` returns them.
    """
    unsure = figures["unsure"]
    yield (
        f"accuracy {figures['accuracy']:.1%}, macro-F1 {figures['macro_f1']:.3f}, "
        f"calibration error {figures['calibration_error']:.3f}."
    )
    if unsure["coverage"] == 1 or "accuracy" not in unsure:
        count = "No" if unsure["coverage"] == 1 else "Every"
        yield f"{count} track is called unsure (threshold {unsure['threshold']:.0%})."
    else:
        yield (
            f"Below {unsure['threshold']:.0%} a track is called unsure: {unsure['coverage']:.1%} "
            f"of the tracks get a genre, {unsure['accuracy']:.1%} of these correctly."
        )


@contextmanager
def writer(
    form: Format,
    echo: Echo,
    *,
    top: int | None,
    tags: bool = False,
    timeline: bool = False,
    genres: Callable[[Verdict], Sequence[str]] | None = None,
    name_width: int = 10,
    on_terminal: bool = False,
) -> Iterator[Write]:
    """Yield a function that writes verdicts as they come.

    Leaving the block, also by an exception, ends the document: the output is valid JSON.

    Args:
        form: ``text``, ``json`` (one array of objects) or ``csv`` (one row per verdict).
        echo: takes the text.
        top: how many genres to list; None lists all in JSON and CSV, and in text the two most
            probable genres of an unsure verdict.
        tags: whether to write moods, sounds and decade (text and JSON).
        timeline: whether to write the genre over time (text and JSON).
        genres: what to list as ``genres`` (JSON): the names for the tags of a library.
        name_width: width of the column of genres in text.
        on_terminal: whether the output goes to a terminal; then CSV is escaped like text.
    """
    if form == "json":
        separator = "["

        def write(verdict: Verdict) -> None:
            nonlocal separator
            record = verdict.to_dict(top=top, segments=timeline, tags=tags)
            if genres is not None:
                record["genres"] = list(genres(verdict))
            echo(separator + json.dumps(record) + "\n")
            separator = ","

        try:
            yield write
        finally:
            echo("[]\n" if separator == "[" else "]\n")
    elif form == "csv":
        echo(csv_text([CSV_COLUMNS]))
        yield lambda verdict: echo(_csv_row(verdict, top=top, escape=on_terminal))
    else:
        width = max(name_width, len("unsure"))

        def write_line(verdict: Verdict) -> None:
            if verdict.error is None:
                echo(_text_line(verdict, top=top, width=width))
                if tags:
                    echo(f"    {_tag_line(verdict)}\n")
                if timeline:
                    from deepmusic.classifier.timeline import text_timeline

                    echo(
                        "".join(
                            f"    {line}\n"
                            for line in text_timeline(verdict.segments, verdict.silences)
                        )
                    )

        yield write_line


def _text_line(verdict: Verdict, *, top: int | None, width: int) -> str:
    name = printable(verdict.genre) if verdict.genre is not None else "unsure"
    confidence = "" if verdict.confidence is None else f"{verdict.confidence:.0%}"
    listed = verdict.top[: top if top is not None else 2 if verdict.is_unsure else 0]
    genres = ", ".join(f"{printable(e.genre)} {e.probability:.0%}" for e in listed)
    line = f"{aligned(name, width)}  {confidence:>4}  {printable(verdict.path)}"
    return f"{line}  ({genres})\n" if genres else f"{line}\n"


def _tag_line(verdict: Verdict) -> str:
    from deepmusic.classifier.ear.genres import described

    if not verdict.tags:
        return "no tags: this model has none"
    families = [", ".join(names) for names in described(verdict.tags).values() if names]
    return "; ".join(families) or "no tag stands out"


def _csv_row(verdict: Verdict, *, top: int | None, escape: bool) -> str:
    row = verdict.to_dict(top=top)
    row["top"] = "; ".join(f"{entry['genre']}={entry['probability']}" for entry in row["top"])
    row["unsure"] = verdict.is_unsure
    clean = printable if escape else _encodable
    values = (row[column] for column in CSV_COLUMNS)
    return csv_text([[clean(value) if isinstance(value, str) else value for value in values]])


def _encodable(text: str) -> str:
    return "".join(_escaped(c) if "\ud800" <= c <= "\udfff" else c for c in text)
