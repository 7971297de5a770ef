"""The capsules over the ear: exported, fitted, calibrated, trained and used."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from synthetic import chords, clicks

from deepmusic.classifier.ear import training
from deepmusic.classifier.ear.classifier import EarClassifier, ear_output
from deepmusic.classifier.ear.config import HeadConfig
from deepmusic.classifier.ear.fitting import FitOptions, fit_head, predict_log_scores
from deepmusic.classifier.ear.genres import DECADES, GENRES, MOODS, SOUNDS, broad_config
from deepmusic.classifier.ear.head import EarHead, head_graph
from deepmusic.classifier.ear.patches import TAGS
from deepmusic.classifier.ear.training import train_on_ear
from deepmusic.classifier.explanation import explain
from deepmusic.errors import AudioError, CheckpointError, DataError
from deepmusic.pretrained import MODELS
from deepmusic.training import load_weights
from deepmusic.training.onnx_graph import OnnxNetwork
from faults import each_fault

SMALL = HeadConfig(("high", "low"), heads=2, track_capsules=6, patch_capsules=2, genre_dim=4)
RATE = 16_000


def random_tracks(count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tracks of two genres whose features differ by more than their noise."""
    random = np.random.default_rng(seed)
    centre = random.normal(size=(2, 256))
    return [
        (
            (centre[i % 2] + random.normal(size=(3 + i % 9, 256))).astype(np.float32),
            random.normal(size=(3 + i % 9, 50)).astype(np.float32),
        )
        for i in range(count)
    ]


def write_music(folder: Path, artists: int = 3) -> Path:
    """Two genres of noise, one high, one low, by different artists."""
    random = np.random.default_rng(1)
    lines = ["path,genre,artist"]
    for genre, step in (("high", 1), ("low", 12)):
        (folder / genre).mkdir(parents=True)
        for artist in range(artists):
            for take in range(2):
                noise = np.repeat(random.normal(0, 0.1, 4 * RATE // step + 1), step)
                name = f"{genre}/{artist}-{take}.wav"
                soundfile.write(folder / name, noise, RATE)
                lines.append(f"{name},{genre},{genre} artist {artist}")
    (folder / "tracks.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [broad_config(), SMALL, replace(SMALL, routing="none"), replace(SMALL, patch_capsules=0)],
    ids=["broad", "two genres", "linear", "track capsules alone"],
)
def test_the_exported_head_equals_pytorch(config: HeadConfig) -> None:
    torch.manual_seed(1)
    head = EarHead(config).eval()
    weights = {name: tensor.numpy() for name, tensor in head.state_dict().items()}
    network = OnnxNetwork(head_graph(config), weights)
    for tracks, patches in ((1, 1), (3, 7)):
        given = {
            "features": torch.randn(tracks, patches, 256),
            "tag_logits": torch.randn(tracks, patches, 50),
        }
        with torch.no_grad():
            expected = head(**given)
        got = network(*(given[name].numpy() for name in network.inputs))
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-5)


@pytest.mark.parametrize(("routing", "tolerance"), [("uniform", 1e-5), ("self_attention", 0.01)])
def test_repeated_patches_change_little(routing: str, tolerance: float) -> None:
    head = EarHead(replace(SMALL, routing=routing)).eval()
    features, tags = torch.randn(2, 4, 256), torch.randn(2, 4, 50)
    once, twice = head(features, tags), head(features.repeat(1, 2, 1), tags.repeat(1, 2, 1))
    for one, other in zip(once, twice, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=0)


def test_a_fit_learns_and_repeats_itself() -> None:
    tracks = random_tracks(40)
    targets = np.eye(2)[np.arange(40) % 2]
    head = fit_head(tracks[:30], targets[:30], SMALL, FitOptions(epochs=8))
    predicted = predict_log_scores(head, tracks[30:]).argmax(axis=1)
    assert (predicted == np.arange(30, 40) % 2).mean() >= 0.9
    again = fit_head(tracks[:30], targets[:30], SMALL, FitOptions(epochs=8))
    np.testing.assert_allclose(
        predict_log_scores(again, tracks), predict_log_scores(head, tracks), atol=1e-4
    )


def test_every_tag_of_the_broad_set_is_the_ears() -> None:
    config = broad_config()
    assert config == HeadConfig.from_dict(config.to_dict())
    assert {*MOODS, *SOUNDS, *DECADES} <= set(TAGS)
    used = [tag for tags in GENRES.values() for tag in tags]
    assert len(used) == len(set(used))
    for change in ({"genres": ("a",)}, {"routing": "x"}, {"heads": 0}, {"tags": (("rock",),)}):
        with pytest.raises(ValueError, match=r"genres|routing|sizes|tags"):
            replace(SMALL, **change)
    with pytest.raises(CheckpointError, match="configuration"):
        HeadConfig.from_dict({**config.to_dict(), "colour": "red"})


@pytest.mark.slow
def test_training_on_a_folder(tmp_path: Path, stand_in_ear: Path) -> None:
    data = write_music(tmp_path / "music")
    (data / "low" / "broken.wav").write_bytes(b"RIFF")
    seen: list[tuple[int, int]] = []
    trained = train_on_ear(
        data, tmp_path / "run", test=0.3, on_track=lambda *n: seen.append(n), on_notes=seen.append
    )
    assert seen[-1] == (13, 13)
    assert [problem.path for problem in trained.problems] == ["low/broken.wav"]
    assert trained.metrics["test"]["accuracy"] == 1
    assert trained.unknown_artists == 0
    loaded = EarClassifier.load(tmp_path / "run")
    for classifier in (loaded, pickle.loads(pickle.dumps(loaded))):
        verdict = classifier.classify(data / "low" / "0-0.wav", segments=True)
        assert verdict.top[0].genre == "low"
        assert len(verdict.segments) == 2
        assert len(verdict.tags) == 50
    assert loaded.digest == EarClassifier.load(tmp_path / "run").digest
    with pytest.raises(CheckpointError, match="already holds a run"):
        train_on_ear(data, tmp_path / "run")
    for file in (data / "low").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="only 'high'"):
        train_on_ear(data, tmp_path / "other")


def test_whatever_fails_a_run_on_the_ear_can_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, outputs = write_music(tmp_path / "music", artists=2), iter(random_tracks(10_000))
    monkeypatch.setattr(training, "ear_output", lambda *_, **__: next(outputs))
    monkeypatch.setattr(training, "HeadConfig", lambda _: SMALL)

    def run(folder: Path) -> None:
        resume = (folder / "run" / "config.json").exists()
        options = FitOptions(epochs=1)
        train_on_ear(data, folder / "run", test=0.0, options=options, resume=resume)

    def loads(folder: Path) -> None:
        model = folder / "run" / "model.safetensors"
        assert not model.exists() or load_weights(model)

    def finished(folder: Path) -> None:
        files = {path.name for path in (folder / "run").iterdir()}
        assert files == {"config.json", "ear", "metrics.json", "model.safetensors", "splits.json"}
        assert len(list((folder / "run" / "ear").glob("*.npz"))) == 8

    each_fault(run, loads, finished=finished, at=lambda n: n % 25 == 5 or (n > 140 and n % 5 == 0))


def test_silence_does_not_vote(tmp_path: Path, stand_in_ear: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 9 * RATE)
    soundfile.write(tmp_path / "noise.wav", noise, RATE)
    soundfile.write(tmp_path / "padded.wav", np.pad(noise, (0, 60 * RATE)), RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(5 * RATE), RATE)
    features, _ = ear_output(tmp_path / "noise.wav", patches=None)
    padded, _ = ear_output(tmp_path / "padded.wav", patches=None)
    assert len(features) == 4
    assert len(padded) == 4
    np.testing.assert_allclose(padded[:3], features[:3], atol=1e-3)
    # few patches are wanted of a long track, and none of them is silent
    hour = np.concatenate([np.zeros(1800 * RATE), noise, np.zeros(1800 * RATE)])
    few, _ = ear_output((hour, RATE), patches=3)
    assert len(few) == 3
    assert np.abs(few[:, None] - features).max(axis=2).min(axis=1).max() < 0.1
    with pytest.raises(AudioError, match="silent") as caught:
        ear_output(tmp_path / "silent.wav")
    assert caught.value.code == "silent"


@pytest.fixture
def shipped(stand_in_ear: Path) -> EarClassifier:
    """The shipped capsules over an ear that makes no sense of anything."""
    return EarClassifier.load(MODELS["classifier"])


@pytest.mark.parametrize("seconds", [0.02, 0.5, 3.5])
@pytest.mark.parametrize("sample_rate", [8_000, 44_100])
def test_short_sound_has_a_verdict(
    shipped: EarClassifier, seconds: float, sample_rate: int
) -> None:
    verdict = shipped.classify((chords(1, seconds, sample_rate), sample_rate), segments=True)
    assert verdict.duration_s == pytest.approx(seconds, abs=1e-3)
    assert sum(entry.probability for entry in verdict.top) == pytest.approx(1)
    assert verdict.segments[-1].end_s == pytest.approx(seconds, abs=0.02)
    assert np.isfinite([*verdict.tags.values(), *(entry.score for entry in verdict.top)]).all()


@pytest.mark.parametrize(
    ("value", "message"), [(0.0, "silent"), (1e-9, "silent"), (np.nan, "NaN"), (1e30, "NaN")]
)
def test_sound_that_is_none_is_refused(shipped: EarClassifier, value: float, message: str) -> None:
    sound = np.full(4 * RATE, value, np.float32)
    with pytest.raises(AudioError, match=message + r"[^\n]*\.$"):
        shipped.classify((sound, RATE))
    # the rest is classified, unless too much of the sound is garbage
    start = 8 if value == 1e30 else RATE
    sound[start:] = clicks(1, 4.0, RATE)[start:]
    verdict = shipped.classify((sound, RATE))
    assert np.isfinite([entry.probability for entry in verdict.top]).all()


def test_silence_is_named_and_has_no_segments(shipped: EarClassifier) -> None:
    sound = np.concatenate([clicks(1, 8.0, RATE), np.zeros(30 * RATE), chords(2, 10.0, RATE)])
    verdict = shipped.classify((sound.astype(np.float32), RATE), segments=True)
    ((start_s, end_s),) = verdict.silences
    assert (start_s, end_s) == pytest.approx((8, 38), abs=1)
    assert all(s.end_s <= start_s or s.start_s >= end_s for s in verdict.segments)
    assert verdict.segments[-1].end_s == pytest.approx(48, abs=0.1)
    assert shipped.classify((sound.astype(np.float32), RATE)).silences == ()


def test_segments_do_not_change_the_verdict(shipped: EarClassifier) -> None:
    sound = np.concatenate([clicks(1, 20.0, RATE), chords(2, 25.0, RATE)])
    one, other = (shipped.classify((sound, RATE), segments=segments) for segments in (False, True))
    assert [entry.genre for entry in one.top[:3]] == [entry.genre for entry in other.top[:3]]


@pytest.mark.slow
def test_an_explanation_adds_up(shipped: EarClassifier) -> None:
    explanation = explain(shipped, (clicks(1, 5.0, RATE), RATE))
    total = explanation.score - explanation.background
    assert explanation.evidence.sum() == pytest.approx(total, abs=1e-3)
    assert explanation.evidence.shape == (6, explanation.image.shape[1])
