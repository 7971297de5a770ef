"""Features of batches in torch beside those of each sound alone in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from torch import Tensor

from deepmusic import features
from deepmusic.audio import LogMelConfig, load, log_mel
from deepmusic.errors import RequestError, ShapeError
from deepmusic.features import batches
from deepmusic.features.constant_q import octave_filters
from deepmusic.features.spectra import FFT_SIZE, magnitudes
from deepmusic.features.tuning import LOWEST_A_HZ, PeakFinder

# of sounds, with how far each value may be from the CPU's
OF_SOUNDS = {
    "log_mel_spectrogram": 1e-4,
    "mfcc": 1e-3,
    "chroma_stft": 1e-5,
    "estimate_tuning": 0,
    "cqt": None,  # of the loudest value
    "chroma_cqt": 1e-4,
}
CQT_TOLERANCE = 2e-6


def sound(
    sample_rate: int, samples: int, detuned: float = 0.0, seed: int = 0
) -> NDArray[np.float32]:
    """A few detuned chords with noise, 60 dB below and more."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / sample_rate
    total = 1e-3 * random.standard_normal(samples)
    for pitch in random.integers(45, 84, 6):
        total += np.sin(2 * np.pi * 440 * 2 ** ((pitch + detuned - 69) / 12) * time + pitch)
    return (0.1 * total * (0.6 + 0.4 * np.sin(9 * time))).astype(np.float32)


def beats(bpm: float, sample_rate: int = 22050, seconds: float = 12.0) -> NDArray[np.float32]:
    """Bursts of noise over a quiet tone."""
    total = sound(sample_rate, round(seconds * sample_rate), seed=1) / 10
    burst = np.random.default_rng(3).normal(size=sample_rate // 10)
    burst *= np.exp(-np.arange(len(burst)) / (0.02 * sample_rate))
    for start in np.arange(0.2, seconds - 0.2, 60 / bpm):
        place = round(start * sample_rate)
        total[place : place + len(burst)] += 0.3 * burst
    return total


def peaks_of(y: NDArray[np.float32], sample_rate: int, power: int = 1) -> PeakFinder:
    """What the CPU tells a tuning from."""
    peaks = PeakFinder(sample_rate, FFT_SIZE)
    for spectra in magnitudes([y]):
        peaks.add(spectra**power, (spectra**power).max(axis=0))
    return peaks


def check(name: str, batch: NDArray[np.float32], sample_rate: int, **options: Any) -> None:
    """All sounds of a batch ``(b, n)`` are as the function of that name has each alone."""
    found = getattr(batches, name)(torch.from_numpy(batch), sample_rate, **options).numpy()
    alone = np.stack([getattr(features, name)(one, sample_rate, **options) for one in batch])
    assert found.shape == alone.shape
    assert found.dtype == alone.dtype
    tolerance = OF_SOUNDS[name]
    for one, expected in zip(found, alone, strict=True):
        limit = CQT_TOLERANCE * expected.max() if tolerance is None else tolerance
        np.testing.assert_allclose(one, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("name", OF_SOUNDS)
@pytest.mark.parametrize("sample_rate", [16000, 22050, 44100])
def test_a_batch_is_each_sound_alone(name: str, sample_rate: int) -> None:
    tunings = (0.21, -0.4, 0.45)
    batch = np.stack(
        [sound(sample_rate, 2 * sample_rate, cents, seed) for seed, cents in enumerate(tunings)]
    )
    batch[2, sample_rate:] = 0
    if name != "chroma_cqt":
        check(name, batch, sample_rate)
    else:  # in silence after sound, a chroma is that of rounding
        check(name, batch[:2], sample_rate)


@pytest.mark.parametrize("name", OF_SOUNDS)
def test_real_clips(name: str, shared_data: Any) -> None:
    paths = sorted((shared_data / "clips").rglob("*.mp3"))[:2]
    check(name, np.stack([load(path, seconds=10).samples for path in paths]), 22050)


lengths = st.one_of(st.integers(0, 40), st.integers(41, 12000))
rates = st.sampled_from([8820, 11025, 16000, 22050, 32000, 44100, 48000])


@pytest.mark.parametrize("name", [name for name in OF_SOUNDS if name != "estimate_tuning"])
@settings(max_examples=12, deadline=None)
@given(samples=lengths, sample_rate=rates, batch=st.integers(1, 3), seed=st.integers(0, 1000))
def test_any_length(name: str, samples: int, sample_rate: int, batch: int, seed: int) -> None:
    sounds = [sound(sample_rate, samples, 0.1 * number, seed + number) for number in range(batch)]
    # where a dozen peaks vote, a rounding may elect another tuning
    power = 2 if name == "chroma_stft" else 1
    tunings = torch.tensor(
        [peaks_of(y, sample_rate, power).tuning() for y in sounds], dtype=torch.float64
    )
    with mock.patch.object(batches, "_tunings", return_value=tunings):
        check(name, np.stack(sounds), sample_rate)


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(300, 12000), sample_rate=rates, seed=st.integers(0, 1000))
def test_a_tuning_has_most_votes_but_for_rounding(
    samples: int, sample_rate: int, seed: int
) -> None:
    y = sound(sample_rate, samples, seed / 1000 - 0.5, seed)
    found = float(batches.estimate_tuning(torch.from_numpy(y)[None], sample_rate))
    peaks = peaks_of(y, sample_rate)
    pitch, height = peaks._pitch[: peaks._count], peaks._height[: peaks._count]
    votes = 12 * np.log2(pitch[height >= np.median(height)] / LOWEST_A_HZ)
    most = np.bincount(np.floor((votes % 1) * 100).astype(int)).max()
    assert np.count_nonzero((votes - found + 1e-3) % 1 < 0.012) >= most


@settings(max_examples=15, deadline=None)
@given(
    sample_rate=st.integers(8500, 200000), tuned=st.floats(-0.5, 0.49), samples=st.integers(1, 9000)
)
def test_constant_q_of_any_rate(sample_rate: int, tuned: float, samples: int) -> None:
    check("cqt", sound(sample_rate, samples)[None], sample_rate, tuned=tuned)


def test_tunings_whose_filters_have_other_lengths_go_into_one_batch() -> None:
    sample_rate, tunings = 15500, [0.49, -0.5, 0.49, 0.0]
    lengths = {tuple(len(f) for _, f in octave_filters(sample_rate, tuned)[1]) for tuned in tunings}
    assert len(lengths) > 1
    batch = np.stack([sound(sample_rate, 9000, tuned, 5) for tuned in tunings])
    found = batches.cqt(torch.from_numpy(batch), sample_rate, tuned=torch.tensor(tunings))
    for one, alone, tuned in zip(found, batch, tunings, strict=True):
        expected = features.cqt(alone, sample_rate, tuned=tuned)
        np.testing.assert_allclose(one, expected, atol=CQT_TOLERANCE * expected.max())


@pytest.mark.parametrize("sample_rate", [88200, 96000, 192000])
@pytest.mark.parametrize("samples", [200, 4095, 90001])
def test_constant_q_of_high_rates(sample_rate: int, samples: int) -> None:
    # soxr takes the first samples otherwise than the rest
    check("cqt", sound(sample_rate, samples)[None], sample_rate, tuned=0.0)
    # soxr has no sample where there is less than half of one
    check("cqt", np.ones((1, 1), np.float32), sample_rate, tuned=0.0)


@pytest.mark.parametrize("name", OF_SOUNDS)
def test_a_batch_of_one_is_its_part_of_a_batch_of_many(name: str) -> None:
    of_sounds: Callable[[Tensor], Tensor] = getattr(batches, name)
    many = torch.from_numpy(np.stack([sound(22050, 9000, 0.1 * n, n) for n in range(4)]))
    together = of_sounds(many)
    for number in range(len(many)):
        alone = of_sounds(many[number : number + 1])[0]
        torch.testing.assert_close(together[number], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", OF_SOUNDS)
def test_little_memory_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of_sounds: Callable[[Tensor], Tensor] = getattr(batches, name)
    y = torch.from_numpy(np.stack([sound(22050, 9000, 0.1 * n, n) for n in range(2)]))
    expected = of_sounds(y)
    monkeypatch.setattr(batches, "_CPU_SAMPLES", 1)  # one window at a time
    torch.testing.assert_close(of_sounds(y), expected, rtol=1e-5, atol=1e-5)


def test_no_more_windows_are_in_memory_than_there_is_room_for() -> None:
    y = torch.zeros(3, 2048 + 512 * 999)
    sizes = [part.numel() for part in batches._windows(y, 2048, 512)]
    assert max(sizes) <= batches._CPU_SAMPLES
    assert sum(sizes) == 3 * 1000 * 2048


@pytest.mark.parametrize("name", OF_SOUNDS)
def test_silence_is_the_cpus_and_leaves_others_alone(name: str) -> None:
    y = sound(22050, 22050)
    check(name, np.stack([np.zeros_like(y), y, np.zeros_like(y)]), 22050)


@pytest.mark.parametrize("name", OF_SOUNDS)
def test_no_setting_of_torch_takes_digits_and_nothing_is_recorded(name: str) -> None:
    of_sounds: Callable[[Tensor], Tensor] = getattr(batches, name)
    y = torch.from_numpy(sound(22050, 9000))[None]
    expected = of_sounds(y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = of_sounds(y.clone().requires_grad_())
    assert torch.equal(found, expected)
    assert not found.requires_grad
    # float64 is rounded as on the CPU
    assert torch.equal(of_sounds(y.double() * (1 + 1e-12)), expected)


def test_options_are_the_cpus() -> None:
    y = sound(22050, 22050)
    batch = torch.from_numpy(y)[None]
    assert batches.log_mel_spectrogram(batch, n_mels=64).shape == (1, 64, 44)
    np.testing.assert_allclose(
        batches.mfcc(batch, coefficients=13, n_mels=40)[0],
        features.mfcc(y, coefficients=13, n_mels=40),
        atol=1e-3,
    )
    np.testing.assert_allclose(
        batches.cqt(batch, tuned=0.3)[0], features.cqt(y, tuned=0.3), atol=1e-6
    )


def test_onsets_tempogram_and_tempo() -> None:
    sample_rate = 22050
    sounds = [beats(90), beats(128), np.zeros(12 * sample_rate, np.float32), beats(150)]
    mel_db = np.stack([log_mel(one, LogMelConfig(sample_rate=sample_rate)) for one in sounds])
    onsets = batches.onset_strength(torch.from_numpy(mel_db))
    expected = np.stack([features.onset_strength(one) for one in mel_db])
    np.testing.assert_allclose(onsets, expected, rtol=0, atol=1e-4)
    repeats = batches.tempogram(onsets)
    alone = np.stack([features.tempogram(one) for one in expected])
    assert repeats.dtype == torch.float64
    np.testing.assert_allclose(repeats, alone, rtol=0, atol=1e-6)
    tempos = batches.tempo(onsets, sample_rate)
    assert tempos.isnan().tolist() == [False, False, True, False]
    np.testing.assert_array_equal(tempos, [features.tempo(one, sample_rate) for one in expected])


@pytest.mark.parametrize("window", [384, 383, 50, 3, 2])
@pytest.mark.parametrize("frames", [1, 2, 40, 700])
def test_tempogram_of_any_length(frames: int, window: int) -> None:
    onsets = np.random.default_rng(frames).random((2, frames))
    found = batches.tempogram(torch.from_numpy(onsets), window_frames=window)
    assert found.shape == (2, window, frames)
    for one, alone in zip(found, onsets, strict=True):
        expected = features.tempogram(alone, window_frames=window)
        np.testing.assert_allclose(one, expected, atol=1e-12)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 9])
def test_onsets_of_very_short_sound(frames: int) -> None:
    mel_db = np.random.default_rng(frames).normal(-20, 40, (2, 128, frames)).astype(np.float32)
    found = batches.onset_strength(torch.from_numpy(mel_db))
    expected = np.stack([features.onset_strength(one) for one in mel_db])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", OF_SOUNDS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(5), r"\(b, n\).*\(5,\)"),
        (torch.zeros(1, 2, 5), r"\(1, 2, 5\)"),
        (torch.zeros(0, 5), r"b > 0.*\(0, 5\)"),
        (torch.zeros(1, 5, dtype=torch.int16), "int16"),
    ],
)
def test_wrong_sounds_are_refused(name: str, wrong: Tensor, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        getattr(batches, name)(wrong)


def test_wrong_rows_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(b, mels, frames\).*\(5, 3\)"):
        batches.onset_strength(torch.zeros(5, 3))
    with pytest.raises(ShapeError, match=r"\(1, 128, 0\)"):
        batches.onset_strength(torch.zeros(1, 128, 0))
    with pytest.raises(ShapeError, match=r"\(b, frames\).*\(3,\)"):
        batches.tempogram(torch.zeros(3))
    with pytest.raises(ShapeError, match=r"\(2, 0\)"):
        batches.tempo(torch.zeros(2, 0), 22050)
    with pytest.raises(ShapeError, match="int64"):
        batches.tempo(torch.zeros(2, 5, dtype=torch.int64), 22050)
    with pytest.raises(ValueError, match="at least 2; got 1"):
        batches.tempogram(torch.zeros(1, 3), window_frames=1)
    with pytest.raises(ValueError, match="at least 2; got 0"):
        batches.tempo(torch.zeros(1, 3), 10)


def test_rates_too_low_for_the_constant_q() -> None:
    y = torch.zeros(2, 9000)
    with pytest.raises(RequestError, match=r"8000 samples per second are too few.* sound 0 "):
        batches.cqt(y, 8000)
    with pytest.raises(RequestError, match="8000 samples per second are too few"):
        batches.chroma_cqt(y, 8000)
    assert batches.chroma_stft(y, 8000).shape == (2, 12, 18)
    # high enough for one tuning, not for the other
    with pytest.raises(RequestError, match="sound 1 of the batch; it needs"):
        batches.cqt(y, 8300, tuned=torch.tensor([-0.4, 0.49]))
    with pytest.raises(ShapeError, match=r"one number or 2; got \(3,\)"):
        batches.cqt(y, tuned=torch.zeros(3))


def test_devices_without_double_precision_are_refused() -> None:
    with pytest.raises(RequestError, match="double precision, which mps devices lack"):
        batches._on(torch.device("mps"), np.zeros(3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", OF_SOUNDS)
def test_a_gpu_gives_what_the_cpu_gives(name: str) -> None:
    of_sounds: Callable[[Tensor], Tensor] = getattr(batches, name)
    y = torch.from_numpy(np.stack([sound(22050, 66150, 0.1 * n, n) for n in range(4)]))
    found = of_sounds(y.cuda())
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), of_sounds(y), rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_finds_the_same_tempos() -> None:
    mel_db = np.stack([log_mel(beats(bpm)) for bpm in (90, 128)])
    onsets = batches.onset_strength(torch.from_numpy(mel_db))
    onsets_there = batches.onset_strength(torch.from_numpy(mel_db).cuda())
    torch.testing.assert_close(onsets_there.cpu(), onsets, rtol=1e-5, atol=1e-4)
    there = batches.tempogram(onsets_there).cpu()
    torch.testing.assert_close(there, batches.tempogram(onsets), rtol=0, atol=1e-6)
    assert batches.tempo(onsets_there, 22050).tolist() == batches.tempo(onsets, 22050).tolist()
