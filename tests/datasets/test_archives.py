"""Unpacking: what is refused, what is checked, and that a kill never leaves half a folder."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from http_server import names
from hypothesis import given, settings, strategies as st
from killed_children import children, needs_kill

from deepmusic.datasets.archives import ArchiveError, is_begun, unpack, unpacked_size
from deepmusic.datasets.download import DownloadError

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
RANDOM = random.Random(0)
FILES = {
    "set/README.txt": b"read me\n",
    "set/000/000002.mp3": RANDOM.randbytes(300_000),
    "set/000/000005.mp3": RANDOM.randbytes(70_000),
    "set/001/Dvořák ř.mp3": bytes(2_000_000),
    "set/empty": b"",
}


def write_zip(path: Path, files: dict[str, bytes] = FILES, method: int = zipfile.ZIP_BZIP2) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes] = FILES, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write(kind: str, path: Path, files: dict[str, bytes] = FILES) -> Path:
    return write_zip(path, files) if kind == "zip" else write_tar(path, files)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def below_set(files: dict[str, bytes] = FILES) -> dict[str, bytes]:
    return {name.removeprefix("set/"): content for name, content in files.items()}


def refused(archive: Path, folder: Path, **options: object) -> str:
    """The code of a refusal that leaves nothing behind."""
    with pytest.raises(ArchiveError) as caught:
        unpack(archive, folder, **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{archive} is not unpacked: ")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    assert not os.path.lexists(folder)
    assert not is_begun(folder)
    return caught.value.code


# --- all goes well


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("top", ["", "set"])
def test_a_zip_archive_becomes_a_folder(tmp_path: Path, method: int, top: str) -> None:
    archive, told = write_zip(tmp_path / "a.zip", method=method), []
    found = unpack(
        archive, tmp_path / "to" / "b", top=top, on_progress=lambda *now: told.append(now)
    )
    size = sum(map(len, FILES.values()))
    assert tree(tmp_path / "to" / "b") == (below_set() if top else FILES)
    assert names(tmp_path / "to") == ["b"]
    assert (found.files, found.size, found.left_out, found.checked) == (5, size, 0, 0)
    assert unpacked_size(archive, top=top) == size
    assert told == sorted(told)
    assert told[-1] == (size, size)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w"])
def test_a_tar_archive_becomes_a_folder(tmp_path: Path, mode: str) -> None:
    archive = write_tar(tmp_path / "a.tar", {f"./{name}": c for name, c in FILES.items()}, mode)
    found = unpack(archive, tmp_path / "b", top="set")
    assert tree(tmp_path / "b") == below_set()
    assert found.files == 5
    assert unpacked_size(archive) is None


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_what_is_outside_of_the_wanted_folder_is_left_out(tmp_path: Path, kind: str) -> None:
    files = {**FILES, "._set": b"x", "settle/a": b"y", "other": b"z"}
    found = unpack(write(kind, tmp_path / "a", files), tmp_path / "b", top="set")
    assert tree(tmp_path / "b") == below_set()
    assert found.left_out == 3


def test_empty_folders_and_read_only_ones(tmp_path: Path) -> None:
    """FMA's archives have files 0444 in folders 0555; what comes out can be moved and deleted."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, mode in (("set/", 0o040555), ("set/hollow/", 0o040555), ("set/a", 0o100444)):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, b"" if name.endswith("/") else b"a")
    unpack(tmp_path / "a.zip", tmp_path / "b", top="set")
    assert names(tmp_path / "b") == ["a", "hollow"]
    (tmp_path / "b" / "hollow" / "new").write_text("")
    (tmp_path / "b" / "a").write_text("changed")


def test_an_archive_of_zip64(tmp_path: Path) -> None:
    """More members than 16 bits count, and sizes that stand in the extra field."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        with archive.open("set/wide", "w", force_zip64=True) as member:
            member.write(b"wide")
        for number in range(66_000):
            archive.writestr(zipfile.ZipInfo(f"no/{number}"), b"")
    found = unpack(tmp_path / "a.zip", tmp_path / "b", top="set")
    assert tree(tmp_path / "b") == {"wide": b"wide"}
    assert found.left_out == 66_000


@settings(max_examples=30, deadline=None)
@given(
    files=st.dictionaries(
        st.from_regex(r"[a-c]{1,3}(/[a-c]{1,3}){0,2}\.x", fullmatch=True),
        st.binary(max_size=3000),
        min_size=1,
        max_size=8,
    ),
    method=st.sampled_from(METHODS),
    kind=st.sampled_from(["zip", "tar"]),
    workers=st.integers(1, 4),
)
def test_what_was_packed_comes_out(
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, bytes],
    method: int,
    kind: str,
    workers: int,
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    archive = folder / "a"
    if kind == "zip":
        write_zip(archive, files, method)
    else:
        write_tar(archive, files)
    unpack(archive, folder / "b", workers=workers)
    assert tree(folder / "b") == files


# --- names


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("../a", "traversal"),
        ("set/../../a", "traversal"),
        ("set/..", "traversal"),
        ("./../a", "traversal"),
        ("/etc/passwd", "absolute"),
        ("//host/share/a", "absolute"),
        ("C:/a", "drive"),
        ("C:a", "drive"),
        ("set/d:a", "drive"),
        ("set\\..\\..\\a", "backslash"),
        ("..\\a", "backslash"),
        ("\\\\host\\a", "backslash"),
        ("set//a", "name"),
        ("set/./a", "name"),
        ("set/a\nb", "name"),
        ("set/" + "a" * 300, "name"),
    ],
)
def test_names_that_lead_away_are_refused(tmp_path: Path, kind: str, name: str, code: str) -> None:
    archive = write(kind, tmp_path / "a", {**FILES, name: b"bad"})
    assert refused(archive, tmp_path / "to" / "b", top="set") == code
    assert not (tmp_path / "a").is_symlink()
    assert {path.name for path in tmp_path.rglob("*")} <= {"a", "to"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    ("second", "code"),
    [
        ("set/a", "duplicate"),
        ("set/A", "duplicate"),
        ("set/a/b", "duplicate"),
        ("set", "duplicate"),
        ("SET/b", "case"),
        ("./set/a", "duplicate"),
    ],
)
def test_two_names_for_one_file_are_refused(
    tmp_path: Path, kind: str, second: str, code: str
) -> None:
    archive = write(kind, tmp_path / "archive", {"set/a": b"1", second + "": b"2"} | {})
    if second == "set/a":
        add_again(kind, archive)
    assert refused(archive, tmp_path / "b") == code


def test_accents_alone_do_not_tell_names_apart(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a", {"é": b"1", "e\u0301": b"2"})
    assert refused(archive, tmp_path / "b") == "duplicate"


def add_again(kind: str, archive: Path) -> None:
    """Write an archive that has one name twice."""
    if kind == "zip":
        write_zip(archive, {"set/a": b"1", "set/b": b"2"})
        archive.write_bytes(archive.read_bytes().replace(b"set/b", b"set/a"))
        return
    with tarfile.open(archive, "w:gz") as packed:
        for content in (b"1", b"2"):
            member = tarfile.TarInfo("set/a")
            member.size = 1
            packed.addfile(member, io.BytesIO(content))


# --- kinds


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        (stat.S_IFLNK | 0o777, "link"),
        (stat.S_IFCHR | 0o666, "device"),
        (stat.S_IFIFO | 0o666, "device"),
        (stat.S_IFSOCK | 0o666, "device"),
    ],
)
def test_links_and_devices_in_a_zip_archive(tmp_path: Path, mode: int, code: str) -> None:
    info = zipfile.ZipInfo("set/a")
    info.external_attr = mode << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, b"/etc/passwd")
    assert refused(tmp_path / "a.zip", tmp_path / "b") == code


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "device"),
        (tarfile.CONTTYPE, None),
    ],
)
def test_links_and_devices_in_a_tar_archive(tmp_path: Path, kind: bytes, code: str | None) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("set/a")
        member.type, member.linkname = kind, "../../etc/passwd"
        archive.addfile(member)
    if code is None:  # a contiguous file is a file
        unpack(tmp_path / "a.tar", tmp_path / "b")
        return
    assert refused(tmp_path / "a.tar", tmp_path / "b") == code


def patched(archive: Path, offset: int, form: str, value: int) -> Path:
    """Change a number in the first entry of a zip directory."""
    content = bytearray(archive.read_bytes())
    struct.pack_into(form, content, content.index(b"PK\x01\x02") + offset, value)
    archive.write_bytes(content)
    return archive


def test_encrypted_members_and_unknown_methods(tmp_path: Path) -> None:
    archive = patched(write_zip(tmp_path / "a"), 8, "<H", 1)
    assert refused(archive, tmp_path / "b") == "encrypted"
    archive = patched(write_zip(tmp_path / "a"), 10, "<H", 99)
    assert refused(archive, tmp_path / "b") == "method"


# --- amounts


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_says_so_itself(tmp_path: Path, method: int) -> None:
    archive = write_zip(tmp_path / "a", {"set/a": bytes(40_000_000)}, method)
    assert refused(archive, tmp_path / "b") == "bomb"
    unpack(archive, tmp_path / "b", max_ratio=1e6)


def test_many_small_bombs_are_one(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a", {f"set/{n}": bytes(4_000_000) for n in range(10)})
    assert refused(archive, tmp_path / "b") == "bomb"


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_bomb_of_tar_is_seen_as_it_comes(tmp_path: Path, mode: str) -> None:
    archive = write_tar(tmp_path / "a", {"set/a": bytes(40_000_000)}, mode)
    assert refused(archive, tmp_path / "b") == "bomb"


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_that_lies_gives_no_more_than_it_said(
    tmp_path: Path, method: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_zip(tmp_path / "a", {"set/a": bytes(40_000_000)}, method)
    patched(archive, 24, "<L", 1000)
    written: list[int] = []
    monkeypatch.setattr(
        "deepmusic.datasets.archives._write_all", lambda file, chunk: written.append(len(chunk))
    )
    assert refused(archive, tmp_path / "b") == "size"
    assert sum(written) <= 1000


def test_fewer_bytes_than_it_said(tmp_path: Path) -> None:
    archive = patched(write_zip(tmp_path / "a", {"set/a": b"short"}), 24, "<L", 1000)
    assert refused(archive, tmp_path / "b") == "size"


def test_members_that_share_bytes(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a", {"set/a": b"1" * 1000, "set/b": b"2" * 1000})
    patched(archive, 20, "<L", 80)  # the first one's packed bytes reach into the second
    assert refused(archive, tmp_path / "b") == "overlap"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_more_members_than_allowed(tmp_path: Path, kind: str) -> None:
    assert refused(write(kind, tmp_path / "a"), tmp_path / "b", max_files=4) == "too_many"


def test_a_disk_without_room_is_said_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr("deepmusic.datasets.archives.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"has 1\.0 MB free, but 2\.4 MB are needed") as e:
        unpack(write_zip(tmp_path / "a"), tmp_path / "b")
    assert e.value.code == "disk"
    assert not (tmp_path / "b").exists()


# --- contents


@pytest.mark.parametrize("method", METHODS)
def test_a_spoilt_byte_is_noticed(tmp_path: Path, method: int) -> None:
    archive = write_zip(tmp_path / "a", {"set/a": RANDOM.randbytes(5000)}, method)
    content = bytearray(archive.read_bytes())
    content[2500] ^= 0xFF
    archive.write_bytes(content)
    assert refused(archive, tmp_path / "b") in ("crc", "damaged")


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("mode", ["zip", "w:gz", "w:bz2", "w:xz", "w"])
def test_an_archive_that_was_cut(tmp_path: Path, mode: str, keep: float) -> None:
    files = {f"set/{n}": RANDOM.randbytes(50_000) for n in range(5)}
    archive = tmp_path / "a"
    content = (
        write_zip(archive, files) if mode == "zip" else write_tar(archive, files, mode)
    ).read_bytes()
    content = content if mode != "w" else content[: 1024 + sum(map(len, files.values()))]
    archive.write_bytes(content[: int(keep * len(content))])
    assert refused(archive, tmp_path / "b") in ("not_archive", "damaged")


def test_a_tar_header_that_is_spoilt_is_not_taken_for_the_end(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a", mode="w")
    content = bytearray(archive.read_bytes())
    content[content.index(b"set/000/000005.mp3") + 150] ^= 0xFF  # within its checksum
    archive.write_bytes(content)
    assert refused(archive, tmp_path / "b") == "damaged"


def test_a_tar_archive_cut_between_members(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a", mode="w")
    content = archive.read_bytes()
    archive.write_bytes(content[: content.index(b"set/000/000005.mp3")])
    assert refused(archive, tmp_path / "b") == "damaged"


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"PK\x03\x04" + bytes(100), bytes(1000), b"<html>"]
)
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert refused(tmp_path / "a", tmp_path / "b") == "not_archive"


@settings(max_examples=80, deadline=None)
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), kind=st.sampled_from("zt"))
def test_no_spoilt_archive_gives_a_wrong_folder_or_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, kind: str
) -> None:
    files = {"set/a": b"first" * 30, "set/b": bytes(range(256))}
    folder = tmp_path_factory.mktemp("spoilt")
    archive = folder / "a"
    if kind == "z":
        write_zip(archive, files, zipfile.ZIP_DEFLATED)
    else:
        write_tar(archive, files)
    content = bytearray(archive.read_bytes())
    content[place % len(content)] = value
    archive.write_bytes(content)
    try:
        unpack(archive, folder / "b")
    except ArchiveError:
        assert names(folder) == ["a"]
    else:  # names, times and comments have no checksum; contents have
        assert set(tree(folder / "b").values()) <= set(files.values())


def listed(files: dict[str, bytes], prefix: str = "") -> bytes:
    lines = [
        f"{hashlib.sha1(content).hexdigest()}  {prefix}{name.removeprefix('set/')}\n"
        for name, content in files.items()
    ]
    return "".join(lines).encode()


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("prefix", ["", "./", "set/"])
def test_the_list_of_checksums_is_heeded(tmp_path: Path, kind: str, prefix: str) -> None:
    files = {"set/checksums": listed(FILES, prefix), **FILES}
    found = unpack(write(kind, tmp_path / "a", files), tmp_path / "b", top="set")
    assert found.checked == 5
    changed = {**files, "set/000/000005.mp3": b"other"}
    assert refused(write(kind, tmp_path / "a", changed), tmp_path / "c", top="set") == "checksum"
    del changed["set/000/000005.mp3"]
    assert refused(write(kind, tmp_path / "a", changed), tmp_path / "c", top="set") == "checksum"
    other = {**files, "set/checksums": b"something else\n"}
    assert unpack(write(kind, tmp_path / "a", other), tmp_path / "c", top="set").checked == 0


def test_the_miniature_fma_unpacks_as_published(tmp_path: Path) -> None:
    from miniature_fma import make_miniature

    mini = make_miniature(tmp_path / "mini", zips=True)
    assert mini.metadata_zip is not None
    found = unpack(mini.metadata_zip, tmp_path / "fma_metadata", top="fma_metadata")
    assert tree(tmp_path / "fma_metadata") == tree(tmp_path / "mini" / "fma_metadata")
    assert found.checked > 5


# --- what is there already, and kills


def test_a_folder_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(DownloadError, match="is there already") as caught:
        unpack(write_zip(tmp_path / "a"), tmp_path / "b")
    assert caught.value.code == "exists"
    assert names(tmp_path / "b") == []


@pytest.mark.skipif(os.name == "nt", reason="no locks on Windows")
def test_two_do_not_unpack_to_one_folder(tmp_path: Path) -> None:
    archive, refusals = write_zip(tmp_path / "a"), []

    def again(done: int, total: int | None) -> None:
        if not refusals:
            with pytest.raises(DownloadError, match="by another process") as caught:
                unpack(archive, tmp_path / "b")
            refusals.append(caught.value.code)

    unpack(archive, tmp_path / "b", on_progress=again)
    assert refusals == ["busy"]
    assert tree(tmp_path / "b") == FILES


def test_what_was_unpacked_before_is_not_unpacked_again_but_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_zip(tmp_path / "a")

    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "b", on_progress=stop, workers=1)
    assert is_begun(tmp_path / "b")
    assert not (tmp_path / "b").exists()
    staged = tmp_path / ".b.unpacking" / "tree"
    shutil.rmtree(staged)
    for name, content in FILES.items():
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).write_bytes(content)
    (staged / "set/000/000005.mp3").write_bytes(bytes(70_000))  # of the right size, but wrong
    (staged / "foreign").write_text("of another archive")
    (staged / "folder").symlink_to(tmp_path)
    opened = []
    inner = sys.modules["deepmusic.datasets.archives"].unpacked_chunks
    monkeypatch.setattr(
        "deepmusic.datasets.archives.unpacked_chunks",
        lambda member, packed: opened.append(member.name) or inner(member, packed),
    )
    unpack(archive, tmp_path / "b")
    assert opened == ["set/000/000005.mp3"]
    assert tree(tmp_path / "b") == FILES
    assert names(tmp_path) == ["a", "b"]


SLOWLY = """
import time
import deepmusic.datasets.archives as archives
write = archives._write_all
def write_slowly(file, chunk):
    for at in range(0, len(chunk), 4096):
        write(file, chunk[at : at + 4096])
        time.sleep(0.0005)
def work(archive, folder):
    archives._write_all = write_slowly
    archives.unpack(archive, folder, workers=2)
"""


@pytest.mark.slow
@needs_kill
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_kill_at_any_point_leaves_no_half_folder(tmp_path: Path, kind: str) -> None:
    """Fifty kills and more at random points, some of them in a row; then it goes on."""
    rng = random.Random(7)
    files = {f"set/{n:03d}": rng.randbytes(rng.randrange(60_000)) for n in range(12)}
    archive = write(kind, tmp_path / "a", files)
    folder, kills, midway = tmp_path / "to" / "b", 0, 0
    with children(SLOWLY, rng) as killed:
        while kills < 50 or midway < 25:
            kills += killed.kill_sometime(archive, folder) == -9
            midway += is_begun(folder)
            assert kills < 1000
            if not folder.exists() and rng.random() < 0.4:
                unpack(archive, folder)
            if folder.exists():
                assert tree(folder) == files
                shutil.rmtree(folder)
    unpack(archive, folder)
    assert tree(folder) == files
    assert names(folder.parent) == ["b"]


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_in_one_thread_stops_all(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Callable[..., object]] = []

    def full(file: object, chunk: object) -> None:
        calls.append(full)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deepmusic.datasets.archives._write_all", full)
    archive = write_zip(tmp_path / "a", {f"set/{n}": b"x" * 100 for n in range(200)})
    with pytest.raises(DownloadError, match="no space left on device") as caught:
        unpack(archive, tmp_path / "b", workers=workers)
    assert caught.value.code == "disk"
    assert len(calls) < 20
    assert not (tmp_path / "b").exists()
