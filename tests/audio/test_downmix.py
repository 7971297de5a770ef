"""The mix to mono: the mean of the channels, to the bit, unless they cancel in it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sounds import music

from deepmusic.audio import load, open_audio
from deepmusic.audio.downmix import Downmix
from deepmusic.audio.scan import scan_file

RATE = 16_000
CASES = Path(__file__).resolve().parents[3] / "shared" / "data" / "cases" / "audio"


def mixed(sound: NDArray[np.float32], block: int = RATE) -> tuple[NDArray[np.float32], Downmix]:
    downmix = Downmix()
    blocks = [sound[start : start + block] for start in range(0, len(sound), block)]
    return np.concatenate([downmix.mix(one, RATE) for one in blocks]), downmix


def noise(seconds: float, seed: int, channels: int = 2) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    return 0.1 * random.standard_normal((round(seconds * RATE), channels), np.float32)


def stereo(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([left, right], axis=1)


def energy_of(sound: NDArray[np.float32]) -> float:
    return float(np.square(sound, dtype=np.float64).mean())


@pytest.mark.parametrize("channels", [2, 3, 6])
@pytest.mark.parametrize("shared", [-0.2, 0.0, 0.5, 1.0])
def test_ordinary_and_wide_stereo_keep_their_mean(channels: int, shared: float) -> None:
    sound = noise(20, 1, channels)
    if channels == 2:  # correlation `shared`
        sound[:, 1] = shared * sound[:, 0] + (1 - shared**2) ** 0.5 * sound[:, 1]
    mono, downmix = mixed(sound)
    weights = np.full(channels, 1 / channels, np.float32)
    assert np.array_equal(mono, np.concatenate([part @ weights for part in np.split(sound, 20)]))
    assert not downmix.cancelled_s


def test_one_silent_channel_halves_the_other() -> None:
    sound = noise(3, 2)
    sound[:, 1] = 0
    mono, downmix = mixed(sound)
    assert np.array_equal(mono, sound[:, 0] / 2)
    assert not downmix.cancelled_s
    assert downmix.mono_share == pytest.approx(0.5)


@pytest.mark.parametrize("gain", [1.0, 0.7, 1.5])
@pytest.mark.parametrize("delay", [0, 2])
def test_an_inverted_channel_is_inverted_back(gain: float, delay: int) -> None:
    left = music(10, 3)
    other = np.roll(left, delay) + 0.001 * noise(10, 4, 1)[:, 0]
    upright, _ = mixed(stereo(left, gain * other))
    mono, downmix = mixed(stereo(left, -gain * other))
    assert np.allclose(mono, upright, atol=1e-6)
    assert downmix.cancelled_s == pytest.approx(10)
    assert not downmix.left_out
    assert downmix.mono_share < 0.12


@pytest.mark.parametrize("block", [RATE // 3, RATE, 3 * RATE])
def test_a_change_in_mid_stream_does_not_click(block: int) -> None:
    left = music(30, 5)
    sign = np.ones(len(left), np.float32)
    sign[: 2 * RATE] = 0  # digital silence
    sign[10 * RATE : 20 * RATE] = -1
    sound = stereo(left * (sign != 0), left * sign)
    mono, downmix = mixed(sound, block)
    by_second = np.square(mono).reshape(-1, RATE).mean(axis=1)
    expected = np.square(sound[:, 0]).reshape(-1, RATE).mean(axis=1)
    # a few seconds pass until a change is sure
    assert (by_second[2:] < 0.1 * expected[2:]).sum() <= 6
    assert by_second[[9, 19, 29]] == pytest.approx(expected[[9, 19, 29]], rel=1e-3)
    steps = np.abs(np.diff(mono))
    assert steps.max() <= 1.1 * max(np.abs(np.diff(left)).max(), 1e-3)
    assert 5 < downmix.cancelled_s < 15


def test_silence_before_and_offsets_do_not_mislead() -> None:
    left = music(6, 6)
    quiet = 1e-5 * noise(60, 7, 1)[:, 0]
    sound = np.concatenate([stereo(quiet, -quiet), stereo(left, left)])
    mono, downmix = mixed(sound)
    assert np.array_equal(mono[62 * RATE :], left[2 * RATE :])
    assert not downmix.cancelled_s  # it was inaudible
    mono, downmix = mixed(stereo(left, left) + np.array([0.5, -0.5], np.float32))
    assert not downmix.cancelled_s
    assert np.allclose(mono, left, atol=1e-6)


def test_where_only_the_bass_is_inverted_one_channel_is_left_out() -> None:
    time = np.arange(5 * RATE) / RATE
    bass = (0.5 * np.sin(2 * np.pi * 60 * time)).astype(np.float32)
    treble = 0.3 * noise(5, 8, 1)[:, 0]
    mono, downmix = mixed(stereo(bass + treble, treble - bass))
    assert np.allclose(mono, bass + treble, atol=1e-6)
    assert downmix.left_out


def test_an_inverted_surround_channel_is_inverted_back() -> None:
    front = noise(5, 9, 4)  # left, right, centre, bass
    sound = np.concatenate([front, -front[:, :2]], axis=1)
    mono, downmix = mixed(sound)
    weights = np.array([2, 2, 1, 1], np.float32) / 6
    assert np.allclose(mono, front @ weights, atol=1e-6)
    assert downmix.cancelled_s == pytest.approx(5)
    mono, downmix = mixed(noise(5, 9, 4))
    assert not downmix.cancelled_s


def test_samples_that_are_not_finite_decide_nothing() -> None:
    sound = stereo(music(3, 10), music(3, 10))
    sound[100, 0], sound[200, 1] = np.nan, np.inf
    assert load((sound, RATE), sample_rate=RATE).warning is not None
    assert not mixed(sound)[1].cancelled_s


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3"])
def test_files_of_any_format_and_samples_go_the_same_way(form: str) -> None:
    left = music(8, 11)
    file = io.BytesIO()
    soundfile.write(file, stereo(left, -left), RATE, format=form)
    audio = load(file, sample_rate=RATE)
    assert energy_of(audio.samples) == pytest.approx(energy_of(left), rel=0.1)
    assert audio.warning == (
        "Its channels cancel for 8.0 s: mixed to mono, one of them is inverted there."
    )
    samples = load((stereo(left, -left), RATE), sample_rate=RATE)
    assert np.allclose(samples.samples, left, atol=1e-6)
    # a part says so, too
    assert load(file, sample_rate=RATE, offset_s=2, seconds=2).warning is not None


@pytest.mark.data
def test_inverted_channel_of_the_cases() -> None:
    if not CASES.is_dir():
        pytest.skip("../shared/data/cases is missing")
    upright, inverted = (load(CASES / name) for name in ("music.wav", "inverted.wav"))
    assert np.allclose(upright.samples, inverted.samples, atol=1e-4)
    assert upright.warning is None
    with open_audio(CASES / "inverted.wav") as stream:
        assert list(stream.notes) == ["channels_cancel"]
    scans = [scan_file(CASES / name) for name in ("music.wav", "inverted.wav")]
    assert np.array_equal(scans[0].fingerprint, scans[1].fingerprint)
    assert scans[1].damage == ""
