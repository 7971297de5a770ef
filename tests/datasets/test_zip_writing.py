"""Archives that are the same bytes wherever and whenever they are made."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deepmusic.datasets.zip_writing import write_zip
from deepmusic.errors import DataError, DeepMusicError

CONTENTS = {
    "tracks.csv": b"path\n",
    "rock/b.flac": b"b" * 3_000_000,
    "rock/a.flac": b"",
    "README.txt": b"read me",
    "jazz/Bj\u00f6rk.flac": b"c",
    "checksums": b"sums",
    "rock/deep/er/d.flac": b"d",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "music", CONTENTS)


def fill(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_order_times_permissions_and_contents(folder: Path, tmp_path: Path) -> None:
    write_zip(tmp_path / "music.zip", folder, CONTENTS, top="music")
    with zipfile.ZipFile(tmp_path / "music.zip") as archive:
        assert archive.testzip() is None
        assert archive.comment == b""
        names = archive.namelist()
        assert names == [
            "music/README.txt",
            "music/checksums",
            "music/",
            "music/jazz/",
            "music/jazz/Bj\u00f6rk.flac",
            "music/rock/",
            "music/rock/a.flac",
            "music/rock/b.flac",
            "music/rock/deep/",
            "music/rock/deep/er/",
            "music/rock/deep/er/d.flac",
            "music/tracks.csv",
        ]
        for entry in archive.infolist():
            mode = entry.external_attr >> 16
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.extra == b""
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.create_system == 3
            assert not entry.flag_bits & 0x08  # sizes stand before the content
            if entry.is_dir():
                assert mode == stat.S_IFDIR | 0o555
            else:
                assert mode == stat.S_IFREG | 0o444
                name = entry.filename.removeprefix("music/")
                assert archive.read(entry) == CONTENTS[name]


def test_neither_order_nor_time_nor_permissions_of_the_disk_show(
    folder: Path, tmp_path: Path
) -> None:
    write_zip(tmp_path / "one.zip", folder, CONTENTS, top="music")
    other = fill(tmp_path / "elsewhere" / "x", dict(reversed(CONTENTS.items())))
    for path in other.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        if path.is_file():
            path.chmod(0o600)
    write_zip(tmp_path / "two.zip", other, sorted(CONTENTS, reverse=True), top="music")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_other_programs_read_it(folder: Path, tmp_path: Path) -> None:
    write_zip(tmp_path / "music.zip", folder, CONTENTS, top="music")
    code = "import shutil, sys; shutil.unpack_archive(sys.argv[1], sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, "music.zip", "out"], cwd=tmp_path, check=True)
    for name, content in CONTENTS.items():
        assert (tmp_path / "out" / "music" / name).read_bytes() == content


def test_64_bit_sizes_and_offsets_where_they_are_needed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 2_000_000)  # a real one takes 4 GiB of disk
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5)
    write_zip(tmp_path / "large.zip", folder, CONTENTS, top="music")
    content = (tmp_path / "large.zip").read_bytes()
    assert b"PK\x06\x06" in content  # the end record of 64 bits
    monkeypatch.undo()
    with zipfile.ZipFile(tmp_path / "large.zip") as archive:
        assert archive.testzip() is None
        large = archive.getinfo("music/rock/b.flac")
        assert large.file_size == 3_000_000
        behind = archive.getinfo("music/tracks.csv")
        assert behind.header_offset > 2_000_000
        assert behind.extra[:2] == b"\x01\x00"  # its place takes 64 bits
        assert archive.getinfo("music/rock/a.flac").extra == b""


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\b", "C:x", ""])
def test_names_that_lead_elsewhere_are_refused(name: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        write_zip(tmp_path / "music.zip", folder, [name], top="music")
    with pytest.raises(DataError):
        write_zip(tmp_path / "music.zip", folder, CONTENTS, top=name)
    assert not (tmp_path / "music.zip").exists()


def test_a_missing_file_leaves_no_archive(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "music.zip").write_bytes(b"old")
    with pytest.raises(DataError, match=r"gone\.flac"):
        write_zip(tmp_path / "music.zip", folder, [*CONTENTS, "zz/gone.flac"], top="music")
    assert (tmp_path / "music.zip").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_is_one_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def full(path: object, flags: int, mode: int = 0o777) -> int:
        if str(path).endswith(".tmp"):
            real(path, flags, mode)  # type: ignore[arg-type]
            return real("/dev/full", os.O_WRONLY)
        return real(path, flags, mode)  # type: ignore[arg-type]

    monkeypatch.setattr("deepmusic.files.os.open", full)
    with pytest.raises(DeepMusicError, match="the disk is full"):
        write_zip(tmp_path / "music.zip", folder, CONTENTS, top="music")
    assert not (tmp_path / "music.zip").exists()
