"""Archives of sound: fetched from wherever they are, unpacked, and nothing half under a name."""

from __future__ import annotations

import hashlib
import io
import random
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from http_server import Remote, names, proxying, serving
from killed_children import children, needs_kill

from deepmusic.datasets.archives import ArchiveError, is_begun
from deepmusic.datasets.audio_archives import AUDIO_ARCHIVES, AudioArchive, fetch_archive
from deepmusic.datasets.catalogue import CATALOGUE
from deepmusic.datasets.download import DownloadError

RANDOM = random.Random(5)
FILES = {f"000/{n:06d}.mp3": RANDOM.randbytes(10_000) for n in range(20)}


def zipped(top: str) -> bytes:
    sums = "".join(f"{hashlib.sha1(c).hexdigest()}  {name}\n" for name, c in FILES.items())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2) as archive:
        for name, content in {"checksums": sums.encode(), **FILES}.items():
            archive.writestr(f"{top}/{name}", content)
    return buffer.getvalue()


ARCHIVE = zipped("fma_tiny")
ENTRY = replace(
    AUDIO_ARCHIVES["fma-small"],
    name="fma-tiny",
    file="fma_tiny.zip",
    folder="fma_tiny",
    top="fma_tiny",
    urls=("http://host.invalid/fma_tiny.zip",),
    sha1=hashlib.sha1(ARCHIVE).hexdigest(),
    size=len(ARCHIVE),
    unpacked_size=200_000,
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def remote() -> Iterator[Remote]:
    with serving(Remote(ARCHIVE)) as remote:
        yield remote


def tree(folder: Path) -> dict[str, bytes]:
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.mp3")}
    assert (folder / "checksums").is_file()
    return found


def from_here(entry: AudioArchive, remote: Remote) -> AudioArchive:
    return replace(entry, urls=(remote.url,))


def test_it_is_fetched_unpacked_and_removed(tmp_path: Path, remote: Remote) -> None:
    told: list[tuple[str, int, int | None]] = []
    assert fetch_archive(
        from_here(ENTRY, remote),
        tmp_path / "data",
        on_progress=lambda *now: told.append(("fetching", *now)),
        on_unpacking=lambda *now: told.append(("unpacking", *now)),
    )
    assert names(tmp_path / "data") == ["fma_tiny"]
    assert tree(tmp_path / "data" / "fma_tiny") == FILES
    assert [stage for stage, _, _ in told] == sorted(stage for stage, _, _ in told)
    assert told[-1][1] == told[-1][2]
    assert not fetch_archive(ENTRY, tmp_path / "data")
    assert len(remote.requests) == 1


@pytest.mark.parametrize(("is_unpacked", "is_kept"), [(True, True), (False, False)])
def test_the_archive_may_stay(
    tmp_path: Path, remote: Remote, is_unpacked: bool, is_kept: bool
) -> None:
    entry = from_here(ENTRY, remote)
    assert fetch_archive(entry, tmp_path, is_unpacked=is_unpacked, is_kept=is_kept)
    folder = ["fma_tiny"] if is_unpacked else []
    assert names(tmp_path) == [*folder, "fma_tiny.zip"]
    assert (tmp_path / "fma_tiny.zip").read_bytes() == ARCHIVE
    assert not fetch_archive(entry, tmp_path, is_unpacked=is_unpacked)


def test_an_archive_that_was_there_is_checked_used_and_stays(tmp_path: Path) -> None:
    (tmp_path / "fma_tiny.zip").write_bytes(ARCHIVE)
    assert fetch_archive(ENTRY, tmp_path)
    assert names(tmp_path) == ["fma_tiny", "fma_tiny.zip"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "fma_tiny.zip").write_bytes(ARCHIVE[:-1] + b"x")
    with pytest.raises(DownloadError, match="move it away or delete it"):
        fetch_archive(ENTRY, tmp_path / "other")
    assert names(tmp_path / "other") == ["fma_tiny.zip"]


@pytest.mark.parametrize("form", ["file", "folder", "laid out", "address", "address of a folder"])
def test_it_comes_from_a_mirror_or_a_local_copy(tmp_path: Path, remote: Remote, form: str) -> None:
    entry = replace(ENTRY, file="sub/fma_tiny.zip")
    for place in ("sub/fma_tiny.zip", "fma_tiny.zip"):
        (tmp_path / "from" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / place).write_bytes(ARCHIVE)
    source = {
        "file": tmp_path / "from" / "fma_tiny.zip",
        "folder": tmp_path / "from" / "sub",
        "laid out": tmp_path / "from",
        "address": remote.url,
        "address of a folder": remote.url.removesuffix("file.bin"),
    }[form]
    assert fetch_archive(entry, tmp_path / "to", source=source)
    assert tree(tmp_path / "to" / "fma_tiny") == FILES
    assert (tmp_path / "from" / "fma_tiny.zip").exists()
    if form == "address of a folder":
        assert remote.paths == ["/set/fma_tiny.zip"]
    with pytest.raises(DownloadError, match=r"no archive of 'fma-tiny'; looked for fma_tiny\.zip"):
        fetch_archive(entry, tmp_path / "other", source=tmp_path / "to")


def test_behind_a_proxy(tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxying() as (proxy, passed):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy")
        assert fetch_archive(from_here(ENTRY, remote), tmp_path)
        assert passed == [remote.url]


def test_a_wrong_local_archive_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped("fma_tiny")[:-1] + b"x")
    with pytest.raises(DownloadError, match="is not the file that was meant: its sha1") as caught:
        fetch_archive(ENTRY, tmp_path / "to", source=tmp_path / "a.zip")
    assert caught.value.code == "checksum"
    assert not (tmp_path / "to" / "fma_tiny").exists()
    assert (tmp_path / "a.zip").exists()


def test_room_for_both_is_asked_for_first(
    tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=len(ARCHIVE) + ENTRY.unpacked_size - 1)
    monkeypatch.setattr("deepmusic.datasets.archives.shutil.disk_usage", lambda _: usage)
    entry = from_here(ENTRY, remote)
    with pytest.raises(DownloadError, match=r"kB free, but .* kB are needed") as caught:
        fetch_archive(entry, tmp_path / "new" / "data")
    assert caught.value.code == "disk"
    assert remote.requests == []
    assert names(tmp_path) == []
    (tmp_path / "a.zip").write_bytes(ARCHIVE)
    usage.free = ENTRY.unpacked_size - 1
    with pytest.raises(DownloadError, match=r"but 200\.0 kB are needed"):
        fetch_archive(entry, tmp_path / "data", source=tmp_path / "a.zip")
    usage.free = ENTRY.unpacked_size + 300_000
    # what is there already takes no more room
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fma_tiny.zip.part").write_bytes(ARCHIVE[:100_000])
    usage.free = len(ARCHIVE) + ENTRY.unpacked_size - 100_000
    assert fetch_archive(entry, tmp_path / "data")
    assert remote.ranges() == ["bytes=100000-"]


def test_the_next_address_is_taken_where_a_site_is_gone(tmp_path: Path, remote: Remote) -> None:
    entry = replace(ENTRY, urls=("http://host.invalid/a", remote.url + "/gone", remote.url))
    remote.statuses = [(404, {})]
    assert fetch_archive(entry, tmp_path)
    remote.statuses = [(403, {})]
    with pytest.raises(DownloadError, match="refused"):
        fetch_archive(entry, tmp_path / "other")


def test_an_archive_that_is_right_but_not_harmless(tmp_path: Path, remote: Remote) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("fma_tiny/../../a", b"bad")
    remote.content = buffer.getvalue()
    entry = replace(
        from_here(ENTRY, remote),
        size=len(remote.content),
        sha1=hashlib.sha1(remote.content).hexdigest(),
    )
    with pytest.raises(ArchiveError) as caught:
        fetch_archive(entry, tmp_path / "data")
    assert caught.value.code == "traversal"
    assert names(tmp_path) == ["data"]
    assert not (tmp_path / "data" / "fma_tiny").exists()


def test_gtzan_comes_out_of_its_tar_archive(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "genres.tar.gz", "w:gz") as archive:
        for name in ("genres/blues/blues.00000.au", "genres/input.mf", "._genres"):
            member = tarfile.TarInfo(name)
            member.size = 5
            archive.addfile(member, io.BytesIO(b"bytes"))
    packed = (tmp_path / "genres.tar.gz").read_bytes()
    entry = replace(AUDIO_ARCHIVES["gtzan"], md5=hashlib.md5(packed).hexdigest())
    assert fetch_archive(entry, tmp_path / "data", source=tmp_path)
    assert names(tmp_path / "data" / "gtzan" / "genres") == ["blues", "input.mf"]


WORK = """
import time
from dataclasses import replace
import deepmusic.datasets.archives as archives
from deepmusic.datasets.audio_archives import AUDIO_ARCHIVES, fetch_archive
write = archives._write_all
def write_slowly(file, chunk):
    for at in range(0, len(chunk), 2000):
        write(file, chunk[at : at + 2000])
        time.sleep(0.0003)
def work(url, root, sha1, size):
    archives._write_all = write_slowly
    archives.os.fsync = lambda file: None
    entry = replace(
        AUDIO_ARCHIVES["fma-small"], file="fma_tiny.zip", folder="fma_tiny", top="fma_tiny",
        urls=(url,), sha1=sha1, size=int(size), unpacked_size=0,
    )
    fetch_archive(entry, root)
"""


@needs_kill
def test_a_kill_between_the_first_byte_and_the_last_rename(tmp_path: Path, remote: Remote) -> None:
    """Sixty kills and more while it downloads, checks, unpacks, names and cleans up."""
    rng, root = random.Random(13), tmp_path / "data"
    folder, remote.pause_s = root / "fma_tiny", 0.002
    kills, seen = 0, {"downloading": 0, "unpacking": 0, "done": 0}
    with children(WORK, rng) as killed:
        while kills < 60 or min(seen.values()) < 5:
            assert kills < 1000, seen
            kills += killed.kill_sometime(remote.url, root, ENTRY.sha1, len(ARCHIVE)) == -9
            if folder.exists():
                seen["done"] += 1
                assert tree(folder) == FILES
                for path in sorted(root.rglob("*"), reverse=True):
                    path.rmdir() if path.is_dir() else path.unlink()
            else:
                seen["unpacking"] += is_begun(folder)
                seen["downloading"] += (root / "fma_tiny.zip.part").exists()
    remote.pause_s = 0.0
    fetch_archive(from_here(ENTRY, remote), root)
    assert tree(folder) == FILES
    assert set(names(root)) <= {"fma_tiny", "fma_tiny.zip"}


def test_the_catalogue_of_sound_is_whole() -> None:
    assert not set(AUDIO_ARCHIVES) & set(CATALOGUE)
    for name, entry in AUDIO_ARCHIVES.items():
        assert entry.name == name
        assert entry.urls
        assert entry.sha1 or entry.md5
        for digest, length in ((entry.sha1, 40), (entry.md5, 32), (entry.sha256, 64)):
            assert digest is None or re.fullmatch(rf"[0-9a-f]{{{length}}}", digest)
        assert entry.size < entry.unpacked_size < 5 * entry.size
        assert entry.disk == entry.size + entry.unpacked_size
        assert entry.licence
        assert entry.publication.bibtex.count("{") == entry.publication.bibtex.count("}")
        assert entry.publication.homepage.startswith("http")
    exact = {name for name, entry in AUDIO_ARCHIVES.items() if entry.is_exact}
    assert exact == {"fma-metadata", "fma-small", "fma-large"}
