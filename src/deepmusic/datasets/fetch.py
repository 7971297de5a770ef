"""Get a data set of the registry: download, check, and unpack it where the commands look.

Hosts that make an archive on demand never send the same bytes twice. Of MIDI files in a repository
(layout ``"midi"``) and of a compressed file (``"gzip"``), the contents are checked and packed here.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from rich.filesize import decimal as format_bytes

from deepmusic.datasets.archives import BAD_ARCHIVE, read_members, remove_staging, unpack_archive
from deepmusic.datasets.download import (
    DownloadError,
    disk_errors,
    download_file,
    file_fault,
    is_url,
    part_path,
    size_of,
)
from deepmusic.datasets.registry import DatasetInfo
from deepmusic.errors import os_reason
from deepmusic.files import open_regular, write_atomically

StageProgress = Callable[[str, int, int | None], object]
"""Takes the stage ("downloading", "checking", "unpacking"), the bytes done and the total."""


def fetch_dataset(
    info: DatasetInfo,
    root: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | None = None,
    unpack: bool = True,
    keep_archive: bool = False,
    on_progress: StageProgress | None = None,
) -> bool:
    """Get a data set into the data folder, checked.

    Interrupted downloads resume in the next call; an interrupted unpacking starts again. An archive
    that is on this machine already is unpacked where it is, and kept.

    Args:
        info: such as ``REGISTRY["fma-small"]``.
        root: the data folder; made if needed.
        source: an address or path to use instead of the known addresses: the file itself, what it
            is made from, a folder that holds either, or, with a slash at its end, the address of a
            folder laid out like the data folder.
        unpack: whether to unpack an archive.
        keep_archive: whether to keep a downloaded archive once it is unpacked.
        on_progress: takes stage, bytes done and total.

    Returns:
        Whether anything was done; False where the data set already existed.

    Raises:
        DownloadError: it is not available, not the expected data, or the disk is full.
        ArchiveError: the archive must not or cannot be unpacked.

    Example:
        >>> fetch_dataset(REGISTRY["chorales"], "data")  # doctest: +SKIP
        True
    """
    root, tell = Path(root), on_progress or (lambda stage, done, total: None)
    target = root / info.path
    is_folder = info.layout == "archive" and unpack
    if is_folder and (root / info.folder).is_dir():
        remove_staging(root / info.folder)
        return False
    sources: Sequence[str | Path] = info.urls
    if target.exists():
        sources = [target]
    elif source is not None:
        sources = [resolve_source(info, source)]
    if is_folder:
        _fetch_folder(info, sources, root, keep_archive, tell)
        return True
    if info.layout in ("file", "archive"):
        return _download_first(info, sources, target, tell)
    return _fetch_packed(info, sources, target, tell)


def resolve_source(info: DatasetInfo, source: str | os.PathLike[str]) -> str | Path:
    """The file or address of a data set in a given source; raises if a folder does not hold it."""
    if is_url(source):
        address = os.fspath(source)
        return address + quote(info.path) if address.endswith("/") else address
    path = Path(source)
    if not path.is_dir():
        return path
    name = Path(info.path).name
    for candidate in (path / info.path, path / name, path / Path(info.urls[0]).name):
        if candidate.is_file():
            return candidate
    raise DownloadError(
        f"{path} does not hold the data set {info.name!r}; looked for {name}.", code="missing"
    )


def _fetch_folder(
    info: DatasetInfo,
    sources: Sequence[str | Path],
    root: Path,
    keep_archive: bool,
    tell: StageProgress,
) -> None:
    """Get an archive and unpack it; one on this machine is used where it is."""
    archive = root / info.path
    is_local = isinstance(sources[0], Path)
    missing = 0 if is_local else info.size - size_of(part_path(archive))
    _refuse_full_disk(root, missing + info.unpacked_size)
    if is_local:
        archive = Path(sources[0])
        open_regular(archive, name=str(archive), noun="archive", error=DownloadError).close()
        checking = partial(tell, "checking")
        if fault := file_fault(archive, info.checksum, info.exact_size, checking):
            message = f"{archive} is not the expected file: {fault}; move or delete it."
            raise DownloadError(message, code="mismatch")
    else:
        _download_first(info, sources, archive, tell)
    unpacking = partial(tell, "unpacking")
    unpack_archive(archive, root / info.folder, info.archive_folder, on_progress=unpacking)
    if not (is_local or keep_archive):
        with disk_errors(archive):
            archive.unlink()


def _refuse_full_disk(folder: Path, size: int) -> None:
    """Raise if a disk has fewer than ``size`` bytes free; the folder need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DownloadError(
            f"{folder} has {format_bytes(free)} free, but {format_bytes(size)} are needed: free "
            "some space and run again.",
            code="disk",
        )


def _download_first(
    info: DatasetInfo, sources: Sequence[str | Path], target: Path, tell: StageProgress
) -> bool:
    """Download from the first source that answers; what is packed here is checked later."""
    is_final = info.layout in ("file", "archive")
    download = partial(
        download_file,
        target=target,
        checksum=info.checksum if is_final else None,
        size=info.exact_size if is_final else None,
        on_progress=partial(tell, "downloading"),
    )
    for source in sources[:-1]:
        try:
            return download(source)
        except DownloadError as error:
            if error.code not in ("missing", "unreachable"):
                raise
    return download(sources[-1])


def _fetch_packed(
    info: DatasetInfo, sources: Sequence[str | Path], target: Path, tell: StageProgress
) -> bool:
    """Get the one file that is packed here, and its index."""
    existed, raw = target.exists(), target.with_name(target.name + ".source")
    if isinstance(sources[0], Path):
        contents = read_contents(info, sources[0])
    else:
        _download_first(info, sources, raw, tell)
        try:
            contents = read_contents(info, raw)
        except DownloadError as error:
            if error.code == "mismatch":
                raw.unlink(missing_ok=True)
            raise
    if not existed:
        _pack(info, contents, target)
    with disk_errors(raw):
        raw.unlink(missing_ok=True)  # not before its contents are packed
    index = target.with_name("index.csv")
    if info.index and not index.exists():
        with write_atomically(index) as file:
            file.write(read_index(info))
    return not existed


def _pack(info: DatasetInfo, contents: Mapping[str, bytes], target: Path) -> None:
    """Write the packed file of a data set; the same contents give the same bytes."""
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
    """The checked contents of a data set by file name; one nameless file for layout "gzip".

    Raises:
        DownloadError: the file holds other contents, or is damaged.
    """
    try:
        contents = _read_gzip(info, path) if info.layout == "gzip" else _read_midi(info, path)
        checksum, size = contents_checksum(contents), sum(map(len, contents.values()))
        fault = f"{size:,} bytes in {len(contents)} files with {checksum}"
    except (*BAD_ARCHIVE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the file
            message = f"{path} could not be read: {os_reason(error)}; run again."
            raise DownloadError(message, code="disk") from error
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
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    if list(digests) == [""]:
        return f"sha256:{digests['']}"
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


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
    for member in read_members(path):
        match = re.fullmatch(info.member_pattern, member.name)
        if match and member.open and (not wanted or match["stem"] in wanted):
            remaining -= member.size
            if remaining < 0:
                raise ValueError(f"more than {info.size:,} bytes")
            with member.open() as file:
                contents[f"{info.folder}/{match['stem']}.mid"] = file.read()
    return contents
