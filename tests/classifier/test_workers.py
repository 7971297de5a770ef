"""Hearing in other processes: what comes back, and what a death costs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from portable import Portable
from synthetic import chords, tiny_classifier

from deepmusic.classifier import workers as module
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.library import classify_library
from deepmusic.classifier.results import ResultsFile
from deepmusic.classifier.workers import Workers
from deepmusic.errors import DeepMusicError

HERE = Path(__file__).parent


def files(folder: Path, *contents: str) -> list[str]:
    paths = []
    for index, content in enumerate(contents):
        path = folder / f"{index}.mp3"
        path.write_text(content)
        paths.append(str(path))
    return paths


def process_of(warning: str | None) -> int:
    return int(str(warning).split()[0])


def test_order_reasons_and_noise(tmp_path: Path) -> None:
    paths = files(tmp_path, "rock", "refuse", "bug", "print", "pop")
    paths.append(str(tmp_path / "missing.mp3"))
    alone = list(classify_library(paths, Portable()))
    verdicts = list(classify_library(paths, Portable(), jobs=2))
    assert [v.path for v in verdicts] == paths
    assert [v.genre or v.code for v in verdicts] == [
        "rock", "not_audio", "unexpected", "print", "pop", "unreadable",
    ]  # fmt: skip
    assert [v.error for v in verdicts] == [v.error for v in alone]
    heard_in = {process_of(v.warning) for v in verdicts if v.error is None}
    assert os.getpid() not in heard_in
    assert {str(v.warning).split()[1] for v in verdicts if v.error is None} == {"1"}


def test_few_files_start_few_processes(tmp_path: Path) -> None:
    paths = files(tmp_path, "rock")
    with Workers(50) as workers:
        workers.give(Portable())
        heard_in = {
            process_of(workers.classify(path, max_seconds=9.0).warning) for path in paths * 5
        }
    assert len(heard_in) == 1


@pytest.mark.parametrize("end", ["die", "leave"])
def test_a_death_costs_its_file_alone(tmp_path: Path, end: str) -> None:
    paths = files(tmp_path, "rock", end, "pop", "folk", "jazz")
    with ResultsFile(tmp_path / "kept", model="portable") as results:
        verdicts = list(classify_library(paths, Portable(), jobs=2, results=results))
    assert [v.genre or v.code for v in verdicts] == ["rock", "worker_died", "pop", "folk", "jazz"]
    assert str(verdicts[1].error).startswith(repr(paths[1]))
    assert str(verdicts[1].error).endswith(".")
    assert len((tmp_path / "kept").read_text().splitlines()) == 5


def test_who_dies_is_tried_once_more(tmp_path: Path) -> None:
    mark = tmp_path / "died"
    paths = files(tmp_path, "rock", f"die-once {mark}", "pop")
    verdicts = list(classify_library(paths, Portable(), jobs=2))
    assert [v.genre for v in verdicts] == ["rock", "die-once", "pop"]
    assert mark.exists()


def test_the_second_time_nothing_else_is_heard(tmp_path: Path) -> None:
    paths = files(tmp_path, "alone", *["busy"] * 6, "alone", "busy")
    verdicts = list(classify_library(paths, Portable(), jobs=3))
    assert [v.genre for v in verdicts] == ["alone", *["busy"] * 6, "alone", "busy"]


def test_closing_ends_what_is_under_way_and_keeps_no_reason_for_it(tmp_path: Path) -> None:
    paths = files(tmp_path, "rock", *["busy"] * 40)
    results = ResultsFile(tmp_path / "kept", model="portable")
    before = threading.active_count()
    with results:
        verdicts = classify_library(paths, Portable(), jobs=3, results=results)
        first = next(verdicts)
        process = process_of(first.warning)
        verdicts.close()  # type: ignore[attr-defined]
        for _ in range(500):
            if threading.active_count() == before:
                break
            time.sleep(0.02)
        assert threading.active_count() == before
    assert "worker_died" not in (tmp_path / "kept").read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_no_process_to_be_had_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(module.subprocess, "Popen", refuse)
    with pytest.raises(DeepMusicError, match=r"resource temporarily unavailable; use fewer --jobs"):
        Workers(2).start()
    verdicts = list(classify_library(files(tmp_path, "rock", "pop"), Portable(), jobs=2))
    assert [v.code for v in verdicts] == ["failed", "failed"]


def test_a_classifier_in_torch_stays_in_its_process(tmp_path: Path, sound_file: Path) -> None:
    in_torch = tiny_classifier()
    assert not in_torch.is_picklable
    with pytest.raises(TypeError, match="pickled"):
        Workers(1).give(in_torch)
    in_torch.save(tmp_path / "model.safetensors")
    loaded = Classifier.load(tmp_path, device="cpu")
    assert loaded.is_picklable
    paths = [str(sound_file)] * 3
    apart = list(classify_library(paths, loaded, jobs=2, segments=True))
    assert apart == list(classify_library(paths, loaded, segments=True))
    assert loaded.ensemble is not None  # in torch now, too: that is left behind
    assert list(classify_library(paths, loaded, jobs=2, segments=True)) == apart
    assert len(list(classify_library(paths, in_torch, jobs=2))) == 3


def test_a_script_without_a_guard_and_without_torch(tmp_path: Path) -> None:
    """Pools of the standard library would run this script again in each process."""
    import soundfile

    tiny_classifier().save(tmp_path / "model.safetensors")
    for index in range(3):
        soundfile.write(tmp_path / f"{index}.wav", chords(index, 4.0), 22050)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "print('once')\n"
        "from deepmusic.classifier import Classifier, classify_library, walk_audio\n"
        f"classifier = Classifier.load({str(tmp_path)!r})\n"
        f"for verdict in classify_library(walk_audio([{str(tmp_path)!r}]), classifier, jobs=2):\n"
        "    print(verdict.path, verdict.error)\n"
        "print(sorted({'torch', 'scipy', 'av'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "once",
        *(f"{tmp_path / str(index)}.wav None" for index in range(3)),
        "[]",
    ]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_workers_go_when_their_caller_is_killed(tmp_path: Path) -> None:
    paths = files(tmp_path, "rock", "busy")
    code = (
        "import sys, time\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from portable import Portable\n"
        "from deepmusic.classifier.workers import Workers\n"
        "workers = Workers(1)\n"
        "workers.give(Portable())\n"
        f"print(workers.classify({paths[0]!r}, max_seconds=9.0).warning.split()[0], flush=True)\n"
        f"workers.classify({paths[1]!r}, max_seconds=9.0)\n"
        "time.sleep(60)\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    worker = int(caller.stdout.readline())
    assert is_running(worker)
    caller.kill()
    caller.communicate()
    for _ in range(500):
        if not is_running(worker):
            break
        time.sleep(0.02)
    assert not is_running(worker)


def is_running(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
