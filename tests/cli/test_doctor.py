"""``deepmusic doctor`` tells what works and what does not."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from fake_classifier import FakeClassifier

from deepmusic.cli import deepmusic
from deepmusic.cli.doctor import examine


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
    assert "deepmusic[tags]" in (checks["mutagen"].advice or "")
