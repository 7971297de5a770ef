"""From a folder to a classifier: what is written, who learns from whom, and what is refused."""

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
from synthetic import RATE, chords, spectrograms, tiny_config, write_folder

from deepmusic.audio import log_mel, wrap
from deepmusic.classifier import training as module
from deepmusic.classifier.calibration import Calibration, fit_calibration
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.spectrograms import SpectrogramStore
from deepmusic.classifier.task import ClassifierTask
from deepmusic.classifier.training import Trained, train_classifier, train_ensemble
from deepmusic.datasets import dataset_digest, make_folds, make_split, scan_folder, write_splits
from deepmusic.errors import CheckpointError, DataError, DeepMusicError
from deepmusic.training import Progress, TrainingConfig, load_weights, read_history

QUICK = TrainingConfig(epochs=2, batch_size=8, learning_rate=3e-3, device="cpu")


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight artists a genre with two tracks each, two of them by artists of one spelling more."""
    root = write_folder(tmp_path_factory.mktemp("music"), artists=8, seconds=3.0)
    table = (root / "tracks.csv").read_text()
    # one artist spelled in another way, one with a guest
    spelled = {
        "8.wav,chords,chords player 0": "8.wav,chords,CHORDS Player 0",
        "9.wav,chords,chords player 1": "9.wav,chords,chords player 1 feat. Nobody Else",
    }
    for old, new in spelled.items():
        assert old in table
        table = table.replace(old, new)
    (root / "tracks.csv").write_text(table)
    soundfile.write(root / "clicks" / "night.wav", np.zeros(3 * RATE), RATE)
    (root / "clicks" / "empty.mp3").touch()
    (root / "chords" / "prose.mp3").write_text("no music at all " * 100)
    return root


@pytest.fixture(scope="module")
def trained(music: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, list[Any]]:
    """A whole run with two networks and a light one, made small, or this would take minutes."""
    said: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ClassifierConfig", small)
        result = train_classifier(
            music,
            tmp_path_factory.mktemp("runs") / "run",
            networks=2,
            training=QUICK,
            on_progress=lambda *args: said.append(args),
            on_spectrogram=lambda *args: said.append(args),
        )
    return result, said


def small(*, genres: tuple[str, ...], networks: int) -> ClassifierConfig:
    return tiny_config(genres=genres, networks=networks, texture_networks=1)


def test_what_is_written(trained: tuple[Trained, list[Any]]) -> None:
    run = trained[0].run
    names = {path.name for path in run.iterdir()}
    assert names == {
        "accuracy.png", "config.json", "confusion.png", "calibration", "calibration.json",
        "loss.png", "networks", "networks.json", "metrics.json", "model.safetensors",
        "spectrograms",
        "splits.json",
    }  # fmt: skip
    calibration = [f"calibration/{number}" for number in range(judge_count(run))]
    assert sorted(p.name for p in (run / "calibration").iterdir()) == [j[-1] for j in calibration]
    for name in ("networks/0", "networks/1", "networks/2", *calibration):
        network = run / name
        assert len(read_history(network)) == QUICK.epochs
        assert (network / "best" / "weights.safetensors").exists()
    assert not list(run.rglob("*.tmp"))
    assert json.loads((run / "metrics.json").read_text()) == trained[0].metrics
    config = ClassifierConfig.from_dict(json.loads((run / "config.json").read_text()))
    # what is shipped goes without the decoders, which have done their part
    assert replace(config, reconstruction=0.0) == trained[0].classifier.config
    assert not any("decoder" in name for name in trained[0].classifier.ensemble.state_dict())
    assert len(list((run / "spectrograms").iterdir())) == 32


def test_the_file_is_the_classifier(trained: tuple[Trained, list[Any]], music: Path) -> None:
    result = trained[0]
    loaded = Classifier.load(result.run, device="cpu")
    assert loaded.digest == result.classifier.digest
    assert loaded.genres == ("chords", "clicks")
    assert loaded.card == json.loads(json.dumps(result.classifier.card))
    assert loaded.card["trained_on"] == 32 - result.metrics["test"]["tracks"]
    assert loaded.card["tracks"] == 32
    assert loaded.calibration.to_dict() == result.metrics["calibration"]
    assert loaded.classify(music / "chords" / "1.wav").confidence is not None


def parts(path: Path) -> dict[str, list[str]]:
    return {entry["path"]: entry["parts"] for entry in json.loads(path.read_text())["tracks"]}


def judge_count(run: Path) -> int:
    return len(next(iter(parts(run / "calibration.json").values())))


def artists(music: Path) -> dict[str, str]:
    """Artist of each track, spelled one way."""
    rows = [line.split(",") for line in (music / "tracks.csv").read_text().splitlines()[1:]]
    return {row[0]: row[2].casefold().split(" feat")[0] for row in rows}


def test_no_artist_stands_on_two_sides(trained: tuple[Trained, list[Any]], music: Path) -> None:
    run, artist = trained[0].run, artists(music)
    assert len(set(artist.values())) == 16
    whole = parts(run / "splits.json")
    assert whole.keys() == artist.keys()

    def heard(part: str) -> set[str]:
        return {artist[path] for path, (side,) in whole.items() if side == part}

    tested = heard("test")
    assert tested
    assert not tested & (heard("train") | heard("validation"))

    networks = parts(run / "networks.json")
    assert networks.keys() == {path for path, (side,) in whole.items() if side != "test"}
    judged = []
    for number in range(2):
        learned = {artist[path] for path, sides in networks.items() if sides[number] == "train"}
        judge = {artist[path] for path, sides in networks.items() if sides[number] == "validation"}
        assert judge
        assert not judge & learned
        assert not tested & (judge | learned)
        assert (
            len({path.split("/")[0] for path, s in networks.items() if s[number] != "train"}) == 2
        )
        judged.append(judge)
    assert not judged[0] & judged[1]  # each is validated on a part of its own
    calibration = parts(run / "calibration.json")
    assert calibration.keys() == networks.keys()
    for (
        sides
    ) in calibration.values():  # each track is judged once, by one that did not learn from it
        assert sides.count("validation") == 1
    for number in range(judge_count(run)):
        learned = {artist[path] for path, sides in calibration.items() if sides[number] == "train"}
        judge = {
            artist[path] for path, sides in calibration.items() if sides[number] == "validation"
        }
        assert judge
        assert not judge & learned


def test_members_are_shown_the_tracks_of_their_part(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[set[bytes], set[bytes], int]] = []

    class Noted(ClassifierTask):
        def __init__(self, config: Any, train: Any, validation: Any, **options: Any) -> None:
            one, other = (
                {bytes(s[:, :20].tobytes()) for s in part[0]} for part in (train, validation)
            )
            shown.append((one, other, options["seed"]))
            super().__init__(config, train, validation, **options)

    monkeypatch.setattr(module, "ClassifierConfig", small)
    monkeypatch.setattr(module, "ClassifierTask", Noted)
    training = replace(QUICK, epochs=1, seed=3)
    result = train_classifier(music, tmp_path / "run", networks=2, training=training)
    dataset = scan_folder(music)
    sound = {
        track.path: log_mel(soundfile.read(music / track.path, dtype="float32")[0])
        for track in dataset.tracks
        if track.path.endswith(".wav")
    }
    marks = {path: wrap(s, 128).astype(np.float16)[:, :20].tobytes() for path, s in sound.items()}
    networks = parts(result.run / "networks.json")
    calibration = parts(result.run / "calibration.json")
    count = judge_count(result.run)
    assert [seed for *_, seed in shown] == [300 + number for number in range(3 + count)]
    # the light one learns from all tracks but the test's
    assert shown[2][0] == shown[2][1] == {marks[path] for path in networks}
    for dealt, trainings in ((networks, shown[:2]), (calibration, shown[3:])):
        for number, (train, validation, _) in enumerate(trainings):
            for side, seen in (("train", train), ("validation", validation)):
                assert seen == {marks[p] for p, sides in dealt.items() if sides[number] == side}


def test_figures(trained: tuple[Trained, list[Any]]) -> None:
    metrics = trained[0].metrics
    assert metrics.keys() == {"validation", "calibration", "test"}
    judged = len(parts(trained[0].run / "calibration.json"))  # every track that is not of the test
    assert metrics["validation"]["tracks"] == metrics["calibration"]["tracks"] == judged
    for side in ("validation", "test"):
        assert metrics[side]["genres"] == ["chords", "clicks"]
        assert 0 <= metrics[side]["accuracy"] <= 1
        assert metrics[side]["unsure"]["threshold"] == metrics["calibration"]["threshold"]
    assert trained[0].classifier.calibration == Calibration(**metrics["calibration"])


def test_test_figures_are_what_the_classifier_says_of_the_files(
    trained: tuple[Trained, list[Any]], music: Path
) -> None:
    result = trained[0]
    whole = parts(result.run / "splits.json")
    tested = [path for path, (side,) in whole.items() if side == "test"]
    confusion = np.zeros((2, 2), int)
    for path in tested:
        said = result.classifier.classify(music / path).top[0].genre
        genres = result.classifier.genres
        confusion[genres.index(path.split("/")[0]), genres.index(said)] += 1
    assert confusion.tolist() == result.metrics["test"]["confusion"]


def test_problems_and_progress_are_told(trained: tuple[Trained, list[Any]]) -> None:
    result, said = trained
    assert {(problem.path, problem.code) for problem in result.problems} == {
        ("chords/prose.mp3", "not_audio"),
        ("clicks/empty.mp3", "empty"),
        ("clicks/night.wav", "silent"),
    }
    drawn = [args for args in said if len(args) == 2]
    assert drawn[-1] == (34, 34)
    steps = [args for args in said if len(args) == 3]
    assert [(a, b) for a, b, _ in steps] == sorted((a, b) for a, b, _ in steps)
    networks = 3 + judge_count(result.run)
    assert {(a, b) for a, b, _ in steps} == {(n + 1, networks) for n in range(networks)}
    assert all(isinstance(progress, Progress) for *_, progress in steps)
    assert sum(progress.record is not None for *_, progress in steps) == networks * QUICK.epochs


def ensemble_of(
    music: Path, tmp_path: Path, name: str, seed: int
) -> tuple[dict[str, torch.Tensor], Calibration]:
    dataset = scan_folder(music)
    dataset = replace(
        dataset, tracks=tuple(t for t in dataset.tracks if t.path[-5:] not in {"e.mp3", "t.wav"})
    )
    config = small(genres=dataset.genres, networks=2)
    store = SpectrogramStore(tmp_path / "store", config)
    assert store.fill(dataset) == []
    torch.rand(seed + 3)  # what others drew before makes no difference
    ensemble, calibration, _ = train_ensemble(
        dataset,
        make_split(dataset, seed=1).train,
        store,
        config,
        tmp_path / name,
        training=replace(QUICK, seed=seed),
    )
    return ensemble.state_dict(), calibration


def test_the_same_seed_gives_the_same_weights(music: Path, tmp_path: Path) -> None:
    one, its = ensemble_of(music, tmp_path, "one", 0)
    other, their = ensemble_of(music, tmp_path, "other", 0)
    third, _ = ensemble_of(music, tmp_path, "third", 1)
    assert its == their
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert any(not torch.equal(one[name], third[name]) for name in one)
    first, second = (
        {k.split(".", 2)[2]: v for k, v in one.items() if k.startswith(f"networks.{number}.")}
        for number in range(2)
    )
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_calibrated_on_what_was_not_learned(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[np.ndarray, np.ndarray]] = []

    def noted(scores: np.ndarray, labels: np.ndarray) -> Calibration:
        given.append((scores, labels))
        return fit_calibration(scores, labels)

    monkeypatch.setattr(module, "fit_calibration", noted)
    ensemble_of(music, tmp_path, "run", 0)
    ((scores, labels),) = given
    dataset = scan_folder(music)
    light = small(genres=dataset.genres, networks=2).network_configs[-1]
    store = SpectrogramStore(tmp_path / "store", light)
    tracks = {track.path: track for track in dataset.tracks}
    run = tmp_path / "run"
    place = 0
    for number in range(judge_count(run)):
        own, _ = load_weights(run / "calibration" / str(number) / "best" / "weights.safetensors")
        for path, sides in sorted(parts(run / "calibration.json").items()):
            if sides[number] != "validation":
                continue
            label = dataset.genres.index(tracks[path].genre)
            spectrogram = store.load(tracks[path])
            judge = ClassifierTask(light, spectrograms(2), ([spectrogram], [label]), seed=0)
            judge.model.load_state_dict(own)
            expected = judge.validation_scores(judge.model.eval())[0]
            np.testing.assert_allclose(scores[place], expected, atol=1e-4)
            assert labels[place] == label
            place += 1
    assert place == len(scores) == len(labels)


def test_without_light_networks_the_members_calibrate(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def places_only(*, genres: tuple[str, ...], networks: int) -> ClassifierConfig:
        return tiny_config(genres=genres, networks=networks, texture_networks=0, texture_capsules=0)

    monkeypatch.setattr(module, "ClassifierConfig", places_only)
    result = train_classifier(
        music, tmp_path / "run", networks=2, training=replace(QUICK, epochs=1)
    )
    assert not (result.run / "calibration.json").exists()
    networks = parts(result.run / "networks.json")
    judged = sum(sides.count("validation") for sides in networks.values())
    assert result.metrics["calibration"]["tracks"] == judged


def test_without_a_test_part(music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ClassifierConfig", small)
    cache = tmp_path / "cache"
    result = train_classifier(
        music, tmp_path / "run", test=0, networks=1, training=replace(QUICK, epochs=1), cache=cache
    )
    assert "test" not in result.metrics
    assert not (result.run / "confusion.png").exists()
    assert not (result.run / "spectrograms").exists()
    assert len(list(cache.iterdir())) == 32
    assert result.classifier.card["trained_on"] == 32
    kept = scan_folder(music)
    assert result.classifier.card["data"] != dataset_digest(kept)  # less the silent and the broken


def test_few_artists_make_fewer_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ClassifierConfig", small)
    root = write_folder(tmp_path / "music", artists=3, seconds=3.0, each=1)
    training = replace(QUICK, epochs=1)
    result = train_classifier(root, tmp_path / "run", test=0, networks=5, training=training)
    assert 1 <= result.classifier.config.networks <= 3
    loaded = Classifier.load(result.run, device="cpu")
    assert loaded.config == result.classifier.config
    networks = parts(result.run / "networks.json")
    assert {len(sides) for sides in networks.values()} == {loaded.config.networks}


def refused(data: Path, run: Path, **options: Any) -> str:
    with pytest.raises(DeepMusicError) as caught:
        train_classifier(data, run, training=replace(QUICK, epochs=1), **options)
    assert isinstance(caught.value, DataError | CheckpointError)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert not (run / "model.safetensors").exists()
    return message


def test_data_that_make_no_classifier_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert "missing" in refused(tmp_path / "missing", run)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", run)

    root = write_folder(tmp_path / "music", artists=4, seconds=1.0, each=1)
    (root / "tracks.csv").unlink()
    shutil.rmtree(root / "clicks")
    assert "only 'chords'" in refused(root, run)
    # another genre, of which nothing can be heard
    (root / "noise").mkdir()
    for number in range(3):
        silence = np.full(RATE + number, 0.0, np.float32)
        soundfile.write(root / "noise" / f"{number}.wav", silence, RATE)
    assert "only 'chords'" in refused(root, run)
    # nothing but silence at all
    shutil.rmtree(root / "chords")
    (root / "more").mkdir()
    soundfile.write(root / "more" / "0.wav", np.zeros(2 * RATE), RATE)
    assert "none with music that can be heard" in refused(root, run)


def test_too_few_artists_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "music", artists=1, seconds=1.0, each=3)
    assert "artist" in refused(root, tmp_path / "run")
    # a genre with one file
    one = write_folder(tmp_path / "one", artists=3, seconds=1.0, each=1)
    for number in (1, 2):
        (one / "clicks" / f"{number}.wav").unlink()
    (one / "tracks.csv").unlink()
    assert "clicks" in refused(one, tmp_path / "run")


def test_a_run_is_not_overwritten(
    trained: tuple[Trained, list[Any]], music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained[0].run
    before = (run / "model.safetensors").read_bytes()
    monkeypatch.setattr(module, "ClassifierConfig", small)
    with pytest.raises(CheckpointError, match=r"resume.*\.$"):
        train_classifier(music, run, networks=2, training=QUICK)
    assert (run / "model.safetensors").read_bytes() == before


def test_copies_count_as_one_artist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ClassifierConfig", small)
    root = write_folder(tmp_path / "music", artists=6, seconds=3.0, each=1)
    (root / "tracks.csv").unlink()
    soundfile.write(root / "chords" / "copied.wav", chords(0, 3.0), RATE, subtype="PCM_16")
    original, copy = (root / "chords" / name for name in ("0.wav", "copied.wav"))
    assert original.read_bytes() == copy.read_bytes()
    for seed in range(3):
        training = replace(QUICK, epochs=1, seed=seed)
        run = tmp_path / f"run{seed}"
        train_classifier(root, run, networks=2, training=training, cache=tmp_path / "cache")
        for file in ("splits.json", "networks.json"):
            sides = parts(run / file)
            assert sides.get("chords/0.wav") == sides.get("chords/copied.wav")


@pytest.mark.slow
def test_the_shipped_size_trains(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "music", artists=7, seconds=7.0, each=1)
    result = train_classifier(root, tmp_path / "run", training=QUICK)
    assert result.classifier.config == ClassifierConfig(
        genres=("chords", "clicks"), reconstruction=0.0
    )
    assert (result.run / "model.safetensors").stat().st_size < 4_000_000
    records = read_history(result.run / "networks" / "0")
    assert all(np.isfinite(record["validation"]["loss"]) for record in records)


def test_splits_of_a_file_are_followed(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ClassifierConfig", small)
    dataset = scan_folder(music)
    # places in the file are those of all tracks; one of them cannot be heard and drops out
    folds = replace(make_folds(dataset, folds=3, seed=5), protocol="official")
    write_splits(tmp_path / "splits.json", folds, dataset)
    with pytest.raises(DataError, match=r"has folds 0 to 2; got 3"):
        train_classifier(music, tmp_path / "no", splits=tmp_path / "splits.json", fold=3)
    options: dict[str, Any] = {
        "splits": tmp_path / "splits.json",
        "training": replace(QUICK, epochs=1),
        "cache": tmp_path / "cache",
    }
    result = train_classifier(music, tmp_path / "run", fold=1, **options)
    tested = {
        path for path, (part,) in parts(tmp_path / "run" / "splits.json").items() if part == "test"
    }
    wanted = {dataset.tracks[place].path for place in folds[1].test}
    assert tested == wanted - {problem.path for problem in result.problems}
    assert result.metrics["test"]["tracks"] == len(tested)
    kept = json.loads((tmp_path / "run" / "splits.json").read_text())
    assert (kept["seed"], kept["protocol"]) == (5, "official")
    with pytest.raises(CheckpointError, match="another file of splits"):
        train_classifier(music, tmp_path / "run", fold=2, resume=True, **options)
