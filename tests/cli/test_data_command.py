"""``deepmusic data``: what it lists, fetches, refuses and says."""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from deepmusic.cli import data as data_command
from deepmusic.cli import deepmusic
from deepmusic.datasets import CATALOGUE, DataFile

CONTENTS = {"one": b"first" * 1000, "two": b"second"}


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


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "from"
    folder.mkdir()
    for name, content in CONTENTS.items():
        (folder / f"{name}.bin").write_bytes(content)
    return folder


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(deepmusic, ["data", *map(str, arguments)])


def test_the_list_is_for_people_and_for_programs() -> None:
    text = invoke("list")
    assert text.exit_code == 0
    for name, entry in CATALOGUE.items():
        assert name in text.stdout
        assert entry.licence in text.stdout
    rows = {row["name"]: row for row in json.loads(invoke("list", "--format", "json").stdout)}
    assert list(rows) == list(CATALOGUE)
    assert rows["one"]["size"] == 5000
    assert rows["one"]["file"] == "one/one.bin"
    assert len(rows["jsb"]["sha256"]) == 64


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
        (["three", "--to", "x"], "No data set is called 'three'; there are jsb, "),
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

    monkeypatch.setattr("deepmusic.datasets.fetch", stop)
    result = invoke("download", "one", "--to", tmp_path, "--from", source)
    assert result.exit_code == 130
    assert result.stderr == "Stopped; to go on, give the same command again.\n"


def test_lines_tell_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(sys.modules["deepmusic.cli.data"], "time", clock)
    tell = data_command._lines("fma")
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
    with contextmanager(data_command._bar)("[bold]") as tell:
        for done, total in ((0, None), (10, 100), (0, 50), (50, 50)):
            tell(done, total)
