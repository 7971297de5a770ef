"""The tables of ``fma_metadata`` as pandas frames: from CSV once, afterwards from Parquet.

The frames equal those of the loader of FMA's authors (github.com/mdeff/fma, ``utils.load``): the
same column levels, types, dates, categories and lists. CSV is slow to read, so each table is cached
as Parquet together with what identifies its CSV, and is read again when that changes.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from deepmusic.datasets.checksums import ChecksumTable
from deepmusic.errors import DataError, DeepMusicError, os_reason
from deepmusic.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

SUBSETS = ("small", "medium", "large")
"""The values of ``set/subset``, the smallest subset that a track is in, in ascending order."""
SPLITS = ("training", "validation", "test")
"""The values of ``set/split``."""


class _Table(NamedTuple):
    """The layout of a table."""

    key: str  # name of its first column, the index
    required: tuple[Any, ...]  # some columns that identify it
    header: int | list[int] = 0  # the lines of column names
    columns: int = 0  # how many beside the index; 0 if that is not checked


_ECHONEST = _Table("track_id", (("echonest", "audio_features", "tempo"),), [0, 1, 2], 249)
_TABLES = {
    "tracks": _Table(
        "track_id",
        (
            ("set", "subset"), ("set", "split"), ("track", "genre_top"), ("track", "genres"),
            ("track", "genres_all"), ("track", "title"), ("artist", "id"), ("artist", "name"),
            ("album", "title"),
        ),
        [0, 1],
        52,
    ),
    "genres": _Table("genre_id", ("#tracks", "parent", "title", "top_level"), columns=4),
    "features": _Table("track_id", (("mfcc", "mean", "01"), ("zcr", "std", "01")), [0, 1, 2], 518),
    "echonest": _ECHONEST,
    "raw_echonest": _ECHONEST,
    "raw_tracks": _Table("track_id", ("track_title", "track_genres", "artist_id")),
    "raw_albums": _Table("album_id", ("album_title",)),
    "raw_artists": _Table("artist_id", ("artist_name",)),
    "raw_genres": _Table("genre_id", ("genre_title", "genre_parent_id")),
}  # fmt: skip
# the types of tracks.csv: lists by the second level of a column, with the type of their items
_LISTS = {"tags": str, "genres": int, "genres_all": int}
_DATES = ("date_created", "date_recorded", "date_released", "active_year_begin", "active_year_end")
_CATEGORIES = (
    ("track", "genre_top"), ("track", "license"), ("album", "type"), ("album", "information"),
    ("artist", "bio"),
)  # fmt: skip
_CHOICES = {("set", "subset"): SUBSETS, ("set", "split"): SPLITS}
_DAMAGE = (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


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
        """A table by name, also one of those that the site gave.

        Those are ``"raw_tracks"`` (109,727 rows, before tracks were left out and genres corrected),
        ``"raw_albums"`` (15,234), ``"raw_artists"`` (16,916), ``"raw_genres"`` (164) and
        ``"raw_echonest"`` (14,511).

        Raises:
            DataError: its file is missing, damaged or another table.
        """
        if name not in _TABLES:
            raise DataError(f"There is no table {name!r} in FMA; there are {', '.join(_TABLES)}.")
        if name not in self._frames:
            self._frames[name] = self._read(name)
        return self._frames[name]

    @property
    def tracks(self) -> pd.DataFrame:
        """``(106574, 52)``: columns (group, name), index ``track_id``.

        ``set/subset`` is ordered: ``tracks["set", "subset"] <= "medium"`` selects 25,000 rows.
        """
        return self.table("tracks")

    @property
    def genres(self) -> pd.DataFrame:
        """``(163, 4)``: columns ``#tracks``, ``parent``, ``title`` and ``top_level``."""
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
        try:
            with self._open(name) as (file, version):
                cached = self.cache / f"{name}.parquet"
                frame = _read_parquet(cached, name, version)
                if frame is None:
                    if not self.root.is_file():  # an archive checks its content by itself
                        _check_whole(file, self.root / f"{name}.csv")
                    frame = _parse(file, name)
                    self._write_parquet(cached, frame, version)
                return frame
        except (OSError, *_DAMAGE) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise DataError(
                    f"{name}.csv in {self.root} cannot be read: {os_reason(error)}; unpack all of "
                    "fma_metadata.zip."
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
        if not self.root.is_file():
            with open(self.root / f"{name}.csv", "rb") as file:
                state = os.fstat(file.fileno())
                yield file, version | {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
            return
        with zipfile.ZipFile(self.root) as archive:
            for entry in archive.infolist():
                if PurePosixPath(entry.filename).name == f"{name}.csv":
                    with archive.open(entry) as packed:
                        yield packed, version | {"size": entry.file_size, "crc": entry.CRC}
                    return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

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


def _read_parquet(path: Path, name: str, version: dict[str, Any]) -> pd.DataFrame | None:
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
    if name == "tracks":
        for column in frame.columns:
            if column[1] in _LISTS:  # which come back as arrays
                lists = [array.tolist() for array in frame[column]]
                frame[column] = pd.Series(lists, frame.index, dtype=object)
        _categorize(frame)
    return frame


def _parse(file: IO[bytes], name: str) -> pd.DataFrame:
    """The frame of a CSV.

    Raises:
        ValueError: it is damaged, or another table.
    """
    import pandas as pd

    table = _TABLES[name]
    # read in pieces (low_memory), a column of text may become numbers in some of them
    frame = pd.read_csv(
        file, index_col=0, header=table.header, encoding="utf-8", low_memory=name == "features"
    )
    for column in table.required:
        if column not in frame.columns:
            raise ValueError(f"it has no column {column!r}")
    if frame.index.name != table.key:
        raise ValueError(f"its rows are not numbered by {table.key!r}")
    if table.columns and frame.shape[1] != table.columns:
        raise ValueError(f"it has {frame.shape[1]} columns, not {table.columns}")
    if not len(frame):
        raise ValueError("it has no rows")
    if frame.index.dtype.kind != "i":
        texts = frame.index.astype(str)
        raise ValueError(f"a row begins with {texts[~texts.str.isdecimal()][0][:40]!r}")
    if not frame.index.is_unique:
        raise ValueError(f"{table.key} {frame.index[frame.index.duplicated()][0]} occurs twice")
    if name == "tracks":
        _convert_tracks(frame)
    return frame


def _convert_tracks(frame: pd.DataFrame) -> None:
    """Give the columns of tracks.csv their types."""
    import pandas as pd

    for column, choices in _CHOICES.items():
        others = frame[column][~frame[column].isin(choices)]
        if len(others):
            raise ValueError(f"{column} of a track is {str(others.iloc[0])!r}")
    for column in frame.columns:
        if column[1] in _LISTS:
            lists = {text: _parse_list(text, column) for text in frame[column].unique()}
            rows = [list(lists[text]) for text in frame[column]]  # each row its own
            frame[column] = pd.Series(rows, frame.index, dtype=object)
        elif column[1] in _DATES:
            frame[column] = pd.to_datetime(frame[column], format="ISO8601")
    _categorize(frame)


def _categorize(frame: pd.DataFrame) -> None:
    """Make the columns of tracks.csv with few different texts categories, in sorted order."""
    import pandas as pd

    for column in _CATEGORIES:
        values = frame[column].astype("category")
        frame[column] = values.cat.reorder_categories(values.cat.categories.sort_values())
    subsets = pd.CategoricalDtype(SUBSETS, ordered=True)
    frame["set", "subset"] = frame["set", "subset"].astype(subsets)


def _parse_list(text: Any, column: tuple[str, str]) -> list[Any]:
    """A list from its Python literal."""
    try:
        items = ast.literal_eval(text)
        if type(items) is list and all(type(item) is _LISTS[column[1]] for item in items):
            return items
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    raise ValueError(f"{column} of a track is {str(text)[:40]!r}, not a list")


def _check_whole(file: IO[bytes], path: Path) -> None:
    """Raise ValueError for a file that is cut off, or does not match the checksums beside it."""
    if (listed := path.parent / "checksums").is_file():
        checksums = ChecksumTable.read(listed)
        expected = checksums.digests.get(os.path.abspath(path))
        digest = hashlib.file_digest(file, checksums.algorithm)  # type: ignore[arg-type]
        if expected not in (None, digest.hexdigest()):
            raise ValueError("it does not match its entry in the file 'checksums'")
    file.seek(max(0, os.fstat(file.fileno()).st_size - 1))
    if file.read() not in (b"\n", b"\r"):
        raise ValueError("it ends in the middle of a line")
    file.seek(0)
