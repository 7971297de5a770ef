"""``deepmusic train classifier`` on small folders of synthetic music, good and bad."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from training_runs import QUICK, SMALL, Call, refusal, start, write_folder

from deepmusic.classifier.inference import Classifier
from deepmusic.training import load_weights

TRAIN = [*SMALL, "train", "classifier", "--from-scratch"]


def content(run: Path) -> tuple[dict[str, bytes], object]:
    """All of a model to the last bit; safetensors orders its header at random."""
    weights, metadata = load_weights(run / "model.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}, metadata


def networks_of(run: Path) -> int:
    """How many were trained: those of the ensemble, and those for calibration."""
    return len(Classifier.load(run).ensemble.networks) + len(list((run / "calibration").iterdir()))


@pytest.mark.slow
def test_a_run_is_trained_reported_and_usable(music: Path, tmp_path: Path, call: Call) -> None:
    run = tmp_path / "run"
    done = call("train", "classifier", "--data", music, "--out", run, *QUICK)
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


@pytest.mark.slow
def test_without_a_test_the_figures_are_called_optimistic(
    music: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("train", "classifier", "--data", music, *QUICK, "--test", "0")
    assert done.status == 0, done.error
    assert "No test tracks were held out" in done.output
    assert "optimistic" in done.output
    run = tmp_path / "runs" / music.name
    assert "test" not in json.loads((run / "metrics.json").read_text())
    recorded = call("evaluate", run, "--format", "json")
    assert json.loads(recorded.output)["part"] == "validation"
    assert "No tracks were held out for a test" in recorded.error
    again = call("evaluate", run, "--data", music)
    assert "no tracks were held out for a test" in refusal(again, status=1)


@pytest.mark.slow
def test_a_finished_run_is_neither_overwritten_nor_changed_by_a_resume(
    trained: Path, music: Path, tmp_path: Path, call: Call
) -> None:
    before, splits = content(trained), (trained / "splits.json").read_bytes()
    command = ["train", "classifier", "--data", music, "--out", trained, *QUICK]
    done = call(*command)
    assert done.error.count("\n") == 1  # refused before any work
    assert "already holds a run" in refusal(done, status=1)
    done = call(*command, "--resume")
    assert done.status == 0, done.error
    for changed in (["--seed", "7"], ["--test", "0.5"]):
        done = call(*command, "--resume", *changed)
        assert "another seed, share for the test" in refusal(done, status=1)
    assert content(trained) == before
    # or the test would be on tracks that were learned from
    assert (trained / "splits.json").read_bytes() == splits
    missing = call(*command[:5], tmp_path / "no", "--from-scratch", "--resume")
    assert "There is no run at" in refusal(missing, status=1)
    assert not (tmp_path / "no").exists()


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "does not exist"),
        ("empty", "holds no audio files"),
        ("one genre", "only 'chords'"),
        ("two artists", "in 1 group "),
        ("one file", "'clicks' has 1 track "),
        ("nothing but text", "two genres"),
    ],
)
def test_data_that_cannot_be_learned_from(
    kind: str, message: str, tmp_path: Path, call: Call
) -> None:
    folder = bad_folder(kind, tmp_path / "music")
    done = call("train", "classifier", "--data", folder, "--out", tmp_path / "run", *QUICK)
    assert message in refusal(done, status=1)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_missing_or_foreign_table(music: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "foreign.csv").write_text("a,b\n1,2\n")
    for table in ("no.csv", "foreign.csv"):
        command = ["train", "classifier", "--data", music, "--out", tmp_path / "r", *QUICK]
        done = call(*command, "--tracks", tmp_path / table)
        assert table in refusal(done, status=1)


@pytest.mark.slow
def test_odd_files_are_skipped_and_the_rest_is_trained(
    shared_data: Path, tmp_path: Path, call: Call
) -> None:
    """Each file in the folder of a genre is used, or named once with its reason."""
    music = write_folder(tmp_path / "music", artists=4)
    (music / "odd").mkdir()
    expected = {}
    with open(shared_data / "odd" / "manifest.csv", encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            file = shared_data / "odd" / row["file"]
            if row["kind"] == "audio" and file.is_file():
                copy = music / "odd" / row["file"].replace("/", "_")
                copy.symlink_to(file)
                expected[copy.name] = row["expectation"]
    done = call("train", "classifier", "--data", music, "--out", tmp_path / "run", *QUICK)
    assert done.status == 1
    assert "files were not used." in done.error
    assert "Traceback" not in done.error
    splits = json.loads((tmp_path / "run" / "splits.json").read_text())
    used = {Path(entry["path"]).name for entry in splits["tracks"] if entry["genre"] == "odd"}
    for name, expectation in expected.items():
        if name.endswith((".m3u", ".txt")):  # no music by its name: passed over, as pictures are
            assert name not in used
            continue
        reasons = [
            line
            for line in done.error.splitlines()
            if f"odd/{name}" in line and "without a row in" not in line
        ]
        assert len(reasons) == (0 if name in used else 1), name
        assert not (expectation == "reason" and name in used), name
        assert not (expectation == "verdict" and name not in used), (name, reasons)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_kill_9_and_resume_give_the_same_model_as_a_whole_run(
    music: Path, tmp_path: Path, call: Call
) -> None:
    options = ["--data", music, *QUICK, "--networks", "2"]

    def kill_at(words: list[str], *more: str) -> None:
        process = start([*TRAIN, *options, "--out", tmp_path / "killed", *more])
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(words[0]):
                words.pop(0)
            if not words:
                break
        assert not words
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL

    kill_at(["Network 1", "epoch 1"])
    kill_at(["Network 2", "epoch 1"], "--resume")
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    for name, resume in (("whole", []), ("killed", ["--resume"])):
        done = call(*TRAIN[-3:], *options, "--out", tmp_path / name, *resume)
        assert done.status == 0, done.error
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    for name in ("splits.json", "metrics.json"):
        killed, expected = tmp_path / "killed" / name, tmp_path / "whole" / name
        assert killed.read_bytes() == expected.read_bytes(), name
    assert not list((tmp_path / "killed").rglob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to a child here")
def test_ctrl_c_says_how_to_continue(music: Path, tmp_path: Path) -> None:
    process = start([*TRAIN, "--data", music, "--out", tmp_path / "run", "--epochs", "500"])
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 1/"):
            break
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=120)
    assert (process.returncode, output) == (130, ""), error
    last = error.splitlines()[-1]
    assert last.startswith("Stopped in epoch ")
    assert "--resume" in last
    assert "Traceback" not in error


@pytest.mark.slow
def test_two_processes_train_one_run(music: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(music, tmp_path / "music"))
    (folder / "clicks" / "text.mp3").write_text("la la la")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--data", folder, "--out", tmp_path / "run", "--device", "cpu", *QUICK]
    process = start([SMALL[0], *launch, *TRAIN[1:], *options])
    output, error = process.communicate(timeout=300)
    assert process.returncode == 1  # for the text
    assert "text.mp3" in error
    assert "1 file was not used." in error
    assert output.count("The run is in") == 1
    networks = networks_of(tmp_path / "run")
    assert error.count(f"Network 1 of {networks}\n") == 1
    assert "over 2 processes" in error
    assert error.count("epoch 1/2") == networks
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["tracks"] >= 2
