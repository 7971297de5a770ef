"""``deepmusic doctor`` tells what works and what does not."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path, PurePosixPath

import pytest
from click.testing import CliRunner
from fake_classifier import FakeClassifier

from deepmusic import pretrained
from deepmusic.cli import deepmusic
from deepmusic.cli.doctor import Check, examine


def test_all_is_well_here(fake: FakeClassifier) -> None:
    result = CliRunner().invoke(deepmusic, ["doctor", "--format", "json"])
    document = json.loads(result.stdout)
    broken = [check for check in document["checks"] if check["status"] == "broken"]
    assert broken == []
    assert result.exit_code == 0
    assert document["ok"] is True
    found = {check["name"]: check for check in document["checks"]}
    assert found["torch"]["section"] == "package"
    for name in ("mp3", "flac", "wav"):
        assert found[name]["detail"] == "read by libsndfile"
    assert found["m4a (aac)"]["detail"] == "read by ffmpeg"
    assert "classical, pop, rock" in found["classifier"]["detail"]


def test_what_is_broken_is_named_with_a_remedy(
    fake: FakeClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("no\ndecoder")

    monkeypatch.setattr("deepmusic.audio.open_audio", refuse)
    monkeypatch.setattr("deepmusic.pretrained.load", refuse)
    checks = {check.name: check for check in examine()}
    assert checks["mp3"].status == "broken"
    assert checks["mp3"].detail == "cannot be read: no decoder"
    assert checks["webm"].status == "note"  # one can do without
    assert checks["classifier"].status == "broken"
    assert all(check.advice for check in checks.values() if check.status == "broken")
    result = CliRunner().invoke(deepmusic, ["doctor"])
    assert result.exit_code == 1
    assert "-> pip install" in result.stdout


def test_a_missing_extra_is_no_fault(fake: FakeClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mutagen", None)
    checks = {check.name: check for check in examine()}
    assert checks["mutagen"].status == "note"
    assert "deepmusic-capsules[tags]" in (checks["mutagen"].advice or "")


@pytest.fixture
def quick(fake: FakeClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what is not about the composer."""
    monkeypatch.setattr("deepmusic.cli.doctor._FORMATS", ())
    monkeypatch.setattr("deepmusic.cli.doctor._PACKAGES", {})


def check(name: str) -> Check:
    (found,) = (check for check in examine() if check.name == name)
    return found


@pytest.mark.usefixtures("quick")
def test_the_composer_is_named_by_its_styles_and_fingerprint() -> None:
    composer = pretrained.load_composer()
    found = check("composer")
    assert (found.section, found.status, found.advice) == ("model", "ok", None)
    assert ", ".join(composer.styles) in found.detail
    assert composer.digest in found.detail


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damage", ["missing", "cut", "text", "classifier"])
def test_a_composer_that_cannot_be_used_is_essential(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "composer.safetensors"
    if damage == "cut":
        content = pretrained.MODELS["composer"].read_bytes()
        path.write_bytes(content[: len(content) // 2])
    if damage == "text":
        path.write_text("no weights")
    if damage == "classifier":
        path = pretrained.MODELS["classifier"]
    monkeypatch.setitem(pretrained.MODELS, "composer", path)
    result = CliRunner().invoke(deepmusic, ["doctor", "--format", "json"])
    assert result.exit_code == 1
    (broken,) = (c for c in json.loads(result.stdout)["checks"] if c["status"] == "broken")
    assert (broken["section"], broken["name"]) == ("model", "composer")
    assert ("There is no model" if damage == "missing" else str(path)) in broken["detail"]
    assert "reinstall deepmusic" in broken["advice"]


@pytest.mark.usefixtures("quick")
def test_a_composer_that_loads_and_cannot_compose_is_broken_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such\nkernel")

    monkeypatch.setattr("deepmusic.composer.Composer.compose", fail)
    found = check("composer")
    assert (found.status, found.detail) == ("broken", "no such kernel")


@pytest.mark.usefixtures("quick")
def test_without_a_soundfont_nothing_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEEPMUSIC_SOUNDFONT", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    found = check("soundfont")
    assert (found.section, found.status, found.advice) == ("sound", "note", None)
    assert "built-in synthesizer" in found.detail
    assert CliRunner().invoke(deepmusic, ["doctor"]).exit_code == 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("content", [None, b"no SoundFont, but text", b"RIFF\x08\0\0\0sfbkLIST"])
def test_a_soundfont_that_cannot_be_played_is_named_with_what_to_do(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    font = tmp_path / "mine.sf2"
    if content is not None:
        font.write_bytes(content)
    monkeypatch.setenv("DEEPMUSIC_SOUNDFONT", str(font))
    found = check("soundfont")
    assert found.status == "broken"  # `generate` would fail with it
    assert "mine.sf2" in found.detail
    assert "DEEPMUSIC_SOUNDFONT" in (found.advice or "")


@pytest.mark.usefixtures("quick")
def test_a_soundfont_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    font = tmp_path / "mine.sf2"
    font.touch()
    played = []

    def render(score: object, *, soundfont: Path, **_: object) -> None:
        played.append(soundfont)

    monkeypatch.setenv("DEEPMUSIC_SOUNDFONT", str(font))
    monkeypatch.setattr("deepmusic.music.render", render)
    monkeypatch.setattr("deepmusic.pretrained.load_composer", None)
    found = check("soundfont")
    assert (found.status, found.detail) == ("ok", str(font))
    assert played == [font]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("files", "is_named"),
    [
        (None, False),
        (["deepmusic/__init__.py", "deepmusic/agents.py"], True),
        (["deepmusic/__init__.py", "deepmusic/capsules/__init__.py"], False),
        (["__editable___deepmusic.pth"], False),
    ],
)
def test_the_unrelated_package_of_this_name_is_reported(
    files: list[str] | None, is_named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(name: str) -> list[PurePosixPath]:
        if name != "deepmusic" or files is None:
            raise PackageNotFoundError(name)
        return [PurePosixPath(file) for file in files]

    monkeypatch.setattr("deepmusic.cli.doctor.metadata.files", listed)
    found = [check for check in examine() if check.name == "namesake"]
    assert [check.status for check in found] == ["broken"] * is_named
    if is_named:
        assert "pip uninstall deepmusic" in str(found[0].advice)
