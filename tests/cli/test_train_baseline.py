"""``train baseline``, and its runs in ``classify`` and ``evaluate``, straight from sound."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly
from training_runs import Call, refusal, write_folder

from deepmusic import load
from deepmusic.cli import deepmusic
from deepmusic.datasets import make_folds, read_splits, scan_folder, write_splits
from deepmusic.errors import CheckpointError
from deepmusic.features import RECIPES, extract_library, read_features, write_features
from deepmusic.studies import analysis
from deepmusic.studies.tabular_io import FittedTable

MODULE = """
from sklearn.neighbors import KNeighborsClassifier

class Own(KNeighborsClassifier):
    pass
"""


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.fixture(scope="module")
def trained_run(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that computed its features itself."""
    run = tmp_path_factory.mktemp("baselines") / "run"
    command = ["train", "baseline", "--data", str(music), "--out", str(run), "--test", "0.25"]
    deepmusic.main(command, standalone_mode=False)
    return run


@pytest.fixture
def run_folder(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed at will."""
    return Path(shutil.copytree(trained_run, tmp_path / "copied"))


@pytest.fixture(scope="module")
def features(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = tmp_path_factory.mktemp("features") / "features.parquet"
    paths = [str(path) for path in sorted(music.rglob("*.wav"))]
    list(extract_library(paths, table, RECIPES["fma"]))
    return table


@pytest.fixture
def command(music: Path, features: Path, tmp_path: Path) -> list[object]:
    """A training from the table, with all tracks in it."""
    data = ["--data", music, "--features", features, "--out", tmp_path / "run", "--test", "0.25"]
    return ["train", "baseline", *data]


@pytest.mark.slow
def test_a_run_is_complete_and_not_overwritten(
    call: Call, command: list[object], trained_run: Path, tmp_path: Path
) -> None:
    done = call(*command)
    assert done.status == 0
    run = tmp_path / "run"
    names = sorted(path.name for path in run.iterdir())
    assert names[:2] == ["config.json", "confusion.png"]
    assert names[2:] == ["metrics.json", "model.json", "model.skops", "splits.json"]
    metrics = read(run / "metrics.json")
    assert metrics["test"]["accuracy"] == 1.0
    assert (metrics["test"]["tracks"], metrics["validation"]["tracks"]) == (4, 12)
    assert "On 4 test tracks" in done.output
    assert "accuracy 100.0%" in done.output
    assert "logistic: C " in done.output
    assert f"deepmusic classify song.mp3 --model {run}" in done.output
    # the features of the table are those that a run computes itself
    computed = read(trained_run / "metrics.json")
    assert metrics["test"]["confusion"] == computed["test"]["confusion"]
    assert metrics["calibration"] == pytest.approx(computed["calibration"], rel=1e-3)
    before = (run / "model.json").read_bytes()
    assert "already holds a run" in refusal(call(*command), status=1)
    assert (run / "model.json").read_bytes() == before


@pytest.mark.slow
def test_songs_are_classified_from_their_sound(
    call: Call, trained_run: Path, music: Path, tmp_path: Path
) -> None:
    files = [music / "chords/0.wav", music / "clicks/1.wav"]
    done = call("classify", *files, "--model", trained_run, "--format", "json")
    assert done.status == 0
    verdicts = json.loads(done.output)
    assert [verdict["top"][0]["genre"] for verdict in verdicts] == ["chords", "clicks"]
    assert verdicts[0]["duration_s"] == 7.0
    for verdict in verdicts:
        assert sum(entry["probability"] for entry in verdict["top"]) == pytest.approx(1, abs=1e-3)
    options = ["--model", trained_run, "--jobs", "2", "--results", tmp_path / "kept.db"]
    both = call("classify", music / "chords", *options, "--format", "json")
    assert both.status == 0
    by_path = {verdict["path"]: verdict for verdict in json.loads(both.output)}
    assert len(by_path) == 8
    assert by_path[str(files[0])] == verdicts[0]


@pytest.mark.slow
def test_a_run_is_loaded_in_python_and_below_its_threshold_a_track_is_unsure(
    run_folder: Path, music: Path
) -> None:
    with pytest.raises(CheckpointError, match="FittedTable"):
        load(run_folder)
    classifier = FittedTable.load(run_folder / "model.json")
    verdict = classifier.classify(music / "clicks/0.wav", name="a click", max_seconds=3.0)
    assert (verdict.path, verdict.top[0].genre, verdict.duration_s) == ("a click", "clicks", 3.0)
    assert classifier.digest == FittedTable.load(run_folder).digest
    path = run_folder / "model.json"
    about = read(path)
    about["calibration"]["threshold"] = 1.1
    path.write_text(json.dumps(about))
    verdict = FittedTable.load(run_folder).classify(music / "chords/0.wav")
    assert (verdict.genre, verdict.top[0].genre) == (None, "chords")


@pytest.mark.slow
def test_sound_without_treble_is_unsure(trained_run: Path, music: Path, tmp_path: Path) -> None:
    classifier = FittedTable.load(trained_run)
    sound, rate = soundfile.read(music / "clicks/0.wav")
    narrow = resample_poly(resample_poly(sound, 1, 4), 4, 1)
    soundfile.write(tmp_path / "narrow.wav", narrow, rate)
    half = round(rate / 2)
    assert classifier.classify(music / "clicks/0.wav").bandwidth_hz == half
    known = replace(classifier, training={"reliable_hz": half})
    verdict = known.classify(tmp_path / "narrow.wav")
    assert verdict.genre is None
    assert verdict.bandwidth_hz == pytest.approx(half / 4, rel=0.1)
    assert "nothing above" in (verdict.warning or "")
    assert known.reliable_hz == 9_000
    assert replace(classifier, training={"reliable_hz": 2_000}).reliable_hz == 2_000


def test_bad_files_have_their_reason_and_the_rest_goes_on(
    call: Call, trained_run: Path, music: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(44100), 22050)
    soundfile.write(tmp_path / "low.wav", np.random.default_rng(0).normal(size=9000) / 9, 4000)
    (tmp_path / "text.mp3").write_text("no sound")
    names = ["silent.wav", "low.wav", "text.mp3", str(music / "clicks/0.wav")]
    paths = [tmp_path / name for name in names]
    done = call("classify", *paths, "--model", trained_run, "--format", "json")
    silent, low, text, good = json.loads(done.output)
    assert done.status == 1
    assert (silent["code"], text["code"]) == ("silent", "not_audio")
    assert "too low for chroma_cens" in low["warning"]
    assert low["error"] is None
    assert good["top"][0]["genre"] == "clicks"


def test_what_a_table_model_cannot_do_is_refused(
    call: Call, trained_run: Path, music: Path, tmp_path: Path
) -> None:
    song = music / "chords/0.wav"
    for option in (["--timeline"], ["--explain", tmp_path / "a.png"]):
        done = call("classify", song, "--model", trained_run, *option)
        assert (done.status, done.output) == (2, "")
        assert f"{option[0]} needs a model" in done.error
    done = call("classify", song, "--model", trained_run, "--device", "cuda")
    assert "CPU" in refusal(done, status=1)
    assert "trust" in refusal(call("classify", song, "--trust", "a.B"), status=1)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("scikit-learn", "0.1.2", "was trained with scikit-learn 0.1.2"),
        ("recipe", {"name": "fma", "version": 9}, "version 9, which this DeepMusic"),
        ("genres", ["one"], "is damaged"),
    ],
)
def test_a_run_of_another_version_is_one_sentence(
    call: Call, run_folder: Path, music: Path, key: str, value: object, message: str
) -> None:
    path = run_folder / "model.json"
    path.write_text(json.dumps(read(path) | {key: value}))
    done = call("classify", music / "chords/0.wav", "--model", run_folder)
    assert message in refusal(done, status=1)


def test_a_run_is_evaluated(call: Call, trained_run: Path, music: Path) -> None:
    recorded = call("evaluate", trained_run, "--format", "json")
    measured = call("evaluate", trained_run, "--data", music, "--format", "json")
    assert recorded.status == measured.status == 0
    first, second = json.loads(recorded.output), json.loads(measured.output)
    for name in ("tracks", "accuracy", "confusion", "part"):
        assert first[name] == second[name]
    assert first["calibration_error"] == pytest.approx(second["calibration_error"], abs=1e-5)


@pytest.mark.slow
def test_your_own_class_is_trained_and_used_when_it_is_trusted(
    call: Call,
    command: list[object],
    music: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "models_beside_data.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = call(*command, "--model", "models_beside_data:Own", "--param", "n_neighbors=3")
    assert done.status == 0
    assert read(tmp_path / "run/config.json")["parameters"] == {"n_neighbors": 3}
    classify = ["classify", music / "chords/0.wav", "--model", tmp_path / "run"]
    assert "not trusted: models_beside_data.Own" in refusal(call(*classify), status=1)
    done = call(*classify, "--trust", "models_beside_data.Own", "--format", "json")
    assert json.loads(done.output)[0]["top"][0]["genre"] == "chords"


@pytest.mark.slow
def test_a_file_of_splits_decides_what_is_held_out(
    call: Call, command: list[object], music: Path, tmp_path: Path
) -> None:
    dataset = scan_folder(music)
    folds = make_folds(dataset, folds=4, seed=5)
    write_splits(tmp_path / "splits.json", folds, dataset)
    options = ["--splits", tmp_path / "splits.json", "--fold"]
    assert call(*command, *options, "2").status == 0
    used = read_splits(tmp_path / "run/splits.json", dataset)
    assert used.folds == (folds[2],)
    assert read(tmp_path / "run/metrics.json")["test"]["tracks"] == 4
    done = call(*command[:-3], tmp_path / "other", *options, "9")
    assert "has folds 0 to 3; got 9" in refusal(done, status=1)


@pytest.mark.slow
def test_a_table_that_lacks_tracks_and_has_others(
    call: Call, command: list[object], features: Path, tmp_path: Path
) -> None:
    table = read_features(features)
    rows = table.rows(range(1, len(table)))
    rows.facts["path"][0] = "/elsewhere/unknown.wav"
    rows.columns[1] = np.nan
    rows.columns[2, 0] = np.inf
    rows.columns[3, 5] = np.nan
    partial = tmp_path / "partial.parquet"
    write_features(partial, rows)
    command[command.index(features)] = partial
    done = call(*command)
    assert done.status == 1
    assert done.error.count("has no row in the feature table") == 2
    assert "has a row without values" in done.error
    assert "3 files were not used." in done.error
    assert "such as '/elsewhere/unknown.wav'" in done.error
    assert "infinite feature values" in done.error
    assert "On 3 test tracks" in done.output or "On 4 test tracks" in done.output


@pytest.mark.slow
def test_a_table_in_csv_does_not_name_its_recipe(
    call: Call, command: list[object], features: Path, tmp_path: Path
) -> None:
    as_csv = tmp_path / "features.csv"
    write_features(as_csv, read_features(features))
    command[command.index(features)] = as_csv
    done = call(*command, "--model", "majority")
    assert done.status == 0
    assert "does not name its recipe; 'fma' is assumed" in done.error
    command[command.index(tmp_path / "run")] = tmp_path / "other"
    done = call(*command, "--model", "majority", "--recipe", "fma-corrected")
    assert done.status == 0
    assert "does not name" not in done.error
    assert read(tmp_path / "other/model.json")["recipe"]["name"] == "fma-corrected"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--model", "nothing"], 2, "no model 'nothing'"),
        (["--model", "no.such:Thing"], 2, "no module 'no'"),
        (["--model", "sklearn.linear_model:LinearRegression"], 2, "is not a classifier"),
        (["--param", "c=3"], 2, "Invalid parameter 'c'"),
        (["--param", "C"], 2, "write name=value"),
        (["--param", "C=-3"], 2, "The 'C' parameter of LogisticRegression must be"),
        (["--recipe", "fma-corrected"], 2, "is of recipe 'fma', not of 'fma-corrected'"),
        (["--splits", "nowhere.json"], 1, "nowhere.json cannot be read"),
    ],
)
def test_an_impossible_training_is_one_sentence(
    call: Call, command: list[object], tmp_path: Path, options: list[str], status: int, message: str
) -> None:
    assert message in refusal(call(*command, *options), status=status)
    assert not (tmp_path / "run/model.json").exists()


@pytest.mark.slow
def test_without_a_test_the_inner_folds_are_reported(
    call: Call, command: list[object], tmp_path: Path
) -> None:
    done = call(*command, "--test", "0")
    assert done.status == 0
    assert "No test tracks were held out;" in done.output
    assert "On 16 tracks of inner folds" in done.output
    assert not (tmp_path / "run/confusion.png").exists()
    assert call("evaluate", tmp_path / "run").status == 0


@pytest.mark.slow
def test_an_interrupted_training_resumes(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    music = write_folder(tmp_path / "music", artists=3, seconds=2.0)
    command = ["train", "baseline", "--data", music, "--out", tmp_path / "run", "--test", "0.3"]
    analyzed: list[str] = []
    real = analysis.analyze_track

    def counted(item: str, **options: Any) -> analysis.TrackAnalysis:
        if len(analyzed) == 5:
            analyzed.append("interrupt")
            raise KeyboardInterrupt
        analyzed.append(item)
        return real(item, **options)

    monkeypatch.setattr(analysis, "analyze_track", counted)
    done = call(*command)
    assert done.status == 130
    assert "run the same command again" in done.error
    assert not (tmp_path / "run/config.json").exists()
    assert call(*command).status == 0
    assert len(analyzed) == len(set(analyzed)) == 13
