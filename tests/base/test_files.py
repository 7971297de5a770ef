"""Writing beside and renaming: no half file under a final name, no temporary behind."""

from __future__ import annotations

import csv
import errno
import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest

from deepmusic.errors import DeepMusicError
from deepmusic.files import remove_leftover, write_atomically
from faults import FAULTS, each_fault, failing


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


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["w", "wb"])
def test_whatever_fails_the_old_file_or_the_new_one_is_there(mode: Literal["w", "wb"]) -> None:
    new: Any = "new" * 9000 if mode == "w" else b"new" * 9000
    contents = {"old", "new" * 9000}

    def rewrite(folder: Path) -> None:
        with write_atomically(folder / "a.txt", mode) as file:
            file.write(new)

    each_fault(
        rewrite,
        lambda folder: contents & {(folder / "a.txt").read_text()} or pytest.fail("a half file"),
        prepare=lambda folder: (folder / "a.txt").write_text("old"),
        faults=(*FAULTS, "kill"),
    )


def test_a_failure_of_another_file_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("x")
    with (
        failing(tmp_path / "in", 2, "broken"),
        pytest.raises(OSError, match="Input/output error"),
        write_atomically(tmp_path / "out") as file,
    ):
        file.write((tmp_path / "in").read_text())
    assert names(tmp_path) == ["in"]


@pytest.mark.slow
def test_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    def rewrite(number: int) -> None:
        write(tmp_path / "a", bytes([number]) * 5000)

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(rewrite, range(100)))
    assert len((tmp_path / "a").read_bytes()) == 5000
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no locks that tell who writes")
def test_only_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with write_atomically(path) as file:
        (leftover,) = names(tmp_path)
        remove_leftover(path)
        assert names(tmp_path) == [leftover]  # it is being written
        file.write("new")
    (tmp_path / leftover).write_text("half")
    (tmp_path / ".another.tmp").write_text("")
    (tmp_path / "link").symlink_to(path)
    remove_leftover(tmp_path / "link")
    assert names(tmp_path) == [".another.tmp", "a.txt", "link"]
    remove_leftover(path)
    remove_leftover(tmp_path / "none" / "a.txt")


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
