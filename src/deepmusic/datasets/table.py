"""Tables of tracks: a CSV with genre, artist and album of each file, and how to tell FMA's."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deepmusic.errors import DataError, os_reason

TABLE_NAME = "tracks.csv"


@dataclass(frozen=True)
class Row:
    """One row of a table; None where a column is missing or empty."""

    line: int
    path: str
    genre: str | None = None
    artist: str | None = None
    album: str | None = None
    source: str | None = None


def read_table(path: Path) -> list[Row]:
    """The rows of a table with the column ``path`` and any of the others.

    The order of columns, further columns, capitals in their names, a byte order mark, and
    semicolons or tabs in place of commas make no difference.
    """
    try:
        if not path.is_file():
            raise DataError(f"The table {path} does not exist or is not a file.")
        # surrogateescape: a file name that is not UTF-8 reads the same from the table and the disk
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header = file.readline()
            if "\0" in header:
                raise DataError(f"The table {path} is UTF-16 or no text: save it as CSV in UTF-8.")
            delimiter = max(",;\t", key=header.count)
            names = next(csv.reader([header], delimiter=delimiter), [])
            reader = csv.DictReader(
                file, [name.strip().lower() for name in names], delimiter=delimiter, restval=""
            )
            if "path" not in (reader.fieldnames or ()):
                raise DataError(
                    f"The table {path} has no column 'path'; its first line names the columns: "
                    "path, and optionally genre, artist, album, source."
                )
            rows = []
            for cells in reader:
                columns = ("path", "genre", "artist", "album", "source")
                file_path, *others = (cells.get(name, "").strip() or None for name in columns)
                if any(other and table_text(other) != other for other in others):
                    raise DataError(
                        f"The table {path} is not UTF-8 (line {reader.line_num + 1}): save it "
                        "again with this encoding."
                    )
                if file_path is not None:
                    rows.append(Row(reader.line_num + 1, file_path, *others))
            return rows
    except csv.Error as error:
        raise DataError(f"The table {path} is not a CSV: {error}.") from error
    except OSError as error:
        raise DataError(f"The table {path} cannot be read: {os_reason(error)}.") from error


def find_fma(path: str | os.PathLike[str]) -> Path | None:
    """The folder or the archive of FMA's tables, at or below a path; None if there is none.

    Your own table is called ``tracks.csv``, too: FMA's begins with two lines of column names.
    """
    path = Path(path)
    for folder in (path, path / "fma_metadata"):
        if os.path.isfile(folder / "raw_tracks.csv"):
            return folder
        try:
            with open(folder / TABLE_NAME, encoding="utf-8", errors="replace") as file:
                if file.readline(4096).startswith(",album,"):
                    return folder
        except (OSError, ValueError):
            continue
    for archive in (path, path / "fma_metadata.zip"):
        if archive.name == "fma_metadata.zip" and os.path.isfile(archive):
            return archive
    return None


def match_rows(
    rows: Sequence[Row], paths: Sequence[str], root: Path
) -> tuple[dict[str, Row], list[tuple[str, str, str]]]:
    """Find the file of each row, by its path.

    A row names its file by its path below the root, by its absolute path, or by its name alone if
    only one file has that name.

    Returns:
        The row of each file; and path, code and message for each row without a file of its own.
    """
    by_path = {unicodedata.normalize("NFC", path): [path] for path in paths}
    by_path |= {path: [path] for path in paths}
    by_name: dict[str, list[str]] = {}
    for path in paths:
        by_name.setdefault(path.rsplit("/", 1)[-1], []).append(path)
    prefixes = ["./", *(f"{folder.as_posix().rstrip('/')}/" for folder in (root, root.resolve()))]
    matched: dict[str, Row] = {}
    faults = []
    for row in rows:
        name = row.path if row.path in by_path else row.path.replace("\\", "/")
        for prefix in prefixes:
            name = name.removeprefix(prefix)
        matches = by_path.get(name) or by_path.get(unicodedata.normalize("NFC", name)) or []
        if not matches and "/" not in name:
            matches = by_name.get(name, [])
        where = f"Line {row.line} of the table names {row.path!r}"
        if not matches:
            faults.append((row.path, "row_without_file", f"{where}, which does not exist."))
        elif len(matches) > 1:
            message = f"{where}, and {len(matches)} files have that name."
            faults.append((row.path, "row_unclear", message))
        elif matches[0] in matched:
            message = f"{where} a second time; the first row is used."
            faults.append((row.path, "row_repeated", message))
        else:
            matched[matches[0]] = row
    return matched, faults


def table_text(text: str) -> str:
    r"""Text as a table can hold it: a byte of a file name that is not UTF-8 becomes ``\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
