"""Tables of features on disk: one row per track, as Parquet, CSV, or FMA's own ``features.csv``."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deepmusic.errors import DataError, os_reason
from deepmusic.extras import explained
from deepmusic.features.recipe import COLUMNS, Recipe
from deepmusic.files import write_atomically
from deepmusic.version import __version__

if TYPE_CHECKING:
    import pandas as pd

COLUMN_NAMES = tuple("/".join(column) for column in COLUMNS)
"""Names of the columns in a file, such as ``mfcc/mean/01``."""

_METADATA_KEY = b"deepmusic"
_FACT_TYPES = {
    "path": pa.string(),
    "code": pa.string(),
    "error": pa.string(),
    "warning": pa.string(),
    "duration_s": pa.float64(),
    "sample_rate": pa.int32(),
    "silent_share": pa.float64(),
    "bandwidth_hz": pa.int32(),
    "size": pa.int64(),
    "mtime_ns": pa.int64(),
    "sha256": pa.string(),
}
_FEATURE_TYPES = dict.fromkeys(COLUMN_NAMES, pa.float32())


@dataclass(frozen=True, eq=False)
class TrackFeatures:
    """A row of a feature table.

    Args:
        path: of the file.
        columns: ``(518,)`` float32, in the order of ``COLUMNS``; NaN where
            there is no value.
        code: empty if all went well; ``low_rate`` if the sample rate is too low for some columns;
            else why there are no values: a code of ``deepmusic.audio.open_audio``, ``memory``,
            ``changed``, ``unexpected`` or ``worker_died``.
        error: one sentence about the code.
        warning: one sentence about sound that was lost; usually empty.
        duration_s: length of the sound in seconds.
        sample_rate: samples per second.
        silent_share: of the time, in [0, 1], below -60 dBFS; None where it was not measured.
        bandwidth_hz: nothing of the sound lies above; None where it was not measured.
        size, mtime_ns: of the file, by which a change is noticed; -1 where it cannot be read.
        sha256: of the file, by which it is found again where it was moved.
    """

    path: str
    columns: NDArray[np.float32] = field(
        default_factory=lambda: np.full(len(COLUMNS), np.nan, np.float32)
    )
    code: str = ""
    error: str = ""
    warning: str = ""
    duration_s: float = 0.0
    sample_rate: int = 0
    silent_share: float | None = None
    bandwidth_hz: int | None = None
    size: int = -1
    mtime_ns: int = -1
    sha256: str = ""

    @property
    def is_done(self) -> bool:
        """Whether there are values; such a row is not computed again."""
        return not np.isnan(self.columns).all()


@dataclass(frozen=True)
class FeatureTable:
    """Features of tracks.

    Args:
        facts: fields of ``TrackFeatures`` other than ``columns``, one value per track each;
            ``path`` is always there.
        columns: ``(tracks, 518)`` float32, in the order of
            ``COLUMNS``; NaN where there is no value.
        recipe: name of the recipe, or empty where the file does not say.
        version: of the recipe; 0 where the file does not say.
    """

    facts: dict[str, list[Any]]
    columns: NDArray[np.float32]
    recipe: str = ""
    version: int = 0

    @classmethod
    def from_rows(cls, rows: Sequence[TrackFeatures], recipe: Recipe) -> Self:
        """A table of these rows, in their order."""
        facts = {name: [getattr(row, name) for row in rows] for name in _FACT_TYPES}
        for name in ("path", "error", "warning"):
            facts[name] = [escaped(text) for text in facts[name]]
        columns = np.array([row.columns for row in rows], np.float32).reshape(-1, len(COLUMNS))
        return cls(facts, columns, recipe.name, recipe.version)

    @property
    def paths(self) -> list[str]:
        """The track of each row: a path, or FMA's number."""
        return [str(path) for path in self.facts["path"]]

    def __len__(self) -> int:
        return len(self.columns)

    def track(self, index: int) -> TrackFeatures:
        """One row."""
        facts = {name: values[index] for name, values in self.facts.items()}
        return TrackFeatures(columns=self.columns[index], **facts)

    def rows(self, indices: Sequence[int]) -> FeatureTable:
        """A table of the rows at these indices, in their order."""
        facts = {name: [values[i] for i in indices] for name, values in self.facts.items()}
        return replace(self, facts=facts, columns=self.columns[list(indices)])

    def to_frame(self) -> pd.DataFrame:
        """The columns by name, such as ``mfcc/mean/01``, with the tracks' paths as index.

        Raises:
            MissingLibraryError: pandas is not installed.
        """
        with explained("data"):
            import pandas as pd
        index = pd.Index(self.paths, name="path")
        return pd.DataFrame(self.columns, index=index, columns=list(COLUMN_NAMES))


def escaped(text: str) -> str:
    r"""Text as a table can hold it: a byte of a name that is not UTF-8 becomes ``\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def write_features(path: str | os.PathLike[str], table: FeatureTable) -> None:
    """Write a table atomically: as CSV if the name ends in ``.csv``, else as Parquet.

    Parquet holds the name and version of the recipe in its metadata, under ``deepmusic``; missing
    values are null in both.

    Raises:
        DeepMusicError: the file cannot be written.
    """
    arrays: dict[str, pa.Array] = {
        name: pa.array(table.facts[name], kind)
        for name, kind in _FACT_TYPES.items()
        if name in table.facts
    }
    for name, values in zip(COLUMN_NAMES, table.columns.T, strict=True):
        arrays[name] = pa.array(np.ascontiguousarray(values), pa.float32(), from_pandas=True)
    metadata = {"recipe": table.recipe, "version": table.version, "deepmusic": __version__}
    arrow = pa.table(arrays).replace_schema_metadata({_METADATA_KEY: json.dumps(metadata).encode()})
    with write_atomically(path, "wb") as file:
        if Path(path).suffix.lower() == ".csv":
            import pyarrow.csv

            pyarrow.csv.write_csv(arrow, file)
        else:
            pq.write_table(arrow, file, compression="zstd")


def read_features(path: str | os.PathLike[str]) -> FeatureTable:
    """Read a table that ``write_features`` wrote, or FMA's published ``features.csv``.

    Raises:
        DataError: it cannot be read, or is not a table of these features.
    """
    name = repr(os.fspath(path))
    try:
        # opened here: Arrow would take a name such as "s3:x" for an address
        with open(path, "rb") as file:
            start = file.read(8)
            file.seek(0)
            if start[:4] == b"PAR1":
                return _from_arrow(pq.read_table(file))
            return _from_published(file) if start == b"feature," else _from_csv(file)
    except (OSError, pa.ArrowException, csv.Error, ValueError, KeyError, TypeError) as error:
        # Arrow raises an OSError without a number for what is in the file
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{name} cannot be read: {os_reason(error)}.") from error
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"{name} is not a table of the 518 features ({reason}); give a file that 'features "
            "extract' wrote, or FMA's features.csv."
        ) from error


def _from_csv(file: BinaryIO) -> FeatureTable:
    """Read a CSV table of ours.

    Left to guess, Arrow would read a track called ``0012`` as 12, ``true`` as True, ``NA`` as null.
    """
    import pyarrow.csv

    names = next(csv.reader([file.readline(1 << 20).decode("utf-8-sig")]), [])
    file.seek(0)
    types = dict.fromkeys(names, pa.string()) | _FACT_TYPES | _FEATURE_TYPES
    convert = pyarrow.csv.ConvertOptions(column_types=types)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return _from_arrow(pyarrow.csv.read_csv(file, parse_options=parse, convert_options=convert))


def _from_published(file: BinaryIO) -> FeatureTable:
    """Read FMA's table, with three header lines (feature, statistic, number) and one index name."""
    import pyarrow.csv

    header = [file.readline().decode("utf-8").rstrip("\r\n").split(",")[1:] for _ in range(3)]
    file.seek(0)
    names = ["path", *("/".join(levels) for levels in zip(*header, strict=True))]
    options = pyarrow.csv.ReadOptions(skip_rows=4, column_names=names)
    types = dict.fromkeys(names, pa.float32()) | {"path": pa.string()}
    convert = pyarrow.csv.ConvertOptions(column_types=types)
    return _from_arrow(pyarrow.csv.read_csv(file, options, convert_options=convert))


def _from_arrow(arrow: pa.Table) -> FeatureTable:
    missing = [name for name in ("path", *COLUMN_NAMES) if name not in arrow.column_names]
    if missing:
        raise ValueError(f"it has no column {missing[0]!r}")
    columns = np.empty((len(arrow), len(COLUMN_NAMES)), np.float32)
    for index, name in enumerate(COLUMN_NAMES):
        columns[:, index] = arrow[name].to_numpy()
    facts = {name: arrow[name].to_pylist() for name in _FACT_TYPES if name in arrow.column_names}
    for name, values in facts.items():
        if _FACT_TYPES[name] == pa.string():  # CSV does not distinguish empty text from null
            facts[name] = [value or "" for value in values]
    metadata = json.loads((arrow.schema.metadata or {}).get(_METADATA_KEY, b"{}"))
    if not isinstance(metadata, dict):
        raise ValueError("its metadata are damaged")
    recipe, version = str(metadata.get("recipe", "")), int(metadata.get("version", 0))
    return FeatureTable(facts, columns, recipe, version)
