"""The pretrained ear in the commands: installed, missing, damaged, and trained on."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ear_stand_in import cache_in
from test_doctor import check
from training_runs import Call, refusal

from deepmusic.classifier.ear.classifier import EarClassifier
from deepmusic.cli import deepmusic
from deepmusic.pretrained import MODELS, WITHOUT_EAR

QUICK_EAR = ["--epochs", "3", "--test", "0.25"]


@pytest.fixture
def track(music: Path) -> Path:
    return music / "chords" / "0.wav"


@pytest.fixture(scope="module")
def ear_run(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Capsules trained on what the stand-in hears."""
    folder = tmp_path_factory.mktemp("ear")
    command = ["train", "classifier", "--data", str(music), "--out", str(folder / "run")]
    with pytest.MonkeyPatch.context() as patch, cache_in(folder / "cache", patch, with_ear=True):
        deepmusic.main([*command, *QUICK_EAR], standalone_mode=False)
    return folder / "run"


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        pytest.fail("a download was tried")

    monkeypatch.setattr(subprocess, "run", fail)


def test_a_second_install_does_nothing(stand_in_ear: Path, no_pip: None, call: Call) -> None:
    before = stand_in_ear.stat()
    done = call("ear", "install")
    assert done.status == 0, done.error
    assert str(stand_in_ear) in done.output
    assert (stand_in_ear.stat().st_mtime_ns, stand_in_ear.stat().st_ino) == (
        before.st_mtime_ns,
        before.st_ino,
    )


@pytest.mark.usefixtures("no_pip")
def test_a_wheel_that_is_none(no_ear: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "musicnn.whl").write_text("no wheel")
    for name, message in (("musicnn.whl", "another wheel"), ("gone.whl", "cannot be read")):
        said = refusal(call("ear", "install", "--wheel", tmp_path / name), status=1)
        assert message in said
        assert name in said
    assert not no_ear.parent.exists()


def test_without_the_ear_the_small_model_answers(
    no_ear: Path, music: Path, track: Path, tmp_path: Path, call: Call
) -> None:
    done = call("classify", track, "--tags")
    assert done.status == 0
    assert done.error == f"{WITHOUT_EAR}\n"
    assert done.output.splitlines()[1].strip() == "no tags: this model has none"
    named = call("classify", track, "--model", "small")
    assert (named.status, named.error) == (0, "")
    assert named.output == f"{done.output.splitlines()[0]}\n"
    said = refusal(call("classify", track, "--model", MODELS["classifier"]), status=1)
    assert "deepmusic ear install" in said
    said = refusal(call("train", "classifier", "--data", music, "--out", tmp_path / "r"), status=1)
    assert "deepmusic ear install" in said
    assert "--from-scratch" in said
    assert not (tmp_path / "r").exists()


def test_the_ear_is_not_trained_on_by_several_processes(
    music: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = call("train", "classifier", "--data", music, "--out", tmp_path / "r")
    assert done.status == 2
    assert "omit torchrun, or add --from-scratch" in done.error
    assert not (tmp_path / "r").exists()


def test_a_damaged_ear_is_one_sentence(stand_in_ear: Path, track: Path, call: Call) -> None:
    stand_in_ear.write_bytes(stand_in_ear.read_bytes()[:-9])
    assert "damaged; run: deepmusic ear install" in refusal(call("classify", track), status=1)


def test_tags(stand_in_ear: Path, track: Path, call: Call) -> None:
    line, tags = call("classify", track, "--tags").output.splitlines()
    assert str(track) in line
    assert tags.startswith("    ")
    done = call("classify", track, "--tags", "--format", "json")
    (verdict,) = json.loads(done.output)
    assert len(verdict["tags"]) == 50
    assert all(0 <= value <= 1 for value in verdict["tags"].values())
    assert len(verdict["top"]) == 17
    assert "tags" not in json.loads(call("classify", track, "--format", "json").output)[0]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "count"), [("classifier", 17), ("small", 4)])
def test_a_shipped_model_is_evaluated(
    model: str, count: int, stand_in_ear: Path, music: Path, tmp_path: Path, call: Call
) -> None:
    for genre, other in (("rock", "chords"), ("electronic", "clicks"), ("polka", "clicks")):
        (tmp_path / "music" / genre).mkdir(parents=True)
        for number in range(2):  # other names: the table of artists is not beside them
            shutil.copy(music / other / f"{number}.wav", tmp_path / "music" / genre)
    done = call("evaluate", model, "--data", tmp_path / "music", "--format", "json")
    assert done.status == 0, done.error
    found = json.loads(done.output)
    assert (found["tracks"], found["unknown_genres"]) == (4, ["polka"])
    assert len(found["genres"]) == count


@pytest.mark.usefixtures("fake")
def test_doctor_knows_the_ear(stand_in_ear: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FORMATS", "_PACKAGES"):
        monkeypatch.setattr(f"deepmusic.cli.doctor.{name}", ())
    found = check("ear")
    assert (found.status, found.advice) == ("ok", None)
    assert str(stand_in_ear) in found.detail
    stand_in_ear.unlink()
    missing = check("ear")
    assert (missing.status, missing.advice) == ("note", "deepmusic ear install")


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in_ear")
def test_a_run_on_the_ear(
    ear_run: Path, music: Path, track: Path, tmp_path: Path, call: Call
) -> None:
    metrics = json.loads((ear_run / "metrics.json").read_text())["test"]
    recorded = call("evaluate", ear_run)
    assert f"accuracy {metrics['accuracy']:.1%}" in recorded.output
    again = call("evaluate", ear_run, "--data", music, "--format", "json")
    assert again.status == 0, again.error
    assert json.loads(again.output)["confusion"] == metrics["confusion"]
    options = ["--timeline", "--tags", "--explain", tmp_path / "why.png"]
    done = call("classify", track, "--model", ear_run, *options)
    assert done.status == 0, done.error
    assert "0:00-" in done.output
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    said = refusal(call("train", "classifier", "--data", music, "--out", ear_run), status=1)
    assert "already holds a run" in said


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in_ear")
def test_small_genres_are_left_out(music: Path, tmp_path: Path, call: Call) -> None:
    data = Path(shutil.copytree(music, tmp_path / "music"))
    (data / "polka").mkdir()
    shutil.copy(music / "clicks" / "0.wav", data / "polka" / "one.wav")
    command = ["train", "classifier", "--data", data, "--out", tmp_path / "run", *QUICK_EAR]
    said = refusal(call(*command, "--min-tracks", "99"), status=1)
    assert "two genres" in said
    done = call(*command, "--min-tracks", "2", "--resume")
    assert done.status == 0, done.error
    assert "Genres with fewer than 2 tracks are left out: polka." in done.error
    assert EarClassifier.load(tmp_path / "run").genres == ("chords", "clicks")
