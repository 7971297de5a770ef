"""Downloads from a server that cuts, lies, hangs and redirects; and copies on this machine."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from http_server import CONTENT, Remote, serving
from hypothesis import given, settings, strategies as st

from deepmusic.datasets import DownloadError, download, download_file
from faults import FAULTS, each_fault

SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def interrupted(folder: Path, remote: Remote, size: int) -> Path:
    """A target whose download was stopped after ``size`` bytes."""
    remote.cuts = [size] + [0] * (download.TRIES - 1)
    with pytest.raises(DownloadError, match=r"the connection was lost; .* are kept"):
        download_file(remote.url, folder / "a")
    remote.requests.clear()
    assert (folder / "a.part").read_bytes() == CONTENT[:size]
    return folder / "a"


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "md5"])
def test_a_file_arrives_in_a_new_folder(tmp_path: Path, remote: Remote, algorithm: str) -> None:
    target, progress = tmp_path / "new" / "a.bin", []
    checksum = f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest().upper()}"
    assert download_file(
        remote.url,
        target,
        checksum=checksum,
        size=len(CONTENT),
        on_progress=lambda *now: progress.append(now),
    )
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["a.bin"]
    assert progress == sorted(progress)
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert remote.requests[0]["User-Agent"].startswith("deepmusic/")
    # an existing file is checked, not downloaded again, and never overwritten
    assert not download_file(remote.url, target, checksum=checksum)
    target.write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"already exists, but it has 4 bytes") as caught:
        download_file(remote.url, target, size=len(CONTENT))
    assert caught.value.code == "exists"
    assert target.read_bytes() == b"mine"
    assert len(remote.requests) == 1


def test_unknown_lengths_and_empty_files(tmp_path: Path, remote: Remote) -> None:
    remote.has_length = False
    assert download_file(remote.url, tmp_path / "a", checksum=SHA256)
    remote.content = b""
    assert download_file(remote.url + "/Dvořák no 9?a=ř", tmp_path / "b", size=0)
    assert names(tmp_path) == ["a", "b"]


# --- resuming


def test_a_later_call_with_a_checksum_downloads_only_the_rest(
    tmp_path: Path, remote: Remote
) -> None:
    target = interrupted(tmp_path, remote, 123_456)
    with serving(Remote(etag='"mirror"', cuts=[50_000])) as mirror:
        assert download_file(mirror.url, target, checksum=SHA256)
        assert mirror.ranges() == ["bytes=123456-", "bytes=173456-"]
    assert target.read_bytes() == CONTENT
    assert names(tmp_path) == ["a"]
    target.rename(tmp_path / "a.part")  # complete: it only needs its name
    assert download_file(remote.url, target, checksum=SHA256, size=len(CONTENT))
    assert remote.requests == []


def test_without_a_checksum_a_later_call_starts_again(tmp_path: Path, remote: Remote) -> None:
    target = interrupted(tmp_path, remote, 123_456)
    assert download_file(remote.url, target)
    assert remote.ranges() == [None]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("etag", "modified", "condition"),
    [
        ('"1"', None, '"1"'),
        (None, "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ('W/"1"', None, None),  # a weak version does not tell
        (None, None, None),
    ],
)
def test_the_version_of_the_file_allows_a_call_to_resume(
    tmp_path: Path, remote: Remote, etag: str | None, modified: str | None, condition: str | None
) -> None:
    remote.etag, remote.modified, remote.cuts = etag, modified, [123_456]
    assert download_file(remote.url, tmp_path / "a")
    assert remote.ranges() == [None, "bytes=123456-" if condition else None]
    assert remote.requests[1].get("If-Range") == condition
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize("size", [50_000, 200_000, 300_000])
def test_versions_of_a_changed_file_are_not_mixed(
    tmp_path: Path, remote: Remote, heeds_if_range: bool, size: int
) -> None:
    changed = random.Random(1).randbytes(size)

    def change(*_: object) -> None:
        remote.content, remote.etag = changed, '"2"'

    remote.cuts, remote.heeds_if_range = [100_000], heeds_if_range
    assert download_file(remote.url, tmp_path / "a", on_progress=change)
    assert (tmp_path / "a").read_bytes() == changed


@pytest.mark.slow
@settings(max_examples=20)
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
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with serving(remote), pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        patch.setattr(download, "WAIT_S", 0.0)
        for _ in range(calls + len(cuts)):
            with suppress(DownloadError):
                download_file(remote.url, target, checksum=checksum)
    assert target.read_bytes() == content
    assert names(target.parent) == ["a"]


KILLED = """
import sys
from deepmusic.datasets import download_file
print("ready", flush=True)
download_file(*sys.argv[1:3], checksum=sys.argv[3])
"""


@pytest.mark.slow
def test_killed_at_random_moments_it_resumes(tmp_path: Path, remote: Remote) -> None:
    target, rng, kills = tmp_path / "a", random.Random(11), 0
    remote.pause_s = 0.02  # 0.3 s in all
    while kills < 4:
        kept = (tmp_path / "a.part").stat().st_size if (tmp_path / "a.part").exists() else 0
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, remote.url, str(target), SHA256],
            stdout=subprocess.PIPE,
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(0.15 * rng.random())
            child.kill()
        kills += child.returncode != 0
        if target.exists():  # done before the kill
            assert target.read_bytes() == CONTENT
            target.unlink()
        elif kept:
            part = (tmp_path / "a.part").read_bytes()
            assert len(part) >= kept
            assert part == CONTENT[: len(part)]
    remote.pause_s = 0.0
    assert download_file(remote.url, target, checksum=SHA256)
    assert target.read_bytes() == CONTENT
    assert names(tmp_path) == ["a"]


def test_ctrl_c_keeps_what_was_downloaded(tmp_path: Path, remote: Remote) -> None:
    def stop(done: int, total: int | None) -> None:
        if done > 50_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_file(remote.url, tmp_path / "a", on_progress=stop)
    kept = (tmp_path / "a.part").stat().st_size
    assert kept > 50_000
    assert download_file(remote.url, tmp_path / "a", checksum=SHA256)
    assert remote.ranges()[-1] == f"bytes={kept}-"


def test_busy_servers_and_cut_connections_are_tried_again(tmp_path: Path, remote: Remote) -> None:
    remote.statuses = [(503, {}), (429, {"Retry-After": "0"})]
    remote.cuts = [20_000] * 12  # more than may fail in a row
    assert download_file(remote.url, tmp_path / "a", checksum=SHA256)
    assert len(remote.requests) == 2 + 13


# --- failures are one sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setup", "code", "message"),
    [
        ({"statuses": [(404, {})]}, "missing", r"does not exist \(status 404\)"),
        ({"statuses": [(403, {})]}, "refused", "refused by the server: status 403"),
        ({"statuses": [(503, {})] * 9}, "refused", "status 503"),
        ({"statuses": [(302, {"Location": "file:///etc/passwd"})]}, "unreachable", "redirects to"),
        ({"statuses": [(302, {"Location": "/again"})] * 40}, "unreachable", "in a circle"),
        ({"hang_s": 0.5}, "unreachable", "the server does not answer; try again later"),
        ({"cuts": [0] * 9}, "unreachable", "the connection was lost; try again later"),
        ({"has_ranges": False, "cuts": [9000] * 9}, "unreachable", r"lost; 9\.0 kB are kept"),
        ({"claimed_length": 400_000}, "mismatch", "has 400,000 bytes, not 300,000"),
        ({"content": bytes(300_000)}, "mismatch", r"its sha256 is \w+, not \w+; the download was"),
        ({"content": bytes(9), "has_length": False}, "unreachable", "lost; 9 bytes are kept"),
        ({"content": bytes(400_000), "has_length": False}, "mismatch", "not 300,000"),
    ],
)
def test_a_failure_is_one_sentence(
    tmp_path: Path,
    remote: Remote,
    monkeypatch: pytest.MonkeyPatch,
    setup: dict[str, Any],
    code: str,
    message: str,
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    vars(remote).update(setup)
    with pytest.raises(DownloadError, match=message) as caught:
        download_file(
            remote.url + "?key=secret", tmp_path / "a", checksum=SHA256, size=len(CONTENT)
        )
    assert caught.value.code == code
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("http://127.0.0.1:9/", "accepts no connections"),
        ("http://nowhere.invalid/a", "host is unknown, or there is no network"),
        *((s, "address") for s in ("ftp://host/a", "file:///a", "http://", "https://[x/a")),
        ("ftp://me:secret@host/a?token=1#x", "ftp://host/a is not supported"),
    ],
)
def test_other_addresses_are_refused_at_once(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(DownloadError, match=message):
        download_file(source, tmp_path / "a")
    assert names(tmp_path) == []


@pytest.mark.slow
def test_whatever_fails_no_half_file_has_the_name(remote: Remote, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)

    def whole(folder: Path) -> None:
        target = folder / "to" / "a"
        assert not target.exists() or target.read_bytes() == CONTENT

    for address, faults in ((remote.url, FAULTS), (source, (*FAULTS, "kill"))):
        arrives = partial(download_file, address, checksum=SHA256)
        each_fault(lambda folder, get=arrives: get(folder / "to" / "a"), whole, faults=faults)
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match=r"could not be written: (file exists|not a dir)"):
        download_file(remote.url, tmp_path / "file" / "b")


@pytest.mark.parametrize("form", [str, Path])
def test_a_file_on_this_machine_is_copied_and_checked(tmp_path: Path, form: type) -> None:
    source = tmp_path / "Dvořák %41 #1?.bin"
    source.write_bytes(CONTENT)
    assert download_file(form(source), tmp_path / "to" / "a", checksum=SHA256)
    assert (tmp_path / "to" / "a").read_bytes() == CONTENT
    with pytest.raises(DownloadError, match="its sha256 is"):
        download_file(form(source), tmp_path / "to" / "b", checksum="sha256:" + "0" * 64)
    for missing in ("none", "."):
        with pytest.raises(DownloadError, match=r"does not exist|is a folder"):
            download_file(tmp_path / missing, tmp_path / "to" / "b")
    assert names(tmp_path / "to") == ["a"]
