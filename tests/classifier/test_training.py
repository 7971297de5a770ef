"""From a folder to a classifier: files, which network learns from which tracks, and errors."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from synthetic import RATE, tiny_config, write_folder

from deepmusic.audio import log_mel, wrap
from deepmusic.classifier import training as module
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.data import SpectrogramStore, calibration_folds
from deepmusic.classifier.evaluation import fit_calibration
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.task import ClassifierTask, segment_textures
from deepmusic.classifier.training import Trained, train_classifier, train_ensemble
from deepmusic.classifier.verdict import Calibration
from deepmusic.datasets import dataset_digest, make_folds, make_split, scan_folder, write_splits
from deepmusic.errors import CheckpointError, DataError, DeepMusicError
from deepmusic.training import Progress, TrainingConfig, load_weights, read_history

QUICK = TrainingConfig(epochs=2, batch_size=8, learning_rate=3e-3, device="cpu")
ONE_EPOCH = replace(QUICK, epochs=1)


def small(*, genres: tuple[str, ...], networks: int) -> ClassifierConfig:
    return tiny_config(genres=genres, networks=networks, texture_networks=1)


@pytest.fixture(autouse=True)
def _small_networks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "shipped" not in request.node.name:
        monkeypatch.setattr(module, "ClassifierConfig", small)
        monkeypatch.setattr("deepmusic.training.loop.draw_history", lambda *_, **__: [])


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight artists per genre with two tracks each, some names spelled in two ways."""
    root = write_folder(tmp_path_factory.mktemp("music"), artists=8, seconds=3.0)
    table = (root / "tracks.csv").read_text()
    for old, new in {
        "8.wav,chords,chords player 0": "8.wav,chords,CHORDS Player 0",
        "9.wav,chords,chords player 1": "9.wav,chords,chords player 1 feat. Nobody Else",
    }.items():
        assert old in table
        table = table.replace(old, new)
    (root / "tracks.csv").write_text(table)
    soundfile.write(root / "clicks" / "night.wav", np.zeros(3 * RATE), RATE)
    (root / "clicks" / "empty.mp3").touch()
    (root / "chords" / "prose.mp3").write_text("no music at all " * 100)
    return root


@pytest.fixture(scope="module")
def trained(music: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, list[Any]]:
    """A whole run with two full networks and a texture network, and all its progress."""
    progress: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ClassifierConfig", small)
        patch.setattr("deepmusic.training.loop.draw_history", lambda *_, **__: [])
        result = train_classifier(
            music,
            tmp_path_factory.mktemp("runs") / "run",
            networks=2,
            training=QUICK,
            on_progress=lambda *args: progress.append(args),
            on_spectrogram=lambda *args: progress.append(args),
        )
    return result, progress


def parts(run: Path) -> dict[str, list[str]]:
    """For each track its part in each fold."""
    stored = json.loads((run / "splits.json").read_text())
    return {entry["path"]: entry["parts"] for entry in stored["tracks"]}


def in_part(run: Path, fold: int, name: str) -> list[str]:
    return [path for path, names in parts(run).items() if names[fold] == name]


def artists(music: Path) -> dict[str, str]:
    """Artist of each track, in one spelling."""
    rows = [line.split(",") for line in (music / "tracks.csv").read_text().splitlines()[1:]]
    return {row[0]: row[2].casefold().split(" feat")[0] for row in rows}


@pytest.mark.slow
def test_files_of_a_run(trained: tuple[Trained, list[Any]], music: Path) -> None:
    result, _ = trained
    run = result.run
    assert {path.name for path in run.iterdir()} == {
        "accuracy.png", "calibration", "config.json", "confusion.png", "loss.png", "metrics.json",
        "model.safetensors", "networks", "spectrograms", "splits.json",
    }  # fmt: skip
    for name in [f"networks/{n}" for n in range(3)] + [f"calibration/{n}" for n in range(5)]:
        assert len(read_history(run / name)) == QUICK.epochs
        assert (run / name / "best" / "weights.safetensors").exists()
    assert not list(run.rglob("*.tmp"))
    assert len(list((run / "spectrograms").glob("*.npy"))) == 32
    assert json.loads((run / "metrics.json").read_text()) == result.metrics
    config = ClassifierConfig.from_dict(json.loads((run / "config.json").read_text()))
    assert replace(config, reconstruction=0.0) == result.classifier.config  # without decoders

    loaded = Classifier.load(run, device="cpu")
    assert loaded.digest == result.classifier.digest
    assert loaded.genres == ("chords", "clicks")
    assert loaded.card == json.loads(json.dumps(result.classifier.card))
    assert loaded.card["trained_on"] == 32 - result.metrics["test"]["tracks"]
    assert loaded.card["tracks"] == 32
    assert loaded.calibration.to_dict() == result.metrics["calibration"]
    assert loaded.classify(music / "chords" / "1.wav").confidence is not None

    before = (run / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=r"resume.*\.$"):
        train_classifier(music, run, networks=2, training=QUICK)
    assert (run / "model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_no_artist_is_on_two_sides(trained: tuple[Trained, list[Any]], music: Path) -> None:
    run, artist = trained[0].run, artists(music)
    assert len(set(artist.values())) == 16
    assert parts(run).keys() == artist.keys()
    test = in_part(run, 0, "test")
    assert test
    validated = []
    for fold in range(5):
        assert in_part(run, fold, "test") == test
        sides = [
            {artist[path] for path in in_part(run, fold, name)}
            for name in ("train", "validation", "test")
        ]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 16
        assert {path.split("/")[0] for path in in_part(run, fold, "validation")} == {
            "chords",
            "clicks",
        }
        validated += in_part(run, fold, "validation")
    assert sorted([*validated, *test]) == sorted(artist)  # each track is validated once


@pytest.mark.slow
def test_networks_learn_from_their_fold_and_calibrate_on_other_tracks(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[tuple[list[bytes], list[bytes], int]] = []
    calibrated: list[tuple[np.ndarray, np.ndarray]] = []

    class Recorded(ClassifierTask):
        def __init__(self, config: Any, train: Any, validation: Any, **options: Any) -> None:
            one, other = (sorted(t.tobytes() for t in side[0]) for side in (train, validation))
            tasks.append((one, other, options["seed"]))
            super().__init__(config, train, validation, **options)

    def recorded(scores: np.ndarray, labels: np.ndarray) -> Calibration:
        calibrated.append((scores, labels))
        return fit_calibration(scores, labels)

    monkeypatch.setattr(module, "ClassifierTask", Recorded)
    monkeypatch.setattr(module, "fit_calibration", recorded)
    training = replace(ONE_EPOCH, seed=3)
    run = train_classifier(music, tmp_path / "run", networks=2, training=training).run
    config = small(genres=("chords", "clicks"), networks=1).network_configs[-1]
    inputs: dict[str, tuple[Any, Any]] = {}  # of a full network and of a texture network
    for path in parts(run):
        sound = log_mel(soundfile.read(music / path, dtype="float32")[0])
        spectrogram = wrap(sound, 128).astype(np.float16)
        inputs[path] = spectrogram, segment_textures(spectrogram, config)

    def inputs_of(fold: int, *names: str, kind: int) -> list[bytes]:
        paths = [path for name in names for path in in_part(run, fold, name)]
        return sorted(inputs[path][kind].tobytes() for path in paths)

    def is_varied(found: list[bytes], wanted: list[bytes]) -> bool:
        """Whether they begin with these, and low-passed ones follow."""
        pairs = zip(found, wanted, strict=True)
        return all(a.startswith(b) and len(a) > len(b) for a, b in pairs)

    assert [seed for *_, seed in tasks] == [300 + number for number in range(8)]
    everything = inputs_of(0, "train", "validation", kind=1)
    assert is_varied(tasks[2][0], everything)  # the texture network
    assert tasks[2][1] == everything
    for number, (train, validation, _) in enumerate([*tasks[:2], *tasks[3:]]):
        fold, kind = (number, 0) if number < 2 else (number - 2, 1)
        wanted = inputs_of(fold, "train", kind=kind)
        assert is_varied(train, wanted) if kind else train == wanted
        assert validation == inputs_of(fold, "validation", kind=kind)

    expected, truth = [], []
    for fold in range(5):
        own, _ = load_weights(run / "calibration" / str(fold) / "best" / "weights.safetensors")
        paths = in_part(run, fold, "validation")
        labels = [config.genres.index(path.split("/")[0]) for path in paths]
        side = [inputs[path][1] for path in paths], labels
        task = ClassifierTask(config, side, side, seed=0)
        task.model.load_state_dict(own)
        expected.append(task.validation_scores(task.model.eval()).numpy())
        truth += labels
    ((scores, given),) = calibrated
    np.testing.assert_allclose(scores, np.concatenate(expected), atol=1e-4)
    assert given.tolist() == truth


def test_figures(trained: tuple[Trained, list[Any]], music: Path) -> None:
    result, _ = trained
    metrics = result.metrics
    assert metrics.keys() == {"validation", "calibration", "test"}
    tested = in_part(result.run, 0, "test")
    assert metrics["validation"]["tracks"] == metrics["calibration"]["tracks"] == 32 - len(tested)
    for side in ("validation", "test"):
        assert metrics[side]["genres"] == ["chords", "clicks"]
        assert 0 <= metrics[side]["accuracy"] <= 1
        assert metrics[side]["unsure"]["threshold"] == metrics["calibration"]["threshold"]
    assert result.classifier.calibration == Calibration(**metrics["calibration"])
    # the test figures are those of the files
    confusion = np.zeros((2, 2), int)
    genres = result.classifier.genres
    for path in tested:
        predicted = result.classifier.classify(music / path).top[0].genre
        confusion[genres.index(path.split("/")[0]), genres.index(predicted)] += 1
    assert confusion.tolist() == metrics["test"]["confusion"]


def test_problems_and_progress(trained: tuple[Trained, list[Any]]) -> None:
    result, progress = trained
    assert {(problem.path, problem.code) for problem in result.problems} == {
        ("chords/prose.mp3", "not_audio"),
        ("clicks/empty.mp3", "empty"),
        ("clicks/night.wav", "silent"),
    }
    assert [args for args in progress if len(args) == 2][-1] == (34, 34)
    steps = [args for args in progress if len(args) == 3]
    assert [(a, b) for a, b, _ in steps] == sorted((a, b) for a, b, _ in steps)
    assert {(a, b) for a, b, _ in steps} == {(n + 1, 8) for n in range(8)}
    assert all(isinstance(step, Progress) for *_, step in steps)
    assert sum(step.record is not None for *_, step in steps) == 8 * QUICK.epochs


@pytest.mark.slow
def test_weights_follow_from_the_seed(
    trained: tuple[Trained, list[Any]], music: Path, tmp_path: Path
) -> None:
    dataset = scan_folder(music)
    bad = {problem.path for problem in trained[0].problems}
    dataset = replace(dataset, tracks=tuple(t for t in dataset.tracks if t.path not in bad))
    config = small(genres=dataset.genres, networks=2)
    store = SpectrogramStore(trained[0].run / "spectrograms", config)

    def weights(name: str, seed: int) -> dict[str, torch.Tensor]:
        torch.rand(seed + 3)  # earlier draws make no difference
        folds = calibration_folds(dataset, make_split(dataset, seed=1).train, networks=2, seed=seed)
        training = replace(ONE_EPOCH, seed=seed)
        classifier, figures = train_ensemble(
            dataset, folds, store.load, config, tmp_path / name, training=training
        )
        assert figures["unsure"]["threshold"] == classifier.calibration.threshold
        return classifier.ensemble.state_dict()

    one, same, other = weights("one", 0), weights("same", 0), weights("other", 1)
    for name in one:
        assert torch.equal(one[name], same[name]), name
    assert any(not torch.equal(one[name], other[name]) for name in one)
    first = [name for name in one if name.startswith("networks.0.")]
    assert any(not torch.equal(one[n], one[n.replace(".0.", ".1.", 1)]) for n in first)


@pytest.mark.slow
def test_without_texture_networks_full_ones_calibrate(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_only(*, genres: tuple[str, ...], networks: int) -> ClassifierConfig:
        return tiny_config(genres=genres, networks=networks, texture_networks=0, texture_capsules=0)

    monkeypatch.setattr(module, "ClassifierConfig", full_only)
    result = train_classifier(music, tmp_path / "run", networks=2, training=ONE_EPOCH)
    assert not (result.run / "calibration").exists()
    validated = sum(len(in_part(result.run, fold, "validation")) for fold in (0, 1))
    assert result.metrics["calibration"]["tracks"] == validated


@pytest.mark.slow
def test_without_a_test_part_and_with_few_artists(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "music", artists=3, seconds=3.0, each=1)
    soundfile.write(root / "clicks" / "night.wav", np.zeros(3 * RATE), RATE)  # silent: left out
    options: dict[str, Any] = {"training": ONE_EPOCH, "cache": tmp_path / "cache"}
    result = train_classifier(root, tmp_path / "run", test=0, networks=5, **options)
    assert "test" not in result.metrics
    assert not (result.run / "confusion.png").exists()
    assert not (result.run / "spectrograms").exists()
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 6
    assert result.classifier.card["trained_on"] == 6
    assert result.classifier.card["data"] != dataset_digest(scan_folder(root))
    assert 1 <= result.classifier.config.networks <= 3  # fewer than asked for
    assert Classifier.load(result.run, device="cpu").config == result.classifier.config


def refused(data: Path, run: Path, **options: Any) -> str:
    with pytest.raises(DeepMusicError) as caught:
        train_classifier(data, run, training=ONE_EPOCH, **options)
    assert isinstance(caught.value, DataError | CheckpointError)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert not (run / "model.safetensors").exists()
    return message


def test_unusable_data_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert "missing" in refused(tmp_path / "missing", run)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", run)

    root = write_folder(tmp_path / "music", artists=4, seconds=1.0, each=1)
    (root / "tracks.csv").unlink()
    shutil.rmtree(root / "clicks")
    (root / "noise").mkdir()  # another genre, which is silent
    for number in range(3):
        soundfile.write(root / "noise" / f"{number}.wav", np.zeros(RATE + number), RATE)
    assert "only 'chords'" in refused(root, run)
    shutil.rmtree(root / "chords")
    (root / "more").mkdir()
    soundfile.write(root / "more" / "0.wav", np.zeros(2 * RATE), RATE)
    assert "no genre with music that can be decoded" in refused(root, run)

    few = write_folder(tmp_path / "few", artists=1, seconds=1.0, each=3)
    assert "artist" in refused(few, run)
    one = write_folder(tmp_path / "one", artists=3, seconds=1.0, each=1)
    for number in (1, 2):
        (one / "clicks" / f"{number}.wav").unlink()
    (one / "tracks.csv").unlink()
    assert "clicks" in refused(one, run)


@pytest.mark.slow
def test_the_shipped_size_trains(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "music", artists=5, seconds=7.0, each=1)
    result = train_classifier(root, tmp_path / "run", training=ONE_EPOCH)
    expected = ClassifierConfig(genres=("chords", "clicks"), reconstruction=0.0)
    assert result.classifier.config == expected
    assert (result.run / "model.safetensors").stat().st_size < 4_000_000
    (record,) = read_history(result.run / "networks" / "0")
    assert np.isfinite(record["validation"]["loss"])


@pytest.mark.slow
def test_a_file_of_splits_decides_the_test(music: Path, tmp_path: Path) -> None:
    dataset = scan_folder(music)
    # its indices are those of all tracks, of which some cannot be decoded
    folds = replace(make_folds(dataset, folds=3, seed=5), protocol="official")
    splits = tmp_path / "splits.json"
    write_splits(splits, folds, dataset)
    with pytest.raises(DataError, match=r"has folds 0 to 2; got 3"):
        train_classifier(music, tmp_path / "no", test=(splits, 3))
    options: dict[str, Any] = {"training": ONE_EPOCH, "cache": tmp_path / "cache"}
    result = train_classifier(music, tmp_path / "run", test=(splits, 1), **options)
    wanted = {dataset.tracks[index].path for index in folds[1].test}
    tested = in_part(tmp_path / "run", 0, "test")
    assert set(tested) == wanted - {problem.path for problem in result.problems}
    assert result.metrics["test"]["tracks"] == len(tested)
    kept = json.loads((tmp_path / "run" / "splits.json").read_text())
    assert (kept["seed"], kept["protocol"]) == (5, "official")
    with pytest.raises(CheckpointError, match=r"another .* file of splits"):
        train_classifier(music, tmp_path / "run", test=(splits, 2), resume=True, **options)
