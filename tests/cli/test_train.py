"""``deepmusic train classifier`` on small folders of synthetic music, good and bad."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import QUICK, Call, write_folder

from deepmusic.classifier.inference import Classifier
from deepmusic.training import load_weights

TRAIN = [sys.executable, "-m", "deepmusic", "train", "classifier"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "DEEPMUSIC_DEBUG": "1"}


def one_sentence(error: str) -> str:
    """The complaint, which is the last line and the only one."""
    lines = error.splitlines()
    assert "Traceback" not in error
    assert [line for line in lines if line.startswith("deepmusic: ")] == lines[-1:]
    assert "unexpected" not in lines[-1]
    assert lines[-1].endswith(".")
    return lines[-1]


def content(run: Path) -> tuple[dict[str, bytes], object]:
    """All of a model to the last bit; safetensors orders its header by chance."""
    weights, metadata = load_weights(run / "model.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}, metadata


def networks_of(run: Path) -> int:
    """How many were trained: those of the ensemble, and those for calibration."""
    return len(Classifier.load(run).ensemble.networks) + len(list((run / "calibration").iterdir()))


def test_a_run_is_trained_reported_and_usable(music: Path, tmp_path: Path, call: Call) -> None:
    run = tmp_path / "run"
    done = call("train", "classifier", "--data", music, "--out", run, *QUICK, "--networks", "2")
    assert done.status == 0, done.error
    metrics = json.loads((run / "metrics.json").read_text())
    assert f"On {metrics['test']['tracks']} test tracks" in done.output
    assert f"accuracy {metrics['test']['accuracy']:.1%}" in done.output
    assert f"macro-F1 {metrics['test']['macro_f1']:.3f}" in done.output
    assert "unsure" in done.output
    assert f"--model {run}" in done.output
    lines = done.error.splitlines()
    assert lines[0] == "Computing the spectrograms of 16 tracks."
    networks = networks_of(run)
    assert networks > 3
    for number in range(1, networks + 1):
        assert lines.count(f"Network {number} of {networks}") == 1
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 2 * networks
    assert all("loss" in line and "accuracy" in line and "left" in line for line in epochs)
    for name in ("splits.json", "accuracy.png", "loss.png", "confusion.png", "model.safetensors"):
        assert (run / name).stat().st_size
    plot = tmp_path / "why.png"
    track = music / "clicks" / "0.wav"
    classified = call("classify", track, "--model", run, "--explain", plot)
    assert classified.status == 0, classified.error
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert any(word in classified.output for word in ("chords", "clicks", "unsure"))


def test_without_a_test_the_figures_are_called_optimistic(
    music: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("train", "classifier", "--data", music, *QUICK, "--test", "0")
    assert done.status == 0, done.error
    assert "No test tracks were held out" in done.output
    assert "optimistic" in done.output
    metrics = json.loads((tmp_path / "runs" / music.name / "metrics.json").read_text())
    assert "test" not in metrics


def test_a_run_in_the_way_is_refused_before_any_work(
    trained: Path, music: Path, call: Call
) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in trained.rglob("*"))
    done = call("train", "classifier", "--data", music, "--out", trained, *QUICK)
    assert done.status == 1
    assert done.error.count("\n") == 1
    assert "already holds a run" in one_sentence(done.error)
    assert sorted((path, path.stat().st_mtime_ns) for path in trained.rglob("*")) == before


def test_there_must_be_a_run_to_resume(music: Path, tmp_path: Path, call: Call) -> None:
    done = call("train", "classifier", "--data", music, "--out", tmp_path / "no", "--resume")
    assert done.status == 1
    assert "There is no run at" in one_sentence(done.error)
    assert not (tmp_path / "no").exists()


def test_a_finished_run_resumed_is_the_same(trained: Path, music: Path, call: Call) -> None:
    before = content(trained)
    done = call("train", "classifier", "--data", music, "--out", trained, *QUICK, "--resume")
    assert done.status == 0, done.error
    assert content(trained) == before
    splits = (trained / "splits.json").read_bytes()
    for changed in (["--seed", "7"], ["--test", "0.5"]):
        arguments = ["train", "classifier", "--data", music, "--out", trained, *QUICK, "--resume"]
        other = call(*arguments, *changed)
        assert other.status == 1
        assert "another seed, share for the test" in one_sentence(other.error)
    assert content(trained) == before
    # or the test would be on tracks that were learned from
    assert (trained / "splits.json").read_bytes() == splits


def test_wrong_usage(music: Path, call: Call) -> None:
    for wrong in (
        [],
        ["--data", str(music), "--test", "0.9"],
        ["--data", str(music), "--networks", "0"],
        ["--data", str(music), "--device", "abacus"],
    ):
        done = call("train", "classifier", *wrong)
        assert done.status == 2, wrong
        assert "Error" in done.error


def bad_folder(kind: str, root: Path) -> Path:
    if kind == "missing":
        return root / "nowhere"
    if kind == "empty":
        root.mkdir()
        return root
    write_folder(root, artists=1 if kind == "two artists" else 4)
    if kind == "one genre":
        shutil.rmtree(root / "clicks")
        (root / "tracks.csv").unlink()
    if kind == "nothing but text":
        for path in root.rglob("*.wav"):
            path.write_text("la la la")
    if kind == "one file":
        for path in sorted((root / "clicks").iterdir())[1:]:
            path.unlink()
        (root / "tracks.csv").unlink()
    return root


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "does not exist"),
        ("empty", "holds no audio files"),
        ("one genre", "only 'chords'"),
        ("two artists", "in 1 groups"),
        ("one file", "'clicks' has 1 tracks"),
        ("nothing but text", "two genres"),
    ],
)
def test_data_that_cannot_be_learned_from(kind: str, said: str, tmp_path: Path, call: Call) -> None:
    folder = bad_folder(kind, tmp_path / "music")
    done = call("train", "classifier", "--data", folder, "--out", tmp_path / "run", *QUICK)
    assert done.status == 1
    assert said in one_sentence(done.error)
    assert done.output == ""
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_missing_or_foreign_table(music: Path, tmp_path: Path, call: Call) -> None:
    foreign = tmp_path / "foreign.csv"
    foreign.write_text("a,b\n1,2\n")
    for table in (tmp_path / "no.csv", foreign):
        done = call(
            "train", "classifier", "--data", music, "--out", tmp_path / "r", "--tracks", table
        )
        assert done.status == 1
        assert table.name in one_sentence(done.error)


ODD = ["not/text.mp3", "not/empty.mp3", "not/jpeg.mp3", "not/id3_only.mp3", "mp3/plain.mp3"]


def odd_rows(shared_data: Path) -> dict[str, str]:
    with open(shared_data / "odd" / "manifest.csv", encoding="utf-8", newline="") as table:
        return {
            row["file"]: row["expectation"]
            for row in csv.DictReader(table)
            if row["kind"] == "audio"
        }


def test_odd_files_are_skipped_and_the_rest_is_trained(
    shared_data: Path, tmp_path: Path, call: Call
) -> None:
    music = write_folder(tmp_path / "music", artists=4)
    for name in ODD:
        shutil.copy(shared_data / "odd" / "audio" / name, music / "clicks")
    done = call("train", "classifier", "--data", music, "--out", tmp_path / "run", *QUICK)
    assert done.status == 1
    assert "4 files were not used." in done.error
    for name in ODD:
        assert (f"clicks/{Path(name).name}" in done.error) == ("plain" not in name), name
    assert Classifier.load(tmp_path / "run").card["tracks"] == 17


@pytest.mark.slow
def test_all_odd_files_in_a_training_folder(shared_data: Path, tmp_path: Path) -> None:
    music = write_folder(tmp_path / "music", artists=4)
    (music / "odd").mkdir()
    expected = {}
    for name, expectation in odd_rows(shared_data).items():
        file = shared_data / "odd" / name
        if file.is_file():
            copy = music / "odd" / name.replace("/", "_")
            copy.symlink_to(file)
            expected[copy.name] = expectation
    done = subprocess.run(
        [*TRAIN, "--data", music, "--out", tmp_path / "run", *QUICK],
        capture_output=True,
        text=True,
        timeout=500,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    splits = json.loads((tmp_path / "run" / "splits.json").read_text())
    used = {Path(entry["path"]).name for entry in splits["tracks"] if entry["genre"] == "odd"}
    for name, expectation in expected.items():
        if name.endswith((".m3u", ".txt")):  # no music by its name: passed over, as pictures are
            assert name not in used
            continue
        reasons = [
            line
            for line in done.stderr.splitlines()
            if f"odd/{name}" in line and "without a row in" not in line
        ]
        assert len(reasons) == (0 if name in used else 1), name
        assert not (expectation == "reason" and name in used), name
        assert not (expectation == "verdict" and name not in used), (name, reasons)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_kill_9_and_resume_give_the_very_model_of_a_whole_run(music: Path, tmp_path: Path) -> None:
    options = ["--data", music, "--networks", "2", "--epochs", "3", "--test", "0.25"]

    def start(name: str, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*TRAIN, *options, "--out", tmp_path / name, *more],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )

    def kill_at(process: subprocess.Popen[str], *words: str) -> None:
        assert process.stderr is not None
        waiting = list(words)
        for line in process.stderr:
            if line.startswith(waiting[0]):
                waiting.pop(0)
            if not waiting:
                break
        assert not waiting, waiting
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL

    whole = start("whole")
    _, error = whole.communicate(timeout=300)
    assert whole.returncode == 0, error
    kill_at(start("killed"), "Network 1", "epoch 2")
    kill_at(start("killed", "--resume"), "Network 2", "epoch 1")
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    last = start("killed", "--resume")
    _, error = last.communicate(timeout=300)
    assert last.returncode == 0, error
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    for name in ("splits.json", "metrics.json"):
        killed, expected = tmp_path / "killed" / name, tmp_path / "whole" / name
        assert killed.read_bytes() == expected.read_bytes(), name
    assert not list((tmp_path / "killed").rglob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to a child here")
def test_ctrl_c_says_how_to_go_on(music: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*TRAIN, "--data", music, "--out", tmp_path / "run", "--epochs", "500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 1/"):
            break
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert error.splitlines()[-1].startswith("Stopped in epoch ")
    assert "--resume" in error.splitlines()[-1]
    assert "Traceback" not in error
    assert output == ""


@pytest.mark.slow
def test_two_processes_train_one_run(music: Path, tmp_path: Path) -> None:
    def torchrun(folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *[sys.executable, "-m", "torch.distributed.run", "--standalone"],
                *["--nproc-per-node", "2", "-m", "deepmusic", "train", "classifier"],
                *["--data", folder, "--out", tmp_path / "run", "--device", "cpu", *QUICK],
            ],
            capture_output=True,
            text=True,
            timeout=300,
            env=ENVIRONMENT,
            check=False,
        )

    folder = Path(shutil.copytree(music, tmp_path / "music"))
    (folder / "clicks" / "text.mp3").write_text("la la la")
    done = torchrun(folder)
    assert done.returncode == 1  # for the text
    assert "text.mp3" in done.stderr
    assert "1 file was not used." in done.stderr
    assert done.stdout.count("The run is in") == 1
    networks = networks_of(tmp_path / "run")
    assert done.stderr.count(f"Network 1 of {networks}\n") == 1
    assert "over 2 processes" in done.stderr
    assert done.stderr.count("epoch 1/2") == networks
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["tracks"] >= 2

    shutil.rmtree(tmp_path / "run")
    bad = torchrun(tmp_path / "nowhere")
    assert bad.returncode != 0
    assert "does not exist" in bad.stderr
