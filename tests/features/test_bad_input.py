"""What is no sound, and parameters out of range: one ValueError, as librosa refuses them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from deepmusic import features
from deepmusic.audio import LogMelConfig, log_mel
from deepmusic.features.stft import HOP_LENGTH

SOUND = np.random.default_rng(0).normal(0, 0.1, 22050).astype(np.float32)
OF_SAMPLES: dict[str, Callable[..., Any]] = {
    name: getattr(features, name)
    for name in (
        *("log_mel_spectrogram", "mfcc", "estimate_tuning", "cqt", "chroma_cqt", "chroma_stft"),
        "frame_features",
    )
}
NO_SOUND = {
    "stereo": np.zeros((2, 22050), np.float32),
    "column": np.zeros((22050, 1)),
    "number": np.float32(0.5),
    "whole numbers": np.zeros(22050, np.int16),
    "truth": np.zeros(22050, bool),
    "complex": np.zeros(22050, complex),
    "text": np.array(["a", "b"]),
    "NaN": np.append(SOUND, np.float32(np.nan)),
    "infinity": np.append(np.float32(-np.inf), SOUND),
    "beyond float32": np.full(4096, 1e300),
    "empty": np.zeros(0, np.float32),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", NO_SOUND)
@pytest.mark.parametrize("name", OF_SAMPLES)
def test_what_is_no_sound_is_refused(name: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^samples (are|must be) ") as error:
        OF_SAMPLES[name](NO_SOUND[wrong], 22050)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", OF_SAMPLES)
@pytest.mark.parametrize("rate", [0, -22050, float("nan"), float("inf")])
def test_impossible_sample_rates_are_refused(name: str, rate: float) -> None:
    with pytest.raises(ValueError, match="sample_rate is at least 1 Hz"):
        OF_SAMPLES[name](SOUND, rate)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", OF_SAMPLES)
@pytest.mark.parametrize("count", [1, 511, 2048])
def test_sound_shorter_than_a_window_is_padded(name: str, count: int) -> None:
    result = OF_SAMPLES[name](SOUND[:count].astype(np.float64), 22050)
    for values in result.values() if isinstance(result, dict) else [np.atleast_2d(result)]:
        assert np.isfinite(values).all()
        assert isinstance(result, float) or values.shape[1] == 1 + count // HOP_LENGTH


@pytest.mark.parametrize("count", [0, -1, 2.5, True, None, "20", 129])
def test_numbers_of_coefficients_and_bands_are_whole(count: Any) -> None:
    with pytest.raises(ValueError, match="n_mfcc is"):
        features.mfcc(SOUND, n_mfcc=count)
    if count != 129:
        for function in (features.mfcc, features.log_mel_spectrogram):
            with pytest.raises(ValueError, match="n_mels is a whole number"):
                function(SOUND, n_mels=count)
        for name in ("n_fft", "hop_length", "n_mels"):
            with pytest.raises(ValueError, match=f"{name} is a whole number"):
                LogMelConfig(**{name: count})
    assert features.mfcc(SOUND, n_mfcc=np.int64(128)).shape == (128, 44)


@pytest.mark.parametrize("tuning", [float("nan"), float("inf"), 13, -1e9])
def test_an_impossible_tuning_is_refused(tuning: float) -> None:
    with pytest.raises(ValueError, match="tuning is in semitones"):
        features.cqt(SOUND, tuning=tuning)


def test_log_mel_refuses_what_is_no_sound() -> None:
    for wrong in NO_SOUND:
        if wrong != "empty":
            with pytest.raises(ValueError, match="samples"):
                log_mel(NO_SOUND[wrong])


WRONG_CALLS = [
    partial(features.onset_strength, np.full((3, 9), np.nan)),
    partial(features.onset_strength, np.zeros((3, 9), int)),
    partial(features.onset_strength, np.zeros(9)),
    partial(features.tempogram, np.append(np.ones(9), np.inf)),
    partial(features.tempogram, np.ones(9, int)),
    partial(features.tempogram, np.ones(9), window_frames=2.5),
    partial(features.tempogram, np.ones(9), window_frames=-1),
    partial(features.tempo, np.append(np.ones(9), np.nan), 22050),
    partial(features.tempo, np.ones(9), 0),
    partial(features.tempo, np.ones(9), -22050),
    partial(features.tempo, np.ones(9), float("nan")),
    partial(features.summary_statistics, np.zeros(9)),
    partial(features.summary_statistics, np.zeros((3, 0))),
    partial(features.summary_statistics, np.zeros((3, 2), int)),
    partial(features.feature_columns, {"mfcc": np.zeros((13, 9))}),
    partial(features.feature_columns, {"loudness": np.zeros((1, 9))}),
    partial(features.feature_columns, {"mfcc": np.zeros((20, 0))}),
]


@pytest.mark.parametrize("number", range(len(WRONG_CALLS)))
def test_features_of_other_shapes_and_types_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match=r"got|must be"):
        WRONG_CALLS[number]()
