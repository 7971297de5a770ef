"""Log-mel spectrograms against librosa, in one piece, in blocks and in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from sounds import tone

from deepmusic.audio import LogMelConfig, LogMelStream, load, log_mel, mel_filters
from deepmusic.errors import ShapeError

CONFIGS = [
    LogMelConfig(),
    LogMelConfig(sample_rate=44100, n_fft=4096, hop_length=1000, n_mels=80, f_min=30, f_max=16000),
    LogMelConfig(sample_rate=16000, n_fft=400, hop_length=160, n_mels=40, floor_db=-80),
    LogMelConfig(sample_rate=8000, n_fft=256, hop_length=256, n_mels=5),  # windows side by side
]


def by_librosa(samples: NDArray[np.float32], config: LogMelConfig) -> NDArray[np.float32]:
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
    )
    decibels: NDArray[np.float32] = librosa.power_to_db(
        power, amin=10 ** (config.floor_db / 10), top_db=None
    )
    return decibels


def noise(seed: int, length: int, loudness: float = 0.3) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return (loudness * generator.standard_normal(length)).astype(np.float32)


@pytest.mark.parametrize("config", CONFIGS)
def test_filters_equal_those_of_librosa(config: LogMelConfig) -> None:
    expected = librosa.filters.mel(
        sr=config.sample_rate,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
    )
    np.testing.assert_allclose(mel_filters(config), expected, rtol=1e-5, atol=1e-8)


def test_clips_equal_librosa_to_a_thousandth_of_a_decibel(shared_data: Path) -> None:
    clips = sorted((shared_data / "clips").glob("*.mp3"))
    assert len(clips) == 8
    for clip in clips:
        samples = load(clip, seconds=12).samples
        expected = by_librosa(samples, LogMelConfig())
        ours = log_mel(samples)
        assert ours.shape == expected.shape
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:n_fft:UserWarning")
@given(
    seed=st.integers(0, 1000),
    length=st.integers(0, 9000),
    loudness=st.sampled_from([0.0, 1e-6, 0.3, 3e4]),
    config=st.sampled_from(CONFIGS),
)
@settings(max_examples=60, deadline=None)
def test_noise_equals_librosa(
    seed: int, length: int, loudness: float, config: LogMelConfig
) -> None:
    samples = noise(seed, length, loudness)
    ours = log_mel(samples, config)
    assert ours.shape == (config.n_mels, config.frames(length))
    assert (ours >= config.floor_db - 1e-4).all()
    if length:  # librosa refuses an empty signal; ours gives one silent frame
        np.testing.assert_allclose(ours, by_librosa(samples, config), rtol=0, atol=1e-3)


@pytest.mark.slow
def test_a_quiet_cell_beside_a_loud_tone_is_right() -> None:
    """A float32 transform is off by decibels here."""
    samples = tone(1, 22050, hz=400) * np.hanning(22050).astype(np.float32)
    expected = by_librosa(samples, LogMelConfig())
    np.testing.assert_allclose(log_mel(samples), expected, rtol=0, atol=1e-3)


@given(
    seed=st.integers(0, 1000),
    cuts=st.lists(st.integers(0, 5000), max_size=12),
    config=st.sampled_from(CONFIGS),
)
@settings(max_examples=60, deadline=None)
def test_any_blocks_give_the_same(seed: int, cuts: list[int], config: LogMelConfig) -> None:
    samples = noise(seed, sum(cuts))
    stream = LogMelStream(config)
    parts = [stream.push(part) for part in np.split(samples, np.cumsum(cuts)[:-1])] if cuts else []
    parts.append(stream.flush())
    joined = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(joined, log_mel(samples, config), rtol=0, atol=1e-4)


def test_torch_agrees(shared_data: Path) -> None:
    torch = pytest.importorskip("torch")
    from deepmusic.audio.log_mel_torch import log_mel_batch

    clips = sorted((shared_data / "clips").glob("*.mp3"))[:2]
    batch = np.stack([load(clip, seconds=5).samples for clip in clips])
    expected = np.stack([log_mel(samples) for samples in batch])
    double = log_mel_batch(torch.from_numpy(batch).double())
    assert double.dtype == torch.float64
    np.testing.assert_allclose(double.numpy(), expected, rtol=0, atol=1e-3)
    single = log_mel_batch(torch.from_numpy(batch))
    assert single.dtype == torch.float32
    audible = expected > expected.max(axis=1, keepdims=True) - 80
    assert audible.mean() > 0.9
    np.testing.assert_allclose(single.numpy()[audible], expected[audible], rtol=0, atol=1e-3)
    for config in CONFIGS:
        ours = log_mel_batch(torch.from_numpy(batch).double(), config).numpy()
        np.testing.assert_allclose(ours[0], log_mel(batch[0], config), rtol=0, atol=1e-3)
    with pytest.raises(ShapeError):
        log_mel_batch(torch.zeros(100))


def test_bad_settings_and_two_channels_are_refused() -> None:
    bad: list[dict[str, Any]] = [
        {"sample_rate": 0}, {"hop_length": 0}, {"hop_length": 2049}, {"n_mels": 0},
        {"n_fft": 2047}, {"f_min": -1}, {"f_min": 5000, "f_max": 4000}, {"f_max": 11026},
    ]  # fmt: skip
    for fields in bad:
        with pytest.raises(ValueError, match=r"at least|at most|must hold|even|whole number"):
            LogMelConfig(**fields)
    with pytest.raises(ShapeError, match="one channel"):
        log_mel(np.zeros((2, 100), np.float32))
