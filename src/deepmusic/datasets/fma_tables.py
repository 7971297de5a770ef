"""The tables of ``fma_metadata`` as pandas frames: from CSV once, afterwards from Parquet.

The frames equal those of the loader of FMA's authors (github.com/mdeff/fma, ``utils.load``): the
same column levels, types, dates, categories and lists. CSV is slow to read, so each table is cached
as Parquet together with what identifies its CSV, and is read again when that changes.
"""

from __future__ import annotations

import ast
import hashlib
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from deepmusic.datasets.fma_files import CHECKSUMS, read_checksums
from deepmusic.datasets.fma_schema import SCHEMAS, SUBSETS, TableSchema
from deepmusic.errors import DataError, DeepMusicError, os_reason
from deepmusic.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

_DAMAGE = (
    ValueError,  # of pandas: ParserError, EmptyDataError, UnicodeDecodeError
    EOFError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


class FmaTables:
    """The tables of FMA, each read on first use.

    The frames are kept, so changing one in place changes what later calls return.

    Args:
        root: the folder that holds them, or the zip archive.
        cache: folder for Parquet files; by default ``.deepmusic`` beside the tables.
    """

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        self.root = root
        folder = root.parent if root.is_file() else root
        self.cache = folder / ".deepmusic" if cache is None else cache
        self.notes: list[str] = []
        """Sentences about defects that stop nothing."""
        self._frames: dict[str, pd.DataFrame] = {}

    def table(self, name: str) -> pd.DataFrame:
        """A table by name.

        Args:
            name: ``"tracks"``, ``"genres"``, ``"features"`` or ``"echonest"``, which are attributes
                as well; or one of those that the site gave, before tracks were left out and genres
                corrected: ``"raw_tracks"`` (109,727), ``"raw_albums"`` (15,234), ``"raw_artists"``
                (16,916), ``"raw_genres"`` (164) or ``"raw_echonest"`` (14,511).

        Raises:
            DataError: its file is missing, damaged or another table.
        """
        if name not in SCHEMAS:
            raise DataError(f"There is no table {name!r} in FMA; there are {', '.join(SCHEMAS)}.")
        if name not in self._frames:
            self._frames[name] = self._read(name)
        return self._frames[name]

    @property
    def tracks(self) -> pd.DataFrame:
        """``(106574, 52)``: columns (group, name), index ``track_id``.

        Lists of tags (text) and of genres (numbers) are Python lists; -1 stands for a missing
        whole number; ``set/subset`` is ordered, so that ``<= "medium"`` gives all of medium.
        """
        return self.table("tracks")

    @property
    def genres(self) -> pd.DataFrame:
        """``(163, 4)``: ``#tracks``, ``parent`` (0 for a root), ``title``, ``top_level``."""
        return self.table("genres")

    @property
    def features(self) -> pd.DataFrame:
        """``(106574, 518)`` float64: columns (feature, statistics, number), of full tracks."""
        return self.table("features")

    @property
    def echonest(self) -> pd.DataFrame:
        """``(13129, 249)``: Echonest's data on some tracks; three column levels."""
        return self.table("echonest")

    def _read(self, name: str) -> pd.DataFrame:
        schema, cached = SCHEMAS[name], self.cache / f"{name}.parquet"
        try:
            with self._open(name) as (file, version):
                frame = _read_parquet(cached, schema, version)
                if frame is None:
                    if not self.root.is_file():  # an archive checks its content by itself
                        _check_whole(file, self.root / f"{name}.csv")
                    frame = _parse(file, name, schema)
                    self._write_parquet(cached, frame, version)
                return frame
        except FileNotFoundError as error:
            raise DataError(
                f"{name}.csv is missing in {self.root}; unpack all of fma_metadata.zip."
            ) from error
        except (OSError, *_DAMAGE) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise DataError(
                    f"{name}.csv in {self.root} cannot be read: {os_reason(error)}."
                ) from error
            reason = " ".join(str(error).split())[:160].rstrip(".") or type(error).__name__
            raise DataError(
                f"{name}.csv in {self.root} is damaged, or not FMA's ({reason}); unpack "
                "fma_metadata.zip again, and do not edit it with programs that split rows at line "
                "breaks, since its texts contain them."
            ) from error

    @contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], dict[str, Any]]]:
        """The CSV, and what identifies its content and the form of its cache."""
        import pandas as pd

        version: dict[str, Any] = {"table": name, "format": 2, "pandas": pd.__version__}
        if self.root.is_file():
            with zipfile.ZipFile(self.root) as archive:
                for entry in archive.infolist():
                    if PurePosixPath(entry.filename).name == f"{name}.csv":
                        version |= {"size": entry.file_size, "crc": entry.CRC}
                        with archive.open(entry) as packed:
                            yield packed, version
                        return
            raise FileNotFoundError
        with open(self.root / f"{name}.csv", "rb") as file:
            state = os.fstat(file.fileno())
            version |= {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
            yield file, version

    def _write_parquet(self, path: Path, frame: pd.DataFrame, version: dict[str, Any]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            frame.attrs = version
            with write_atomically(path, "wb") as file:
                # biographies are repeated on every track; all different ones have some 50 MB
                frame.to_parquet(file, compression="lz4", dictionary_pagesize_limit=1 << 28)
        except (DeepMusicError, OSError) as error:
            reason = os_reason(error) if isinstance(error, OSError) else str(error).rstrip(".")
            self.notes.append(
                f"{path.stem}.csv is parsed again each time, which is slow, since it could not be "
                f"cached as Parquet ({reason}); pass another folder to read_fma: cache='FOLDER'."
            )
        finally:
            frame.attrs = {}


def _read_parquet(path: Path, schema: TableSchema, version: dict[str, Any]) -> pd.DataFrame | None:
    """The frame that was cached, if it was made from this very CSV and can be read."""
    import pandas as pd
    import pyarrow as pa

    try:
        frame = pd.read_parquet(path)
        if frame.attrs != version:
            return None
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # missing, damaged, or by another program: it is made again
    frame.attrs = {}
    for column in schema.lists:  # which come back as arrays
        frame[column] = pd.Series([a.tolist() for a in frame[column]], frame.index, dtype=object)
    return _categorize(frame, schema)


def _categorize(frame: pd.DataFrame, schema: TableSchema) -> pd.DataFrame:
    import pandas as pd

    for column in schema.categories:
        values = frame[column].astype("category")
        frame[column] = values.cat.reorder_categories(values.cat.categories.sort_values())
    if ("set", "subset") in schema.choices:
        subsets = pd.CategoricalDtype(SUBSETS, ordered=True)
        frame["set", "subset"] = frame["set", "subset"].astype(subsets)
    return frame


def _parse(file: IO[bytes], name: str, schema: TableSchema) -> pd.DataFrame:
    """The frame of a CSV.

    Raises:
        ValueError: it is damaged, or another table.
    """
    import pandas as pd

    header: Any = list(range(schema.levels)) if schema.levels > 1 else 0
    # read in pieces (low_memory), a column of text may become numbers in some of them
    frame = pd.read_csv(
        file, index_col=0, header=header, encoding="utf-8", low_memory=name == "features"
    )
    missing = [column for column in schema.required if column not in frame.columns]
    if missing:
        column = missing[0] if isinstance(missing[0], str) else "/".join(missing[0])
        raise ValueError(f"it has no column {column!r}")
    if frame.index.name != schema.index:
        raise ValueError(f"its rows are not numbered by {schema.index!r}")
    if schema.columns and frame.shape[1] != schema.columns:
        raise ValueError(f"it has {frame.shape[1]} columns, not {schema.columns}")
    if not len(frame):
        raise ValueError("it has no rows")
    if frame.index.dtype.kind != "i":
        texts = frame.index.astype(str)
        raise ValueError(f"a row begins with {texts[~texts.str.isdecimal()][0][:40]!r}")
    if not frame.index.is_unique:
        raise ValueError(f"{schema.index} {frame.index[frame.index.duplicated()][0]} occurs twice")
    for column, choices in schema.choices.items():
        others = frame[column][~frame[column].isin(choices)]
        if len(others):
            raise ValueError(f"{'/'.join(column)} of a track is {str(others.iloc[0])!r}")
    for column, kind in schema.lists.items():
        lists = {text: _list(text, kind, column) for text in frame[column].unique()}
        rows = [list(lists[text]) for text in frame[column]]  # each row its own
        frame[column] = pd.Series(rows, frame.index, dtype=object)
    for column in schema.dates:
        frame[column] = pd.to_datetime(frame[column], format="ISO8601")
    return _categorize(frame, schema)


def _check_whole(file: IO[bytes], path: Path) -> None:
    """Refuse a file that is cut off, or does not match the list of checksums beside it."""
    checksum = read_checksums(path.parent).get(path.name)
    if checksum and hashlib.file_digest(file, "sha1").hexdigest() != checksum:  # type: ignore[arg-type]
        raise ValueError(f"it does not match its entry in the file {CHECKSUMS!r}")
    file.seek(max(0, os.fstat(file.fileno()).st_size - 1))
    if file.read() not in (b"\n", b"\r"):
        raise ValueError("it ends in the middle of a line")
    file.seek(0)


def _list(text: Any, kind: type, column: Any) -> list[Any]:
    """A list from its Python literal."""
    try:
        items = ast.literal_eval(text)
        if type(items) is list and all(type(item) is kind for item in items):
            return items
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    raise ValueError(f"{'/'.join(column)} of a track is {str(text)[:40]!r}, not a list")
