"""Acoustic fingerprints: alike for the same sound in any form, different for different sounds."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from sounds import music, tone

from deepmusic.audio.fingerprint import CODES_PER_SECOND, FingerprintStream, acoustic_fingerprint
from deepmusic.errors import ShapeError

RATE = 16000


def differing(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Share of bits that differ where both have a code."""
    length = min(len(one), len(other))
    one, other = one[:length], other[:length]
    coded = (one != 0) & (other != 0)
    assert coded.sum() > 0.5 * length
    return float(np.unpackbits((one ^ other)[coded].view(np.uint8)).mean())


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 44100, 48000, 96000])
def test_the_same_sound_at_any_rate(sample_rate: int) -> None:
    sound = music(12, 1, 48000)
    here = acoustic_fingerprint(soxr.resample(sound, 48000, sample_rate), sample_rate)
    there = acoustic_fingerprint(sound, 48000)
    assert abs(len(here) - len(there)) <= 1
    assert differing(here, there) < 0.1
    assert differing(here, acoustic_fingerprint(music(12, 2, 48000), 48000)) > 0.4


def test_gain_and_noise_change_few_bits() -> None:
    sound = music(12, 3)
    code = acoustic_fingerprint(sound, RATE)
    assert differing(code, acoustic_fingerprint(sound * np.float32(0.03), RATE)) < 0.02
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(sound)).astype(np.float32)
    assert differing(code, acoustic_fingerprint(sound + noise, RATE)) < 0.25


def test_codes_follow_the_time() -> None:
    sound = music(20, 4)
    whole = acoustic_fingerprint(sound, RATE)
    assert abs(len(whole) - CODES_PER_SECOND * 20) < CODES_PER_SECOND
    later = acoustic_fingerprint(sound[5 * RATE :], RATE)
    assert differing(whole[5 * CODES_PER_SECOND :], later) < 0.05
    assert differing(whole[4 * CODES_PER_SECOND :], later) > 0.35


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1000, 4500, 11025, 44100, 192000]), st.data())
def test_blocks_make_no_difference(sample_rate: int, data: st.DataObject) -> None:
    sound = music(3, 5, sample_rate)
    stream = FingerprintStream(sample_rate)
    start = 0
    while start < len(sound):
        size = data.draw(st.integers(0, len(sound)))
        stream.add(sound[start : start + size])
        start += size or 1000
        if not size:
            stream.add(sound[start - 1000 : start])
    np.testing.assert_array_equal(stream.finish(), acoustic_fingerprint(sound, sample_rate))


def test_steady_sound_has_no_codes() -> None:
    sine = tone(10, RATE)
    for steady in (0 * sine, sine, np.full(10 * RATE, 0.1, np.float32)):
        # an edge is a change: the first and last moments may have codes
        assert not acoustic_fingerprint(steady, RATE)[4:-4].any()
    assert len(acoustic_fingerprint(sine[:100], RATE)) == 0
    assert len(acoustic_fingerprint(sine[:0], RATE)) == 0


def test_bad_shapes_and_rates_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"mono, \(n,\)"):
        acoustic_fingerprint(np.zeros((10, 2), np.float32), RATE)
    with pytest.raises(ValueError, match="1000 Hz or more"):
        FingerprintStream(999)
