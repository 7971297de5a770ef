"""Verdicts on sound whose treble was cut off: unsure, and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr
from ear_stand_in import needs_ear
from numpy.typing import NDArray

from deepmusic.audio import load
from deepmusic.classifier.ear.classifier import EarClassifier
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.verdict import Verdict
from deepmusic.pretrained import load as load_model

RATE = 44_100


def low_passed(sound: NDArray[np.float32], hz: int) -> tuple[NDArray[np.float32], int]:
    return soxr.resample(soxr.resample(sound, RATE, 2 * hz), 2 * hz, RATE), RATE


def test_the_warning_joins_others_and_nothing_changes_above() -> None:
    verdict = Verdict("a", "rock", 0.9, warning="Its end is missing.")
    assert verdict.with_bandwidth(None, reliable_hz=6_000) == verdict
    wide = verdict.with_bandwidth(6_000, reliable_hz=6_000)
    assert (wide.genre, wide.warning, wide.bandwidth_hz) == ("rock", verdict.warning, 6_000)
    narrow = verdict.with_bandwidth(5_512, reliable_hz=6_000)
    assert narrow.is_unsure
    assert narrow.confidence == 0.9
    assert narrow.warning == (
        "Its end is missing. It has nothing above 5.5 kHz, so the genre is unsure."
    )
    assert Verdict.from_dict(narrow.to_dict()) == narrow


def test_a_classifier_is_unsure_unless_it_learned_from_such_sound(classifier: Classifier) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    whole = classifier.classify((noise, RATE))
    assert (whole.bandwidth_hz, whole.warning) == (RATE // 2, None)
    narrow = classifier.classify(low_passed(noise, 4_000))
    assert narrow.bandwidth_hz == pytest.approx(4_000, abs=300)
    assert narrow.is_unsure
    assert narrow.warning == "It has nothing above 3.8 kHz, so the genre is unsure."
    card = {"reliable_hz": 3_500}  # of its training tracks
    learned = Classifier(classifier.ensemble, classifier.calibration, card=card, device="cpu")
    assert learned.classify(low_passed(noise, 4_000)).warning is None
    assert learned.digest != classifier.digest


@pytest.mark.slow
@needs_ear
@pytest.mark.parametrize("model", ["classifier", "small"])
def test_real_music_at_11_khz_and_low_passed(shared_data: Path, model: str) -> None:
    classifier = load_model(model)
    assert isinstance(classifier, Classifier | EarClassifier)
    sound = load(shared_data / "emotify" / "rock" / "7.mp3", sample_rate=RATE).samples
    whole = classifier.classify((sound, RATE))
    assert whole.genre is not None
    assert whole.warning is None
    at_11_khz = classifier.classify((soxr.resample(sound, RATE, 11_025), 11_025))
    for narrow in (at_11_khz, classifier.classify(low_passed(sound, 4_000))):
        assert narrow.is_unsure
        assert "nothing above" in (narrow.warning or "")
