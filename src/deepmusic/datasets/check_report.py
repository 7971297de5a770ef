"""Reports of checks for programs: JSON, CSV or Parquet."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd

from deepmusic.datasets.check import COLUMNS, CheckReport
from deepmusic.datasets.table import table_text
from deepmusic.errors import RequestError
from deepmusic.files import write_atomically
from deepmusic.version import __version__

_NULLABLE = {"header_s": float} | dict.fromkeys(
    ("sound_group", "genre", "artist", "album"), "string"
)
_SEPARATORS = {"codes": ";", "messages": " ", "parts": ","}


def write_report(path: str | os.PathLike[str], report: CheckReport) -> None:
    """Write a report as JSON, or as CSV or Parquet with one row per file, by the extension.

    In CSV and Parquet, codes are joined by `;`, messages by spaces and parts by `,`.

    Args:
        path: the file.
        report: to write.

    Raises:
        RequestError: the file has another extension.
        DeepMusicError: the file cannot be written.
    """
    extension = report_extension(path)
    rows = [file.to_dict() for file in report.files]
    if extension == ".json":
        about = {
            "format": "deepmusic check",
            "version": 1,
            "deepmusic": __version__,
            "summary": report.summary(),
            "notes": list(report.notes),
        }
        with write_atomically(path) as file:  # one line per file, for people to read
            file.write(json.dumps(about)[:-1] + ', "files": [\n')
            file.write(",\n".join(map(json.dumps, rows)))
            file.write("\n]}\n")
        return
    for row in rows:
        row |= {name: separator.join(row[name]) for name, separator in _SEPARATORS.items()}
        row |= {name: table_text(cell) for name, cell in row.items() if isinstance(cell, str)}
    table = pd.DataFrame(rows, columns=COLUMNS).astype(_NULLABLE)
    with write_atomically(path, "wb") as binary:
        if extension == ".csv":
            table.to_csv(binary, index=False)
        else:
            table.to_parquet(binary, index=False, compression="zstd")


def report_extension(path: str | os.PathLike[str]) -> str:
    """The extension of a report: .json, .csv or .parquet.

    Raises:
        RequestError: it is another one.
    """
    extension = Path(path).suffix.lower()
    if extension not in (".json", ".csv", ".parquet"):
        raise RequestError(f"A report ends in .json, .csv or .parquet; got {os.fspath(path)!r}.")
    return extension
