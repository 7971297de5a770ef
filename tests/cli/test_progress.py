"""Progress: plain lines without a terminal, a bar on one."""

from __future__ import annotations

import sys

import pytest

from deepmusic.cli import progress as module
from deepmusic.cli.progress import display, training_progress
from deepmusic.training import Progress


def steps(epochs: int = 2) -> list[Progress]:
    record = {"validation": {"loss": 0.5, "accuracy": 0.75}, "seconds": 1.25}
    return [
        Progress(
            setting="cpu, float32",
            epoch=epoch,
            epochs=epochs,
            step=step,
            steps=3,
            train={"loss": 1 / 3},
            seconds_left=61.0,
            record=record if step == 3 else None,
        )
        for epoch in range(1, epochs + 1)
        for step in (1, 2, 3)
    ]


def test_training_is_one_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    with display() as screen:
        on_progress = training_progress(screen)
        for progress in steps():
            on_progress(progress)
    output, error = capsys.readouterr()
    assert output == ""
    assert error.splitlines() == [
        "Training on cpu, float32.",
        *(
            f"epoch {epoch}/2  loss 0.3333  validation: loss 0.5  accuracy 0.75  1.2 s  "
            "0:01:01 left"
            for epoch in (1, 2)
        ),
    ]


def test_a_long_run_reports_from_time_to_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with display(100, unit="tracks") as shown:
        for _ in range(100):
            now += 0.5
            shown.advance()
    assert capsys.readouterr().err.splitlines() == [
        f"{done} of 100 tracks, 2.0 per second, 0:00:{(100 - done) // 2:02} left"
        for done in (20, 40, 60, 80)
    ]
    now = 0.0
    with display(unit="bytes", label="gtzan") as shown:
        now = 20.0
        shown.advance(3e6, total=1.2e9)
    assert capsys.readouterr().err == "gtzan: 3.0 MB of 1.2 GB, 150.0 kB/s, 2:13:00 left\n"


def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with display() as screen:
        on_progress = training_progress(screen)
        for progress in steps():
            on_progress(progress)
    error = capsys.readouterr().err
    assert "epoch 2/2" in error
    assert "━" in error
