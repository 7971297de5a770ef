"""A small folder of music to train on, and ``deepmusic`` called in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "classifier"))
from synthetic import tiny_config, write_folder as write_folder

from deepmusic.classifier.config import ClassifierConfig
from deepmusic.cli import main

QUICK = ["--networks", "1", "--epochs", "2", "--test", "0.25"]


def small_networks(patch: pytest.MonkeyPatch) -> None:
    """Let ``train classifier`` train small networks, and plot nothing but their mean."""

    def small(*, genres: tuple[str, ...], networks: int) -> ClassifierConfig:
        return tiny_config(genres=genres, networks=networks, texture_networks=1)

    patch.setattr("deepmusic.classifier.training.ClassifierConfig", small)
    patch.setattr("deepmusic.training.loop.draw_history", lambda *_, **__: [])


@dataclass(frozen=True)
class Done:
    """What a call of the command gave."""

    status: int
    output: str
    error: str


Call = Callable[..., Done]


def call_main(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> Done:
    """Run the command as a person would, in this process: importing torch takes seconds."""
    monkeypatch.setattr(sys, "argv", ["deepmusic", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main()
    output, error = capsys.readouterr()
    status = exit_.value.code
    assert isinstance(status, int)
    return Done(status, output, error)
