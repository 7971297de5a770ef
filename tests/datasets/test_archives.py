"""Archives: what is refused, single members, and that nothing half-written has a final name."""

from __future__ import annotations

import io
import random
import stat
import tarfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from http_server import Remote

from deepmusic.datasets import (
    ArchiveError,
    DownloadError,
    ZipReader,
    archives,
    download,
    unpack_archive,
)
from deepmusic.errors import DeepMusicError
from faults import FAULTS, each_fault

FILES = {
    "set/README.txt": b"read me\n",
    "set/000/000002.mp3": random.Random(0).randbytes(300_000),
    "set/001/Dvořák ř.mp3": bytes(2_000_000),
    "set/empty": b"",
}


def write_zip(path: Any, files: dict[str, bytes], method: int = zipfile.ZIP_BZIP2) -> Any:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


WRITERS = {"zip": write_zip, "tar": write_tar}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(archive: Path, code: str, folder: str = "set") -> None:
    """Assert a refusal in one sentence that leaves nothing behind."""
    target = archive.parent / "to" / "out"
    with pytest.raises(ArchiveError) as caught:
        unpack_archive(archive, target, archive_folder=folder)
    assert caught.value.code == code
    assert str(caught.value).startswith(str(archive))
    assert "\n" not in str(caught.value)
    assert list(target.parent.iterdir()) == []
    assert {path.name for path in archive.parent.iterdir()} == {archive.name, "to"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "how"),
    [
        *((write_zip, method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_BZIP2)),
        *((write_tar, mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")),
    ],
)
def test_an_archive_becomes_a_folder(tmp_path: Path, write: Any, how: Any) -> None:
    path, progress = write(tmp_path / "a", {"other/x": b"x", "./y": b"y", **FILES}, how), []
    (tmp_path / "to" / ".set.unpacking" / "leftover").mkdir(parents=True)  # of a killed call
    target = tmp_path / "to" / "set"
    unpack_archive(path, target, "set", on_progress=lambda *n: progress.append(n))
    expected = {name.removeprefix("set/"): content for name, content in FILES.items()}
    assert tree(target) == expected
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["set"]
    assert progress == sorted(progress)
    assert progress[-1] == (path.stat().st_size, path.stat().st_size)
    unpack_archive(path, tmp_path / "all")
    assert tree(tmp_path / "all") == {"other/x": b"x", "y": b"y", **FILES}
    with pytest.raises(DownloadError, match="already exists"):
        unpack_archive(path, tmp_path / "all")


def test_permissions_are_not_kept(tmp_path: Path) -> None:
    """FMA's archives have files 0444 in folders 0555."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, mode in (("set/", 0o040555), ("set/a", 0o100444)):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, b"" if name.endswith("/") else b"a")
    unpack_archive(tmp_path / "a.zip", tmp_path / "b", archive_folder="set")
    (tmp_path / "b" / "a").write_text("changed")
    (tmp_path / "b" / "new").write_text("")


# --- refused


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "set/../../a",
        "set/..",
        "/etc/a",
        "//host/a",
        "C:/a",
        "C:a",
        "set\\..\\a",
        "\\\\h\\a",
    ],
)
def test_paths_that_lead_out_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    refused(WRITERS[kind](tmp_path / "a", {**FILES, name: b"bad"}), "unsafe")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, mode: int) -> None:
    info = zipfile.ZipInfo("set/a")
    info.external_attr = (mode | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, b"/etc/passwd")
    refused(tmp_path / "a.zip", "unsafe")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("set/a")
        member.type, member.linkname = kind, "../../etc/passwd"
        archive.addfile(member)
    refused(tmp_path / "a.tar", "unsafe")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_bombs_are_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = WRITERS[kind](tmp_path / "a", {"set/a": bytes(9_000_000), "set/b": bytes(9_000_000)})
    refused(archive, "too_large")
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 1 << 30)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    refused(archive, "too_large")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("fault", ["garbage", "cut", "flipped", "empty"])
def test_damaged_archives_are_refused(tmp_path: Path, kind: str, fault: str) -> None:
    archive = WRITERS[kind](tmp_path / "a", FILES)
    content = bytearray(archive.read_bytes())
    content[len(content) // 3] ^= fault == "flipped"
    content = {"garbage": b"neither", "cut": content[:-3000], "empty": b""}.get(fault, content)
    archive.write_bytes(content)
    refused(archive, "damaged")


def test_encryption_other_folders_and_missing_archives_are_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a", FILES)
    refused(archive, "layout", folder="other")
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[content.index(b"PK\x03\x04") + 6] |= 1
    archive.write_bytes(content)
    refused(archive, "damaged")
    for path, message in ((tmp_path / "none", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(DownloadError, match=message):
            unpack_archive(path, tmp_path / "b")
    with pytest.raises(DownloadError, match="does not exist"):
        ZipReader(tmp_path / "none")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_whatever_fails_no_half_folder_has_the_name(kind: str) -> None:
    files = {"set/a": b"a" * 1000, "set/b/c": bytes(90_000)}

    def unpack(folder: Path) -> None:
        try:
            unpack_archive(folder / "archive", folder / "to" / "set", "set")
        except DownloadError as error:
            if error.code != "exists":
                raise

    def whole(folder: Path) -> None:
        found = tree(folder / "to")
        assert not (folder / "to" / "set").exists() or found == files

    each_fault(
        unpack,
        whole,
        prepare=lambda folder: WRITERS[kind](folder / "archive", files),
        finished=lambda folder: tree(folder / "to") == files or pytest.fail("a half folder"),
        faults=(*FAULTS, "kill"),
    )


@pytest.mark.slow
def test_whatever_fails_no_half_member_has_the_name() -> None:
    def save(folder: Path) -> None:
        with ZipReader(folder / "archive") as archive:
            archive.save("set/empty", folder / "to" / "empty")
            archive.save("set/000/000002.mp3", folder / "to" / "clip")

    def whole(folder: Path) -> None:
        clip = folder / "to" / "clip"
        assert not clip.exists() or clip.read_bytes() == FILES["set/000/000002.mp3"]

    prepare = partial(write_zip, files=FILES, method=zipfile.ZIP_DEFLATED)
    each_fault(
        save, whole, prepare=lambda folder: prepare(folder / "archive"), faults=(*FAULTS, "kill")
    )


# --- single members of a zip on a server


RNG = random.Random(2)
CLIPS = {f"set/{n:03d}.mp3": RNG.randbytes(20_000) for n in range(60)}


@pytest.fixture
def archive(remote: Remote) -> bytes:
    """What the server offers."""
    buffer = io.BytesIO()
    write_zip(buffer, CLIPS, zipfile.ZIP_DEFLATED)
    remote.content = buffer.getvalue()
    return remote.content


@pytest.mark.usefixtures("archive")
def test_only_the_directory_and_the_wanted_members_are_read(tmp_path: Path, remote: Remote) -> None:
    with ZipReader(remote.url) as reader:
        for name in ("set/041.mp3", "set/007.mp3", "set/059.mp3"):
            assert reader.save(name, tmp_path / name)
            assert (tmp_path / name).read_bytes() == CLIPS[name]
            assert not reader.save(name, tmp_path / name)
        (tmp_path / name).write_bytes(b"mine")
        with pytest.raises(DownloadError, match="already exists, but is not 'set/059"):
            reader.save(name, tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"mine"
        with pytest.raises(DownloadError, match=r"'no' of http.* does not exist"):
            reader.save("no", tmp_path / "b")
    assert len(remote.requests) == 4
    assert remote.sent < 64 * 1024 + 3 * 21_000
    assert len(list((tmp_path / "set").iterdir())) == 3


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_members_of_an_archive_on_this_machine(tmp_path: Path, method: int) -> None:
    name = "set/000/000002.mp3"
    with ZipReader(write_zip(tmp_path / "a.zip", FILES, method)) as reader:
        assert reader.save(name, tmp_path / "new" / "a")
    assert (tmp_path / "new" / "a").read_bytes() == FILES[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setup", "code", "message"),
    [
        ({"has_ranges": False}, "refused", "only sends whole files"),
        ({"statuses": [(404, {})]}, "missing", r"does not exist \(status 404\)"),
        ({"statuses": [(403, {})]}, "refused", "status 403"),
        ({"content": b"x" * 90_000}, "damaged", "not a zip or tar archive"),
        ({"content": None}, "damaged", "not a zip"),
        ({"hang_s": 0.5}, "unreachable", "the server does not answer; try again later"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(
    remote: Remote,
    archive: bytes,
    monkeypatch: pytest.MonkeyPatch,
    setup: dict[str, Any],
    code: str,
    message: str,
) -> None:
    monkeypatch.setattr(download, "TRIES", 2)
    monkeypatch.setattr(archives, "TIMEOUT_S", 0.2)
    vars(remote).update(setup)
    remote.content = remote.content or archive[:-30]
    with pytest.raises((DownloadError, ArchiveError), match=message) as caught:
        ZipReader(remote.url + "?key=secret")
    assert caught.value.code == code
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["flipped", "cut", "changed"])
def test_a_damaged_member_leaves_no_file(
    tmp_path: Path, remote: Remote, archive: bytes, fault: str
) -> None:
    with ZipReader(remote.url) as reader:
        if fault == "cut":
            remote.cuts = [500]
        else:
            content = bytearray(archive)
            content[len(content) // 2] ^= 1
            remote.content = bytes(content) if fault == "flipped" else archive[5:]
        with pytest.raises((DownloadError, ArchiveError), match="again") as caught:
            reader.save("set/030.mp3", tmp_path / "a")
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []
        remote.content = archive
        assert reader.save("set/030.mp3", tmp_path / "a")
        (tmp_path / "file").write_text("")
        with pytest.raises(DeepMusicError, match="could not be written"):
            reader.save("set/030.mp3", tmp_path / "file" / "b")
