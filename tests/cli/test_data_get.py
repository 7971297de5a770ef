"""``deepmusic data get``: single tracks out of an archive."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deepmusic.cli import deepmusic
from deepmusic.datasets.download import DownloadError
from deepmusic.datasets.remote_zip import RemoteZip

CLIPS = {"000/000002.mp3": b"sound" * 100, "155/155320.mp3": b"other" * 100}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "from" / "fma_large.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as packed:
        for name, content in CLIPS.items():
            packed.writestr(f"fma_large/{name}", content)
    return path


def get(*arguments: str | Path) -> Result:
    return CliRunner().invoke(deepmusic, ["data", "get", *map(str, arguments)])


@pytest.mark.parametrize("form", ["file", "folder"])
def test_tracks_are_written_where_the_data_set_has_them(
    tmp_path: Path, archive: Path, form: str
) -> None:
    source, to = (archive if form == "file" else archive.parent), tmp_path / "to"
    wanted = ["fma", "--track", "2", "--track", "155320", "--track", "2", "--from", source]
    first = get(*wanted, "--to", to)
    assert first.exit_code == 0
    assert first.stdout == f"fetched  {to}/000/000002.mp3\nfetched  {to}/155/155320.mp3\n"
    assert first.stderr == ""
    for name, content in CLIPS.items():
        assert (to / name).read_bytes() == content
    again = get(*wanted, "--to", to)
    assert again.exit_code == 0
    assert again.stdout == f"there    {to}/000/000002.mp3\nthere    {to}/155/155320.mp3\n"


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path, archive: Path) -> None:
    to = tmp_path / "to"
    (to / "000").mkdir(parents=True)
    (to / "000" / "000002.mp3").write_bytes(b"mine")
    result = get("fma", "--track", "2", "--track", "3", "--track", "155320", "--to", to, "--from", archive)  # fmt: skip  # noqa: E501
    assert result.exit_code == 1
    assert result.stdout == f"fetched  {to}/155/155320.mp3\n"
    first, second = result.stderr.splitlines()
    assert first.startswith(f"track 2: {to}/000/000002.mp3 is there already, but is not ")
    assert second == f"There is no track 3 in {archive}."
    assert (to / "000" / "000002.mp3").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fma", "--to", "x"], "Missing option '--track'"),
        (["fma", "--track", "2"], "Missing option '--to'"),
        (["gtzan", "--track", "2", "--to", "x"], "'gtzan' is not"),
        (["fma", "--track", "1000000", "--to", "x"], "not in the range"),
        (["fma", "--track", "2", "--to", "x", "--subset", "tiny"], "'tiny' is not one of"),
        (["fma", "--track", "2", "--to", "x", "--from", "ftp://host/a"], "only http and https"),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], said: str) -> None:
    result = get(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_what_is_no_archive_is_one_sentence(tmp_path: Path, archive: Path) -> None:
    archive.write_bytes(b"no archive")
    result = get("fma", "--track", "2", "--to", tmp_path / "to", "--from", archive)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{archive} cannot be read: it does not end as a zip archive")
    assert len(result.stderr.splitlines()) == 1
    result = get("fma", "--track", "2", "--to", tmp_path, "--subset", "full", "--from", tmp_path)
    assert result.stderr == f"{tmp_path} holds no archive of 'fma-full'; looked for fma_full.zip.\n"


def test_without_from_the_known_address_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, object]] = []

    def refuse(self: RemoteZip, source: str, *, cache: object, on_progress: object) -> None:
        asked.append((source, cache))
        raise DownloadError("There is no network.", code="unreachable")

    monkeypatch.setattr(RemoteZip, "__init__", refuse)
    result = get("fma", "--track", "2", "--subset", "full", "--to", tmp_path)
    assert (result.exit_code, result.stderr) == (1, "There is no network.\n")
    assert asked == [("https://os.unil.cloud.switch.ch/fma/fma_full.zip", tmp_path)]


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RemoteZip, "save", stop)
    result = get("fma", "--track", "2", "--to", tmp_path, "--from", archive)
    assert result.exit_code == 130
    assert result.stderr == "Stopped; to go on, give the same command again.\n"
