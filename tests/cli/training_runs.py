"""A small folder of music to train on, and ``deepmusic`` called in this process or another.

``python training_runs.py ARGS`` is ``deepmusic ARGS`` with small networks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "classifier"))
from synthetic import tiny_config, write_folder as write_folder

from deepmusic.classifier.config import ClassifierConfig
from deepmusic.cli import main

QUICK = ["--from-scratch", "--networks", "1", "--epochs", "2", "--test", "0.25"]
SMALL = [sys.executable, __file__]


def small_networks(patch: pytest.MonkeyPatch) -> None:
    """Let ``train classifier`` train small networks, and plot nothing but their mean."""

    def small(*, genres: tuple[str, ...], networks: int) -> ClassifierConfig:
        return tiny_config(genres=genres, networks=networks, texture_networks=1)

    patch.setattr("deepmusic.classifier.training.ClassifierConfig", small)
    patch.setattr("deepmusic.training.loop.draw_history", lambda *_, **__: [])


def start(command: list[object], **options: object) -> subprocess.Popen[str]:
    """Start a process with pipes, one thread, and Ctrl-C as in a terminal."""
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [*map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DEEPMUSIC_DEBUG": "1"},
        # a shell starts what it runs in the background deaf to Ctrl-C, and tests may run so
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


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


def refusal(done: Done, *, status: int) -> str:
    """What was wrong: one sentence on standard error, and nothing on standard output."""
    assert done.status == status, done
    assert done.output == ""
    assert "Traceback" not in done.error
    *before, last = done.error.splitlines()
    assert last.startswith("deepmusic: "), done.error
    assert not any(line.startswith("deepmusic: ") for line in before)
    assert "unexpected" not in last
    assert last.endswith(".")
    return last.removeprefix("deepmusic: ")


if __name__ == "__main__":
    small_networks(pytest.MonkeyPatch())
    main()
