"""Fingerprints, levels, and hearing a file once: against slow and obvious twins."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from deepmusic.audio.fingerprint import CODES_A_SECOND, FingerprintStream, acoustic_fingerprint
from deepmusic.audio.heard import Heard, hear_file, hear_files
from deepmusic.audio.levels import LevelMeter
from deepmusic.errors import DataError, ShapeError

RATE = 16000


@lru_cache(maxsize=64)
def music(seconds: float, seed: int, sample_rate: int = RATE) -> NDArray[np.float32]:
    """Notes that begin and fade at random, with a little noise."""
    rng = np.random.default_rng(seed)
    sound = 0.003 * rng.standard_normal(round(seconds * sample_rate))
    for start_s in np.arange(0, seconds - 0.1, 0.2):
        length = round(min(rng.uniform(0.3, 1.5), seconds - start_s) * sample_rate)
        time = np.arange(length) / sample_rate
        hz = 110 * 2 ** (rng.integers(0, 36) / 12)
        tones = sum(np.sin(2 * np.pi * hz * k * time) / k for k in range(1, 6))
        start = round(start_s * sample_rate)
        sound[start : start + length] += rng.uniform(0.05, 0.15) * tones * np.exp(-3 * time)
    sound = sound.astype(np.float32)
    sound.setflags(write=False)
    return sound


def unlike(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Share of bits that differ where both have a code."""
    length = min(len(one), len(other))
    one, other = one[:length], other[:length]
    told = (one != 0) & (other != 0)
    assert told.sum() > 0.5 * length
    return float(np.unpackbits((one ^ other)[told].view(np.uint8)).mean())


@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 44100, 48000, 96000])
def test_the_same_sound_at_any_rate(sample_rate: int) -> None:
    sound = music(12, 1, 48000)
    here = acoustic_fingerprint(soxr.resample(sound, 48000, sample_rate), sample_rate)
    there = acoustic_fingerprint(sound, 48000)
    assert abs(len(here) - len(there)) <= 1
    assert unlike(here, there) < 0.1
    assert unlike(here, acoustic_fingerprint(music(12, 2, 48000), 48000)) > 0.4


def test_gain_and_noise_change_few_bits() -> None:
    sound = music(12, 3)
    code = acoustic_fingerprint(sound, RATE)
    assert unlike(code, acoustic_fingerprint(sound * np.float32(0.03), RATE)) < 0.02
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(sound)).astype(np.float32)
    assert unlike(code, acoustic_fingerprint(sound + noise, RATE)) < 0.25


def test_codes_keep_time() -> None:
    sound = music(20, 4)
    whole = acoustic_fingerprint(sound, RATE)
    assert abs(len(whole) - CODES_A_SECOND * 20) < CODES_A_SECOND
    later = acoustic_fingerprint(sound[5 * RATE :], RATE)
    assert unlike(whole[5 * CODES_A_SECOND :], later) < 0.05
    assert unlike(whole[4 * CODES_A_SECOND :], later) > 0.35


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1000, 4500, 11025, 44100, 192000]), st.data())
def test_blocks_make_no_difference(sample_rate: int, data: st.DataObject) -> None:
    sound = music(3, 5, sample_rate)
    stream = FingerprintStream(sample_rate)
    place = 0
    while place < len(sound):
        size = data.draw(st.integers(0, len(sound)))
        stream.add(sound[place : place + size])
        place += size or 1000
        if not size:
            stream.add(sound[place - 1000 : place])
    np.testing.assert_array_equal(stream.finish(), acoustic_fingerprint(sound, sample_rate))


def test_what_tells_nothing_has_no_code() -> None:
    time = np.arange(10 * RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    for steady in (np.zeros(10 * RATE, np.float32), tone, np.full(10 * RATE, 0.1, np.float32)):
        # an edge is a change: the first and last moments may have codes
        assert not acoustic_fingerprint(steady, RATE)[4:-4].any()
    assert len(acoustic_fingerprint(tone[:100], RATE)) == 0
    assert len(acoustic_fingerprint(tone[:0], RATE)) == 0


def test_what_is_no_recording_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"mono, \(n,\)"):
        acoustic_fingerprint(np.zeros((10, 2), np.float32), RATE)
    with pytest.raises(ValueError, match="1000 Hz or more"):
        FingerprintStream(999)


def metered(
    sound: NDArray[np.float32], codec: str = "pcm_s16", sample_rate: int = 1000
) -> LevelMeter:
    meter = LevelMeter()
    for start in range(0, len(sound), sample_rate):
        meter.add(sound[start : start + sample_rate], sample_rate, codec)
    return meter


def test_levels_by_hand() -> None:
    sound = np.zeros((2000, 2), np.float32)
    sound[500:1000, 0] = 0.5
    sound[0:500, 1] = -0.25 + 0.0004 * np.tile([1, -1], 250)
    meter = metered(sound)
    assert meter.frames == 2000
    assert meter.peak == pytest.approx(0.5)
    assert meter.offset == pytest.approx(0.125)
    assert meter.mean_square == pytest.approx((500 * 0.25 + 500 * 0.0625) / 4000, rel=1e-3)
    assert meter.zero_share == 0.5
    assert meter.silent_share == 1  # a constant is no sound, nor is -68 dB
    assert metered(sound + 0.01 * np.tile([[1], [-1]], (1000, 1))).silent_share == 0
    assert meter.clipped_share == 0


@pytest.mark.parametrize(
    ("values", "codec", "clipped"),
    [
        ([1, 1, 1, 0], "pcm_s16", 3),
        ([1, 1, 0, 1], "pcm_s16", 0),
        ([-1, -1, -1, -1], "pcm_s16", 4),
        ([1, 1, -1, -1], "pcm_s16", 0),
        ([1.2, 1.3, 1.1, 0], "mp3", 3),
        ([0.99] * 4, "pcm_s16", 0),
        ([127 / 128] * 4, "pcm_u8", 4),
        ([32767 / 32768] * 4, "pcm_s16", 4),
    ],
)
def test_clipping_is_a_run_at_full_scale(values: list[float], codec: str, clipped: int) -> None:
    sound = np.zeros((100, 1), np.float32)
    sound[10:14, 0] = values
    assert metered(sound, codec).clipped_share == pytest.approx(clipped / 100)


def test_what_is_no_number_is_silence() -> None:
    sound = np.zeros((1000, 1), np.float32)
    sound[3], sound[500], sound[700] = np.nan, np.inf, 0.5
    meter = metered(sound)
    assert (meter.peak, meter.offset) == (0.5, pytest.approx(0.0005))


def write(path: Path, sound: NDArray[np.float32], sample_rate: int = RATE) -> Path:
    soundfile.write(path, sound, sample_rate)
    return path


def test_hearing_a_file(tmp_path: Path) -> None:
    sound = music(6, 6)
    path = write(tmp_path / "a.wav", np.stack([sound, -sound], axis=1))
    heard = hear_file(path, algorithm="sha1")
    data = path.read_bytes()
    assert (heard.code, heard.error, heard.warning, heard.faults) == ("", "", "", ())
    assert (heard.sample_rate, heard.channels, heard.container, heard.codec) == (
        RATE,
        2,
        "wav",
        "pcm_s16",
    )
    assert heard.duration_s == pytest.approx(6, abs=1e-4)
    assert heard.header_s == pytest.approx(6, abs=1e-4)
    assert heard.mono_share < 1e-4
    assert heard.sha256 == hashlib.sha256(data).hexdigest()
    assert heard.digest == hashlib.sha1(data).hexdigest()
    mono = hear_file(write(tmp_path / "b.wav", sound))
    assert mono.mono_share == 1
    assert unlike(mono.fingerprint, acoustic_fingerprint(sound, RATE)) < 0.02


def test_damage_has_codes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", music(6, 7))
    path.write_bytes(path.read_bytes()[:-100_000])
    heard = hear_file(path)
    assert heard.faults == ("cut_off",)
    assert heard.warning.startswith("2.9 s of sound was heard")
    assert hear_file(tmp_path / "none.wav").code == "missing"


def test_a_second_run_hears_only_what_is_new(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    paths = [str(write(tmp_path / f"{n}.wav", music(2, n))) for n in range(3)]
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    paths.append(str(tmp_path / "bad.wav"))
    first = {heard.path: heard for heard in hear_files(paths, cache=cache)}
    assert [first[path].code for path in paths] == ["", "", "", "not_audio"]
    size = cache.stat().st_size
    # one is moved, one is changed, one stays
    (tmp_path / "0.wav").rename(tmp_path / "moved.wav")
    paths[0] = str(tmp_path / "moved.wav")
    write(tmp_path / "1.wav", music(3, 9))
    second = {heard.path: heard for heard in hear_files(paths, cache=cache)}
    lines = cache.read_bytes()[size:].splitlines()
    assert [json.loads(line)["path"] for line in lines] == [paths[1]]
    fresh = {heard.path: heard for heard in hear_files(paths)}
    for path in paths:
        assert same(second[path], fresh[path])


def same(one: Heard, other: Heard) -> bool:
    np.testing.assert_array_equal(one.fingerprint, other.fingerprint)
    assert asdict(one) | {"fingerprint": 0} == asdict(other) | {"fingerprint": 0}
    return True


def test_records_changed_by_other_hands_are_passed_over(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = str(write(tmp_path / "a.wav", music(2, 1)))
    (good,) = hear_files([path], cache=cache)
    header, record = cache.read_text().splitlines()
    broken = json.dumps(json.loads(record) | {"fingerprint": "?", "peak": 9.0})
    cache.write_text("\n".join([header, broken, "{}", "null", record[:50]]) + "\n")
    (again,) = hear_files([path], cache=cache)
    assert same(good, again)
    with pytest.raises(DataError, match="holds rows of"):
        list(hear_files([path], cache=cache, max_seconds=5))


def test_a_checksum_that_was_not_taken_is_taken(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    path = str(write(tmp_path / "a.wav", music(2, 1)))
    (first,) = hear_files([path], cache=cache)
    (second,) = hear_files([path], cache=cache, algorithm="md5")
    assert (first.digest, len(second.digest)) == ("", 32)
