"""The map over files: interrupts, and what workers print."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pytest

from deepmusic import parallel
from deepmusic.parallel import cores, map_files


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


def process(path: str) -> Row:
    if "die" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    return Row(path)


def test_no_process_starts_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(workers: int) -> None:
        raise AssertionError("processes were started")

    monkeypatch.setattr("deepmusic.parallel.processes", fail)
    assert list(map_files(process, [], Row, workers=80)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("paths", "there", "expected"), [("abc", 2, 2), ("ab", 80, 2), ("a", 80, 1), ("abc", 1, 1)]
)
def test_at_most_one_process_per_core_and_per_path(
    monkeypatch: pytest.MonkeyPatch, paths: str, there: int, expected: int
) -> None:
    started = []
    original = parallel.processes
    monkeypatch.setattr("deepmusic.parallel.cores", lambda: there)
    monkeypatch.setattr("deepmusic.parallel.processes", lambda n: started.append(n) or original(n))
    rows = map_files(process, iter(paths), Row, workers=80)
    assert sorted(row.path for row in rows) == sorted(paths)
    assert started == [expected]


@pytest.mark.slow
def test_one_process_is_still_another_one() -> None:
    """What kills it does not kill this one, even where there is one core."""
    rows = list(map_files(process, ["die"], lambda path: Row(f"{path} crashed"), workers=2))
    assert rows == [Row("die crashed")]


def test_cores_are_those_that_may_be_used() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_a_second_interrupt_stops_at_once() -> None:
    def work(path: str) -> Row:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return Row(path)

    with pytest.raises(KeyboardInterrupt):
        next(map_files(work, ["a"], Row))
