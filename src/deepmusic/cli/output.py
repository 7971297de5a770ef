"""What commands print: verdicts and tables, as text, JSON or CSV.

A file name may hold anything but a null: line breaks, terminal escapes, bytes that are not text.
Text escapes such characters; JSON keeps them by its own escapes (a byte that is not UTF-8 as a lone
surrogate, which `os.fsencode` turns back into the byte).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from deepmusic.classifier.verdict import Verdict


Format = Literal["text", "json", "csv"]
Echo = Callable[[str], None]
"""Takes text to show, line ends included."""
Write = Callable[["Verdict"], None]

CSV_COLUMNS = (
    *("path", "genre", "confidence", "unsure", "top"),
    *("duration_s", "error", "code", "warning"),
)

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


def named_line(path: str, message: str) -> str:
    """A message as one line that names a file, unless it does so already."""
    named = repr(path) in message or message.startswith(f"{path}: ")
    return printable(message if named else f"{path}: {message}")


def table_lines(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Rows, the header among them, as lines with the first column left, the others right.

    Example:
        >>> list(table_lines([("genre", "tracks"), ("rock", 80)]))
        ['genre  tracks', 'rock       80']
    """
    texts = [[printable(str(value)) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for first, *others in texts:
        cells = [f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([f"{first:<{widths[0]}}", *cells]).rstrip()


@contextmanager
def writer(
    form: Format,
    echo: Echo,
    *,
    top: int | None,
    timeline: bool = False,
    name_width: int = 10,
    on_terminal: bool = False,
) -> Iterator[Write]:
    """Give a function that writes verdicts as they come.

    Leaving the block, also by an exception, ends the document: the output is valid JSON.

    Args:
        form: ``text``, ``json`` (one array of objects) or ``csv`` (RFC 4180, one row per verdict).
        echo: takes the text.
        top: how many genres to list; None lists all in JSON and CSV, and in text the two most
            probable genres of an unsure verdict.
        timeline: whether to write the genre over time (text and JSON).
        name_width: width of the column of genres in text.
        on_terminal: whether the output goes to a terminal; then CSV is escaped like text.
    """
    if form == "json":
        separator = "["

        def write(verdict: Verdict) -> None:
            nonlocal separator
            echo(separator + json.dumps(verdict.to_dict(top=top, segments=timeline)) + "\n")
            separator = ","

        try:
            yield write
        finally:
            echo("[]\n" if separator == "[" else "]\n")
    elif form == "csv":
        echo(_csv_line(CSV_COLUMNS))
        yield lambda verdict: echo(_csv_row(verdict, top=top, escape=on_terminal))
    else:
        width = max(name_width, len("unsure"))

        def write_line(verdict: Verdict) -> None:
            if verdict.error is None:
                echo(_text_line(verdict, top=top, width=width))
                if timeline:
                    from deepmusic.classifier.timeline import text_timeline

                    echo("".join(f"    {line}\n" for line in text_timeline(verdict.segments)))

        yield write_line


def _text_line(verdict: Verdict, *, top: int | None, width: int) -> str:
    name = printable(verdict.genre) if verdict.genre is not None else "unsure"
    confidence = "" if verdict.confidence is None else f"{verdict.confidence:.0%}"
    listed = verdict.top[: top if top is not None else 2 if verdict.is_unsure else 0]
    genres = ", ".join(f"{printable(e.genre)} {e.probability:.0%}" for e in listed)
    line = f"{name:<{width}}  {confidence:>4}  {printable(verdict.path)}"
    return f"{line}  ({genres})\n" if genres else f"{line}\n"


def _csv_row(verdict: Verdict, *, top: int | None, escape: bool) -> str:
    row = verdict.to_dict(top=top)
    row["top"] = "; ".join(f"{entry['genre']}={entry['probability']}" for entry in row["top"])
    row["unsure"] = "true" if verdict.is_unsure else "false"
    clean = printable if escape else _encodable
    return _csv_line(
        clean(value) if isinstance(value, str) else "" if value is None else str(value)
        for value in (row[column] for column in CSV_COLUMNS)
    )


def _encodable(text: str) -> str:
    return "".join(_escaped(c) if "\ud800" <= c <= "\udfff" else c for c in text)


def _csv_line(values: object) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(values)  # type: ignore[arg-type]
    return buffer.getvalue()
