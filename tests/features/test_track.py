"""All features of a track, compared with librosa running the same recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from librosa_recipe import librosa_columns, librosa_rows
from numpy.typing import NDArray

from deepmusic.audio import load
from deepmusic.errors import RequestError
from deepmusic.features import (
    COLUMNS,
    FEATURE_SIZES,
    RECIPES,
    feature_columns,
    frame_features,
)
from deepmusic.features.track import track_features

Sound = NDArray[np.float32]


def music(seconds: float, sample_rate: int, seed: int = 0) -> Sound:
    """Changing detuned chords with bursts of noise."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    sound = np.zeros(len(time))
    for start in np.arange(0, seconds, 0.7):
        since = time - start
        fades = np.where((since >= 0) & (since < 1.5), np.exp(-3 * np.maximum(since, 0)), 0)
        for pitch in random.choice(np.arange(40, 80), 3, replace=False):
            hz = 440 * 2 ** ((pitch + 0.17 - 69) / 12)
            for overtone in (1, 2, 3):
                if overtone * hz < sample_rate / 2:
                    sound += fades * np.sin(2 * np.pi * overtone * hz * time) / overtone
        sound += 0.1 * fades**8 * random.standard_normal(len(time))
    return (0.2 * sound).astype(np.float32)


def assert_equals_librosa(sound: Sound, sample_rate: int, recipe: str) -> None:
    """Features over time and columns equal those of librosa."""
    ours, theirs = (
        frame_features(sound, sample_rate, recipe),
        librosa_rows(sound, sample_rate, recipe),
    )
    for name, rows in theirs.items():
        assert ours[name].shape == rows.shape == (FEATURE_SIZES[name], 1 + len(sound) // 512)
        scale = max(float(np.abs(rows).max()), 1e-6)
        np.testing.assert_allclose(ours[name], rows, atol=2e-5 * scale, err_msg=name)
    columns, expected = feature_columns(ours), librosa_columns(theirs)
    error = np.abs(columns - expected) / np.maximum(np.abs(expected), 0.1)
    worst = int(error.argmax())
    assert error[worst] < 1e-3, (COLUMNS[worst], columns[worst], expected[worst])


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("sample_rate", [22050, 44100, 48000])
def test_features_equal_those_of_librosa(recipe: str, sample_rate: int) -> None:
    assert_equals_librosa(music(4, sample_rate), sample_rate, recipe)


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate", [11025, 16000, 32000, 96000, 192000])
def test_other_sample_rates(sample_rate: int) -> None:
    assert_equals_librosa(music(2, sample_rate, seed=sample_rate), sample_rate, "fma")


@pytest.mark.slow
@pytest.mark.parametrize("samples", [512, 700, 1023, 1024, 2047, 2048, 2049, 5000, 22050 + 511])
def test_short_and_odd_lengths(samples: int) -> None:
    assert_equals_librosa(music(2, 22050, seed=samples)[:samples], 22050, "fma")


@pytest.mark.slow
def test_quantized_features_equal_those_of_librosa() -> None:
    # a rounding error that changes one quantized value changes the 41 frames around it as well
    sound = music(6, 44100, seed=3)
    ours, theirs = frame_features(sound, 44100), librosa_rows(sound, 44100, "fma")
    for name in ("chroma_cens", "chroma_cqt", "tonnetz", "spectral_rolloff", "zcr"):
        same = np.isclose(ours[name], theirs[name], rtol=0, atol=1e-9)
        assert same.mean() > 0.99, name


def test_real_clips_are_within_1e_4_of_librosa(shared_data: Path) -> None:
    table = []
    for name in ("classical/1", "electronic/16", "pop/3", "rock/55"):
        audio = load(shared_data / "emotify" / f"{name}.mp3", sample_rate=44100)
        rows = librosa_rows(audio.samples, 44100, "fma")
        ours = feature_columns(frame_features(audio.samples, 44100))
        table.append((ours, librosa_columns(rows)))
    ours, theirs = (np.array(side, float) for side in zip(*table, strict=True))
    scale = np.maximum(np.abs(theirs), theirs.std(axis=0))
    error = np.abs(ours - theirs) / np.maximum(scale, 1e-12)
    assert error.max() < 1e-4, COLUMNS[int(error.max(axis=0).argmax())]


SILENT = np.zeros(44100, np.float32)


@pytest.mark.parametrize(
    "sound",
    [
        SILENT,
        SILENT[:1],
        SILENT + np.float32(0.25),
        np.concatenate([SILENT, music(2, 44100), SILENT]),
        np.sign(music(1, 44100)),
        1e-6 * music(1, 44100),
        np.float32([0.5]),
    ],
    ids=["silence", "one zero", "offset", "silence around", "clipped", "faint", "one sample"],
)
def test_every_value_is_defined(sound: Sound) -> None:
    columns = feature_columns(frame_features(sound, 44100))
    assert np.isfinite(columns).all()


def test_silence() -> None:
    rows = frame_features(SILENT, 44100)
    for name in ("zcr", "rmse", "chroma_cqt", "chroma_cens", "chroma_stft", "tonnetz"):
        assert not rows[name].any(), name
    for name in ("spectral_centroid", "spectral_bandwidth", "spectral_rolloff"):
        assert not rows[name].any(), name
    assert not rows["spectral_contrast"].any()
    values = dict(zip(COLUMNS, feature_columns(rows), strict=True))
    assert values["zcr", "kurtosis", "01"] == -3
    assert values["zcr", "skew", "01"] == 0


def test_features_that_need_a_higher_sample_rate_are_missing() -> None:
    rows = frame_features(music(2, 8000), 8000)
    assert set(FEATURE_SIZES) - set(rows) == {"chroma_cqt", "chroma_cens", "tonnetz"}
    columns = feature_columns(rows)
    missing = {feature for (feature, _, _), v in zip(COLUMNS, columns, strict=True) if np.isnan(v)}
    assert missing == {"chroma_cqt", "chroma_cens", "tonnetz"}
    assert "spectral_contrast" not in frame_features(music(1, 12000), 12000, "fma-corrected")


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_long_track_read_twice_in_blocks_gives_the_same(data: st.DataObject) -> None:
    sample_rate = data.draw(st.sampled_from([22050, 44100, 96000]))
    sound = music(2, sample_rate, seed=5)[: data.draw(st.integers(1, 2 * sample_rate))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sound)), max_size=5)))
    calls = 0

    def blocks() -> Iterator[Sound]:
        nonlocal calls
        calls += 1
        yield from (part for part in np.split(sound, cuts) if len(part))

    recipe = RECIPES[data.draw(st.sampled_from(sorted(RECIPES)))]
    whole = frame_features(sound, sample_rate, recipe)
    pieces = dict(track_features(blocks, sample_rate, recipe, in_memory=False))
    assert calls == 2
    assert set(pieces) == set(whole)
    for name, rows in whole.items():
        scale = max(float(np.abs(rows).max()), 1e-9)
        np.testing.assert_allclose(pieces[name], rows, atol=3e-6 * scale, err_msg=name)


@pytest.mark.parametrize(
    "sound", [np.zeros((2, 100)), np.zeros(0), np.array([0, np.nan]), np.array([np.inf])]
)
def test_invalid_samples_are_refused(sound: Sound) -> None:
    with pytest.raises(ValueError, match="samples"):
        frame_features(sound, 44100)


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(RequestError, match="fma-corrected"):
        frame_features(SILENT, 44100, "fmaa")
