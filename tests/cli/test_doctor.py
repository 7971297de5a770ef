"""``deepmusic doctor`` reports what works and what does not."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path, PurePosixPath

import pytest
from fake_classifier import FakeClassifier
from training_runs import Call

from deepmusic import pretrained
from deepmusic.cli.doctor import Check, examine


def refuse(*_: object, **__: object) -> None:
    raise ValueError("no\ndecoder")


def check(name: str) -> Check:
    (found,) = (check for check in examine() if check.name == name)
    return found


@pytest.fixture
def quick(fake: FakeClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without formats and packages, which are tested apart."""
    monkeypatch.setattr("deepmusic.cli.doctor._FORMATS", ())
    monkeypatch.setattr("deepmusic.cli.doctor._PACKAGES", ())


@pytest.mark.slow
def test_everything_essential_works_here(fake: FakeClassifier, call: Call) -> None:
    done = call("doctor", "--format", "json")
    document = json.loads(done.output)
    assert [check for check in document["checks"] if check["status"] == "broken"] == []
    assert (done.status, document["ok"]) == (0, True)
    found = {check["name"]: check for check in document["checks"]}
    assert found["onnxruntime"]["section"] == "package"
    assert "PyTorch" in found["train"]["detail"]
    for name in ("mp3", "flac", "wav"):
        assert found[name]["detail"] == "read by libsndfile"
    assert found["m4a (aac)"]["detail"] == "read by ffmpeg"
    assert "classical, pop, rock" in found["classifier"]["detail"]
    composer = pretrained.load_composer()
    assert ", ".join(composer.styles) in found["composer"]["detail"]
    assert composer.digest in found["composer"]["detail"]


@pytest.mark.slow
def test_what_is_broken_is_named_with_a_remedy(
    fake: FakeClassifier, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.setattr("deepmusic.audio.open_audio", refuse)
    monkeypatch.setattr("deepmusic.pretrained.load", refuse)
    monkeypatch.setattr("deepmusic.composer.Composer.compose", refuse)
    monkeypatch.setitem(sys.modules, "partitura", None)
    checks = {check.name: check for check in examine()}
    assert (checks["mp3"].status, checks["mp3"].detail) == ("broken", "cannot be read: no decoder")
    assert checks["webm"].status == "note"  # not essential
    assert checks["classifier"].status == checks["composer"].status == "broken"
    assert checks["musicxml"].status == "note"
    assert "deepmusic-capsules[musicxml]" in (checks["musicxml"].advice or "")
    assert all(check.advice for check in checks.values() if check.status == "broken")
    done = call("doctor")
    assert done.status == 1
    assert "-> pip install" in done.output


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damage", ["missing", "cut", "text", "classifier"])
def test_a_composer_that_cannot_be_used_is_essential(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
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
    done = call("doctor", "--format", "json")
    assert done.status == 1
    (broken,) = (c for c in json.loads(done.output)["checks"] if c["status"] == "broken")
    assert (broken["section"], broken["name"]) == ("model", "composer")
    assert ("There is no model" if damage == "missing" else str(path)) in broken["detail"]
    assert "reinstall deepmusic" in broken["advice"]


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_soundfont_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPMUSIC_SOUNDFONT", raising=False)
    for folder in ("XDG_DATA_HOME", "XDG_DATA_DIRS"):
        monkeypatch.setenv(folder, str(tmp_path))
    found = check("soundfont")
    assert (found.section, found.status, found.advice) == ("sound", "note", None)
    assert "built-in synthesizer" in found.detail


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("content", [None, b"no SoundFont, but text", b"RIFF\x08\0\0\0sfbkLIST"])
def test_a_soundfont_that_cannot_be_played_is_broken(
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


@pytest.mark.slow
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
    assert all("pip uninstall deepmusic" in str(check.advice) for check in found)
