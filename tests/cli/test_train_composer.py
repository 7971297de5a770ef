"""``deepmusic train composer`` on small folders of MIDI files, good and bad."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from click.testing import CliRunner
from composer_runs import TINY, Row, score_of, write_pieces, write_styles
from training_runs import Call, refusal, start

from deepmusic.cli import deepmusic
from deepmusic.composer import Composer
from deepmusic.datasets import load_midi_folder
from deepmusic.music import Note, Part, Score, read_midi, write_midi
from deepmusic.training import load_weights, read_history

TRAIN = [sys.executable, "-m", "deepmusic", "train", "composer"]
PLAIN = ["--bars", "4", "--candidates", "1", "--seed", "1", "--no-wav", "--no-picture"]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """One thread, as in the processes that are started here, and a critic of few excerpts."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        critic = "deepmusic.composer.critic_training"
        for name, value in {"_PER_PIECE": 2, "_MIN_PER_STYLE": 12, "_EPOCHS": 3}.items():
            patch.setattr(f"{critic}.{name}", value, raising=False)
        yield


@pytest.fixture(scope="module")
def midis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_styles(tmp_path_factory.mktemp("data") / "midis")


class Trained(NamedTuple):
    """The current folder, the finished run in it, and what was printed."""

    here: Path
    run: Path
    output: str
    error: str


@pytest.fixture(scope="module")
def finished(midis: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that was given no name."""
    here = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        done = CliRunner().invoke(deepmusic, ["train", "composer", "--data", str(midis), *TINY])
    assert done.exit_code == 0, done.stderr
    return Trained(here, here / "runs" / midis.name, done.stdout, done.stderr)


def content(run: Path) -> tuple[dict[str, bytes], object]:
    """All of a model to the last bit; safetensors orders its header at random."""
    weights, metadata = load_weights(run / "model.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}, metadata


def piece_on(side: str, folder: Path) -> None:
    """Write a file of one piece that falls on a side of the split."""
    folder.mkdir(parents=True)
    for pitch in range(40, 90):
        rows: list[Row] = [(beat, 1, pitch + beat % 3, 0) for beat in range(16)]
        write_midi(score_of(rows, parts=1), folder / "only.mid")
        dataset = load_midi_folder(folder.parent, steps_per_beat=4)
        if any(piece.style == folder.name for piece in getattr(dataset, side)):
            return
    raise AssertionError("not one of fifty")


@pytest.mark.slow
def test_the_run_is_complete_and_its_figures_are_printed(finished: Trained, midis: Path) -> None:
    for name in ("config.json", "history.jsonl", "loss.png", "accuracy.png", "metrics.json"):
        assert (finished.run / name).stat().st_size, name
    assert [record["epoch"] for record in read_history(finished.run)] == [1, 2]
    dataset = load_midi_folder(midis, steps_per_beat=4)
    counts = [len(dataset.train), len(dataset.validation), len(dataset.test)]
    lines = finished.error.splitlines()
    assert lines[0] == "{} train, {} validation, {} test pieces.".format(*counts)
    epochs = [line.split()[1] for line in lines if line.startswith("epoch ")]
    assert epochs == ["1/2", "2/2"]
    metrics = json.loads((finished.run / "metrics.json").read_text())
    figures = finished.output.splitlines()[:-1]
    assert len(figures) == len(metrics)
    for line, (side, result) in zip(figures, metrics.items(), strict=True):
        assert line.startswith(f"{side.capitalize()} pieces, nats per step: ")
        for style, nats in result["without_pose"].items():
            assert f"{style} {nats:.2f}" in line


@pytest.mark.slow
def test_the_printed_command_generates_a_tune_of_this_model(
    finished: Trained, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = finished.output.splitlines()[-1].partition("use it: deepmusic ")[2].split()
    assert command[0] == "generate"
    monkeypatch.chdir(finished.here)
    done = call(*command, *PLAIN, "-o", tmp_path / "tune")
    assert done.status == 0, done.error
    assert read_midi(tmp_path / "tune.mid").beats == 16
    report = json.loads((tmp_path / "tune.json").read_text(encoding="utf-8"))
    assert report["model"] == Composer.load(finished.run).digest
    done = call("generate", "--model", finished.run, "--style", "folk", *PLAIN)
    assert "there are march, waltz" in refusal(done, status=2)
    # the shipped composer refuses to recreate it
    done = call("generate", "--again", tmp_path / "tune.json", "-o", "other", *PLAIN[-2:])
    assert "another model" in refusal(done, status=1)
    assert not list(finished.here.glob("other*"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no signals to a child here")
def test_stopped_or_killed_and_resumed_it_is_the_same_model_as_a_whole_run(
    midis: Path, tmp_path: Path, call: Call
) -> None:
    run = tmp_path / "run"
    # after the first epoch there is time enough for a signal
    long = ["--data", midis, *TINY[2:], "--epochs", "4"]

    def stop(number: int, *more: str) -> tuple[int, str, str]:
        process = start([*TRAIN, *long, "--out", run, *more])
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch "):
                break
        process.send_signal(number)
        output, error = process.communicate(timeout=60)
        return process.returncode, output, error

    status, output, error = stop(signal.SIGINT)
    assert (status, output) == (130, "")
    last = error.splitlines()[-1]
    assert last.startswith("Stopped in epoch ")
    assert last.endswith("to continue, run the same command with --resume.")
    assert "Traceback" not in error
    before = len(read_history(run))
    status, _, _ = stop(signal.SIGKILL, "--resume")
    assert status == -signal.SIGKILL
    assert not (run / "model.safetensors").exists()
    assert before <= len(read_history(run)) < 4
    whole = tmp_path / "whole"
    for command in ([run, "--resume"], [whole]):
        done = call("train", "composer", *long, "--out", *command)
        assert done.status == 0, done.error
    assert not list(run.rglob(".*.tmp"))
    assert content(run) == content(whole)
    assert (run / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
    assert len(read_history(run)) == 4


@pytest.mark.slow
def test_a_run_is_neither_overwritten_nor_resumed_with_other_data_or_settings(
    finished: Trained, midis: Path, tmp_path: Path, call: Call
) -> None:
    files = {path: path.stat().st_mtime_ns for path in finished.run.rglob("*")}
    run = ["train", "composer", "--data", midis, "--out", finished.run]
    assert "already holds a run" in refusal(call(*run, *TINY), status=1)
    other = [*TINY[:3], "6", *TINY[4:]]
    assert "was trained with another" in refusal(call(*run, *other, "--resume"), status=1)
    more = Path(shutil.copytree(midis, tmp_path / "more"))
    write_pieces(more / "polka", 8, seed=5)
    changed = ["train", "composer", "--data", more, "--out", finished.run]
    assert "was trained with another" in refusal(call(*changed, *TINY, "--resume"), status=1)
    assert files == {path: path.stat().st_mtime_ns for path in finished.run.rglob("*")}


@pytest.mark.slow
def test_there_must_be_a_run_to_resume_and_room_for_a_new_one(
    midis: Path, tmp_path: Path, call: Call
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    for out, options, message in (
        ("no", ["--resume"], "There is no run at"),
        ("folder", ["--resume"], "holds no checkpoint to resume from"),
    ):
        done = call("train", "composer", "--data", midis, *TINY, "--out", tmp_path / out, *options)
        assert message in refusal(done, status=1)
    done = call("train", "composer", "--data", midis, *TINY, "--out", tmp_path / "file")
    assert "is a file; name a folder" in done.error
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.slow
def test_files_and_styles_that_cannot_be_used_are_named_once_and_the_rest_is_trained(
    midis: Path, tmp_path: Path, call: Call
) -> None:
    music = Path(shutil.copytree(midis, tmp_path / "music"))
    whole = (music / "waltz" / "0.mid").read_bytes()
    piece_on("test", music / "polka")
    (music / "waltz" / "text.mid").write_text("la la la")
    (music / "waltz" / "empty.mid").touch()
    (music / "waltz" / "header.mid").write_bytes(whole[:22])
    (music / "waltz" / "notes.txt").write_text("no music, and not meant as such")
    (music / "lost.mid").write_bytes(whole)
    (music / "drums").mkdir()
    drums = Score(480, (Note(0, 480, 36),), (Part("kit", is_drum=True),))
    write_midi(drums, music / "drums" / "beat.mid")
    messages = {
        "waltz/text.mid": "is not a MIDI file",
        "waltz/empty.mid": "is empty",
        "waltz/header.mid": "holds no note",
        "drums/beat.mid": "no note with a pitch",
        "lost.mid": "is not in a",
        "polka/only.mid": "",
    }
    run = tmp_path / "run"
    done = call("train", "composer", "--data", music, "--out", run, *TINY)
    assert done.status == 1
    assert f"The run is in {run}" in done.output
    lines = done.error.splitlines()
    assert lines[-1] == "6 files were not used."
    for name, reason in messages.items():
        (line,) = (line for line in lines if line.startswith(f"{name}: "))
        assert reason in line
        assert line.count(f"{name}: ") == 1
    assert "notes.txt" not in done.error
    composer = Composer.load(run)
    assert composer.styles == ("march", "waltz")
    assert sum(composer.training["pieces"].values()) == 16


def bad_folder(kind: str, root: Path) -> Path:
    if kind == "missing":
        return root / "nowhere"
    if kind == "file":
        root.write_text("no folder")
        return root
    if kind == "held out":
        piece_on("test", root / "polka")
        return root
    (root / "waltz").mkdir(parents=True)
    if kind == "text":
        (root / "waltz" / "text.mid").write_text("la la la")
    if kind == "no style":
        write_midi(score_of([(0, 1, 60, 0)], parts=1), root / "lost.mid")
    return root


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "is not a folder"),
        ("file", "is not a folder"),
        ("empty", "has no MIDI file"),
        ("text", "text.mid' is not a MIDI file"),
        ("no style", "lost.mid is not in a"),
        ("held out", "fell to validation and test, so add more"),
    ],
)
def test_data_that_cannot_be_learned_from(
    kind: str, message: str, tmp_path: Path, call: Call
) -> None:
    folder = bad_folder(kind, tmp_path / "music")
    done = call("train", "composer", "--data", folder, "--out", tmp_path / "run", *TINY)
    assert message in refusal(done, status=1)
    assert not (tmp_path / "run").exists()
