"""Get a data set of the registry: download, check, and unpack it where the commands look."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

from deepmusic.datasets.download import (
    DownloadError,
    disk_errors,
    download_file,
    file_fault,
    is_url,
    part_path,
    refuse_full_disk,
    size_of,
)
from deepmusic.datasets.registry import DatasetInfo
from deepmusic.datasets.repack import read_contents, read_index, repack
from deepmusic.datasets.unpack import unpack_archive
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
        return False
    sources: Sequence[str | Path] = info.urls
    if source is not None and not target.exists():
        sources = [resolve_source(info, source)]
    if is_folder:
        _fetch_folder(info, sources, root, keep_archive, tell)
        return True
    if info.layout in ("file", "archive"):
        return _download_first(info, sources, target, tell)
    return _fetch_repacked(info, sources, target, tell)


def _fetch_repacked(
    info: DatasetInfo, sources: Sequence[str | Path], target: Path, tell: StageProgress
) -> bool:
    """Get the one file that is made from a downloaded one, and its index."""
    existed = target.exists()
    if existed:
        read_contents(info, target)
    elif isinstance(sources[0], Path):
        repack(info, sources[0], target)
    else:
        raw = target.with_name(target.name + ".source")
        _download_first(info, sources, raw, tell)
        try:
            repack(info, raw, target)
        finally:
            raw.unlink(missing_ok=True)
    index = target.with_name("index.csv")
    if info.index and not index.exists():
        with write_atomically(index) as file:
            file.write(read_index(info))
    return not existed


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
    is_local = archive.exists() or isinstance(sources[0], Path)
    missing = 0 if is_local else info.size - size_of(part_path(archive))
    refuse_full_disk(root, missing + info.unpacked_size)
    if is_local:
        archive = archive if archive.exists() else Path(sources[0])
        open_regular(archive, shown=str(archive), noun="archive", error=DownloadError).close()
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


def _download_first(
    info: DatasetInfo, sources: Sequence[str | Path], target: Path, tell: StageProgress
) -> bool:
    """Download from the first source that answers; what is repacked is checked later."""
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
