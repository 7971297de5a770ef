"""The command with a fake classifier, in this process and in one of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_classifier import COMMAND, FakeClassifier, Run
from training_runs import QUICK, Call, call_main, small_networks, write_folder

from ear_stand_in import no_ear as no_ear, stand_in_ear as stand_in_ear  # isort: skip

from deepmusic.cli import deepmusic


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeClassifier:
    classifier = FakeClassifier()
    monkeypatch.setattr("deepmusic.pretrained.load", lambda *_, **__: classifier, raising=False)
    return classifier


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``run("classify", ...)`` as a person would, in an empty folder."""

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            capture_output=True,
            timeout=60,
            env={**os.environ, **environment},
            check=False,
        )

    return run


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """``call("train", ...)``: the command in this process; it trains small networks."""
    small_networks(monkeypatch)
    return partial(call_main, monkeypatch, capsys)


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two genres by four artists each, two tracks an artist."""
    return write_folder(tmp_path_factory.mktemp("data") / "music", artists=4)


@pytest.fixture(scope="session")
def trained_once(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    command = ["train", "classifier", "--data", str(music), "--out", str(run), *QUICK]
    with pytest.MonkeyPatch.context() as patch:
        small_networks(patch)
        deepmusic.main(command, standalone_mode=False)
    return run


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A finished run of the options QUICK, to be changed at will."""
    return Path(shutil.copytree(trained_once, tmp_path / "trained"))
