"""Tables of features on disk: one row a track, as Parquet, CSV, or FMA's own ``features.csv``."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deepmusic.errors import DataError
from deepmusic.features.recipe import COLUMNS
from deepmusic.files import write_atomically
from deepmusic.version import __version__

COLUMN_NAMES = tuple("/".join(column) for column in COLUMNS)
"""How columns are called in a file, such as ``mfcc/mean/01``."""

_MARK = b"deepmusic"
_FACTS = {
    "path": pa.string(),
    "code": pa.string(),
    "error": pa.string(),
    "warning": pa.string(),
    "duration_s": pa.float64(),
    "sample_rate": pa.int32(),
    "size": pa.int64(),
    "mtime_ns": pa.int64(),
}
FACTS = tuple(_FACTS)
"""What a table says of a track beside its features: where it is, why columns are missing (a code
and one sentence; empty where all is well), what was wrong with the sound, seconds and samples a
second, and the size and time of the file by which a change is noticed."""


@dataclass(frozen=True)
class FeatureTable:
    """Features of tracks.

    Args:
        facts: for each name of :data:`FACTS` that is known, a value a track; ``path`` always is.
        columns: ``(tracks, 518)`` float32, in the order of
            :data:`~deepmusic.features.COLUMNS`; NaN where there is no value.
        recipe: name of the recipe, or empty where the file does not say.
        version: of the recipe; 0 where the file does not say.
        extra: further columns of text, such as the genre, a value a track.
        mode: of the recipe, ``"exact"`` or ``"fast"``.
    """

    facts: dict[str, list[object]]
    columns: NDArray[np.float32]
    recipe: str = ""
    version: int = 0
    extra: dict[str, list[str]] | None = None
    mode: str = "exact"

    @property
    def paths(self) -> list[str]:
        """Which track each row is of: a path, or FMA's number."""
        return [str(path) for path in self.facts["path"]]

    def __len__(self) -> int:
        return len(self.columns)

    def rows(self, places: Sequence[int]) -> FeatureTable:
        """The tracks at some places, in their order."""
        facts = {name: [values[place] for place in places] for name, values in self.facts.items()}
        extra = {n: [values[place] for place in places] for n, values in (self.extra or {}).items()}
        return replace(self, facts=facts, columns=self.columns[list(places)], extra=extra)


def write_features(path: str | os.PathLike[str], table: FeatureTable) -> None:
    """Write a table: as CSV if the name ends so, else as Parquet.

    The file appears when all of it is written. Parquet holds the recipe's name, version and mode in
    its metadata, under ``deepmusic``; missing values are null in both.

    Raises:
        DeepMusicError: the file cannot be written.
    """
    arrays: dict[str, pa.Array] = {
        name: pa.array(table.facts[name], kind)
        for name, kind in _FACTS.items()
        if name in table.facts
    }
    arrays |= {name: pa.array(values, pa.string()) for name, values in (table.extra or {}).items()}
    for name, values in zip(COLUMN_NAMES, table.columns.T, strict=True):
        arrays[name] = pa.array(np.ascontiguousarray(values), pa.float32(), from_pandas=True)
    mark = {
        "recipe": table.recipe,
        "version": table.version,
        "mode": table.mode,
        "deepmusic": __version__,
    }
    found = pa.table(arrays).replace_schema_metadata({_MARK: json.dumps(mark).encode()})
    with write_atomically(path, "wb") as file:
        if Path(path).suffix.lower() == ".csv":
            import pyarrow.csv

            pyarrow.csv.write_csv(found, file)
        else:
            pq.write_table(found, file, compression="zstd")


def read_features(path: str | os.PathLike[str]) -> FeatureTable:
    """Read a table of ours, or FMA's published ``features.csv``.

    Raises:
        DataError: it is missing, or no table of these features.
    """
    shown = repr(os.fspath(path))
    try:
        # opened here: Arrow takes a name such as "s3:x" for an address
        with open(path, "rb") as file:
            start = file.read(8)
            file.seek(0)
            if start[:4] == b"PAR1":
                return _from_arrow(pq.read_table(file))
            return _published(file) if start == b"feature," else _from_csv(file)
    except OSError as error:
        if error.errno is None:  # of Arrow: what is in the file, not the file
            raise _no_table(shown, error) from error
        raise DataError(
            f"{shown} cannot be read: {(error.strerror or str(error)).lower()}."
        ) from error
    except (pa.ArrowException, csv.Error, ValueError, KeyError, TypeError) as error:
        raise _no_table(shown, error) from error


def _no_table(shown: str, error: Exception) -> DataError:
    said = " ".join(str(error).split())[:120]
    return DataError(
        f"{shown} is no table of the 518 features ({said}); give a file that 'features "
        "extract' wrote, or FMA's features.csv."
    )


def _from_csv(file: BinaryIO) -> FeatureTable:
    """A table of ours: what is not a number by its column's name is text, whatever it looks like.

    Left to guess, Arrow takes a track called ``0012`` for 12, ``true`` for True, ``NA`` for none.
    """
    import pyarrow.csv

    names = next(csv.reader([file.readline(1 << 20).decode("utf-8-sig")]), [])
    file.seek(0)
    kinds = dict.fromkeys(names, pa.string()) | _FACTS | dict.fromkeys(COLUMN_NAMES, pa.float32())
    convert = pyarrow.csv.ConvertOptions(column_types=kinds)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return _from_arrow(pyarrow.csv.read_csv(file, parse_options=parse, convert_options=convert))


def _from_arrow(found: pa.Table) -> FeatureTable:
    missing = [name for name in ("path", *COLUMN_NAMES) if name not in found.column_names]
    if missing:
        raise ValueError(f"it has no column {missing[0]!r}")
    columns = np.empty((len(found), len(COLUMN_NAMES)), np.float32)
    for place, name in enumerate(COLUMN_NAMES):
        columns[:, place] = found[name].to_numpy()
    known = set(COLUMN_NAMES)
    facts: dict[str, list[object]] = {}
    for name, kind in _FACTS.items():
        if name in found.column_names:
            values = found[name].to_pylist()
            # CSV does not tell an empty text from none
            facts[name] = [value or "" for value in values] if kind == pa.string() else values
    extra = {
        name: ["" if value is None else str(value) for value in found[name].to_pylist()]
        for name in found.column_names
        if name not in known and name not in facts
    }
    mark = json.loads((found.schema.metadata or {}).get(_MARK, b"{}"))
    if not isinstance(mark, dict):
        raise ValueError("its mark is damaged")
    recipe, version = str(mark.get("recipe", "")), int(mark.get("version", 0))
    mode = str(mark.get("mode", "exact"))
    return FeatureTable(facts, columns, recipe, version, extra, mode)


def _published(file: BinaryIO) -> FeatureTable:
    """FMA's table: three lines of header (feature, statistic, number), one that names the index."""
    import pyarrow.csv

    header = [file.readline().decode("utf-8").rstrip("\r\n").split(",")[1:] for _ in range(3)]
    file.seek(0)
    names = ["/".join(levels) for levels in zip(*header, strict=True)]
    options = pyarrow.csv.ReadOptions(skip_rows=4, column_names=["path", *names])
    kinds = {"path": pa.string()} | dict.fromkeys(names, pa.float32())
    convert = pyarrow.csv.ConvertOptions(column_types=kinds)
    return _from_arrow(pyarrow.csv.read_csv(file, options, convert_options=convert))
