"""The map over files: interrupts, and what workers print."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pytest

from deepmusic.parallel import map_files


@dataclass
class Row:
    path: str


def test_an_interrupt_stops_after_the_file() -> None:
    before = signal.getsignal(signal.SIGINT)
    done = []

    def work(path: str) -> Row:
        if path == "b":
            signal.raise_signal(signal.SIGINT)
        done.append(path)
        return Row(path)

    rows = map_files(work, ["a", "a", "b", "c"], Row)
    assert [next(rows), next(rows)] == [Row("a"), Row("b")]
    with pytest.raises(KeyboardInterrupt):
        next(rows)
    assert done == ["a", "b"]
    assert signal.getsignal(signal.SIGINT) == before


def print_path(path: str) -> Row:
    os.write(1, path.encode())  # as a C library would
    return Row(path)


@pytest.mark.slow
def test_workers_leave_standard_output_to_the_results(capfd: pytest.CaptureFixture[str]) -> None:
    assert sorted(row.path for row in map_files(print_path, "ab", Row, workers=2)) == ["a", "b"]
    assert capfd.readouterr().out == ""


def test_a_second_interrupt_stops_at_once() -> None:
    def work(path: str) -> Row:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return Row(path)

    with pytest.raises(KeyboardInterrupt):
        next(map_files(work, ["a"], Row))
