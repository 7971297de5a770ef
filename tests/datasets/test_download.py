"""Downloads from a server that breaks off, lies, hangs and redirects; and from this machine."""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
import random
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from http_server import CONTENT, Remote, names, proxying, serving
from hypothesis import given, settings, strategies as st
from killed_children import children, needs_kill

from deepmusic.datasets import CATALOGUE, DataFile, DownloadError, fetch, load_symbolic
from deepmusic.datasets.catalogue import digest
from deepmusic.datasets.download import byte_count, download, local_path, shown
from deepmusic.datasets.symbolic import SYMBOLIC

SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = {"wait_s": 0.0, "timeout_s": 5.0}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def remote() -> Iterator[Remote]:
    with serving(Remote()) as remote:
        yield remote


def leave_part(folder: Path, remote: Remote, size: int) -> Path:
    """A target of which a download that was cut off has left ``size`` bytes."""
    remote.cuts = [size]
    with pytest.raises(DownloadError, match="the connection was cut"):
        download(remote.url, folder / "a", tries=1, **QUICK)
    remote.requests.clear()
    assert (folder / "a.part").read_bytes() == CONTENT[:size]
    return folder / "a"


# --- all goes well


def test_a_file_arrives_with_its_folder_and_tells_how_far_it_is(
    tmp_path: Path, remote: Remote
) -> None:
    target, told = tmp_path / "new" / "folder" / "a.bin", []
    assert download(
        remote.url,
        target,
        sha256=SHA256.upper(),
        sha1=hashlib.sha1(CONTENT).hexdigest(),
        md5=hashlib.md5(CONTENT).hexdigest(),
        size=len(CONTENT),
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["a.bin"]
    assert [total for _, total in told] == [len(CONTENT)] * len(told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == len(CONTENT)
    assert remote.requests[0]["User-Agent"].startswith("deepmusic/")


def test_what_is_there_and_right_is_not_fetched_again(tmp_path: Path, remote: Remote) -> None:
    target = tmp_path / "a"
    target.write_bytes(CONTENT)
    assert not download(remote.url, target, sha256=SHA256, size=len(CONTENT))
    assert not download(remote.url, target, size=len(CONTENT))
    assert not download(remote.url, target)
    assert remote.requests == []


@pytest.mark.parametrize("expected", [{"sha256": SHA256}, {"size": len(CONTENT)}])
def test_another_file_of_the_name_is_not_written_over(
    tmp_path: Path, remote: Remote, expected: dict[str, str]
) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"there already, but .* move it away") as caught:
        download(remote.url, target, **expected)
    assert caught.value.code == "exists"
    assert target.read_bytes() == b"mine"
    assert remote.requests == []


def test_an_empty_file_and_one_of_unknown_length(tmp_path: Path, remote: Remote) -> None:
    remote.has_length = False
    assert download(remote.url, tmp_path / "a", sha256=SHA256)
    remote.content = b""
    assert download(remote.url, tmp_path / "b")
    remote.has_length = True
    assert download(remote.url, tmp_path / "c", size=0)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert names(tmp_path) == ["a", "b", "c"]


def test_an_address_may_hold_spaces_and_letters_of_any_script(
    tmp_path: Path, remote: Remote
) -> None:
    assert download(remote.url + "/Dvořák no 9?a=ř", tmp_path / "a", sha256=SHA256)


# --- going on


@pytest.mark.parametrize(
    "version", [{}, {"etag": None, "modified": "Mon, 01 Jan 2024 00:00:00 GMT"}]
)
def test_a_later_call_fetches_only_the_rest(
    tmp_path: Path, remote: Remote, version: dict[str, str | None]
) -> None:
    vars(remote).update(version)
    target = leave_part(tmp_path, remote, 123_456)
    assert download(remote.url, target, sha256=SHA256)
    assert remote.ranges() == ["bytes=123456-"]
    assert remote.requests[0]["If-Range"] == (remote.etag or remote.modified)
    assert target.read_bytes() == CONTENT
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize("size", [300_000, 200_000])
def test_a_file_that_changed_between_calls_starts_anew(
    tmp_path: Path, remote: Remote, heeds_if_range: bool, size: int
) -> None:
    target = leave_part(tmp_path, remote, 100_000)
    remote.content, remote.etag = random.Random(1).randbytes(size), '"2"'
    remote.heeds_if_range = heeds_if_range
    assert download(remote.url, target, **QUICK)
    assert target.read_bytes() == remote.content


def test_a_file_that_became_shorter_than_the_part(tmp_path: Path, remote: Remote) -> None:
    target = leave_part(tmp_path, remote, 200_000)
    remote.content, remote.heeds_if_range = CONTENT[:50_000], False
    assert download(remote.url, target, **QUICK)
    assert remote.ranges() == ["bytes=200000-", None]
    assert target.read_bytes() == remote.content


def test_without_a_version_only_a_checksum_lets_it_go_on(tmp_path: Path, remote: Remote) -> None:
    remote.etag = None
    target = leave_part(tmp_path, remote, 100_000)
    shutil.copytree(tmp_path, tmp_path / "other")
    assert download(remote.url, target)
    assert download(remote.url, tmp_path / "other" / "a", sha256=SHA256)
    assert remote.ranges() == [None, "bytes=100000-"]
    assert target.read_bytes() == (tmp_path / "other" / "a").read_bytes() == CONTENT


def test_the_proxy_of_the_environment_is_used(
    tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = leave_part(tmp_path, remote, 100_000)
    with proxying() as (proxy, passed):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy")
        assert download(remote.url, target, sha256=SHA256)
        assert passed == [remote.url]
    assert remote.ranges() == ["bytes=100000-"]
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_anew(tmp_path: Path, remote: Remote) -> None:
    target = leave_part(tmp_path, remote, 100_000)
    remote.has_ranges = False
    assert download(remote.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_a_mirror_goes_on_where_a_checksum_is_known(tmp_path: Path, remote: Remote) -> None:
    target = leave_part(tmp_path, remote, 100_000)
    with serving(Remote(etag='"mirror"')) as mirror:
        assert download(mirror.url, target, sha256=SHA256)
        assert mirror.ranges() == ["bytes=100000-"]
    assert target.read_bytes() == CONTENT


def test_all_was_there_but_the_name(tmp_path: Path, remote: Remote) -> None:
    """Killed between the last byte and the renaming."""
    target = leave_part(tmp_path, remote, 100_000)
    (tmp_path / "a.part").write_bytes(CONTENT)
    assert download(remote.url, target, sha256=SHA256)
    assert remote.requests == []
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("note", ["", "[]", '{"version": "a\\r\\nb", "total": "x"}', None])
def test_a_damaged_note_does_no_harm(tmp_path: Path, remote: Remote, note: str | None) -> None:
    target = leave_part(tmp_path, remote, 100_000)
    (tmp_path / "a.part.json").unlink()
    if note is not None:
        (tmp_path / "a.part.json").write_text(note)
    assert download(remote.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_spoilt_is_removed_with_one_sentence(tmp_path: Path, remote: Remote) -> None:
    target = leave_part(tmp_path, remote, 100_000)
    (tmp_path / "a.part").write_bytes(bytes(100_000))
    with pytest.raises(DownloadError, match=r"its sha256 is \w+, not \w+; it was removed\.$") as e:
        download(remote.url, target, sha256=SHA256)
    assert e.value.code == "checksum"
    assert names(tmp_path) == []


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 3000), max_size=6),
    size=st.integers(1, 4000),
    has_ranges=st.booleans(),
    has_version=st.booleans(),
    calls=st.integers(1, 3),
)
def test_wherever_it_is_cut_the_bytes_are_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    cuts: list[int],
    size: int,
    has_ranges: bool,
    has_version: bool,
    calls: int,
) -> None:
    content = random.Random(size).randbytes(size)
    target = tmp_path_factory.mktemp("cut") / "a"
    remote = Remote(content, '"1"' if has_version else None, has_ranges=has_ranges, cuts=cuts)
    sha256 = hashlib.sha256(content).hexdigest()
    with serving(remote):
        for _ in range(calls - 1):
            if not target.exists():
                with suppress(DownloadError):
                    download(remote.url, target, sha256=sha256, tries=1, **QUICK)
        download(remote.url, target, sha256=sha256, tries=10, **QUICK)
    assert target.read_bytes() == content
    assert names(target.parent) == ["a"]


DOWNLOAD = """
from deepmusic.datasets.download import download
def work(url, target, sha256):
    download(url, target, sha256=sha256, wait_s=0.0)
"""


@needs_kill
def test_a_kill_at_any_point_loses_no_byte_that_came(tmp_path: Path, remote: Remote) -> None:
    """Sixty kills and more at random points, of downloads that are also cut; it always goes on."""
    rng, target = random.Random(11), tmp_path / "to" / "a"
    remote.pause_s, part = 0.004, target.with_name("a.part")
    kills = midway = 0
    with children(DOWNLOAD, rng) as killed:
        while kills < 60 or midway < 30:
            assert kills < 1000
            before = part.stat().st_size if part.exists() else 0
            remote.cuts = [rng.randrange(100_000)] if rng.random() < 0.3 else []
            kills += killed.kill_sometime(remote.url, target, SHA256) == -9
            if target.exists():
                assert target.read_bytes() == CONTENT
                assert not download(remote.url, target, sha256=SHA256)
                assert names(target.parent) == ["a"]
                target.unlink()
            elif part.exists():
                kept = part.read_bytes()
                assert kept == CONTENT[: len(kept)]
                assert len(kept) >= before
                midway += 0 < len(kept) < len(CONTENT)
    remote.pause_s, remote.cuts = 0.0, []
    remote.requests.clear()
    kept_size = part.stat().st_size if part.exists() else 0
    assert download(remote.url, target, sha256=SHA256)
    assert remote.ranges() == ([f"bytes={kept_size}-"] if kept_size else [None])
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["a"]


def test_ctrl_c_leaves_what_has_come(tmp_path: Path, remote: Remote) -> None:
    def stop(done: int, total: int | None) -> None:
        if done > 50_000:
            raise KeyboardInterrupt

    remote.pause_s = 0.001
    with pytest.raises(KeyboardInterrupt):
        download(remote.url, tmp_path / "a", on_progress=stop)
    assert (tmp_path / "a.part").stat().st_size > 50_000
    # once more, while what is there is read again
    with pytest.raises(KeyboardInterrupt):
        download(remote.url, tmp_path / "a", on_progress=stop)
    kept = (tmp_path / "a.part").stat().st_size
    assert kept > 50_000
    assert download(remote.url, tmp_path / "a", sha256=SHA256)
    assert remote.ranges()[-1] == f"bytes={kept}-"


@pytest.mark.skipif(os.name == "nt", reason="no locks on Windows")
def test_two_downloads_do_not_write_one_part(tmp_path: Path, remote: Remote) -> None:
    refused = []

    def again(done: int, total: int | None) -> None:
        if not refused:
            with pytest.raises(DownloadError, match="written by another download") as caught:
                download(remote.url, tmp_path / "a")
            refused.append(caught.value.code)

    assert download(remote.url, tmp_path / "a", sha256=SHA256, on_progress=again)
    assert refused == ["busy"]
    assert (tmp_path / "a").read_bytes() == CONTENT


# --- trying again


def test_a_busy_server_is_tried_again(tmp_path: Path, remote: Remote) -> None:
    date = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    remote.statuses = [(503, {}), (429, {"Retry-After": "0"}), (502, {"Retry-After": date})]
    remote.statuses.append((500, {"Retry-After": "soon"}))
    assert download(remote.url, tmp_path / "a", sha256=SHA256, **QUICK)
    assert len(remote.requests) == 5


def test_waits_grow_and_the_server_may_say_how_long(
    tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("deepmusic.datasets.web.time", SimpleNamespace(sleep=waits.append))
    remote.statuses = [(503, {})] * 3 + [(503, {"Retry-After": "7"})]
    assert download(remote.url, tmp_path / "a", wait_s=0.5)
    assert waits == [0.5, 1.0, 2.0, 7.0]
    remote.statuses = [(503, {"Retry-After": "3600"})]
    with pytest.raises(DownloadError, match="asks to wait for 60 minutes"):
        download(remote.url, tmp_path / "b", wait_s=0.5)
    assert len(waits) == 4


def test_it_gives_up_when_nothing_more_comes(tmp_path: Path, remote: Remote) -> None:
    remote.has_ranges, remote.cuts = False, [1000] * 100
    with pytest.raises(DownloadError, match=r"connection was cut; 1\.0 kB are kept, run again"):
        download(remote.url, tmp_path / "a", tries=3, **QUICK)
    assert len(remote.requests) == 3


def test_many_cuts_are_survived_when_each_brings_something(tmp_path: Path, remote: Remote) -> None:
    remote.cuts = [10_000] * 25
    assert download(remote.url, tmp_path / "a", sha256=SHA256, tries=2, **QUICK)
    assert len(remote.requests) == 26


def test_a_server_that_hangs(tmp_path: Path, remote: Remote) -> None:
    remote.hangs = True
    with pytest.raises(DownloadError, match=r"said nothing for 0\.1 s; try again later") as e:
        download(remote.url, tmp_path / "a", tries=2, wait_s=0.0, timeout_s=0.1)
    assert e.value.code == "unreachable"
    assert len(remote.requests) == 2
    assert names(tmp_path) == []


def test_nobody_there_is_said_at_once(tmp_path: Path, remote: Remote) -> None:
    with serving(Remote()) as gone:
        pass
    with pytest.raises(DownloadError, match="takes no connections"):
        download(gone.url, tmp_path / "a", wait_s=100)
    with pytest.raises(DownloadError, match="host is not known, or there is no network"):
        download("http://nowhere.invalid/a", tmp_path / "a", wait_s=100)


# --- what is refused


@pytest.mark.parametrize("status", [403, 404, 410, 501])
def test_a_refusal_is_final(tmp_path: Path, remote: Remote, status: int) -> None:
    remote.statuses = [(status, {})]
    with pytest.raises(DownloadError, match=str(status)) as caught:
        download(remote.url + "?key=secret", tmp_path / "a", wait_s=100)
    assert "secret" not in str(caught.value)
    assert caught.value.code == ("missing" if status in (404, 410) else "refused")
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://x/"])
def test_a_redirect_away_from_the_web_is_not_followed(
    tmp_path: Path, remote: Remote, place: str
) -> None:
    remote.statuses = [(302, {"Location": place})]
    with pytest.raises(DownloadError, match="redirects") as caught:
        download(remote.url, tmp_path / "a")
    assert caught.value.code == "scheme"
    assert names(tmp_path) == []


def test_redirects_within_the_web_are_followed_but_not_in_a_circle(
    tmp_path: Path, remote: Remote
) -> None:
    target = leave_part(tmp_path, remote, 1000)
    remote.statuses = [(302, {"Location": "/elsewhere"})]
    assert download(remote.url, target, sha256=SHA256)
    assert remote.ranges() == ["bytes=1000-"] * 2
    remote.statuses = [(302, {"Location": remote.url})] * 30
    with pytest.raises(DownloadError, match="in a circle"):
        download(remote.url, tmp_path / "b")


@pytest.mark.parametrize(
    "source",
    [
        "ftp://host/a",
        "data://x",
        "http://",
        "http://me:secret@host/a",
        "https://[x/a",
        "file://h/a",
    ],
)
def test_other_addresses_are_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(DownloadError) as caught:
        download(source, tmp_path / "a")
    assert caught.value.code == "scheme"
    assert "secret" not in str(caught.value)
    assert names(tmp_path) == []


def test_a_wrong_size_is_seen_before_the_bytes_come(tmp_path: Path, remote: Remote) -> None:
    with pytest.raises(DownloadError, match="has 300,000 bytes, not 1,000") as caught:
        download(remote.url, tmp_path / "a", size=1000)
    assert caught.value.code == "size"
    remote.has_length = False
    with pytest.raises(DownloadError, match="sends more than the 1,000 bytes"):
        download(remote.url, tmp_path / "a", size=1000)
    assert names(tmp_path) == []


@pytest.mark.parametrize("claimed", [100, 400_000])
def test_a_lie_about_the_length_gives_no_file(tmp_path: Path, remote: Remote, claimed: int) -> None:
    remote.claimed_length = claimed
    with pytest.raises(DownloadError):
        download(remote.url, tmp_path / "a", sha256=SHA256, tries=2, **QUICK)
    assert not (tmp_path / "a").exists()


def test_a_wrong_checksum_gives_no_file(tmp_path: Path, remote: Remote) -> None:
    with pytest.raises(DownloadError, match="not the file that was meant: its sha1 is"):
        download(remote.url, tmp_path / "a", sha256=SHA256, sha1="0" * 40)
    assert names(tmp_path) == []


def test_a_coded_answer_is_not_the_file(tmp_path: Path, remote: Remote) -> None:
    remote.coding = "gzip"
    with pytest.raises(DownloadError, match="coding gzip"):
        download(remote.url, tmp_path / "a")
    assert names(tmp_path) == []


def test_a_full_disk_is_said_before_and_in_the_midst(
    tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=299_999)
    monkeypatch.setattr("deepmusic.datasets.download.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"300\.0 kB free, but 300\.0 kB are to come") as e:
        download(remote.url, tmp_path / "a")
    assert e.value.code == "disk"
    assert names(tmp_path) == []
    usage.free = 300_000
    target = leave_part(tmp_path, remote, 100_000)
    usage.free = 200_000  # enough for the rest
    assert download(remote.url, target, sha256=SHA256)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, remote: Remote) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match=r"could not be written: (file exists|not a dir)"):
        download(remote.url, tmp_path / "file" / "a")
    with pytest.raises(DownloadError, match="is there already, and no file"):
        download(remote.url, tmp_path)


# --- from this machine


@pytest.mark.parametrize("form", [str, Path, Path.as_uri])
def test_a_local_file_goes_the_same_way(tmp_path: Path, form: type[str]) -> None:
    source = tmp_path / "Dvořák %41 #1?.bin"
    source.write_bytes(CONTENT)
    assert download(form(source), tmp_path / "to" / "a", sha256=SHA256, size=len(CONTENT))
    assert (tmp_path / "to" / "a").read_bytes() == CONTENT
    with pytest.raises(DownloadError, match="its sha256 is"):
        download(form(source), tmp_path / "to" / "b", sha256="0" * 64)
    assert names(tmp_path / "to") == ["a"]


@pytest.mark.parametrize("is_changed", [True, False])
def test_a_local_copy_goes_on_unless_the_source_changed(tmp_path: Path, is_changed: bool) -> None:
    source, target = tmp_path / "source", tmp_path / "a"
    source.write_bytes(CONTENT * 10)

    def stop(done: int, total: int | None) -> None:
        if done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(source, target, on_progress=stop)
    kept = (tmp_path / "a.part").stat().st_size
    assert 0 < kept < len(CONTENT * 10)
    wanted = CONTENT * 9 if is_changed else CONTENT * 10
    if is_changed:
        source.write_bytes(wanted)
    told: list[int] = []
    assert download(source, target, on_progress=lambda done, _: told.append(done))
    assert (0 in told) == is_changed
    assert target.read_bytes() == wanted


def test_what_is_no_local_file_is_refused(tmp_path: Path) -> None:
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    for name, code in (("none", "missing"), (".", "directory"), ("pipe", "not_a_file")):
        with pytest.raises(DownloadError) as caught:
            download(tmp_path / name, tmp_path / "to" / "a")
        assert caught.value.code == code
    assert names(tmp_path / "to") == []


def test_sources_and_sizes_in_words() -> None:
    assert local_path("a:b/c") == Path("a:b/c")
    assert local_path("HTTPS://host/a") is None
    assert shown("https://host/a?token=1#x") == "https://host/a"
    assert [byte_count(n) for n in (0, 999, 96_095, 100e9, 2e12)] == [
        "0 bytes", "999 bytes", "96.1 kB", "100.0 GB", "2000.0 GB",
    ]  # fmt: skip


# --- the catalogue

TUNES = {f"MIDI/tune{n}.mid": random.Random(n).randbytes(100 + n) for n in range(5)}
PACKED = DataFile(
    "tunes",
    "tunes/tunes.tar.xz",
    ("https://host.invalid/gone", "https://host.invalid/head"),
    digest(TUNES),
    sum(map(len, TUNES.values())),
    "none",
    "five tunes",
    packing="midi",
    members=r"(?:.*/)?MIDI/(?P<stem>[^/]+)\.mid",
    folder="MIDI",
    left_out=frozenset({"unknown"}),
    beside=(("index.csv", "id\n"),),
)


def write_repository(folder: Path) -> Path:
    """A checked-out repository that holds the tunes among other things."""
    others = {"MIDI/melody/tune0.mid": b"x", "README.md": b"y", "MIDI/unknown.mid": b"z"}
    for name, content in (TUNES | others).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {m.name: file.read() for m in archive if (file := archive.extractfile(m))}


@pytest.mark.parametrize("form", ["zip", "gztar", "tar", "folder"])
def test_tunes_are_packed_from_whatever_holds_them(tmp_path: Path, form: str) -> None:
    source = write_repository(tmp_path / "clone" / "tunes-abc")
    if form != "folder":
        source = Path(shutil.make_archive(str(tmp_path / "archive"), form, source.parent))
    assert fetch(PACKED, tmp_path / "data", source=source)
    folder = tmp_path / "data" / "tunes"
    assert names(folder) == ["index.csv", "tunes.tar.xz"]
    assert unpacked(folder / "tunes.tar.xz") == TUNES
    before = (folder / "tunes.tar.xz").read_bytes()
    (folder / "index.csv").unlink()
    assert not fetch(PACKED, tmp_path / "data")
    assert names(folder) == ["index.csv", "tunes.tar.xz"]
    # and from one's own folder of data to another one; the same content gives the same bytes
    assert fetch(PACKED, tmp_path / "other", source=tmp_path / "data")
    assert (tmp_path / "other" / PACKED.file).read_bytes() == before


@pytest.mark.parametrize("fault", ["changed", "missing", "more", "garbage", "cut"])
def test_other_tunes_are_refused_in_one_sentence(tmp_path: Path, fault: str) -> None:
    source = write_repository(tmp_path / "clone")
    if fault == "changed":
        (source / "MIDI/tune1.mid").write_bytes(bytes(101))
    elif fault == "missing":
        (source / "MIDI/tune1.mid").unlink()
    elif fault == "more":
        (source / "MIDI/tune9.mid").write_bytes(bytes(101))
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", source))
    if fault in ("garbage", "cut"):
        archive.write_bytes(CONTENT if fault == "garbage" else archive.read_bytes()[:700])
    with pytest.raises(DownloadError, match="does not hold the data set 'tunes' as it is") as e:
        fetch(PACKED, tmp_path / "data", source=archive)
    assert e.value.code == "checksum"
    assert "\n" not in str(e.value)
    assert names(tmp_path / "data" / "tunes") == []


def test_a_file_of_ones_own_is_not_written_over(tmp_path: Path) -> None:
    own = tmp_path / PACKED.file
    own.parent.mkdir()
    own.write_bytes(b"mine")
    with pytest.raises(DownloadError, match="move it away or delete it"):
        fetch(PACKED, tmp_path)
    assert own.read_bytes() == b"mine"


def test_the_next_address_is_taken_where_one_is_gone(tmp_path: Path, remote: Remote) -> None:
    archive = shutil.make_archive(str(tmp_path / "a"), "zip", write_repository(tmp_path / "clone"))
    remote.content, remote.statuses = Path(archive).read_bytes(), [(404, {})]
    entry = replace(PACKED, urls=(remote.url + "/gone", remote.url))
    assert fetch(entry, tmp_path / "data")
    assert len(remote.requests) == 2
    remote.statuses = [(404, {}), (404, {})]
    with pytest.raises(DownloadError, match="is not there"):
        fetch(entry, tmp_path / "other")
    remote.statuses = [(403, {})]
    with pytest.raises(DownloadError, match="refused"):
        fetch(entry, tmp_path / "other")


def test_a_mirror_and_a_folder_are_laid_out_as_the_folder_of_data(
    tmp_path: Path, remote: Remote
) -> None:
    urls = ("https://host.invalid/a",)
    entry = DataFile("a b", "set/a b.bin", urls, SHA256, len(CONTENT), "", "", original="in/x.bin")
    assert fetch(entry, tmp_path / "0", source=remote.url.removesuffix("set/file.bin"))
    assert remote.paths == ["/set/a%20b.bin"]
    for place in ("set/a b.bin", "a b.bin", "in/x.bin", "x.bin"):
        (tmp_path / "from" / place).parent.mkdir(parents=True)
        (tmp_path / "from" / place).write_bytes(CONTENT)
        assert fetch(entry, tmp_path / "to", source=tmp_path / "from")
        assert not fetch(entry, tmp_path / "to", source=tmp_path / "no need")
        assert (tmp_path / "to" / "set" / "a b.bin").read_bytes() == CONTENT
        shutil.rmtree(tmp_path / "from")
        shutil.rmtree(tmp_path / "to")
    (tmp_path / "from").mkdir()
    with pytest.raises(DownloadError, match=r"holds nothing of 'a b'; looked for set/a b.bin, a b"):
        fetch(entry, tmp_path / "to", source=tmp_path / "from")


def test_a_compressed_file_is_made_from_either_form(tmp_path: Path) -> None:
    source = tmp_path / "a.json"
    entry = DataFile(
        "a", "a.json.gz", ("https://host.invalid/a",), SHA256, len(CONTENT), "", "", packing="gzip"
    )
    source.write_bytes(CONTENT)
    assert fetch(entry, tmp_path / "0", source=source)
    assert gzip.decompress((tmp_path / "0" / "a.json.gz").read_bytes()) == CONTENT
    assert fetch(entry, tmp_path / "1", source=tmp_path / "0" / "a.json.gz")
    assert not fetch(entry, tmp_path / "1")
    for other in (CONTENT + b"x", CONTENT[1:], gzip.compress(CONTENT)[:-9], gzip.compress(b"")):
        source.write_bytes(other)
        with pytest.raises(DownloadError, match="does not hold the data set 'a' as it is known"):
            fetch(entry, tmp_path / "2", source=source)
        assert names(tmp_path / "2") == []


def test_the_catalogue_is_whole() -> None:
    publications = {entry.publication for entry in CATALOGUE.values()}
    for publication in publications:
        assert publication is not None
        assert re.match(r"@\w+\{\w+,\n.*\n\}$", publication.bibtex, re.DOTALL)
        assert publication.bibtex.count("{") == publication.bibtex.count("}")
        assert publication.homepage.startswith("http")
        assert "\n" not in publication.citation
    assert set(CATALOGUE) == set(SYMBOLIC)
    for name, entry in CATALOGUE.items():
        assert entry.name == name
        assert entry.file == SYMBOLIC[name][0]
        assert len(entry.sha256) == 64
        assert entry.size > 0
        assert entry.licence
        assert all(url.startswith("https://") for url in entry.urls)
        assert re.search(r"/[0-9a-f]{40}(/|$)", entry.urls[0])  # one version, for good
        assert entry.original == "" or entry.urls[0].endswith(f"/{entry.original}")


def test_the_digest_of_files_is_that_of_sha256sum(tmp_path: Path) -> None:
    for name, content in TUNES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    listed = subprocess.run(
        ["sha256sum", *sorted(TUNES)], cwd=tmp_path, capture_output=True, check=True
    )
    assert digest(TUNES) == hashlib.sha256(listed.stdout).hexdigest()


@pytest.mark.parametrize("name", sorted(set(CATALOGUE) - {"pop909"}))
def test_the_real_files_are_those_of_the_catalogue(
    tmp_path: Path, shared_data: Path, name: str
) -> None:
    real = shared_data / "symbolic"
    assert fetch(CATALOGUE[name], tmp_path, source=real)
    if CATALOGUE[name].packing == "none":
        assert (tmp_path / CATALOGUE[name].file).read_bytes() == (
            real / CATALOGUE[name].file
        ).read_bytes()
    elif name == "nottingham-midi":
        assert unpacked(tmp_path / CATALOGUE[name].file) == unpacked(real / CATALOGUE[name].file)


@pytest.mark.slow
def test_the_songs_come_out_of_their_repository_as_they_are_known(
    tmp_path: Path, shared_data: Path
) -> None:
    """Of all 909 songs those are taken that are known; bars are those of the data set's index."""
    entry, real = CATALOGUE["pop909"], shared_data / "symbolic" / "pop909"
    songs = unpacked(real / "pop909_midi.tar.xz")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for name, content in songs.items():
            stem = Path(name).stem
            archive.writestr(f"POP909-Dataset-abc/POP909/{stem}/{stem}.mid", content)
            archive.writestr(f"POP909-Dataset-abc/POP909/{stem}/versions/{stem}-v1.mid", b"x")
        for stem in entry.left_out:
            archive.writestr(f"POP909-Dataset-abc/POP909/{stem}/{stem}.mid", b"unknown")
    assert fetch(entry, tmp_path, source=tmp_path / "archive.zip")
    assert unpacked(tmp_path / entry.file) == songs
    bars = {}
    for path in (real / "index.csv", tmp_path / "pop909" / "index.csv"):
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            bars[path] = [(row["id"], row["beats_per_measure"]) for row in rows]
    first, second = bars.values()
    assert first == second


def test_a_fetched_data_set_can_be_loaded(tmp_path: Path, shared_data: Path) -> None:
    assert fetch(CATALOGUE["chorales"], tmp_path, source=shared_data / "symbolic")
    dataset = load_symbolic("chorales", tmp_path)
    assert [len(side) for side in (dataset.train, dataset.validation, dataset.test)] == [
        229, 76, 77,
    ]  # fmt: skip
