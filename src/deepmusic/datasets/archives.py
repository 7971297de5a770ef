"""Unpacking zip and tar archives from strangers, so that nothing leaves its folder.

An archive is unpacked beside the folder that it becomes, which gets its name when all of it is
there and right. Whoever stops the work, by whatever means, never leaves half a folder under that
name; the next call takes up the members of a zip archive that are there already, by their CRC-32,
and begins a tar archive anew, which can only be read in its order.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import threading
import unicodedata
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import IO, Self

from deepmusic.datasets.download import disk_errors
from deepmusic.datasets.web import CHUNK, DownloadError, byte_count
from deepmusic.datasets.zip_directory import (
    LOCAL_HEADER,
    TAIL,
    ArchiveError,
    Member,
    find_directory,
    packed_start,
    read_members,
    refuse_unreadable,
    unpacked_chunks,
)
from deepmusic.files import open_regular, sync_folder

try:
    import fcntl
except ImportError:  # Windows: there two unpackings of one archive at a time are not noticed
    fcntl = None  # type: ignore[assignment]

Tell = Callable[[int, int | None], None]
"""Takes how many bytes are done, and how many it will be if that is known."""

_SMALL = 16 << 20
"""What unpacks to less than this is no bomb, however little was packed."""
_CHECKSUMS = "checksums"
"""The member in which an archive of FMA lists the SHA-1 of the others."""
_SUM = re.compile(r"([0-9a-fA-F]{40}) [ *](.+)")
_LONGEST_LIST = 64 << 20
_BAD_TAR = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError)


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive.

    Args:
        files: how many.
        size: their bytes.
        checked: how many had a SHA-1 in the archive's own list of checksums, and it was right.
        left_out: how many members stand outside of the folder that was asked for.
    """

    files: int
    size: int
    checked: int
    left_out: int


def unpack(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    top: str = "",
    max_files: int = 1_000_000,
    max_ratio: float = 200.0,
    workers: int | None = None,
    on_progress: Tell | None = None,
) -> Unpacked:
    """Unpack a zip archive, or a tar archive (plain, gzip, bzip2, xz), into a new folder.

    All names are looked at before anything is written, those of a tar archive as they come. Folders
    and files get the permissions of new ones; times and owners are not kept.

    Args:
        archive: path of the archive.
        folder: what it becomes; must not exist. Its own folder is made.
        top: the folder in the archive whose inside is wanted; all of it if empty.
        max_files: how many members it may have.
        max_ratio: to how many times its packed bytes a member of more than 16 MiB, or an archive,
            may unpack.
        workers: threads for a zip archive; as many as there are cores, up to 8, if None.
        on_progress: takes the bytes that are done and how many it will be: those of the files for a
            zip archive, those of the archive for a tar archive.

    Raises:
        ArchiveError: with one of these codes. ``"not_archive"``, ``"damaged"``, ``"parts"``; names:
            ``"traversal"`` (``..``), ``"absolute"``, ``"drive"``, ``"backslash"``, ``"name"``
            (empty, too long or with control characters), ``"duplicate"``, ``"case"`` (two that
            differ by case or accents alone); kinds: ``"link"``, ``"device"`` (also sparse files),
            ``"encrypted"``, ``"method"``; amounts: ``"too_many"``, ``"bomb"``, ``"overlap"`` (two
            members share bytes); contents: ``"crc"``, ``"size"``, ``"checksum"``; ``"layout"``: it
            has no ``top``.
        DownloadError: ``"exists"``: the folder is there; ``"busy"``: it is being unpacked by
            another process; ``"disk"``: no room, or it cannot be written; or the archive cannot be
            read.
    """
    archive, folder, tell = Path(archive), Path(folder), on_progress or (lambda done, total: None)
    limits = _Limits(max_files, max_ratio)
    with (
        open_regular(archive, shown=str(archive), noun="archive", error=DownloadError) as file,
        disk_errors(folder),
    ):
        _refuse_existing(folder)
        with _said_of(archive):
            reader: _Zip | _Tar
            reader = _Zip(file, top, limits) if _is_zip(file) else _Tar(file, top, limits)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _staging(folder) as staging:
            _refuse_existing(folder)
            with _said_of(archive):
                found = reader.unpack(staging, tell, _worker_count(workers))
            _name(staging, folder)
    return found


def unpacked_size(archive: str | os.PathLike[str], *, top: str = "") -> int | None:
    """Bytes of the files in a zip archive, as it says; None for a tar archive, which says nothing.

    Raises:
        ArchiveError, DownloadError: as :func:`unpack` does for what the directory shows.
    """
    path = Path(archive)
    with (
        open_regular(path, shown=str(path), noun="archive", error=DownloadError) as file,
        _said_of(path),
    ):
        return _Zip(file, top, _Limits()).size if _is_zip(file) else None


@dataclass(frozen=True)
class _Limits:
    files: int = 1_000_000
    ratio: float = 200.0

    def refuse_bomb(self, packed: int, size: int, what: str) -> None:
        if size > _SMALL and size > self.ratio * packed:
            raise ArchiveError(
                f"{what} unpacks {byte_count(packed)} to {byte_count(size)} or more, which is no "
                "honest ratio.",
                code="bomb",
            )

    def refuse_many(self, count: int) -> None:
        if count > self.files:
            raise ArchiveError(f"it has more than {self.files:,} members.", code="too_many")


@contextmanager
def _said_of(archive: Path) -> Iterator[None]:
    """Say of which archive a fault is."""
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"{archive} is not unpacked: {error}", code=error.code) from error


def _refuse_existing(folder: Path) -> None:
    if os.path.lexists(folder):
        raise DownloadError(
            f"{folder} is there already: move it away or delete it, and run again.", code="exists"
        )


def _is_zip(file: FileIO) -> bool:
    # zipfile.is_zipfile looks at the end, where a tar archive may hold a zip
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    return start[:2] == b"PK"


def _worker_count(workers: int | None) -> int:
    return max(1, min(os.cpu_count() or 1, 8) if workers is None else workers)


# --- where it is unpacked


def is_begun(folder: str | os.PathLike[str]) -> bool:
    """Whether an earlier call began to unpack what becomes this folder, and was stopped."""
    return _staging_path(Path(folder)).exists()


def _staging_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unpacking")


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A hidden folder beside the final one, locked; what is in it stays if the block raises."""
    staging = _staging_path(folder)
    staging.mkdir(exist_ok=True)
    lock = open(staging / "lock", "ab")  # noqa: SIM115
    try:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DownloadError(
                    f"{folder} is being unpacked by another process; wait for it to end.",
                    code="busy",
                ) from None
            except OSError:  # a file system without locks
                pass
        for leftover in staging.glob("part-*"):
            leftover.unlink()
        yield staging
    except ArchiveError:  # of no use to a later call
        shutil.rmtree(staging, ignore_errors=True)
        raise
    finally:
        lock.close()


def _name(staging: Path, folder: Path) -> None:
    """Give what was unpacked its name."""
    for root, _, _ in os.walk(staging / "tree", topdown=False):
        sync_folder(Path(root))
    os.rename(staging / "tree", folder)
    sync_folder(folder.parent)
    shutil.rmtree(staging, ignore_errors=True)


# --- names

_DRIVE = re.compile(r"[A-Za-z]:")


class _Names:
    """The names of an archive, each looked at as it comes.

    Args:
        top: the folder whose inside is wanted; all if empty.
    """

    def __init__(self, top: str) -> None:
        self._top = top
        self._files: set[str] = set()
        self._folders: dict[str, str] = {}
        self.left_out = 0

    def place(self, name: str, *, is_folder: bool) -> str | None:
        """Where a member goes, below the folder; None if it is not wanted.

        Raises:
            ArchiveError: the name is refused.
        """
        parts = _parts(name)
        keys = [_key(part) for part in parts]
        depth = len(parts) if is_folder else len(parts) - 1
        for end in range(1, depth + 1):
            self._add_folder("/".join(keys[:end]), "/".join(parts[:end]), name)
        if not is_folder:
            if not parts:
                raise ArchiveError(f"a member has no name: {name!r}.", code="name")
            self._add_file("/".join(keys), name)
        if not self._top:
            return "/".join(parts)
        if parts[:1] == [self._top] and (is_folder or len(parts) > 1):
            return "/".join(parts[1:])
        self.left_out += not is_folder
        return None

    def _add_folder(self, key: str, spelled: str, name: str) -> None:
        if key in self._files:
            raise ArchiveError(
                f"{name!r} in it is below a file, or differs from one by case alone.",
                code="duplicate",
            )
        if self._folders.setdefault(key, spelled) != spelled:
            raise ArchiveError(
                f"{spelled!r} and {self._folders[key]!r} in it differ by case or accents alone.",
                code="case",
            )

    def _add_file(self, key: str, name: str) -> None:
        if key in self._folders:
            raise ArchiveError(f"{name!r} in it is a file and a folder.", code="duplicate")
        if key in self._files:
            raise ArchiveError(
                f"{name!r} in it is there twice, or with another name that differs by case or "
                "accents alone.",
                code="duplicate",
            )
        self._files.add(key)


def _parts(name: str) -> list[str]:
    """The parts of a name; a leading ``./`` and the last slash do not count."""
    shown = repr(name if len(name) < 200 else name[:200] + "...")
    if "\\" in name:
        raise ArchiveError(f"{shown} in it has a backslash.", code="backslash")
    if name.startswith("/"):
        raise ArchiveError(f"{shown} in it is an absolute path.", code="absolute")
    parts = name.removesuffix("/").split("/")
    while parts and parts[0] == ".":
        parts = parts[1:]
    for part in parts:
        if part == "..":
            raise ArchiveError(f"{shown} in it leads out of its folder.", code="traversal")
        if _DRIVE.match(part):
            raise ArchiveError(f"{shown} in it names a drive.", code="drive")
        is_long = len(os.fsencode(part)) > 255
        if part in ("", ".") or is_long or any(ord(c) < 32 or c == "\x7f" for c in part):
            raise ArchiveError(f"{shown} in it is no name that is written.", code="name")
    return parts


def _key(part: str) -> str:
    """Two names with one key may be one file on some disk."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", part).casefold())


def _sums(text: bytes, prefix: str) -> dict[str, str]:
    """Path below ``prefix`` to SHA-1, out of lines as ``sha1sum`` writes; none if there are others.

    An archive may have a file of that name which is something else.
    """
    matches = [_SUM.fullmatch(line) for line in text.decode("utf-8", "replace").splitlines()]
    if None in matches:
        return {}
    return {
        match[2].removeprefix("./").removeprefix(prefix): match[1].lower()
        for match in matches
        if match
    }


def _refuse_other_sum(sums: dict[str, str], place: str, found: str) -> None:
    if sums.get(place, found) != found:
        raise ArchiveError(
            f"{place!r} in it is not what its list of checksums says: its sha1 is {found}, not "
            f"{sums[place]}.",
            code="checksum",
        )


def _refuse_missing(sums: dict[str, str], places: set[str]) -> None:
    missing = sorted(set(sums) - places)
    if missing:
        raise ArchiveError(
            f"{len(missing)} files of its list of checksums are not in it, such as {missing[0]!r}.",
            code="checksum",
        )


# --- zip


class _Progress:
    """How far several threads are, and whether they should stop."""

    def __init__(self, tell: Tell, total: int) -> None:
        self.is_stopped = False
        self._tell = tell
        self._total = total
        self._done = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        """Tell that so many bytes more are done."""
        with self._lock:
            self._done += size
            self._tell(self._done, self._total)


class _Zip:
    """A zip archive whose directory was read and found harmless."""

    def __init__(self, file: FileIO, top: str, limits: _Limits) -> None:
        self._path = Path(os.fsdecode(file.name))
        total = os.fstat(file.fileno()).st_size
        file.seek(max(0, total - TAIL))
        span = find_directory(_read_all(file, min(TAIL, total)), total)
        limits.refuse_many(span.count)
        file.seek(span.start)
        members = read_members(_read_all(file, span.size), span)
        self._top = top
        self._files: dict[str, Member] = {}
        self._folders = []
        names = _Names(top)
        for member in members:
            _refuse_kind(member)
            limits.refuse_bomb(member.packed_size, member.size, f"{member.name!r} in it")
            place = names.place(member.name, is_folder=member.is_folder)
            if member.is_folder and member.size:
                raise ArchiveError(f"{member.name!r} is a folder with bytes.", code="damaged")
            if place is not None and member.is_folder:
                self._folders.append(place)
            elif place is not None:
                self._files[place] = member
        _refuse_overlap(members)
        self._left_out = names.left_out
        self.size = sum(member.size for member in self._files.values())
        limits.refuse_bomb(total, self.size, "it")
        if not self._files:
            raise ArchiveError(_empty(top), code="layout")

    def unpack(self, staging: Path, tell: Tell, workers: int) -> Unpacked:
        tree = staging / "tree"
        if tree.is_symlink() or (tree.exists() and not tree.is_dir()):
            tree.unlink()
        tree.mkdir(exist_ok=True)
        for place in self._folders + sorted({str(Path(p).parent) for p in self._files}):
            (tree / place).mkdir(parents=True, exist_ok=True)
        self._remove_others(tree)
        self._refuse_full_disk(tree)
        sums = self._own_sums()
        tasks = deque(self._files.items())
        progress = _Progress(tell, self.size)
        with ThreadPoolExecutor(workers) as pool:
            # few at a time: what waits in the pool would run on after a fault
            waiting: deque[Future[None]] = deque()
            try:
                while tasks or waiting:
                    while tasks and len(waiting) < 2 * workers:
                        place, member = tasks.popleft()
                        waiting.append(
                            pool.submit(self._unpack_one, member, place, staging, sums, progress)
                        )
                    waiting.popleft().result()
            except BaseException:
                progress.is_stopped = True
                raise
        return Unpacked(len(self._files), self.size, len(sums), self._left_out)

    def _unpack_one(
        self,
        member: Member,
        place: str,
        staging: Path,
        sums: dict[str, str],
        progress: _Progress,
    ) -> None:
        """Unpack a member, unless an earlier call did."""
        target, is_listed = staging / "tree" / place, place in sums
        known = hashlib.sha1(usedforsecurity=False)
        if progress.is_stopped:
            return
        if _is_there(target, member, known):
            if is_listed:
                _refuse_other_sum(sums, place, known.hexdigest())
            progress.add(member.size)
            return
        known = hashlib.sha1(usedforsecurity=False)
        part = staging / f"part-{threading.get_ident()}"
        with open(part, "wb", buffering=0) as file:
            for chunk in self._chunks(member):
                if progress.is_stopped:
                    return
                if is_listed:
                    known.update(chunk)
                _write_all(file, chunk)
                progress.add(len(chunk))
            os.fsync(file.fileno())
        if is_listed:
            _refuse_other_sum(sums, place, known.hexdigest())
        os.replace(part, target)

    def _chunks(self, member: Member) -> Iterator[bytes]:
        with open(self._path, "rb", buffering=0) as file:
            file.seek(member.start)
            header = _read_all(file, LOCAL_HEADER.size + 4 * len(member.name))
            file.seek(member.start + packed_start(member, header))
            yield from unpacked_chunks(member, _pieces(file, member.packed_size))

    def _own_sums(self) -> dict[str, str]:
        """What the archive's list of checksums says of the files that are unpacked."""
        member = self._files.get(_CHECKSUMS)
        if member is None or member.size > _LONGEST_LIST:
            return {}
        sums = _sums(b"".join(self._chunks(member)), self._top + "/" if self._top else "")
        _refuse_missing(sums, set(self._files))
        return sums

    def _remove_others(self, tree: Path) -> None:
        """Remove what an earlier call left of another archive."""
        for root, folders, files in os.walk(tree):
            base = Path(root)
            for name in folders:
                if (base / name).is_symlink():
                    (base / name).unlink()
            for name in files:
                if (base / name).relative_to(tree).as_posix() not in self._files:
                    (base / name).unlink()

    def _refuse_full_disk(self, tree: Path) -> None:
        there = 0
        for place, member in self._files.items():
            with suppress(OSError):
                there += min((tree / place).stat().st_size, member.size)
        refuse_full_disk(tree, self.size - there)


def refuse_full_disk(folder: Path, wanted: int) -> None:
    """Raise if a disk has no room for so many bytes.

    Args:
        folder: on the disk; the nearest one that exists is asked.
        wanted: bytes.

    Raises:
        DownloadError: ``"disk"``.
    """
    place = Path(os.path.abspath(folder))
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < wanted:
        raise DownloadError(
            f"{place} has {byte_count(free)} free, but {byte_count(wanted)} are needed: free some "
            "space or choose another disk, and run again.",
            code="disk",
        )


def _refuse_kind(member: Member) -> None:
    kind = stat.S_IFMT(member.mode)
    if stat.S_ISLNK(kind):
        raise ArchiveError(f"{member.name!r} in it is a link.", code="link")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(f"{member.name!r} in it is a device or a pipe.", code="device")
    refuse_unreadable(member)


def _refuse_overlap(members: Sequence[Member]) -> None:
    """Members that share bytes unpack few to very many."""
    ordered = sorted(members, key=lambda member: member.start)
    for member, following in pairwise(ordered):
        least = LOCAL_HEADER.size + len(member.name)
        if member.start + least + member.packed_size > following.start:
            raise ArchiveError(
                f"{member.name!r} and {following.name!r} in it share bytes.", code="overlap"
            )


def _is_there(path: Path, member: Member, known: hashlib._Hash) -> bool:
    """Whether an earlier call unpacked a member; its bytes go to ``known``."""
    crc = 0
    with suppress(OSError):
        if path.stat().st_size != member.size:
            return False
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                crc = zlib.crc32(chunk, crc)
                known.update(chunk)
        return crc == member.crc
    return False


def _write_all(file: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _read_all(file: IO[bytes] | FileIO, size: int) -> bytes:
    return b"".join(_pieces(file, size))


def _pieces(file: IO[bytes] | FileIO, size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := file.read(min(size, CHUNK))):
        size -= len(chunk)
        yield chunk


def _empty(top: str) -> str:
    return f"it has no files in {top!r}." if top else "it has no files."


# --- tar


class _Tar:
    """A tar archive, which can only be read from its start on."""

    def __init__(self, file: FileIO, top: str, limits: _Limits) -> None:
        self._file = file
        self._top = top
        self._limits = limits
        self.total = os.fstat(file.fileno()).st_size
        start = file.read(512)
        file.seek(0)
        is_packed = start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"))
        if not is_packed and start[257:262] != b"ustar":
            raise ArchiveError(
                "it begins as neither a zip nor a tar archive does: it is something else, or "
                "damaged.",
                code="not_archive",
            )

    def unpack(self, staging: Path, tell: Tell, workers: int) -> Unpacked:
        tree = staging / "tree"
        if tree.is_symlink():
            tree.unlink()
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        try:
            return self._unpack(tree, staging / "part-tar", tell)
        except (*_BAD_TAR, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk, not of a decompressor
            raise ArchiveError(
                "it is damaged, or not all of it is there; fetch it again.", code="damaged"
            ) from error

    def _unpack(self, tree: Path, part: Path, tell: Tell) -> Unpacked:
        source = _Unpacking(self._file, self._limits)
        names = _Names(self._top)
        found: dict[str, str] = {}
        size = count = end = 0
        with tarfile.open(
            fileobj=source, mode="r|", errorlevel=2, tarinfo=_CheckedHeader
        ) as archive:
            for member in archive:
                count += 1
                self._limits.refuse_many(count)
                _refuse_tar_kind(member)
                place = names.place(member.name, is_folder=member.isdir())
                end = member.offset_data + -(-member.size // 512) * 512
                if place is None:
                    continue
                target = tree / place
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                content = archive.extractfile(member)
                assert content is not None
                found[place] = _write(content, member.size, part)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(part, target)
                size += member.size
                tell(min(self._file.tell(), self.total), self.total)
                # it keeps all that it ever saw
                archive.members = []  # type: ignore[attr-defined]
        while source.read(CHUNK):  # to the end, where a checksum stands
            pass
        if source.done < end + 512:
            raise EOFError("no end mark")
        if not found:
            raise ArchiveError(_empty(self._top), code="layout")
        return Unpacked(len(found), size, self._check(tree, found), names.left_out)

    def _check(self, tree: Path, found: dict[str, str]) -> int:
        """Compare with the archive's own list of checksums; how many stand there."""
        if _CHECKSUMS not in found or (tree / _CHECKSUMS).stat().st_size > _LONGEST_LIST:
            return 0
        prefix = self._top + "/" if self._top else ""
        sums = _sums((tree / _CHECKSUMS).read_bytes(), prefix)
        _refuse_missing(sums, set(found))
        for place in sums:
            _refuse_other_sum(sums, place, found[place])
        return len(sums)


class _CheckedHeader(tarfile.TarInfo):
    """A header of a tar archive; a spoilt one fails, which :mod:`tarfile` takes for the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except (
            tarfile.InvalidHeaderError,  # type: ignore[attr-defined]
            tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
        ) as error:
            raise ArchiveError(
                "a header in it is damaged; fetch it again.", code="damaged"
            ) from error


def _write(content: IO[bytes], size: int, part: Path) -> str:
    """Write a member of a tar archive; its SHA-1."""
    known = hashlib.sha1(usedforsecurity=False)
    done = 0
    with open(part, "wb", buffering=0) as file:
        for chunk in _pieces(content, size):
            known.update(chunk)
            done += len(chunk)
            _write_all(file, chunk)
        os.fsync(file.fileno())
    if done != size:
        raise EOFError("cut short")
    return known.hexdigest()


def _refuse_tar_kind(member: tarfile.TarInfo) -> None:
    if member.issym() or member.islnk():
        raise ArchiveError(f"{member.name!r} in it is a link.", code="link")
    if member.issparse() or not (member.isreg() or member.isdir()):
        raise ArchiveError(
            f"{member.name!r} in it is a device, a pipe or a sparse file.", code="device"
        )


class _Unpacking(io.RawIOBase):
    """The bytes of a tar archive, as long as they come in an honest ratio to the packed ones."""

    def __init__(self, file: FileIO, limits: _Limits) -> None:
        super().__init__()
        self._packed = file
        self._limits = limits
        self.done = 0
        start = file.read(6)
        file.seek(0)
        self._inner: io.RawIOBase | io.BufferedIOBase = file
        if start.startswith(b"\x1f\x8b"):
            self._inner = gzip.GzipFile(fileobj=file)
        elif start.startswith(b"BZh"):
            self._inner = bz2.BZ2File(file)
        elif start.startswith(b"\xfd7zXZ\x00"):
            self._inner = lzma.LZMAFile(file)  # noqa: SIM115

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        chunk = self._inner.read(size) or b""
        self.done += len(chunk)
        self._limits.refuse_bomb(self._packed.tell(), self.done, "it")
        return chunk
