"""The command with a fake classifier, in this process and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_classifier import COMMAND, FakeClassifier, Run


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
