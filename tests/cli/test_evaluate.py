"""``deepmusic evaluate``: what a run wrote down, and what its model says of music now."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_runs import Call, write_folder

from deepmusic.classifier import measure
from deepmusic.cli.output import cells


@pytest.fixture
def moved(music: Path, tmp_path: Path) -> Path:
    """The data of the training, in another place."""
    return Path(shutil.copytree(music, tmp_path / "moved"))


def metrics(run: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return result


@pytest.mark.slow
def test_the_record_of_the_test_is_shown(trained: Path, call: Call) -> None:
    test = metrics(trained)["test"]
    done = call("evaluate", trained)
    assert done.status == 0
    assert done.error == ""
    assert done.output.startswith(f"{trained}, {test['tracks']} test tracks at the end of training")
    for said in (f"accuracy {test['accuracy']:.1%}", "macro-F1", "calibration error", "unsure"):
        assert said in done.output
    table = done.output.splitlines()
    for genre, row in zip(test["genres"], test["confusion"], strict=True):
        (line,) = [line for line in table if line.startswith(f"{genre} ")]
        assert [int(number) for number in line.split()[2:]] == row
        assert line.split()[1] == f"{test['recall'][genre]:.0%}"
    coverage = table[table.index("threshold  coverage  accuracy") + 1 :]
    assert len(coverage) == len(test["coverage"])
    found = json.loads(call("evaluate", trained, "--format", "json").output)
    assert (found["part"], found["data"]) == ("test", None)
    assert {key: found[key] for key in test} == test


def test_what_is_unknown_about_leaks_is_said(trained: Path, tmp_path: Path, call: Call) -> None:
    assert json.loads(call("evaluate", trained, "--format", "json").output)["leaks"] is False
    for name in ("metrics.json", "splits.json"):
        shutil.copy(trained / name, tmp_path)
    splits = json.loads((trained / "splits.json").read_text())
    # a file of before said false in spite of them
    (tmp_path / "splits.json").write_text(json.dumps(splits | {"unknown_artists": 3}))
    done = call("evaluate", tmp_path, "--format", "json")
    assert json.loads(done.output)["leaks"] == "unknown"
    assert "trained on is unknown: 3 tracks name no artist." in done.error


@pytest.mark.parametrize("columns", [60, 80, 400])
@pytest.mark.parametrize("name", ["genre", "ジャズ", "a genre with a name as long as a sentence "])
def test_thirty_genres_fit_any_terminal(
    name: str, columns: int, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    genres, labels = [f"{name}{n}" for n in range(30)], np.arange(300) % 30
    probabilities = np.eye(30)[np.where(np.arange(300) < 60, 7, labels)]  # 58 are called genre 7
    figures = measure(probabilities, labels, genres, threshold=0.5)
    (tmp_path / "metrics.json").write_text(json.dumps({"test": figures}), encoding="utf-8")
    done = call("evaluate", tmp_path)
    assert done.status == 0, done.error
    lines = done.output.splitlines()[1:]  # the path may be of any length
    assert max(map(cells, lines[3:])) <= columns
    is_whole = any("predicted:" in line for line in lines)
    assert is_whole == (columns == 400 and len(name) < 10)
    if not is_whole:
        worst = lines[next(i for i, line in enumerate(lines) if line.startswith("Most often")) + 1]
        assert worst.split()[0] == "2"
        assert "predicted as" in worst


@pytest.mark.slow
def test_the_test_tracks_are_classified_again(trained: Path, moved: Path, call: Call) -> None:
    # neither a new file nor one that cannot be read is one of the test tracks
    shutil.copy(moved / "chords" / "0.wav", moved / "chords" / "new.wav")
    (moved / "chords" / "broken.wav").write_bytes(b"")
    done = call("evaluate", trained, "--data", moved, "--format", "json")
    assert done.status == 0, done.error
    found, recorded = json.loads(done.output), metrics(trained)["test"]
    assert found["part"] == "test"
    assert found["confusion"] == recorded["confusion"]
    assert found["calibration_error"] == pytest.approx(recorded["calibration_error"], abs=0.01)
    assert found["failed"] == []


def test_changed_data_are_not_taken_for_the_test(trained: Path, moved: Path, call: Call) -> None:
    for path in (moved / "chords").iterdir():
        shutil.copy(moved / "clicks" / "1.wav", path)
    done = call("evaluate", trained, "--data", moved)
    assert done.status == 1
    assert "are not those that" in done.error
    assert "--all" in done.error
    assert done.output == ""
    assert call("evaluate", trained, "--data", moved, "--all").status == 0


@pytest.mark.slow
def test_all_of_other_music_is_classified_and_unknown_genres_are_named(
    trained: Path, tmp_path: Path, call: Call
) -> None:
    other = write_folder(tmp_path / "other", artists=1, each=3)
    for genre in ("chords", "clicks"):
        for path in list((other / genre).iterdir()):
            path.rename(path.with_name(f"other {path.name}"))
    shutil.copytree(other / "clicks", other / "polka")
    (other / "clicks" / "text.mp3").write_text("la la la")
    (other / "tracks.csv").unlink()
    done = call("evaluate", trained, "--data", other)
    assert done.output.startswith(f"{trained} on {other}, 6 tracks:")
    assert "Skipped, of genres that the model does not know: polka (3)" in done.error
    assert "It knows chords, clicks." in done.error
    assert "text.mp3" in done.error
    assert done.status == 1  # for the text
    found = json.loads(call("evaluate", trained, "--data", other, "--format", "json").output)
    assert found["part"] == "all"
    assert found["unknown_genres"] == ["polka"]
    assert [entry["path"] for entry in found["failed"]] == ["clicks/text.mp3"]
    assert found["failed"][0]["error"]

    shutil.rmtree(other / "chords")
    shutil.rmtree(other / "clicks")
    none = call("evaluate", trained, "--data", other)
    assert none.status == 1
    assert "knows none of the genres" in none.error


def test_a_file_of_weights_is_evaluated_on_all_tracks(
    trained: Path, moved: Path, call: Call
) -> None:
    done = call("evaluate", trained / "model.safetensors", "--data", moved, "--format", "json")
    assert done.status == 0, done.error
    assert json.loads(done.output)["tracks"] == 16


@pytest.mark.parametrize("content", [None, "{", "[]", '{"validation": 3}', "\udcff"])
def test_a_run_without_a_record(content: str | None, tmp_path: Path, call: Call) -> None:
    if content is not None:
        (tmp_path / "metrics.json").write_text(content, "utf-8", "surrogateescape")
    done = call("evaluate", tmp_path)
    assert done.status == 1
    assert done.error.count("\n") == 1
    assert "metrics.json" in done.error
    assert "--data" in done.error
    assert "unexpected" not in done.error


@pytest.mark.parametrize("content", ["{", "[1]", '{"tracks": [3]}'])
def test_damaged_splits(content: str, trained: Path, music: Path, call: Call) -> None:
    (trained / "splits.json").write_text(content)
    done = call("evaluate", trained, "--data", music)
    assert done.status == 1
    assert "splits.json" in done.error
    assert "unexpected" not in done.error
