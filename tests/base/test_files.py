"""Writing beside and renaming: no half file under a final name, no temporary behind."""

from __future__ import annotations

import csv
import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deepmusic.errors import DeepMusicError
from deepmusic.files import write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, *contents: bytes, fail: BaseException | None = None) -> None:
    with write_atomically(path, "wb") as file:
        for content in contents:
            file.write(content)
        if fail is not None:
            raise fail


def test_text_and_bytes_arrive_as_written(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "a.txt") as text:
        text.write("Dvořák\n")
        assert not (tmp_path / "a.txt").exists()  # not before it is whole
    with write_atomically(tmp_path / "b.bin", "wb") as data:
        data.write(b"\x00\r\n\xff")
    assert (tmp_path / "a.txt").read_bytes() == "Dvořák\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\r\n\xff"
    assert names(tmp_path) == ["a.txt", "b.bin"]


def test_csv_rows_are_not_doubled(tmp_path: Path) -> None:
    with write_atomically(str(tmp_path / "a.csv")) as file:
        csv.writer(file).writerows([["a", "b"], ["c", "line\nend"]])
    assert (tmp_path / "a.csv").read_bytes() == b'a,b\r\nc,"line\nend"\r\n'


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.EIO, "x")])
def test_an_exception_changes_nothing(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)) as caught:
        write(path, b"half", fail=error)
    assert caught.value is error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_full_disk_is_one_sentence_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")

    def full(*_: object) -> None:
        raise error

    if where != "write":
        monkeypatch.setattr(os, where, full)
    with pytest.raises(DeepMusicError, match=r"a\.txt could not be written: the disk is full"):
        write(tmp_path / "a.txt", b"text", fail=error if where == "write" else None)
    assert names(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to mount")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        (tmp_path / "a.bin").write_bytes(b"old")
        with pytest.raises(DeepMusicError, match="the disk is full"):
            write(tmp_path / "a.bin", *[bytes(4096)] * 100)
        assert (tmp_path / "a.bin").read_bytes() == b"old"
        assert names(tmp_path) == ["a.bin"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_kill_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import os, sys; from deepmusic.files import write_atomically\n"
        "with write_atomically(sys.argv[1]) as file:\n"
        "    file.write('half' * 100_000); file.flush(); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_open(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        (tmp_path / "plain").write_text("")
        with write_atomically(tmp_path / "ours") as file:
            file.write("")
    finally:
        os.umask(before)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_an_existing_file_keeps_its_permissions_and_a_link_its_target(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o640)
    (tmp_path / "link").symlink_to(path)
    with write_atomically(tmp_path / "link") as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_name_of_full_length(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write(path, b"x")
    assert path.read_bytes() == b"x"


def test_a_missing_folder_and_a_folder_in_the_way_are_said(tmp_path: Path) -> None:
    with pytest.raises(DeepMusicError, match="its folder does not exist"):
        write_atomically(tmp_path / "none" / "a.txt").__enter__()
    (tmp_path / "dir").mkdir()
    with pytest.raises(DeepMusicError, match="dir could not be written"):
        write(tmp_path / "dir", b"x")
    assert names(tmp_path) == ["dir"]


def test_other_modes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mode is 'w' or 'wb'"):
        write_atomically(tmp_path / "a", "a")  # type: ignore[call-overload]
