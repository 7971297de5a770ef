"""``deepmusic data list|download|get``: what they list, download, refuse and print."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from training_runs import Call

from deepmusic.datasets import REGISTRY, DatasetInfo

CONTENTS = {"one": b"first" * 1000, "two": b"second"}
CLIPS = {"000/000002.mp3": b"sound" * 100, "155/155320.mp3": b"other" * 100}


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in CLIPS.items():
            archive.writestr(f"fma_small/{name}", content)
    return buffer.getvalue()


ARCHIVE = zipped()


@pytest.fixture(autouse=True)
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in CONTENTS.items():
        info = DatasetInfo(
            name,
            f"set {name}",
            f"licence of {name}",
            REGISTRY["jsb"].reference,
            (f"https://host.invalid/{name}?key=secret",),
            f"{name}/{name}.bin",
            len(content),
            f"sha256:{hashlib.sha256(content).hexdigest()}",
        )
        monkeypatch.setitem(REGISTRY, name, info)
    small = replace(
        REGISTRY["fma-small"],
        urls=("http://host.invalid/fma_small.zip",),
        size=len(ARCHIVE),
        unpacked_size=1000,
        checksum=f"sha1:{hashlib.sha1(ARCHIVE).hexdigest()}",
    )
    monkeypatch.setitem(REGISTRY, "fma-small", small)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "from"
    folder.mkdir()
    for name, content in CONTENTS.items():
        (folder / f"{name}.bin").write_bytes(content)
    (folder / "fma_small.zip").write_bytes(ARCHIVE)
    return folder


@pytest.fixture
def data(call: Call) -> Call:
    return partial(call, "data")


@pytest.fixture
def get(call: Call) -> Call:
    return partial(call, "data", "get", "fma", "--subset", "small")


# --- list


def test_the_list_is_for_people_and_for_programs(data: Call) -> None:
    text = data("list")
    assert text.status == 0
    for name, info in REGISTRY.items():
        for part in (name, info.licence, info.reference.homepage, info.reference.citation):
            assert part in text.output
    assert "size: about 23.6 GB, about 24.8 GB unpacked; 48.4 GB of disk" in text.output
    rows = {row["name"]: row for row in json.loads(data("list", "--format", "json").output)}
    assert list(rows) == list(REGISTRY)
    assert len({tuple(row) for row in rows.values()}) == 1  # all have the same keys
    large = rows["fma-large"]
    assert (large["size"], large["size_is_exact"], large["tracks"]) == (100306112191, True, 106574)
    assert large["checksum"] == "sha1:497109f4dd721066b5ce5e5f250ec604dc78939e"
    assert large["bibtex"].startswith("@inproceedings{fma_dataset,")
    assert large["state"] is None


def test_the_list_shows_what_is_there(data: Call, tmp_path: Path, source: Path) -> None:
    to = tmp_path / "to"

    def states() -> dict[str, str]:
        rows = json.loads(data("list", "--format", "json", "--to", to).output)
        return {row["name"]: row["state"] for row in rows}

    assert set(states().values()) == {"missing"}
    data("download", "one", "fma-small", "--to", to, "--from", source)
    for name in ("fma_medium.zip.part", "fma_large.zip", "pop909/pop909_midi.tar.xz.source.part"):
        (to / name).parent.mkdir(exist_ok=True)
        (to / name).write_bytes(b"abc")
    found = states()
    assert found["one"] == found["fma-small"] == "complete"
    assert found["pop909"] == found["fma-medium"] == "partly downloaded"
    assert found["fma-large"] == "archive, not unpacked"
    assert found["gtzan"] == "missing"
    assert " state: archive, not unpacked\n" in data("list", "--to", to).output


def test_what_to_cite_is_listed_once_each(data: Call) -> None:
    text = data("list", "--format", "bibtex").output
    assert text.count("@") == text.count("\n\n@") + 1 == 6
    assert text.count("{fma_dataset,") == 1


# --- download


@pytest.mark.parametrize("name", ["fma-small", "FMA_small.zip"])
def test_an_audio_archive_is_unpacked(data: Call, tmp_path: Path, source: Path, name: str) -> None:
    to = tmp_path / "to"
    first = data("download", name, "--to", to, "--from", source)
    assert first.output == f"downloaded  {to}/fma_small\n"
    assert first.error.startswith("fma-small: licence: chosen by each artist")
    assert first.status == 0
    assert [path.name for path in to.iterdir()] == ["fma_small"]
    assert (to / "fma_small" / "000" / "000002.mp3").read_bytes() == CLIPS["000/000002.mp3"]
    again = data("download", name, "--to", to)
    assert (again.status, again.output) == (0, f"exists      {to}/fma_small\n")


def test_an_audio_archive_may_stay_packed(data: Call, tmp_path: Path, source: Path) -> None:
    to = tmp_path / "to"
    first = data("download", "fma-small", "--no-unpack", "--to", to, "--from", source)
    assert (first.status, first.output) == (0, f"downloaded  {to}/fma_small.zip\n")
    later = data("download", "fma-small", "--to", to)
    assert (later.status, later.output) == (0, f"downloaded  {to}/fma_small\n")
    assert sorted(path.name for path in to.iterdir()) == ["fma_small", "fma_small.zip"]


def test_one_that_fails_does_not_stop_the_others(data: Call, tmp_path: Path, source: Path) -> None:
    (source / "one.bin").write_bytes(b"other")
    result = data("download", "one", "two", "two", "--to", tmp_path / "to", "--from", source)
    assert result.status == 1
    assert result.output == f"downloaded  {tmp_path}/to/two/two.bin\n"
    first, second = result.error.splitlines()
    assert first.startswith(f"one: {source}/one.bin is not the expected file: it has 5 bytes")
    assert second == "two: licence: licence of two"


def test_without_a_network_it_is_one_sentence(data: Call, get: Call, tmp_path: Path) -> None:
    for result in (
        data("download", "one", "--to", tmp_path / "to"),
        get("--track", "2", "--to", tmp_path / "to"),
    ):
        assert result.status == 1
        assert "its host is unknown, or there is no network" in result.error
        assert "secret" not in result.error
        assert len(result.error.splitlines()) == 1
        assert result.output == ""


# --- get


def test_tracks_are_written_as_in_the_data_set(get: Call, tmp_path: Path, source: Path) -> None:
    archive, to = source / "fma_small.zip", tmp_path / "to"
    wanted = ["--track", "2", "--track", "155320", "--track", "2", "--from", archive, "--to", to]
    first = get(*wanted)
    assert first.status == 0
    assert first.output == f"downloaded  {to}/000/000002.mp3\ndownloaded  {to}/155/155320.mp3\n"
    assert first.error == ""
    for name, content in CLIPS.items():
        assert (to / name).read_bytes() == content
    again = get(*wanted)
    assert again.status == 0
    assert again.output == f"exists      {to}/000/000002.mp3\nexists      {to}/155/155320.mp3\n"


def test_a_track_that_fails_does_not_stop_the_others(
    get: Call, tmp_path: Path, source: Path
) -> None:
    to = tmp_path / "to"
    (to / "000").mkdir(parents=True)
    (to / "000" / "000002.mp3").write_bytes(b"mine")
    tracks = ["--track", "2", "--track", "3", "--track", "155320"]
    result = get(*tracks, "--to", to, "--from", source)
    assert result.status == 1
    assert result.output == f"downloaded  {to}/155/155320.mp3\n"
    first, second = result.error.splitlines()
    assert first.startswith(f"track 2: {to}/000/000002.mp3 already exists, but is not ")
    assert second.startswith("track 3: 'fma_small/000/000003.mp3' of ")
    assert (to / "000" / "000002.mp3").read_bytes() == b"mine"


def test_other_archives_are_one_sentence(get: Call, tmp_path: Path, source: Path) -> None:
    (source / "fma_small.zip").write_bytes(b"no archive")
    result = get("--track", "2", "--to", tmp_path / "to", "--from", source)
    assert result.status == 1
    assert result.error.startswith(f"deepmusic: {source}/fma_small.zip is damaged, or not a zip")
    result = get("--track", "2", "--to", tmp_path, "--from", tmp_path)
    assert result.error.startswith(f"deepmusic: {tmp_path} does not hold the data set 'fma-small'")
    assert len(result.error.splitlines()) == 1
