"""The optional table of a data set: a CSV that names genre, artist and album of its files."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deepmusic.errors import DataError

TABLE_NAME = "tracks.csv"

_LARGEST_BYTES = 1 << 30


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
    """The rows of a table with the columns ``path`` and, as far as known, the others.

    The order of columns, more columns, capitals in their names, a byte order mark, and
    semicolons or tabs for commas make no difference.

    Raises:
        DataError: the table cannot be read, or has no column ``path``.
    """
    try:
        if not path.is_file():
            raise DataError(f"The table {path} does not exist or is not a file.")
        if path.stat().st_size > _LARGEST_BYTES:
            raise DataError(f"The table {path} is larger than 1 GiB; is it the right file?")
        # surrogateescape: a file name that is not UTF-8 comes in the same way from the disk
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header = file.readline()
            delimiter = max(",;\t", key=header.count)
            names = next(csv.reader([header], delimiter=delimiter), [])
            columns = [name.strip().lower() for name in names]
            if "path" not in columns:
                raise DataError(
                    f"The table {path} has no column 'path'; its first line names the columns: "
                    "path, and as far as known genre, artist, album, source."
                )
            rows = []
            reader = csv.reader(file, delimiter=delimiter)
            for values in reader:
                cells = {
                    name: value.strip() or None
                    for name, value in zip(columns, values, strict=False)
                    if name in ("path", "genre", "artist", "album", "source")
                }
                name = cells.pop("path", None)
                if name:
                    rows.append(Row(reader.line_num + 1, name, **cells))
            return rows
    except csv.Error as error:
        raise DataError(f"The table {path} is no CSV: {error}.") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"The table {path} cannot be read: {reason}.") from error


def match_rows(
    rows: Sequence[Row], paths: Sequence[str], root: Path
) -> tuple[dict[str, Row], list[tuple[str, str, str]]]:
    """Find the file of each row.

    A row names its file by the path below the root, by the whole path, or by the name alone
    where only one file has it.

    Args:
        rows: of the table.
        paths: the files below the root, with forward slashes.
        root: the folder of the data set.

    Returns:
        The row of each file, and path, code and sentence for each row that has no file of its own.
    """
    exact = {path: path for path in paths}
    composed = {unicodedata.normalize("NFC", path): path for path in paths}
    by_name: dict[str, list[str]] = {}
    for path in exact:
        by_name.setdefault(path.rsplit("/", 1)[-1], []).append(path)
    prefixes = {f"{folder.as_posix().rstrip('/')}/" for folder in (root, root.resolve())}
    found: dict[str, Row] = {}
    faults = []
    for row in rows:
        name = row.path.replace("\\", "/") if row.path not in exact else row.path
        name = name.removeprefix("./")
        for prefix in prefixes:
            name = name.removeprefix(prefix)
        matches = [exact[name]] if name in exact else []
        if not matches and unicodedata.normalize("NFC", name) in composed:
            matches = [composed[unicodedata.normalize("NFC", name)]]
        if not matches and "/" not in name:
            matches = by_name.get(name, [])
        where = f"Line {row.line} of the table names {row.path!r}"
        if not matches:
            faults.append((row.path, "row_without_file", f"{where}, which is not there."))
        elif len(matches) > 1:
            faults.append(
                (row.path, "row_unclear", f"{where}, and {len(matches)} files are called so.")
            )
        elif matches[0] in found:
            faults.append((row.path, "row_repeated", f"{where} a second time; the first counts."))
        else:
            found[matches[0]] = row
    return found, faults
