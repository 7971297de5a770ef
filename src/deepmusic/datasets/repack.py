"""Data sets that are made from what their hosts offer: a compressed file, or packed MIDI files.

Hosts that make an archive on demand never send the same bytes twice, so the contents are checked.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path

from deepmusic.datasets.download import DownloadError, disk_errors
from deepmusic.datasets.registry import DatasetInfo
from deepmusic.datasets.unpack import BAD_ARCHIVE
from deepmusic.files import write_atomically


def repack(info: DatasetInfo, source: Path, target: Path) -> None:
    """Write the packed file of a data set from a packed one, or from what it is made from.

    The same contents give the same bytes. Raises DownloadError for other contents.
    """
    contents = read_contents(info, source)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(target, "wb") as file:
            if info.layout == "gzip":
                file.write(gzip.compress(contents[""], mtime=0))
                return
            with tarfile.open(fileobj=file, mode="w:xz") as archive:
                for name in sorted(contents):
                    member = tarfile.TarInfo(name)
                    member.size = len(contents[name])
                    archive.addfile(member, io.BytesIO(contents[name]))


def read_contents(info: DatasetInfo, path: Path) -> dict[str, bytes]:
    """The checked contents of a data set by file name; one nameless file for layout "gzip"."""
    try:
        contents = _read_gzip(info, path) if info.layout == "gzip" else _read_midi(info, path)
        checksum, size = contents_checksum(contents), sum(map(len, contents.values()))
        fault = f"{size:,} bytes in {len(contents)} files with {checksum}"
    except (*BAD_ARCHIVE, OSError) as error:
        checksum, fault = "", " ".join(str(error).split()) or type(error).__name__
    if checksum != info.checksum:
        raise DownloadError(
            f"{path} does not hold the data set {info.name!r} ({fault}; expected {info.size:,} "
            f"bytes with {info.checksum}): move or delete it, or give another source.",
            code="mismatch",
        )
    return contents


def contents_checksum(contents: Mapping[str, bytes]) -> str:
    """SHA-256 of a nameless file, or of the list that ``sha256sum`` prints of files by name."""
    if list(contents) == [""]:
        return f"sha256:{hashlib.sha256(contents['']).hexdigest()}"
    lines = (f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents))
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def read_index(info: DatasetInfo) -> str:
    """The text of the index that belongs beside the packed file; empty if there is none."""
    if not info.index:
        return ""
    return files("deepmusic.datasets").joinpath(info.index).read_text(encoding="utf-8")


def _read_gzip(info: DatasetInfo, path: Path) -> dict[str, bytes]:
    with path.open("rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        # one byte more than expected is enough, however much it unpacks to
        return {"": (gzip.open(file) if is_packed else file).read(info.size + 1)}


def _read_midi(info: DatasetInfo, path: Path) -> dict[str, bytes]:
    wanted = {row["id"] for row in csv.DictReader(io.StringIO(read_index(info)))}
    contents: dict[str, bytes] = {}
    remaining = info.size
    for name, size, read in _members(path):
        match = re.fullmatch(info.member_pattern, name)
        if match and (not wanted or match["stem"] in wanted):
            remaining -= size
            if remaining < 0:
                raise ValueError(f"more than {info.size:,} bytes")
            contents[f"{info.folder}/{match['stem']}.mid"] = read()
    return contents


def _members(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Path, bytes and reader of each file in a zip or tar archive."""
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                yield member.filename, member.file_size, partial(archive.read, member)
    else:
        with tarfile.open(path) as tar:
            for entry in tar:
                if content := tar.extractfile(entry) if entry.isfile() else None:
                    yield entry.name, entry.size, content.read
