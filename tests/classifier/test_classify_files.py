"""Many files: in order, in several processes, and each content once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from crashing import Crashing
from synthetic import tiny_classifier

from deepmusic.audio import NotAudio
from deepmusic.classifier import Classifier, VerdictStore, classify_files
from deepmusic.errors import DataError


def write(folder: Path, *contents: str) -> list[str]:
    paths = []
    for index, content in enumerate(contents):
        path = folder / f"{index}.mp3"
        path.write_text(content)
        paths.append(str(path))
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_verdicts_come_in_order_with_errors_in_place(tmp_path: Path, jobs: int) -> None:
    paths = write(tmp_path, "rock", "refuse", "bug", "memory", "pop", *["rock"] * 20)
    gone = str(tmp_path / "gone.mp3")
    entries = [NotAudio("x", "x is a folder.", "directory"), *paths, paths[0], gone]
    verdicts = list(classify_files(entries, Crashing(), jobs=jobs))
    assert [verdict.path for verdict in verdicts] == ["x", *paths, gone]
    assert [v.genre or v.code for v in verdicts] == [
        "directory", "rock", "not_audio", "unexpected", "memory", "pop", *["rock"] * 20,
        "unreadable",
    ]  # fmt: skip
    assert (
        verdicts[3].error
        == f"{paths[2]!r} could not be classified: unexpected RuntimeError: a bug."
    )
    assert not any(verdict.segments for verdict in verdicts)
    processes = {verdict.warning for verdict in verdicts if verdict.genre}
    assert (str(os.getpid()) in processes) == (jobs == 1)


@pytest.mark.slow
def test_a_crash_costs_only_the_file_that_causes_it(tmp_path: Path) -> None:
    paths = write(tmp_path, "rock", "die", "pop", "folk", *["jazz"] * 5)
    with VerdictStore(tmp_path / "store.db", model="crashing") as store:
        verdicts = list(classify_files(paths, Crashing(), jobs=2, store=store))
        assert [v.genre or v.code for v in verdicts] == [
            "rock", "worker_died", "pop", "folk", *["jazz"] * 5,
        ]  # fmt: skip
        assert str(verdicts[1].error).startswith(repr(paths[1]))
        stored = [store.verdict(store.key(path), path) is not None for path in paths]
        assert stored == [True, False, *[True] * 7]


@pytest.mark.slow
def test_a_file_that_crashes_once_is_tried_again(tmp_path: Path) -> None:
    paths = write(tmp_path, "rock", f"die-once {tmp_path / 'died'}", "pop")
    verdicts = list(classify_files(paths, Crashing(), jobs=2))
    assert [verdict.genre for verdict in verdicts] == ["rock", "die-once", "pop"]


def test_stored_verdicts_are_found_by_content(tmp_path: Path) -> None:
    paths = write(tmp_path, "rock", "rock", "refuse")

    def classified(model: str = "m", max_seconds: float = 9.0, segments: bool = False) -> list[int]:
        classifier = Crashing()
        with VerdictStore(
            tmp_path / "store.db", model=model, max_seconds=max_seconds, segments=segments
        ) as store:
            verdicts = list(classify_files(paths, classifier, store=store, segments=segments))
        assert [verdict.path for verdict in verdicts] == paths
        assert [verdict.genre for verdict in verdicts] == ["rock", "rock", None]
        assert verdicts[0].confidence == pytest.approx(1 / 3, abs=1e-4)
        assert len(verdicts[0].segments) == segments
        return [paths.index(path) for path in classifier.classified]

    assert classified() == [0, 2]  # the second file has the content of the first
    assert classified() == [2]  # failures are tried again
    assert classified(segments=True) == [0, 2]
    assert classified(segments=True) == classified() == [2]
    assert classified(max_seconds=5.0) == classified(model="other") == [0, 2]
    shutil.move(paths[0], tmp_path / "moved.mp3")
    Path(paths[1]).write_text("rock indeed")
    paths[0] = str(tmp_path / "moved.mp3")
    assert classified() == [1, 2]


def test_known_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write(tmp_path, "rock", "pop", "jazz")
    for path in paths:
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (tmp_path / "link.mp3").symlink_to(paths[1])
    os.link(paths[2], tmp_path / "hard.mp3")
    paths += [str(tmp_path / "link.mp3"), str(tmp_path / "hard.mp3")]
    genres = ["rock", "pop", "jazz", "pop", "jazz"]

    def classified(jobs: int) -> list[str]:
        classifier = Crashing()
        with VerdictStore(tmp_path / "store.db", model="m") as store:
            verdicts = list(classify_files(paths, classifier, jobs=jobs, store=store))
        assert [(verdict.path, verdict.genre) for verdict in verdicts] == list(
            zip(paths, genres, strict=True)
        )
        return classifier.classified

    assert classified(1) == paths[:3]  # a file under two names once

    def fail(*_: object) -> None:
        raise AssertionError("a file was read, or a process started")

    monkeypatch.setattr("deepmusic.store.content_digest", fail)
    monkeypatch.setattr("deepmusic.parallel.processes", fail)
    assert classified(80) == classified(1) == []


def test_an_error_names_each_name_of_a_file(tmp_path: Path) -> None:
    (path,) = write(tmp_path, "refuse")
    os.link(path, tmp_path / "other.mp3")
    verdicts = list(classify_files([path, str(tmp_path / "other.mp3")], Crashing()))
    assert all(repr(verdict.path) in str(verdict.error) for verdict in verdicts)
    assert [os.path.basename(verdict.path) for verdict in verdicts] == ["0.mp3", "other.mp3"]


def test_a_store_of_something_else_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "diary"
    foreign.write_text("my diary")
    with pytest.raises(DataError, match="not a store of verdicts"):
        VerdictStore(foreign, model="m")
    assert foreign.read_text() == "my diary"
    os.mkfifo(tmp_path / "pipe")
    with VerdictStore(tmp_path / "store.db", model="m") as store:
        assert store.key(str(tmp_path / "pipe")) is None  # and does not block
        assert store.key(str(tmp_path / "gone")) is None


@pytest.mark.slow
def test_exported_networks_classify_in_processes(tmp_path: Path, sound_file: Path) -> None:
    """Also from a script without a guard, and without importing PyTorch."""
    tiny_classifier().save(tmp_path / "model.safetensors")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from deepmusic.classifier import Classifier, classify_files\n"
        f"classifier = Classifier.load({str(tmp_path)!r})\n"
        "for verdict in classify_files(sys.argv[1:], classifier, jobs=2):\n"
        "    print(verdict.top[0].probability)\n"
        "print('torch' in sys.modules)\n"
    )
    paths = [str(shutil.copy(sound_file, tmp_path / f"{index}.wav")) for index in range(3)]
    done = subprocess.run(
        [sys.executable, script, *paths],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    expected = Classifier.load(tmp_path, device="cpu").classify(paths[0]).top[0].probability
    *values, imported = done.stdout.split()
    assert [float(value) for value in values] == [pytest.approx(expected)] * 3
    assert imported == "False"


def test_a_classifier_in_torch_stays_in_its_process(sound_file: Path) -> None:
    classifier = tiny_classifier()
    assert not classifier.is_picklable
    assert len(list(classify_files([str(sound_file)], classifier, jobs=2))) == 1
