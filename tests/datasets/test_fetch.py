"""Data sets of the registry: from addresses, mirrors and copies to the data folder."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import random
import re
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from http_server import CONTENT, Remote

from deepmusic.datasets import (
    REGISTRY,
    DatasetInfo,
    DownloadError,
    fetch_dataset,
    load_symbolic,
)
from deepmusic.datasets.fetch import contents_checksum, read_contents, read_index
from deepmusic.datasets.symbolic import SYMBOLIC
from faults import each_fault

REFERENCE = REGISTRY["jsb"].reference
RNG = random.Random(5)
CLIPS = {f"000/{n:06d}.mp3": RNG.randbytes(10_000) for n in range(20)}
TUNES = {f"MIDI/tune{n}.mid": RNG.randbytes(100 + n) for n in range(5)}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def untarred(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {m.name: file.read() for m in archive if (file := archive.extractfile(m))}


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.mp3")}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


ARCHIVE = zipped({f"fma_tiny/{name}": content for name, content in CLIPS.items()})
CLIP_SET = DatasetInfo(
    "fma-tiny", "", "", REFERENCE, ("http://host.invalid/fma_tiny.zip",), "fma_tiny.zip",
    len(ARCHIVE), f"sha1:{hashlib.sha1(ARCHIVE).hexdigest()}", "archive", folder="fma_tiny",
    unpacked_size=200_000,
)  # fmt: skip
TUNE_SET = DatasetInfo(
    "tunes", "", "", REFERENCE, ("http://host.invalid/tunes.zip",), "tunes/tunes.tar.xz",
    sum(map(len, TUNES.values())), contents_checksum(TUNES), "midi", folder="MIDI",
    member_pattern=r"(?:.*/)?MIDI/(?P<stem>[^/]+)\.mid",
)  # fmt: skip


@pytest.fixture(autouse=True)
def archive_served(remote: Remote) -> None:
    remote.content = ARCHIVE


# --- archives


@pytest.mark.parametrize("unpack", [True, False])
@pytest.mark.parametrize("keep", [True, False])
def test_an_archive_is_downloaded_unpacked_and_deleted(
    tmp_path: Path, remote: Remote, unpack: bool, keep: bool
) -> None:
    info, stages = replace(CLIP_SET, urls=(remote.url,)), []
    assert fetch_dataset(
        info,
        tmp_path,
        unpack=unpack,
        keep_archive=keep,
        on_progress=lambda stage, done, total: stages.append(stage),
    )
    assert list(dict.fromkeys(stages)) == ["downloading", "unpacking"][: 1 + unpack]
    assert names(tmp_path) == ["fma_tiny"] * unpack + ["fma_tiny.zip"] * (keep or not unpack)
    if unpack:
        assert tree(tmp_path / "fma_tiny") == CLIPS
    assert not fetch_dataset(info, tmp_path, unpack=unpack)
    assert len(remote.requests) == 1


def test_an_archive_that_was_there_is_checked_used_and_kept(tmp_path: Path) -> None:
    (tmp_path / "fma_tiny.zip").write_bytes(ARCHIVE[:-1] + b"x")
    with pytest.raises(DownloadError, match="is not the expected file: its sha1 is"):
        fetch_dataset(CLIP_SET, tmp_path)
    assert names(tmp_path) == ["fma_tiny.zip"]
    (tmp_path / "fma_tiny.zip").write_bytes(ARCHIVE)
    assert fetch_dataset(CLIP_SET, tmp_path)
    assert names(tmp_path) == ["fma_tiny", "fma_tiny.zip"]


@pytest.mark.parametrize("form", ["file", "folder", "data folder", "address", "folder's address"])
def test_a_mirror_or_a_local_copy_is_used(tmp_path: Path, remote: Remote, form: str) -> None:
    info = replace(CLIP_SET, path="sub/fma_tiny.zip")
    path = tmp_path / "from" / "sub" / "fma_tiny.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(ARCHIVE)
    source = {
        "file": path,
        "folder": path.parent,
        "data folder": tmp_path / "from",
        "address": remote.url,
        "folder's address": remote.url.removesuffix("file.bin"),
    }[form]
    assert fetch_dataset(info, tmp_path / "to", source=source)
    assert tree(tmp_path / "to" / "fma_tiny") == CLIPS
    assert path.exists()
    if form == "folder's address":
        assert remote.paths == ["/set/sub/fma_tiny.zip"]
    for missing in (tmp_path / "to", tmp_path / "none"):
        with pytest.raises(DownloadError, match=r"looked for fma_tiny\.zip|does not exist"):
            fetch_dataset(info, tmp_path / "other", source=missing)


def test_room_on_the_disk_is_checked_first(
    tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=199_999 + len(ARCHIVE))
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    info = replace(CLIP_SET, urls=(remote.url,))
    with pytest.raises(DownloadError, match=r"free, but .* are needed: free some space"):
        fetch_dataset(info, tmp_path / "new")
    assert remote.requests == []
    usage.free += 1
    assert fetch_dataset(info, tmp_path / "new")


def test_the_next_address_is_tried(tmp_path: Path, remote: Remote) -> None:
    info = replace(CLIP_SET, urls=("http://nowhere.invalid/", remote.url + "/gone", remote.url))
    remote.statuses = [(404, {})]
    assert fetch_dataset(info, tmp_path / "a")
    remote.statuses = [(403, {})]  # a refusal is final
    with pytest.raises(DownloadError, match="refused"):
        fetch_dataset(info, tmp_path / "b")


# --- what is packed again


@pytest.mark.parametrize("form", ["zip", "gztar", "tar"])
def test_midi_files_are_taken_from_a_repository(tmp_path: Path, form: str) -> None:
    others = {"MIDI/melody/tune0.mid": b"x", "README.md": b"y"}
    for name, content in (TUNES | others).items():
        path = tmp_path / "clone" / "tunes-abc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    source = shutil.make_archive(str(tmp_path / "archive"), form, tmp_path / "clone")
    assert fetch_dataset(TUNE_SET, tmp_path / "data", source=source)
    packed = tmp_path / "data" / TUNE_SET.path
    assert untarred(packed) == TUNES
    assert not fetch_dataset(TUNE_SET, tmp_path / "data")
    # from another data folder; the same contents give the same bytes
    assert fetch_dataset(TUNE_SET, tmp_path / "other", source=tmp_path / "data")
    assert (tmp_path / "other" / TUNE_SET.path).read_bytes() == packed.read_bytes()


@pytest.mark.parametrize("fault", ["changed", "missing", "more", "garbage", "cut"])
def test_other_contents_are_refused(tmp_path: Path, remote: Remote, fault: str) -> None:
    changes = {"changed": {"MIDI/tune1.mid": bytes(101)}, "more": {"MIDI/tune9.mid": bytes(9)}}
    files = TUNES | changes.get(fault, {})
    if fault == "missing":
        del files["MIDI/tune1.mid"]
    archive = zipped(files)
    remote.content = {"garbage": CONTENT, "cut": archive[:700]}.get(fault, archive)
    with pytest.raises(DownloadError, match="does not hold the data set 'tunes'") as caught:
        fetch_dataset(TUNE_SET, tmp_path, source=remote.url)
    assert caught.value.code == "mismatch"
    assert "\n" not in str(caught.value)
    assert names(tmp_path / "tunes") == []
    (tmp_path / TUNE_SET.path).write_bytes(b"mine")
    with pytest.raises(DownloadError, match="move or delete it"):
        fetch_dataset(TUNE_SET, tmp_path)
    assert (tmp_path / TUNE_SET.path).read_bytes() == b"mine"


def test_a_compressed_file_is_made_from_either_form(tmp_path: Path) -> None:
    source = tmp_path / "a.json"
    info = DatasetInfo(
        "a", "", "", REFERENCE, ("https://host.invalid/a.json",), "sub/a.json.gz", len(CONTENT),
        f"sha256:{hashlib.sha256(CONTENT).hexdigest()}", "gzip",
    )  # fmt: skip
    source.write_bytes(CONTENT)
    assert fetch_dataset(info, tmp_path / "0", source=tmp_path)
    assert gzip.decompress((tmp_path / "0" / info.path).read_bytes()) == CONTENT
    assert fetch_dataset(info, tmp_path / "1", source=tmp_path / "0" / info.path)
    assert not fetch_dataset(info, tmp_path / "1")
    for other in (CONTENT + b"x", CONTENT[1:], gzip.compress(CONTENT)[:-9]):
        source.write_bytes(other)
        with pytest.raises(DownloadError, match="does not hold the data set 'a'"):
            fetch_dataset(info, tmp_path / "2", source=source)
    assert not (tmp_path / "2").exists()


def test_the_checksum_of_contents_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "MIDI").mkdir()
    for name, content in TUNES.items():
        (tmp_path / name).write_bytes(content)
    listed = subprocess.run(
        ["sha256sum", *sorted(TUNES)], cwd=tmp_path, capture_output=True, check=True
    )
    assert contents_checksum(TUNES) == f"sha256:{hashlib.sha256(listed.stdout).hexdigest()}"


# --- the registry and the real files


def test_every_record_is_complete() -> None:
    lengths = {"md5": 32, "sha1": 40, "sha256": 64}
    for name, info in REGISTRY.items():
        algorithm, _, digest = info.checksum.partition(":")
        assert re.fullmatch(rf"[0-9a-f]{{{lengths[algorithm]}}}", digest)
        assert info.name == name
        assert info.title
        assert info.licence
        assert info.size > 0
        assert all(re.match("https?://", url) for url in info.urls)
        reference = info.reference
        assert re.match(r"@\w+\{\w+,\n.*\n\}\n$", reference.bibtex, re.DOTALL)
        assert reference.bibtex.count("{") == reference.bibtex.count("}")
        assert reference.homepage.startswith("http")
        if info.layout == "archive":
            assert info.size < info.unpacked_size < 5 * info.size
        else:
            assert info.path == SYMBOLIC[name][0]
            assert re.search(r"/[0-9a-f]{40}(/|$)", info.urls[0])  # one version, for good
    assert set(SYMBOLIC) < set(REGISTRY)


@pytest.mark.parametrize("name", sorted(set(SYMBOLIC) - {"pop909"}))
def test_the_real_files_are_those_of_the_registry(
    tmp_path: Path, shared_data: Path, name: str
) -> None:
    info, real = REGISTRY[name], shared_data / "symbolic"
    if info.layout == "midi":  # packing takes seconds
        assert read_contents(info, real / info.path) == untarred(real / info.path)
        return
    assert fetch_dataset(info, tmp_path, source=real)
    if info.layout == "file":
        assert (tmp_path / info.path).read_bytes() == (real / info.path).read_bytes()
    else:
        dataset = load_symbolic(name, tmp_path)
        assert list(map(len, (dataset.train, dataset.validation, dataset.test))) == [229, 76, 77]


def test_the_known_songs_are_taken_from_their_repository(tmp_path: Path, shared_data: Path) -> None:
    """Of 909 songs those of the index are taken; the metres are those of the data set's own."""
    info, real = REGISTRY["pop909"], shared_data / "symbolic" / "pop909"
    songs = untarred(real / "pop909_midi.tar.xz")
    folder = "POP909-Dataset-abc/POP909"
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for number in range(1, 910):
            stem = f"{number:03d}"
            content = songs.get(f"pop909/{stem}.mid", b"unknown")
            archive.writestr(f"{folder}/{stem}/{stem}.mid", content)
            archive.writestr(f"{folder}/{stem}/versions/{stem}-v1.mid", b"x")
    assert read_contents(info, tmp_path / "archive.zip") == songs
    first, second = (
        [(row["id"], row["beats_per_measure"]) for row in csv.DictReader(io.StringIO(text))]
        for text in ((real / "index.csv").read_text(), read_index(info))
    )
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("info", [CLIP_SET, TUNE_SET], ids=lambda info: info.layout)
def test_whatever_fails_the_next_call_has_the_data_set(info: DatasetInfo, remote: Remote) -> None:
    remote.content = ARCHIVE if info is CLIP_SET else zipped(TUNES)
    info = replace(info, urls=(remote.url,))

    def whole(folder: Path) -> None:
        if (folder / "fma_tiny").exists():
            assert tree(folder / "fma_tiny") == CLIPS
        if (folder / "tunes" / "tunes.tar.xz").exists():
            assert untarred(folder / "tunes" / "tunes.tar.xz") == TUNES

    each_fault(lambda folder: fetch_dataset(info, folder), whole, at=lambda n: n < 20 or n % 9 == 0)
