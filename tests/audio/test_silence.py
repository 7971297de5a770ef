"""Silence: what counts as it, what the gate leaves out, and where that was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from sounds import music

from deepmusic.audio.silence import SilenceGate, frame_levels
from deepmusic.errors import AudioError

RATE = 16_000
Sound = NDArray[np.float32]


def passed(sound: Sound, block: int = RATE) -> tuple[Sound, SilenceGate]:
    gate = SilenceGate(RATE, "'a.wav'")
    blocks = (sound[start : start + block] for start in range(0, len(sound), block))
    return np.concatenate([np.empty(0, np.float32), *gate.through(blocks)]), gate


def silence(seconds: float, level_db: float | None = None) -> Sound:
    random = np.random.default_rng(0)
    gain = 0.0 if level_db is None else 10 ** (level_db / 20)
    return (gain * random.standard_normal(round(seconds * RATE))).astype(np.float32)


def test_levels_are_mean_squares_without_offset() -> None:
    sound = np.concatenate([silence(0.05), 0.1 + silence(0.05, -20), silence(0.01)])
    levels = frame_levels(sound, RATE)
    assert levels == pytest.approx([0, np.var(sound[800:1600])], rel=1e-3)
    assert frame_levels(sound[800:1000], RATE) == pytest.approx(np.var(sound[800:1000]), rel=1e-3)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4 * RATE), st.integers(400, 5 * RATE))
def test_sound_without_long_silence_passes_unchanged(length: int, block: int) -> None:
    sound = np.concatenate([music(4, 1)[:length], silence(2.8), music(3, 2), silence(1)])
    through, gate = passed(sound, block)
    assert np.array_equal(through, sound)
    assert gate.silences == []
    assert gate.spans([0, 1.5], 3) == [(0, 3), (1.5, 4.5)]
    assert len(gate.gaps(20)) == 0


@pytest.mark.parametrize("level_db", [None, -70.0])
@pytest.mark.parametrize("block", [700, RATE, 7 * RATE])
def test_long_silence_is_left_out_wherever_it_is(level_db: float | None, block: int) -> None:
    one, two = music(10, 1), music(10, 2)
    sound = np.concatenate([silence(20, level_db), one, silence(60, level_db), two])
    sound = np.concatenate([sound, silence(30, level_db)])
    through, gate = passed(sound, block)
    assert len(through) / RATE == pytest.approx(20, abs=0.2)
    assert through[:RATE] == pytest.approx(one[:RATE])
    expected = [(0, 20), (30, 90), (100, 130)]
    assert np.array(gate.silences) == pytest.approx(np.array(expected), abs=0.11)
    spans = gate.spans([0.0, 8.0, 12.0], 3.0)
    assert np.array(spans) == pytest.approx(np.array([(20, 23), (28, 30), (92, 95)]), abs=0.2)
    # 110 s of gaps, ten frames in the second: before the first, after 10 s, at the end
    gaps, counts = np.unique(gate.gaps(10), return_counts=True)
    assert gaps == pytest.approx([0, 100, 200], abs=2)
    assert counts == pytest.approx([200, 600, 300], abs=2)


def test_hiss_after_loud_music_is_silence_and_quiet_music_is_not() -> None:
    loud = 5 * music(5, 1)
    through, gate = passed(np.concatenate([loud, silence(10, -57)]))
    assert len(gate.silences) == 1
    assert len(through) == pytest.approx(len(loud), abs=RATE / 10)
    quiet = 0.02 * music(10, 2)
    through, gate = passed(np.concatenate([music(5, 1), quiet]))
    assert gate.silences == []


@pytest.mark.parametrize("sound", [silence(1), silence(60), silence(60, -80), 0.5 + silence(9)])
def test_nothing_but_silence_is_refused(sound: Sound) -> None:
    with pytest.raises(AudioError, match=r"'a.wav' is silent: it never reaches -60 dBFS\.$") as it:
        passed(sound)
    assert it.value.code == "silent"


def test_an_offset_is_no_sound() -> None:
    _, gate = passed(np.concatenate([music(5, 1), 0.1 + silence(10)]))
    assert gate.silences == [(pytest.approx(5, abs=0.1), pytest.approx(15))]
