"""``deepmusic data``: what it lists, fetches, refuses and says."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from deepmusic.cli import data_transfer, deepmusic
from deepmusic.datasets.audio_archives import AUDIO_ARCHIVES
from deepmusic.datasets.catalogue import CATALOGUE, DataFile

CONTENTS = {"one": b"first" * 1000, "two": b"second"}
CLIPS = {"000/000002.mp3": b"sound" * 100, "000/000005.mp3": b"other" * 100}


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
        entry = DataFile(
            name,
            f"{name}/{name}.bin",
            (f"https://host.invalid/{name}?key=secret",),
            hashlib.sha256(content).hexdigest(),
            len(content),
            f"licence of {name}",
            f"set {name}",
        )
        monkeypatch.setitem(CATALOGUE, name, entry)
    small = replace(
        AUDIO_ARCHIVES["fma-small"],
        urls=("http://host.invalid/fma_small.zip",),
        size=len(ARCHIVE),
        unpacked_size=1000,
        sha1=hashlib.sha1(ARCHIVE).hexdigest(),
    )
    monkeypatch.setitem(AUDIO_ARCHIVES, "fma-small", small)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "from"
    folder.mkdir()
    for name, content in CONTENTS.items():
        (folder / f"{name}.bin").write_bytes(content)
    (folder / "fma_small.zip").write_bytes(ARCHIVE)
    return folder


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(deepmusic, ["data", *map(str, arguments)])


def test_the_list_is_for_people_and_for_programs() -> None:
    text = invoke("list")
    assert text.exit_code == 0
    for name, entry in (CATALOGUE | AUDIO_ARCHIVES).items():
        assert name in text.stdout
        assert entry.licence in text.stdout
        if entry.publication is not None:
            assert entry.publication.homepage in text.stdout
            assert entry.publication.citation in text.stdout
    rows = {row["name"]: row for row in json.loads(invoke("list", "--format", "json").stdout)}
    assert list(rows) == [*AUDIO_ARCHIVES, *CATALOGUE]
    assert rows["one"]["size"] == 5000
    assert rows["one"]["file"] == "one/one.bin"
    assert len(rows["jsb"]["sha256"]) == 64
    assert len({tuple(row) for row in rows.values()}) == 1  # all have the same keys
    large = rows["fma-large"]
    assert (large["size"], large["size_is_exact"], large["tracks"]) == (100306112191, True, 106574)
    assert large["sha1"] == "497109f4dd721066b5ce5e5f250ec604dc78939e"
    assert large["disk_needed"] > 2 * large["size"]
    assert not rows["fma-medium"]["size_is_exact"]
    assert "about 23.6 GB to fetch" in text.stdout
    assert all(rows[name]["bibtex"].startswith("@") for name in rows if name not in CONTENTS)
    assert "state" not in large


def test_the_list_says_what_is_here(tmp_path: Path, source: Path) -> None:
    def states() -> dict[str, tuple[str, int | None]]:
        rows = json.loads(invoke("list", "--format", "json", "--to", tmp_path / "to").stdout)
        return {row["name"]: (row["state"], row["bytes_here"]) for row in rows}

    assert set(states().values()) == {("missing", 0)}
    invoke("download", "one", "fma-small", "--to", tmp_path / "to", "--from", source)
    for name in ("fma_medium.zip.part", "fma_large.zip", "two/two.bin.part"):
        (tmp_path / "to" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "to" / name).write_bytes(b"abc")
    (tmp_path / "to" / "fma_full.zip").write_bytes(b"abcd")
    (tmp_path / "to" / ".fma_full.unpacking").mkdir()
    (tmp_path / "to" / ".fma_metadata.unpacking").mkdir()
    found = states()
    assert found["one"] == ("here", 5000)
    assert found["two"] == found["fma-medium"] == ("partly", 3)
    assert found["fma-small"] == ("here", None)
    assert found["fma-large"] == ("archive", 3)
    assert found["fma-full"] == ("partly", 4)
    assert found["fma-metadata"] == ("partly", None)
    text = invoke("list", "--to", tmp_path / "to").stdout
    for said in (
        "here: fma_small",
        "here: one/one.bin",
        "partly: 3 bytes of the archive; download goes on",
        "archive: fma_large.zip, not unpacked",
        "partly: begun to be unpacked; download goes on",
        "missing: gtzan/genres is not there",
    ):
        assert f" {said}\n" in text


def test_what_to_cite_is_said_once_each() -> None:
    text = invoke("list", "--format", "bibtex").stdout
    assert text.count("@") == text.count("\n\n@") + 1 == 6
    assert text.count("{fma_dataset,") == 1


@pytest.mark.parametrize("name", ["fma-small", "fma_small", "FMA_small.zip"])
def test_an_archive_of_sound_is_unpacked(tmp_path: Path, source: Path, name: str) -> None:
    to = tmp_path / "to"
    first = invoke("download", name, "--to", to, "--from", source)
    assert first.stdout == f"fetched  {to}/fma_small\n"
    assert first.stderr.startswith("fma-small: licence: chosen by each artist")
    assert first.exit_code == 0
    assert [path.name for path in to.iterdir()] == ["fma_small"]
    assert (to / "fma_small" / "000" / "000002.mp3").read_bytes() == CLIPS["000/000002.mp3"]
    again = invoke("download", name, "--to", to)
    assert (again.exit_code, again.stdout) == (0, f"there    {to}/fma_small\n")


def test_an_archive_of_sound_may_stay_packed(tmp_path: Path, source: Path) -> None:
    to = tmp_path / "to"
    first = invoke("download", "fma-small", "--no-unpack", "--to", to, "--from", source)
    assert (first.exit_code, first.stdout) == (0, f"fetched  {to}/fma_small.zip\n")
    later = invoke("download", "fma-small", "--to", to)
    assert (later.exit_code, later.stdout) == (0, f"fetched  {to}/fma_small\n")
    assert f"fma-small: {to}/fma_small.zip was there before, and stays\n" in later.stderr
    assert sorted(path.name for path in to.iterdir()) == ["fma_small", "fma_small.zip"]


def test_a_disk_without_room_is_one_sentence(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=999)
    monkeypatch.setattr("deepmusic.datasets.archives.shutil.disk_usage", lambda _: usage)
    result = invoke("download", "fma-small", "two", "--to", tmp_path, "--from", source)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"fma-small: {tmp_path} has 999 bytes free, but 1.0 kB are needed: free some space"
    )
    assert result.stdout == f"fetched  {tmp_path}/two/two.bin\n"


def test_sets_are_fetched_once_and_their_licences_told(tmp_path: Path, source: Path) -> None:
    to = tmp_path / "to"
    first = invoke("download", "one", "two", "one", "--to", to, "--from", source)
    assert first.exit_code == 0
    assert first.stdout == f"fetched  {to}/one/one.bin\nfetched  {to}/two/two.bin\n"
    assert first.stderr == "one: licence: licence of one\ntwo: licence: licence of two\n"
    assert (to / "one" / "one.bin").read_bytes() == CONTENTS["one"]
    again = invoke("download", "one", "two", "--to", to)
    assert again.exit_code == 0
    assert again.stdout == f"there    {to}/one/one.bin\nthere    {to}/two/two.bin\n"
    assert again.stderr == ""


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path, source: Path) -> None:
    (source / "one.bin").write_bytes(b"other")
    result = invoke("download", "one", "two", "--to", tmp_path / "to", "--from", source)
    assert result.exit_code == 1
    assert result.stdout == f"fetched  {tmp_path}/to/two/two.bin\n"
    assert result.stderr.startswith(f"one: {source}/one.bin has 5 bytes, not 5,000")
    assert len(result.stderr.splitlines()) == 2


def test_without_a_network_it_is_one_sentence(tmp_path: Path) -> None:
    result = invoke("download", "one", "--to", tmp_path / "to")
    assert result.exit_code == 1
    assert result.stderr.startswith("one: https://host.invalid/one could not be fetched: ")
    assert "secret" not in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["one"], "Missing option '--to'"),
        (["--to", "x"], "Missing argument"),
        (["three", "--to", "x"], "No data set is called 'three'; there are fma-metadata, "),
        (["one", "--to", "x", "--from", "ftp://host/a"], "only http and https"),
        (["one", "two", "--to", "x", "--from", "a.zip"], "one file for several"),
        (["one", "two", "--to", "x", "--from", "https://host/a.zip"], "one file for several"),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], said: str) -> None:
    result = invoke("download", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deepmusic.datasets.catalogue.fetch", stop)
    result = invoke("download", "one", "--to", tmp_path, "--from", source)
    assert result.exit_code == 130
    assert result.stderr == "Stopped; to go on, give the same command again.\n"


def test_lines_tell_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(data_transfer, "time", clock)
    tell = data_transfer._lines("fma")
    for now, done, total in (
        (5, 1, 9),
        (10, 2e9, 6e9),
        (15, 3e9, 6e9),
        (20, 3e9, None),
        (30, 0, 9),
    ):
        clock.now = now
        tell(int(done), total)
    clock.now = 99
    tell(9, 9)
    assert capsys.readouterr().err.splitlines() == [
        "fma: 2.0 GB of 6.0 GB, 200.0 MB/s, 0:00:20 left",
        "fma: 3.0 GB, 100.0 MB/s",
        "fma: 0 bytes of 9 bytes, 0 bytes/s",
    ]


def test_the_bar_takes_what_comes() -> None:
    with contextmanager(data_transfer._bar)("[bold]") as tell:
        for done, total in ((0, None), (10, 100), (0, 50), (50, 50)):
            tell(done, total)
