"""Single members of archives on a server and on this machine."""

from __future__ import annotations

import hashlib
import io
import random
import zipfile
from pathlib import Path

import pytest
from http_server import Remote

from deepmusic.datasets import ArchiveError, DownloadError, ZipReader, download

RNG = random.Random(2)
MEMBERS = {f"set/{n:03d}.mp3": RNG.randbytes(20_000) for n in range(60)}


def zipped(method: int = zipfile.ZIP_BZIP2) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = zipped()


@pytest.fixture(autouse=True)
def archive_served(remote: Remote) -> None:
    remote.content = ARCHIVE


def test_only_the_directory_and_the_wanted_members_are_read(tmp_path: Path, remote: Remote) -> None:
    with ZipReader(remote.url) as archive:
        assert archive.names == list(MEMBERS)
        for name in ("set/041.mp3", "set/007.mp3", "set/059.mp3"):
            assert archive.save(name, tmp_path / name)
            assert (tmp_path / name).read_bytes() == MEMBERS[name]
            assert not archive.save(name, tmp_path / name)
    assert len(remote.requests) == 4
    assert remote.sent < 64 * 1024 + 3 * 21_000
    assert len(list((tmp_path / "set").iterdir())) == 3


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_an_archive_on_this_machine(tmp_path: Path, method: int) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(method))
    with ZipReader(tmp_path / "a.zip") as archive:
        assert archive.save("set/003.mp3", tmp_path / "new" / "a")
    assert (tmp_path / "new" / "a").read_bytes() == MEMBERS["set/003.mp3"]


def test_checksums_and_existing_files(tmp_path: Path, remote: Remote) -> None:
    name, target = "set/003.mp3", tmp_path / "a"
    right = f"sha1:{hashlib.sha1(MEMBERS[name]).hexdigest()}"
    with ZipReader(remote.url) as archive:
        with pytest.raises(DownloadError, match="its sha1 is") as caught:
            archive.save(name, target, checksum="sha1:" + "0" * 40)
        assert caught.value.code == "mismatch"
        assert list(tmp_path.iterdir()) == []
        assert archive.save(name, target, checksum=right)
        target.write_bytes(b"mine")
        with pytest.raises(DownloadError, match="already exists, but is not 'set/003"):
            archive.save(name, target)
        assert target.read_bytes() == b"mine"
        with pytest.raises(DownloadError, match=r"'no' of http.* does not exist"):
            archive.save("no", tmp_path / "b")


@pytest.mark.parametrize(
    ("setup", "code", "message"),
    [
        ({"has_ranges": False}, "refused", "only sends whole files"),
        ({"statuses": [(404, {})]}, "missing", r"does not exist \(status 404\)"),
        ({"statuses": [(403, {})]}, "refused", "status 403"),
        ({"content": b"x" * 90_000}, "damaged", "not a zip or tar archive"),
        ({"content": ARCHIVE[:-30]}, "damaged", "not a zip"),
        ({"hang_s": 0.5}, "unreachable", "the server does not answer; try again later"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(
    remote: Remote, monkeypatch: pytest.MonkeyPatch, setup: dict, code: str, message: str
) -> None:
    monkeypatch.setattr(download, "TRIES", 2)
    monkeypatch.setattr("deepmusic.datasets.remote_zip.TIMEOUT_S", 0.2)
    vars(remote).update(setup)
    with pytest.raises((DownloadError, ArchiveError), match=message) as caught:
        ZipReader(remote.url + "?key=secret")
    assert caught.value.code == code
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["flipped", "cut", "changed"])
def test_a_damaged_member_leaves_no_file(tmp_path: Path, remote: Remote, fault: str) -> None:
    with ZipReader(remote.url) as archive:
        if fault == "flipped":
            content = bytearray(ARCHIVE)
            content[len(content) // 2] ^= 1
            remote.content = bytes(content)
        elif fault == "changed":
            remote.content = zipped(zipfile.ZIP_STORED)
        else:
            remote.cuts = [500]
        with pytest.raises((DownloadError, ArchiveError), match="again") as caught:
            archive.save("set/030.mp3", tmp_path / "a")
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []
        remote.content = ARCHIVE
        assert archive.save("set/030.mp3", tmp_path / "a")
    with pytest.raises(DownloadError, match="does not exist"):
        ZipReader(tmp_path / "none")
