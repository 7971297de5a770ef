"""Bandwidth: the edge of a low-pass is found, music with little treble has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from scipy import signal

from deepmusic.audio import load, open_audio
from deepmusic.audio.bandwidth import BandwidthMeter, nothing_above

RATE = 44_100


def bandwidth(
    sound: NDArray[np.floating], sample_rate: int = RATE, block: int = RATE
) -> int | None:
    """Of mono sound, or ``(n, channels)``, given in blocks."""
    sound = np.asarray(sound[:, None] if sound.ndim == 1 else sound, np.float32)
    meter = BandwidthMeter()
    for start in range(0, len(sound), block):
        meter.add(sound[start : start + block], sample_rate)
    return meter.bandwidth_hz()


def noise(seconds: float, db_per_octave: float, seed: int = 0) -> NDArray[np.float64]:
    """Noise with an RMS of 0.1 that falls from 200 Hz on."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(round(seconds * RATE)))
    hz = np.fft.rfftfreq(round(seconds * RATE), 1 / RATE)
    spectrum *= 10 ** (-db_per_octave / 20 * np.log2(np.maximum(hz, 200) / 200))
    sound = np.fft.irfft(spectrum, round(seconds * RATE))
    return 0.1 * sound / sound.std()


def cut(sound: NDArray[np.float64], hz: float, order: int = 10) -> NDArray[np.float64]:
    return signal.sosfilt(signal.butter(order, hz, fs=RATE, output="sos"), sound)


def dithered(sound: NDArray[np.float64], seed: int = 1) -> NDArray[np.float64]:
    """With noise at -90 dBFS."""
    return sound + 10**-4.5 * np.random.default_rng(seed).standard_normal(len(sound))


@given(
    hz=st.floats(2_000, 15_000),
    slope=st.floats(3, 6),
    gain_db=st.floats(-10, 10),
    block=st.integers(900, 3 * RATE),
)
@settings(max_examples=15)
def test_the_edge_of_a_low_pass(hz: float, slope: float, gain_db: float, block: int) -> None:
    sound = cut(10 ** (gain_db / 20) * noise(4, slope), hz)
    found = bandwidth(dithered(sound), block=block)
    assert found is not None
    assert hz * 0.9 < found < hz * 1.35
    assert abs(found - (bandwidth(dithered(sound)) or 0)) <= 0.1 * found  # in any blocks


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 16_000, 22_050])
def test_a_low_sample_rate_is_the_bandwidth_also_when_resampled(sample_rate: int) -> None:
    low = soxr.resample(noise(4, 4), RATE, sample_rate)
    assert 0.85 * sample_rate / 2 <= (bandwidth(low, sample_rate) or 0) <= sample_rate / 2 + 1
    again = soxr.resample(low, sample_rate, RATE)
    assert bandwidth(dithered(again)) == pytest.approx(sample_rate / 2, rel=0.12)


@pytest.mark.parametrize("db_per_octave", [0, 6, 12, 18, 24])
def test_treble_that_rolls_off_was_not_cut_off(db_per_octave: float) -> None:
    assert bandwidth(noise(6, db_per_octave)) == RATE / 2
    assert bandwidth(dithered(noise(6, db_per_octave))) == RATE / 2


def test_a_bass_of_decaying_partials_was_not_cut_off() -> None:
    time = np.arange(8 * RATE) / RATE
    sound = np.zeros(len(time))
    for start_s, hz in zip(range(8), (41, 55, 49, 62, 41, 73, 65, 55), strict=True):
        after = np.maximum(time - start_s, 0)
        for k in range(1, 40):
            sound += k**-2 * np.exp(-after * (1 + k / 4)) * np.sin(2 * np.pi * hz * k * after) / 20
    assert bandwidth(dithered(sound)) == RATE / 2


def test_silence_fades_and_channels_make_no_difference() -> None:
    sound = cut(noise(6, 4), 4_000)
    whole = bandwidth(dithered(sound))
    faded = np.concatenate([sound * np.linspace(0, 1, len(sound)) ** 2, np.zeros(20 * RATE)])
    assert bandwidth(dithered(faded)) == pytest.approx(whole, abs=300)
    assert bandwidth(np.stack([sound, -sound], axis=1)) == pytest.approx(whole, abs=300)


def test_what_cannot_be_measured() -> None:
    assert bandwidth(np.zeros(RATE)) is None
    assert bandwidth(noise(0.05, 4)) is None
    meter = BandwidthMeter()
    meter.add(np.full((RATE, 1), np.nan, np.float32), RATE)
    meter.add(np.full((RATE, 2), 1e30, np.float32), RATE)
    assert meter.bandwidth_hz() is None
    meter.add(np.float32(cut(noise(4, 4), 3_000))[:, None], RATE)
    found = meter.bandwidth_hz()
    assert found is not None
    meter.add(np.float32(noise(1, 0))[:, None], 48_000)  # of another rate
    assert meter.bandwidth_hz() == found
    assert bandwidth(noise(1, 0)[:4096], 1_500) == 750
    assert nothing_above(5_512) == "nothing above 5.5 kHz"


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["classical/1", "classical/13", "electronic/63", "rock/7"])
def test_real_music_has_its_coder_s_bandwidth_until_it_is_cut(clip: str, shared_data: Path) -> None:
    path = shared_data / "emotify" / f"{clip}.mp3"
    meter = BandwidthMeter()
    with open_audio(path, sample_rate=None, on_block=meter.add) as audio:
        for _ in audio:
            pass
    assert (meter.bandwidth_hz() or 0) > 10_000
    sound = load(path, sample_rate=RATE).samples
    low = soxr.resample(soxr.resample(sound, RATE, 8_000), 8_000, RATE)
    assert 3_500 <= (bandwidth(dithered(low)) or 0) <= 4_000
