"""Single members out of a zip archive on the web: how many requests, what is checked."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from http_server import Remote, names, proxying, serving
from hypothesis import given, settings, strategies as st

from deepmusic.datasets.archives import ArchiveError
from deepmusic.datasets.download import DownloadError
from deepmusic.datasets.remote_zip import RemoteZip
from deepmusic.datasets.zip_directory import TAIL, find_directory, read_members

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
RANDOM = random.Random(3)
FILES = {f"fma_tiny/000/{n:06d}.mp3": RANDOM.randbytes(20_000 + n) for n in range(10)}
FILES |= {"fma_tiny/README.txt": b"read me", "fma_tiny/empty": b"", "fma_tiny/ř": bytes(100_000)}
FIRST = "fma_tiny/000/000002.mp3"
QUICK = {"wait_s": 0.0, "timeout_s": 5.0}


def zipped(
    files: dict[str, bytes] = FILES, method: int = zipfile.ZIP_BZIP2, comment: bytes = b""
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.comment = comment
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = zipped()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def remote() -> Iterator[Remote]:
    with serving(Remote(ARCHIVE)) as remote:
        yield remote


# --- all goes well


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("is_local", [True, False])
def test_every_member_is_what_was_packed(
    tmp_path: Path, remote: Remote, method: int, is_local: bool
) -> None:
    remote.content = zipped(method=method, comment=b"a comment, PK\x05\x06 and all")
    source: str | Path = remote.url
    if is_local:
        source = tmp_path / "a.zip"
        source.write_bytes(remote.content)
    archive = RemoteZip(source)
    assert list(archive.members) == list(FILES)
    for name, content in FILES.items():
        assert archive.members[name].size == len(content)
        assert archive.read(name, sha1=hashlib.sha1(content).hexdigest()) == content


def test_one_track_costs_one_request_once_the_index_is_there(
    tmp_path: Path, remote: Remote
) -> None:
    RemoteZip(remote.url, cache=tmp_path)
    assert len(remote.requests) == 1  # its directory is in the last bytes
    remote.requests.clear()
    remote.sent = 0
    archive = RemoteZip(remote.url, cache=tmp_path)
    assert remote.requests == []
    assert archive.read(FIRST) == FILES[FIRST]
    assert archive.read("fma_tiny/ř") == bytes(100_000)
    assert len(remote.requests) == 2
    assert all(request["If-Match"] == '"1"' for request in remote.requests)
    packed = archive.members[FIRST].packed_size + archive.members["fma_tiny/ř"].packed_size
    assert remote.sent < packed + 300  # no more than the members and their headers
    assert names(tmp_path) == [name for name in names(tmp_path) if name.endswith(".zip-index")]


def test_a_large_directory_takes_a_second_request(tmp_path: Path, remote: Remote) -> None:
    files = {f"fma_large/{n:06d}.mp3": b"x" for n in range(3000)}
    remote.content = zipped(files, zipfile.ZIP_STORED)
    told: list[tuple[int, int | None]] = []
    archive = RemoteZip(remote.url, cache=tmp_path, on_progress=lambda *now: told.append(now))
    assert 0 < told[0][0] <= (told[0][1] or 0)
    assert len(remote.requests) == 2
    assert remote.sent < len(remote.content) - 100_000
    assert list(archive.members) == list(files)
    index = next(tmp_path.iterdir())
    assert index.stat().st_size < 10 * len(files)
    assert list(RemoteZip(remote.url, cache=tmp_path).members) == list(files)
    assert len(remote.requests) == 2


def test_a_member_is_written_when_it_is_right(tmp_path: Path, remote: Remote) -> None:
    archive, target = RemoteZip(remote.url), tmp_path / "to" / "2.mp3"
    told: list[tuple[int, int | None]] = []
    assert archive.save(FIRST, target, on_progress=lambda *now: told.append(now))
    assert told[-1] == (20_002, 20_002)
    assert target.read_bytes() == FILES[FIRST]
    count = len(remote.requests)
    assert not archive.save(FIRST, target)
    assert len(remote.requests) == count
    target.write_bytes(b"mine")
    with pytest.raises(DownloadError, match="is there already, but is not") as caught:
        archive.save(FIRST, target)
    assert caught.value.code == "exists"
    with pytest.raises(ArchiveError, match="its sha1 is") as damaged:
        archive.save(FIRST, tmp_path / "to" / "3.mp3", sha1="0" * 40)
    assert damaged.value.code == "checksum"
    assert names(target.parent) == ["2.mp3"]


def test_behind_a_proxy(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxying() as (proxy, passed):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy")
        assert RemoteZip(remote.url).read(FIRST) == FILES[FIRST]
        assert passed == [remote.url] * 2


def test_a_redirect_is_followed_each_time(remote: Remote) -> None:
    remote.statuses = [(302, {"Location": "/set/elsewhere"}), (200, {}), (307, {"Location": "/b"})]
    assert RemoteZip(remote.url).read(FIRST) == FILES[FIRST]
    assert remote.paths == ["/set/file.bin", "/set/elsewhere", "/set/file.bin", "/b"]


# --- zip64: an archive of 879 GiB with 106,574 members, of which only the end is there


def zip64_directory(count: int, step: int) -> tuple[bytes, int]:
    """Directory and end records of an archive of ``count`` members, ``step`` bytes each."""
    entries = []
    for number in range(count):
        name = f"fma_full/{number // 1000:03d}/{number:06d}.mp3".encode()
        start, size = number * step, step - 100
        wide = struct.pack("<2H3Q", 1, 24, size, size, start)
        ones = 0xFFFFFFFF
        entries.append(
            struct.pack(
                "<4s6H3L5H2L", b"PK\x01\x02", 45, 45, 0, 0, 0, 0, number, ones, ones,
                len(name), len(wide), 0, 0, 0, 0o100444 << 16, ones,
            ) + name + wide
        )  # fmt: skip
    directory, place = b"".join(entries), count * step
    end = place + len(directory)
    record = struct.pack(
        "<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), place
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return directory + record + locator + last, place


def test_a_directory_of_zip64() -> None:
    count, step = 106_574, 8_856_000  # about 879 GiB
    end, place = zip64_directory(count, step)
    span = find_directory(end[-TAIL:], place + len(end))
    assert (span.start, span.count) == (place, count)
    members = read_members(end[: span.size], span)
    assert len(members) == count
    assert members[-1].name == "fma_full/106/106573.mp3"
    assert members[-1].start == (count - 1) * step > 1 << 39
    assert members[-1].packed_size == step - 100


def test_zip64_as_python_writes_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        with archive.open("first", "w", force_zip64=True) as member:
            member.write(FILES[FIRST])
        for number in range(66_000):
            archive.writestr(zipfile.ZipInfo(f"no/{number}"), b"")
    found = RemoteZip(tmp_path / "a.zip")
    assert len(found.members) == 66_001
    assert found.read("first") == FILES[FIRST]


@settings(max_examples=40, deadline=None)
@given(
    # zipfile cuts names at a null when it writes
    files=st.dictionaries(
        st.text(min_size=1, max_size=20).filter(lambda name: "\0" not in name),
        st.binary(max_size=200),
        max_size=6,
    ),
    method=st.sampled_from(METHODS),
    comment=st.binary(max_size=50),
)
def test_the_directory_is_read_as_zipfile_reads_it(
    files: dict[str, bytes], method: int, comment: bytes
) -> None:
    try:
        content = zipped(files, method, comment)
    except UnicodeEncodeError:  # lone surrogates
        return
    span = find_directory(content[-TAIL:], len(content))
    found = read_members(content[span.start : span.start + span.size], span)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        theirs = archive.infolist()
    assert [(m.start, m.packed_size, m.size, m.crc, m.method) for m in found] == [
        (i.header_offset, i.compress_size, i.file_size, i.CRC, i.compress_type) for i in theirs
    ]
    assert [m.name for m in found] == [i.filename for i in theirs]


# --- what goes wrong on the way


def test_a_server_without_ranges_is_never_asked_for_the_whole(remote: Remote) -> None:
    remote.has_ranges, remote.pause_s = False, 0.001
    with pytest.raises(DownloadError, match="is sent only as a whole") as caught:
        RemoteZip(remote.url, **QUICK)
    assert caught.value.code == "no_ranges"
    assert len(remote.requests) == 1
    remote.has_ranges = True
    archive = RemoteZip(remote.url, **QUICK)
    remote.has_ranges = False
    with pytest.raises(DownloadError, match="is sent only as a whole"):
        archive.read(FIRST)
    assert len(remote.requests) == 3


def test_an_archive_smaller_than_its_end_may_come_as_a_whole(remote: Remote) -> None:
    remote.content = zipped({"a": b"first", "b": b"second"})
    assert list(RemoteZip(remote.url).members) == ["a", "b"]
    assert RemoteZip(remote.url).read("b") == b"second"


@pytest.mark.parametrize("version", ["etag", "modified", "size"])
@pytest.mark.parametrize("heeds", [True, False])
def test_a_changed_archive_is_noticed_and_its_index_read_anew(
    tmp_path: Path, remote: Remote, version: str, heeds: bool
) -> None:
    if version != "etag":
        remote.etag = None
    if version == "modified":
        remote.modified = "Mon, 01 Jan 2024 00:00:00 GMT"
    remote.heeds_if_match = heeds
    assert RemoteZip(remote.url, cache=tmp_path).read(FIRST) == FILES[FIRST]
    new = dict(reversed(FILES.items()))
    new[FIRST] = FILES[FIRST][::-1] + (b"longer" if version == "size" else b"")
    remote.content = zipped(new)
    if version == "etag":
        remote.etag = '"2"'
    elif version == "modified":
        remote.modified = "Tue, 02 Jan 2024 00:00:00 GMT"
    remote.requests.clear()
    assert RemoteZip(remote.url, cache=tmp_path).read(FIRST) == new[FIRST]
    assert len(remote.requests) == 3
    remote.requests.clear()
    assert RemoteZip(remote.url, cache=tmp_path).read(FIRST) == new[FIRST]
    assert len(remote.requests) == 1
    assert len(names(tmp_path)) == 1


def test_an_archive_that_became_shorter(tmp_path: Path, remote: Remote) -> None:
    remote.etag = None
    last = list(FILES)[-2]
    RemoteZip(remote.url, cache=tmp_path)
    remote.content = zipped({FIRST: b"short", last: b"x"})
    assert RemoteZip(remote.url, cache=tmp_path).read(last) == b"x"
    remote.content = zipped({FIRST: b"short"})
    with pytest.raises(DownloadError, match="holds no"):
        RemoteZip(remote.url, cache=tmp_path).read(last)


def test_an_archive_that_never_stays_the_same(remote: Remote) -> None:
    archive = RemoteZip(remote.url, **QUICK)
    remote.statuses = [(412, {}), (200, {}), (412, {})]
    with pytest.raises(DownloadError, match="changes while it is read") as caught:
        archive.read(FIRST)
    assert caught.value.code == "changed"


@pytest.mark.parametrize("damage", ["garbage", "cut", "empty", "other", "changed"])
def test_a_damaged_index_is_fetched_anew(tmp_path: Path, remote: Remote, damage: str) -> None:
    RemoteZip(remote.url, cache=tmp_path)
    index = tmp_path / names(tmp_path)[0]
    content = bytearray(index.read_bytes())
    content[-20] ^= 0xFF
    damaged = {
        "garbage": random.Random(1).randbytes(500),
        "cut": index.read_bytes()[:-50],
        "empty": b"",
        "other": b'{"format": "another", "version": {}, "span": {}}\n',
        "changed": bytes(content),
    }[damage]
    index.write_bytes(damaged)
    assert RemoteZip(remote.url, cache=tmp_path).read(FIRST) == FILES[FIRST]
    assert len(remote.requests) == 3
    assert len(index.read_bytes()) > 200


def test_cuts_are_survived_where_each_brings_something(remote: Remote) -> None:
    archive = RemoteZip(remote.url, **QUICK)
    remote.requests.clear()
    remote.cuts = [5000, 20, 7000, 1]
    assert archive.read(FIRST) == FILES[FIRST]
    starts = [int((span or "").split("=")[1].split("-")[0]) for span in remote.ranges()]
    assert [after - before for before, after in pairwise(starts)] == [
        5000, 20, 7000, 1,
    ]  # fmt: skip
    remote.cuts = [0] * 9
    with pytest.raises(DownloadError, match="the connection was cut; try again later") as caught:
        archive.read(FIRST)
    assert caught.value.code == "unreachable"


def test_the_index_survives_cuts_and_busy_servers(remote: Remote) -> None:
    remote.cuts = [100, 200]
    remote.statuses = [(503, {"Retry-After": "0"}), (429, {})]
    assert RemoteZip(remote.url, **QUICK).read(FIRST) == FILES[FIRST]
    assert len(remote.requests) == 6


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (404, {}, "missing"),
        (403, {}, "refused"),
        (302, {"Location": "file:///etc/passwd"}, "scheme"),
        (503, {"Retry-After": "7200"}, "unreachable"),
        (416, {}, "not_archive"),
    ],
)
def test_refusals_are_one_sentence(
    remote: Remote, status: int, headers: dict[str, str], code: str
) -> None:
    remote.statuses = [(status, headers)]
    with pytest.raises((DownloadError, ArchiveError)) as caught:
        RemoteZip(remote.url + "?key=secret", **QUICK)
    assert caught.value.code == code
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(remote.requests) == 1


def test_nobody_there(tmp_path: Path) -> None:
    with serving(Remote()) as gone:
        pass
    with pytest.raises(DownloadError, match="takes no connections"):
        RemoteZip(gone.url, wait_s=100)
    with pytest.raises(DownloadError, match="does not exist"):
        RemoteZip(tmp_path / "none.zip")
    with pytest.raises(DownloadError, match="only http and https"):
        RemoteZip("ftp://host/a.zip")


def test_a_server_that_hangs(remote: Remote) -> None:
    archive = RemoteZip(remote.url, tries=2, wait_s=0.0, timeout_s=0.1)
    remote.hangs = True
    with pytest.raises(DownloadError, match=r"said nothing for 0\.1 s"):
        archive.read(FIRST)


@pytest.mark.parametrize("claimed", ["bytes 7-99/1000000", "nonsense", "bytes */5"])
def test_a_lie_about_the_part(remote: Remote, claimed: str) -> None:
    archive = RemoteZip(remote.url, tries=2, **QUICK)
    remote.claimed_range = claimed
    with pytest.raises(DownloadError):
        archive.read(FIRST)


def test_a_server_that_does_not_say_how_long_its_answers_are(remote: Remote) -> None:
    remote.has_length = False
    assert RemoteZip(remote.url).read(FIRST) == FILES[FIRST]


# --- what is wrong in the archive


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("is_local", [True, False])
def test_a_spoilt_member_gives_no_file(
    tmp_path: Path, remote: Remote, method: int, is_local: bool
) -> None:
    content = bytearray(zipped(method=method))
    start = content.index(FIRST.encode())
    content[start + 10_000] ^= 0xFF
    remote.content = bytes(content)
    (tmp_path / "a.zip").write_bytes(content)
    archive = RemoteZip(tmp_path / "a.zip" if is_local else remote.url)
    with pytest.raises(ArchiveError, match=r"damaged|cannot be unpacked") as caught:
        archive.save(FIRST, tmp_path / "to" / "a.mp3")
    assert caught.value.code in ("crc", "damaged")
    assert str(caught.value).startswith(archive.origin)
    assert names(tmp_path / "to") == []
    assert archive.read("fma_tiny/README.txt") == b"read me"


def test_another_member_stands_where_it_should(remote: Remote) -> None:
    remote.content = ARCHIVE.replace(FIRST.encode(), b"fma_tiny/000/00000X.mp3", 1)
    with pytest.raises(ArchiveError, match="does not stand where its directory says") as caught:
        RemoteZip(remote.url).read(FIRST)
    assert caught.value.code == "damaged"


def test_a_local_header_longer_than_foretold(tmp_path: Path, remote: Remote) -> None:
    """Some tools put fields there that the directory does not have."""
    content = zipped({"a": RANDOM.randbytes(500), "b": RANDOM.randbytes(500)})
    extra = struct.pack("<2H", 0x9999, 300) + bytes(300)
    start = content.index(b"PK\x03\x04", 1)  # of the second
    header = bytearray(content[start : start + 30])
    struct.pack_into("<H", header, 28, len(extra))
    place = start + 31
    longer = content[:start] + bytes(header) + b"b" + extra + content[place:]
    directory = longer.index(b"PK\x01\x02")
    longer = longer[:-6] + struct.pack("<L", directory) + longer[-2:]
    with zipfile.ZipFile(io.BytesIO(longer)) as archive:
        wanted = archive.read("b")
    remote.content = longer
    assert RemoteZip(remote.url).read("b") == wanted
    assert len(remote.requests) <= 3


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x05\x06", bytes(200_000), ARCHIVE[:-30]])
@pytest.mark.parametrize("is_local", [True, False])
def test_what_is_no_archive(tmp_path: Path, remote: Remote, content: bytes, is_local: bool) -> None:
    remote.content = content
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ArchiveError) as caught:
        RemoteZip(tmp_path / "a" if is_local else remote.url, **QUICK)
    assert caught.value.code == "not_archive"


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99)])
def test_encrypted_members_and_unknown_methods(remote: Remote, offset: int, value: int) -> None:
    content = bytearray(ARCHIVE)
    place = content.index(FIRST.encode(), content.index(b"PK\x01\x02")) - 46
    struct.pack_into("<H", content, place + offset, value)
    remote.content = bytes(content)
    with pytest.raises(ArchiveError, match=r"is encrypted|packed by method 99"):
        RemoteZip(remote.url).read(FIRST)


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 100_000), value=st.integers(0, 255))
def test_no_spoilt_archive_gives_wrong_bytes_or_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    files = {"a": b"first" * 20, "b": bytes(range(200))}
    content = bytearray(zipped(files, zipfile.ZIP_DEFLATED))
    content[place % len(content)] = value
    path = tmp_path_factory.mktemp("spoilt") / "a.zip"
    path.write_bytes(content)
    try:
        archive = RemoteZip(path)
        found = [archive.read(name) for name in archive.members]
    except (ArchiveError, DownloadError):
        return
    assert found == list(files.values())
