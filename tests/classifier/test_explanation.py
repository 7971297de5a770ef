"""Explanations that add up, of any model, and their picture."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from synthetic import RATE, chords, clicks, tiny_classifier

import deepmusic
from deepmusic.audio import log_mel
from deepmusic.classifier.explanation import Explanation, draw_explanation, explain
from deepmusic.classifier.inference import Classifier
from deepmusic.errors import AudioError, DeepMusicError


def write(path: Path, samples: Any, sample_rate: int = RATE) -> Path:
    soundfile.write(path, samples, sample_rate, subtype="FLOAT")
    return path


def log_odds(classifier: Classifier, segments: Any, genre: int) -> float:
    scores = classifier.predict_segments(np.asarray(segments, np.float32))[0].mean(axis=0)
    share = classifier.calibration.probabilities(scores)[genre]
    return float(np.log(share / (1 - share)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"texture_networks": 2},
        {"position_types": 0},
        {"texture_capsules": 0},
        {"routing": "none"},
        {"routing": "self_attention"},
    ],
    ids=str,
)
def test_evidence_adds_up_for_every_kind_of_model(changes: dict[str, Any], tmp_path: Path) -> None:
    classifier = tiny_classifier(**changes)
    path = write(tmp_path / "s.wav", chords(3, 5.0))
    explanation = explain(classifier, path, genre="clicks")
    whole = log_mel(soundfile.read(path, dtype="float32")[0])  # of fewer frames than two segments
    score = log_odds(classifier, [whole[:, :128], whole[:, -128:]], 1)
    flat = np.repeat(whole.mean(axis=1, keepdims=True), 128, axis=1)
    background = log_odds(classifier, [flat], 1)
    assert explanation.score == pytest.approx(score, abs=1e-4)
    assert explanation.background == pytest.approx(background, abs=1e-4)
    assert explanation.evidence.sum() == pytest.approx(score - background, abs=1e-4)
    other = explain(
        classifier, path, genre="chords"
    ).evidence  # of two genres, one is not the other
    np.testing.assert_allclose(other, -explanation.evidence, atol=1e-5)


@pytest.mark.slow
def test_a_long_track_is_spread_and_a_short_one_cut_to_its_length(
    classifier: Classifier, tmp_path: Path
) -> None:
    long = explain(classifier, write(tmp_path / "long.wav", np.tile(chords(1, 8.0), 6)))
    short = explain(classifier, write(tmp_path / "short.wav", clicks(1, 0.4)))
    for explanation, seconds in ((long, 48), (short, 0.4)):
        frames = 1 + int(seconds * RATE) // 512
        assert explanation.image.shape == (128, frames)
        assert explanation.evidence.shape == (16, frames)
        total = explanation.score - explanation.background
        assert explanation.evidence.sum() == pytest.approx(total, abs=1e-4)
    analysed = np.abs(long.evidence).max(axis=0) > 0
    assert 0.4 < analysed.mean() < 0.7  # ten patches of three seconds
    assert analysed[:100].all()
    assert analysed[-100:].all()
    shortened = explain(classifier, tmp_path / "long.wav", max_seconds=4)
    assert shortened.seconds == pytest.approx(4, abs=0.05)


@pytest.mark.slow
def test_the_top_genre_is_explained_unless_another_is_named(
    classifier: Classifier, sound_file: Path, tmp_path: Path
) -> None:
    top = [entry.genre for entry in classifier.classify(sound_file).top]
    assert explain(classifier, sound_file).genre == top[0]
    assert explain(classifier, sound_file, genre=top[1]).genre == top[1]
    with pytest.raises(DeepMusicError, match="does not know the genre 'polka'; it knows chords"):
        explain(classifier, sound_file, genre="polka")
    with pytest.raises(AudioError, match="silent"):
        explain(classifier, write(tmp_path / "silence.wav", np.zeros(RATE, np.float32)))
    with pytest.raises(AudioError):
        explain(classifier, tmp_path / "missing.wav")


@pytest.mark.data
@pytest.mark.slow
def test_right_verdicts_have_positive_evidence(shared_data: Path) -> None:
    shipped = deepmusic.load("small", device="cpu")
    for path in (shared_data / "clips" / name for name in ("classical-7.mp3", "pop-7.mp3")):
        explanation = explain(shipped, path)
        assert explanation.genre == path.name.split("-")[0]
        assert explanation.evidence.sum() > 1
        # the background alone is of no genre: one in four has log-odds of -1.1
        assert explanation.background < -0.5


@pytest.mark.slow
def test_the_plot_shows_the_evidence(tmp_path: Path) -> None:
    from matplotlib.image import imread

    def drawn(sign: float) -> Any:
        evidence = np.zeros((16, 300))
        evidence[10:14, 200:260] = sign
        explanation = Explanation(
            genre="_a",
            image=np.full((128, 300), -60, np.float32),
            evidence=evidence,
            score=240.0 * sign,
            background=0.0,
            log_mel=tiny_classifier().config.log_mel,
        )
        title = "a $title$ \x1b[1m with \udcff and ü " + "long " * 40
        draw_explanation(explanation, tmp_path / "p.png", title)
        content = (tmp_path / "p.png").read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", content[16:24]) == (1210, 770)
        return imread(tmp_path / "p.png")[:480, :1000, :3]  # the spectrogram

    for sign in (1, -1):
        image = drawn(sign)
        rows, columns = np.nonzero(sign * (image[..., 0] - image[..., 2]) > 0.3)  # red or blue
        assert columns.min() > 600  # late
        assert rows.max() < 300  # and high
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.png"]
