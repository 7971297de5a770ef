"""Loudness against the signals of EBU Tech 3341, BS.1770-4 written out, and FFmpeg."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import sosfilt, sosfreqz

from deepmusic.datasets.loudness import integrated_loudness, k_weighting, true_peak

# The coefficients as BS.1770-4 prints them, for 48 kHz: tables 1 and 2.
# fmt: off
STANDARD = np.array([
    [1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585],
    [1.0, -2.0, 1.0, 1, -1.99004745483398, 0.99007225036621],
])
# fmt: on


def sine(
    level_dbfs: float, seconds: float, sample_rate: int, hz: float = 1000.0
) -> NDArray[np.float64]:
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    return 10 ** (level_dbfs / 20) * np.sin(2 * np.pi * hz * times)


def stereo(
    *parts: tuple[float, float], sample_rate: int, hz: float = 1000.0
) -> NDArray[np.float32]:
    """Parts of (level, seconds), the same in both channels."""
    one = np.concatenate([sine(level, seconds, sample_rate, hz) for level, seconds in parts])
    return np.stack([one, one], axis=1).astype(np.float32)


def slow_loudness(samples: NDArray[np.float64]) -> float:
    """BS.1770-4 at 48 kHz, equation by equation."""
    weighted = sosfilt(STANDARD, samples, axis=0)
    block, step = 19_200, 4_800
    starts = range(0, len(samples) - block + 1, step)
    powers = [np.sum(np.mean(weighted[n : n + block] ** 2, axis=0)) for n in starts]

    def loudness(power: float) -> float:
        return -0.691 + 10 * np.log10(power)

    loud = [power for power in powers if loudness(power) > -70]
    threshold = loudness(float(np.mean(loud))) - 10
    return loudness(float(np.mean([p for p in loud if loudness(p) > threshold])))


def ffmpeg_loudness(sound: NDArray[np.float32], sample_rate: int) -> float:
    graph = av.filter.Graph()
    source = graph.add_abuffer(
        sample_rate=sample_rate, format="flt", layout="stereo", time_base=Fraction(1, sample_rate)
    )
    meter, sink = graph.add("ebur128", "metadata=1:framelog=quiet"), graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="flt", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
    graph.push(frame)
    graph.push(None)
    last = ""
    while True:
        try:
            last = graph.pull().metadata.get("lavfi.r128.I", last)
        except (av.BlockingIOError, av.EOFError):
            return float(last)


def test_the_filter_is_that_of_the_standard_at_every_rate() -> None:
    np.testing.assert_allclose(k_weighting(48_000), STANDARD, atol=2e-8)
    hz = np.array([20.0, 50.0, 100.0, 500.0, 1000.0])
    expected = np.abs(sosfreqz(STANDARD, hz, fs=48_000)[1])
    for rate in (16_000, 22_050, 44_100, 96_000):
        response = np.abs(sosfreqz(k_weighting(rate), hz, fs=rate)[1])
        np.testing.assert_allclose(20 * np.log10(response / expected), 0, atol=0.05)


def test_the_standard_written_out_agrees(rng: np.random.Generator) -> None:
    sound = rng.standard_normal((2 * 48_000 + 1234, 2)) * 0.2
    sound[30_000:70_000] *= 0.03  # below the relative gate
    assert integrated_loudness(sound, 48_000) == pytest.approx(slow_loudness(sound), abs=1e-4)


@pytest.mark.parametrize("sample_rate", [22_050, 44_100, 48_000])
def test_ffmpeg_agrees(sample_rate: int, rng: np.random.Generator) -> None:
    if not hasattr(av.AudioFrame, "metadata"):
        pytest.skip("this version of PyAV has no metadata of frames")
    level = np.repeat(rng.uniform(0.001, 0.3, 40), sample_rate // 4)[:, None]
    sound = (level * rng.standard_normal((len(level), 2))).astype(np.float32)
    expected = ffmpeg_loudness(sound, sample_rate)
    assert integrated_loudness(sound, sample_rate) == pytest.approx(expected, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "lufs"),
    [
        ([(-23, 20)], -23.0),  # case 1 of EBU Tech 3341
        ([(-33, 20)], -33.0),  # case 2
        ([(-36, 10), (-23, 60), (-36, 10)], -23.0),  # case 3: the relative gate
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0),  # case 4: the absolute
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23.0),  # case 5: nothing is gated
    ],
)
def test_the_signals_of_ebu_tech_3341(parts: list[tuple[float, float]], lufs: float) -> None:
    measured = integrated_loudness(stereo(*parts, sample_rate=44_100), 44_100)
    assert measured == pytest.approx(lufs, abs=0.1)


def test_surround_channels_are_weighted() -> None:
    # case 6: left and right -28, centre -24, surrounds -30 dBFS give -23 LUFS
    sound = np.stack([sine(level, 5, 48_000) for level in (-28, -28, -24, -30, -30)], axis=1)
    measured = integrated_loudness(sound, 48_000)
    assert measured == pytest.approx(-23.0, abs=0.1)
    with_effects = np.insert(sound, 3, sine(0, 5, 48_000), axis=1)  # low-frequency effects
    assert integrated_loudness(with_effects, 48_000) == measured


def test_mono_is_3_lu_below_the_same_sound_in_stereo(rng: np.random.Generator) -> None:
    mono = (0.1 * rng.standard_normal(96_000)).astype(np.float32)
    alone = integrated_loudness(mono, 48_000)
    together = integrated_loudness(np.stack([mono, mono], axis=1), 48_000)
    assert alone is not None
    assert together == pytest.approx(alone + 10 * np.log10(2), abs=1e-6)
    assert integrated_loudness(mono[:, None], 48_000) == alone


@pytest.mark.parametrize("sample_rate", [11_025, 22_050, 44_100])
def test_silence_and_less_than_400_ms_have_no_loudness(sample_rate: int) -> None:
    for parts in ((-20, 0.0), (-20, 0.1), (-20, 0.39), (-80, 2)):
        assert integrated_loudness(stereo(parts, sample_rate=sample_rate), sample_rate) is None
    assert integrated_loudness(np.zeros((sample_rate, 2), np.float32), sample_rate) is None
    measured = integrated_loudness(stereo((-20, 0.4), sample_rate=sample_rate), sample_rate)
    assert measured == pytest.approx(-20.0, abs=0.1)


def test_rates_too_low_for_the_filter_are_resampled() -> None:
    low, high = (
        integrated_loudness(stereo((-20, 3), sample_rate=rate, hz=500), rate)
        for rate in (4_000, 48_000)
    )
    assert low == pytest.approx(high, abs=0.1)


@pytest.mark.parametrize(
    ("divisor", "degrees", "level"),
    [(4, 0, 0.5), (4, 45, 0.5), (6, 60, 0.5), (8, 67.5, 0.5), (4, 45, 1.41)],  # cases 15 to 19
)
@pytest.mark.parametrize("sample_rate", [44_100, 48_000])
def test_the_true_peaks_of_ebu_tech_3341(
    divisor: int, degrees: float, level: float, sample_rate: int
) -> None:
    n = np.arange(sample_rate)
    fade = np.minimum(1, np.minimum(n, n[::-1]) / (sample_rate / 10))
    sound = level * fade * np.sin(2 * np.pi * n / divisor + np.radians(degrees))
    decibels = 20 * np.log10(true_peak(sound.astype("f4"), sample_rate) / level)
    assert -0.4 <= decibels <= 0.2


def test_a_true_peak_is_at_least_the_sample_peak() -> None:
    click = np.zeros((1000, 2), np.float32)
    click[500, 1] = -0.75
    for sample_rate in (22_050, 96_000, 192_000):
        assert true_peak(click, sample_rate) >= 0.75
    assert true_peak(np.zeros((0, 2), np.float32), 44_100) == 0.0
