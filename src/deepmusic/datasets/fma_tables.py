"""The tables of ``fma_metadata`` as pandas frames, read from CSV once and from Parquet afterwards.

The frames are what the loader of FMA's makers gives (github.com/mdeff/fma, ``utils.load``): the
same columns in levels, the same types, dates, categories, and lists. CSV is slow to
read; so each table is kept as Parquet, with the size and the time of the CSV it was made from, and
is read anew when they change.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from deepmusic.datasets.fma_files import CHECKSUMS, file_checksum
from deepmusic.datasets.fma_parquet import read_kept, write_kept
from deepmusic.datasets.fma_schema import FORMS, Form
from deepmusic.errors import DataError, DeepMusicError

if TYPE_CHECKING:
    import pandas as pd

_CACHE = ".deepmusic"
_LARGEST_BYTES = 8 << 30  # features.csv, the largest, has 0.95 GB
# bzip2 packs the published tables to a tenth or so, and long runs of one byte to a millionth
_BOMB_RATIO, _BOMB_BYTES = 1000, 64 << 20
_DAMAGE = (
    ValueError,  # of pandas: ParserError, EmptyDataError, UnicodeDecodeError
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    csv.Error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


class Tables:
    """Where the tables are, and how one is read.

    Args:
        place: the folder that holds them, or the zip archive.
        cache: folder for Parquet files; by default ``.deepmusic`` beside the tables.
    """

    def __init__(self, place: Path, cache: Path | None = None) -> None:
        self.place = place
        self.is_packed = place.is_file()
        beside = place.parent if self.is_packed else place
        self.cache = beside / _CACHE if cache is None else cache
        self.notes: list[str] = []

    def read(self, name: str) -> pd.DataFrame:
        """A table as a frame.

        Raises:
            DataError: it is missing, damaged, or another table.
        """
        shown = self._shown(name)
        with _disk_errors(shown):
            source = self._source(name)
            kept = self.cache / f"{name}.parquet"
            frame = read_kept(kept, name, FORMS[name], source)
            if frame is None:
                frame = self._read_csv(name)
                self._keep(kept, name, frame, source)
        return frame

    def _shown(self, name: str) -> str:
        return f"{name}.csv in {self.place}" if self.is_packed else str(self.place / f"{name}.csv")

    def _keep(self, path: Path, name: str, frame: pd.DataFrame, source: dict[str, int]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_kept(path, name, frame, FORMS[name], source)
        except (DeepMusicError, OSError) as error:
            reason = (
                f"{path.parent} could not be made: {(error.strerror or str(error)).lower()}."
                if isinstance(error, OSError)
                else str(error)
            )
            self.notes.append(
                f"{name}.csv is read anew each time, which is slow, for a faster copy could not "
                f"be kept: {reason} Give read_fma another folder to keep it in: cache='FOLDER'."
            )

    def _source(self, name: str) -> dict[str, int]:
        """By what a change of the CSV is noticed."""
        if self.is_packed:
            with self._archive() as archive:
                member = self._member(archive, name)
                return {"size": member.file_size, "crc": member.CRC}
        state = os.stat(self._csv(name))
        return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}

    def _csv(self, name: str) -> Path:
        path = self.place / f"{name}.csv"
        if not path.exists():
            raise DataError(f"{path} is missing; unpack all of fma_metadata.zip.")
        if not path.is_file():
            raise DataError(f"{path} is not a file; unpack fma_metadata.zip again.")
        return path

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            archive = zipfile.ZipFile(self.place)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise DataError(
                f"{self.place} is no zip archive, or the end of it is missing ({_said(error)}); "
                "give fma_metadata.zip, or download it again."
            ) from error
        with archive:
            yield archive

    def _member(self, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
        """The one entry of an archive that is a table; oddities are refused."""
        file = f"{name}.csv"
        found = [
            entry
            for entry in archive.infolist()
            if entry.filename == file or entry.filename.endswith(f"/{file}")
        ]
        found = [entry for entry in found if entry.filename.count("/") <= 1] or found
        if not found:
            raise DataError(f"{self.place} holds no {file}; give fma_metadata.zip.")
        entry = found[0]
        kind = stat.S_IFMT(entry.external_attr >> 16)
        parts = entry.filename.split("/")
        if len(found) > 1:
            fault = f"holds {file} {len(found)} times"
        elif entry.filename.startswith("/") or ".." in parts or len(parts) > 2:
            fault = f"holds {file} under the name {entry.filename!r}"
        elif kind not in (0, stat.S_IFREG) or entry.is_dir():
            fault = f"holds a link or a device as {file}"
        elif entry.flag_bits & 1:
            fault = f"holds {file} behind a password"
        elif entry.file_size > _LARGEST_BYTES or (
            entry.file_size > _BOMB_BYTES
            and entry.file_size > _BOMB_RATIO * max(entry.compress_size, 1)
        ):
            fault = f"holds a {file} that grows to {entry.file_size:,} bytes"
        else:
            return entry
        raise DataError(f"{self.place} {fault}, which is not fma_metadata.zip as published.")

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        if self.is_packed:
            with self._archive() as archive, archive.open(self._member(archive, name)) as file:
                yield file
        else:
            with open(self._csv(name), "rb") as file:
                yield file

    def _read_csv(self, name: str) -> pd.DataFrame:
        form, shown = FORMS[name], self._shown(name)
        try:
            with self._open(name) as file:
                _check_header(file, form, name, shown)
            if not self.is_packed:  # an archive has a checksum of its own
                self._check_whole(name)
            with self._open(name) as file:
                return _parse(file, form, name, shown)
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise _damaged(shown, _said(error)) from error

    def _check_whole(self, name: str) -> None:
        """Refuse a file that is cut short, or, where its checksum is known, is another."""
        path = self._csv(name)
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 1))
            if file.read() not in (b"\n", b"\r"):
                raise _damaged(str(path), "it ends in the middle of a line")
            known = file_checksum(self.place / CHECKSUMS, path.name)
            if known is not None:
                file.seek(0)
                if hashlib.file_digest(file, "sha1").hexdigest() != known:
                    raise DataError(
                        f"{path} is not what it was when {self.place / CHECKSUMS} was written; "
                        "unpack fma_metadata.zip again, or, if you changed it yourself, remove "
                        "its line there."
                    )


def find_fma(path: str | os.PathLike[str]) -> Path | None:
    """The folder or the archive of FMA's tables, at or below a path; None where there is none.

    Your own table is also called ``tracks.csv``: that of FMA begins with two lines of groups and
    names.
    """
    path = Path(path)
    for folder in (path, path / "fma_metadata"):
        try:
            with open(folder / "tracks.csv", encoding="utf-8", errors="replace") as file:
                if file.readline(4096).startswith(",album,"):
                    return folder
        except (OSError, ValueError):
            continue
    for archive in (path, path / "fma_metadata.zip"):
        if archive.name == "fma_metadata.zip" and archive.is_file():
            return archive
    return None


def find_tables(root: Path, cache: Path | None = None) -> Tables:
    """The tables in a folder: in ``fma_metadata``, in the folder itself, or in the archive.

    Args:
        root: such a folder, or the archive.
        cache: see :class:`Tables`.

    Raises:
        DataError: there are none.
    """
    with _disk_errors(str(root)):
        try:
            state = os.stat(root)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise DataError(
                f"{root} does not exist; name the folder that holds fma_metadata."
            ) from error
        if stat.S_ISREG(state.st_mode):
            if not zipfile.is_zipfile(root):
                raise DataError(
                    f"{root} is no zip archive, or the end of it is missing; give "
                    "fma_metadata.zip, or the folder it was unpacked to."
                )
            return Tables(root, cache)
        if not stat.S_ISDIR(state.st_mode):
            raise DataError(f"{root} is neither a folder nor a zip archive.")
        files = [f"{name}.csv" for name in FORMS]
        for folder in (root / "fma_metadata", root):
            if any((folder / file).exists() for file in files):
                return Tables(folder, cache)
        if (root / "fma_metadata.zip").is_file():
            return Tables(root / "fma_metadata.zip", cache)
    raise DataError(
        f"{root} holds no tables of FMA; put fma_metadata.zip, or the folder fma_metadata that "
        "is in it, there."
    )


@contextmanager
def _disk_errors(shown: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{shown} cannot be read: {reason}.") from error


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:160].rstrip(".") or type(error).__name__


def _damaged(shown: str, what: str) -> DataError:
    return DataError(
        f"{shown} is damaged ({what}); unpack fma_metadata.zip again, and keep from the file all "
        "programs that take each of its lines for a row, since its texts hold line breaks."
    )


def _check_header(file: IO[bytes], form: Form, name: str, shown: str) -> None:
    """Refuse what is another table, before all of it is read."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    try:
        lines = list(zip(range(form.levels + (form.levels > 1)), csv.reader(text), strict=False))
    except csv.Error as error:
        raise DataError(f"{shown} is not FMA's {name}.csv: it is no CSV ({error}).") from error
    finally:
        text.detach()
    header = [line[1:] for _, line in lines[: form.levels]]
    columns: list[Any] = list(zip(*header, strict=False))
    if form.levels == 1:
        columns = [column for (column,) in columns]
    first = lines[-1][1][:1] if len(lines) == form.levels + (form.levels > 1) else []
    missing = [column for column in form.needed if column not in columns]
    if missing:
        fault = f"it has no column {_path(missing[0])!r}"
    elif first != [form.index]:
        fault = f"its rows are not numbered by {form.index!r}"
    elif form.columns and len(columns) != form.columns:
        fault = f"it has {len(columns)} columns beside the first, not {form.columns}"
    elif len(set(columns)) < len(columns):
        fault = "it has a column twice"
    else:
        return
    raise DataError(f"{shown} is not FMA's {name}.csv: {fault}.")


def _path(column: Any) -> str:
    return column if isinstance(column, str) else "/".join(column)


def _parse(file: IO[bytes], form: Form, name: str, shown: str) -> pd.DataFrame:
    import pandas as pd

    header: Any = list(range(form.levels)) if form.levels > 1 else 0
    # Taken in pieces, a column of text may come out as numbers in some and be of both kinds.
    frame = pd.read_csv(
        file, index_col=0, header=header, encoding="utf-8", low_memory=name == "features"
    )
    _check_index(frame, shown)
    for column, kind in form.lists:
        frame[column] = pd.Series(
            _literals(frame[column], kind, _path(column)), index=frame.index, dtype=object
        )
    for column in form.dates:
        frame[column] = pd.to_datetime(frame[column], format="ISO8601")
    for column, known in form.choices.items():
        others = set(frame[column].unique()) - set(known)
        if others:
            raise ValueError(f"{_path(column)} of a track is {sorted(map(str, others))[0]!r}")
    for column, order in form.ordered.items():
        frame[column] = frame[column].astype(pd.CategoricalDtype(order, ordered=True))
    for column in form.categories:
        frame[column] = frame[column].astype("category")
    return frame


def _check_index(frame: pd.DataFrame, shown: str) -> None:
    if len(frame) == 0:
        raise ValueError("it has a header and no rows")
    if frame.index.dtype.kind != "i":
        for place, value in enumerate(frame.index.tolist()):
            if not str(value).isdecimal():
                raise ValueError(f"row {place + 1} begins with {str(value)[:40]!r}, not a number")
        raise ValueError("its numbers are none")
    if not frame.index.is_unique:
        twice = frame.index[frame.index.duplicated()][0]
        raise ValueError(f"{frame.index.name} {twice} stands twice")


def _literals(values: pd.Series, kind: type, column: str) -> list[list[Any]]:
    """Lists that are written as Python writes them; each row gets a list of its own."""
    known: dict[Any, list[Any]] = {}
    for value in set(values.tolist()):
        try:
            parsed = ast.literal_eval(value)
            if type(parsed) is not list or any(type(item) is not kind for item in parsed):
                raise ValueError
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise ValueError(f"{column} of a track is {str(value)[:40]!r}, not a list") from None
        known[value] = parsed
    return [list(known[value]) for value in values.tolist()]
