"""The analysis of one track: excerpts, values and pictures."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, log_mel
from deepmusic.errors import AudioError
from deepmusic.features import feature_columns, frame_features, plot
from deepmusic.features.extraction import extract_file
from deepmusic.features.plot import (
    Excerpt,
    TrackAnalysis,
    analyze,
    draw_analysis,
    read_excerpt,
)
from deepmusic.features.recipe import RECIPES
from deepmusic.features.rhythm import onset_strength, tempo, tempo_window, tempogram

RATE = 22050


def song(seconds: float, sample_rate: int = RATE) -> NDArray[np.float32]:
    """Two beats per second, and a rising tone."""
    rng = np.random.default_rng(5)
    t = np.arange(max(1, round(seconds * sample_rate))) / sample_rate
    tone = 0.3 * np.sin(2 * np.pi * (220 + 10 * t) * t)
    noise = 0.3 * rng.normal(size=len(t)) * np.exp(-20 * (t % 0.5))
    return (tone + noise).astype(np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "song.wav"
    soundfile.write(path, song(6), RATE, subtype="FLOAT")
    return path


def test_an_excerpt_is_a_part_of_the_file(file: Path) -> None:
    sound = song(6)
    whole = read_excerpt(file)
    np.testing.assert_array_equal(whole.samples, sound)
    assert (whole.sample_rate, whole.start_s, whole.is_cut, whole.warning) == (RATE, 0, False, None)
    part = read_excerpt(file, start_s=1.5, seconds=2)
    np.testing.assert_array_equal(part.samples, sound[33075:77175])
    assert (part.start_s, part.is_cut) == (1.5, False)
    rest = read_excerpt(file, start_s=5, seconds=100)
    np.testing.assert_array_equal(rest.samples, sound[5 * RATE :])
    assert not rest.is_cut
    assert len(read_excerpt(file, seconds=1e-9).samples) == 1


def test_long_files_are_cut(file: Path) -> None:
    cut = read_excerpt(file, max_s=4)
    assert (len(cut.samples), cut.is_cut) == (4 * RATE, True)
    assert read_excerpt(file, seconds=5, max_s=4).is_cut
    assert not read_excerpt(file, seconds=4, max_s=5).is_cut  # as requested
    exact = read_excerpt(file, max_s=6)
    assert (len(exact.samples), exact.is_cut) == (6 * RATE, False)
    assert read_excerpt(file, max_s=6 - 1 / RATE).is_cut


def test_an_excerpt_beyond_the_end_is_refused(file: Path) -> None:
    with pytest.raises(
        AudioError, match=r"song.wav' ends before 60 s: it has only 6.0 s of sound"
    ) as got:
        read_excerpt(file, start_s=60)
    assert got.value.code == "too_short"


@pytest.mark.parametrize("recipe", ["fma", "fma-corrected"])
def test_an_analysis_has_the_518_columns_and_the_tempo(recipe: str) -> None:
    sound = song(6)
    analysis = analyze(Excerpt(sound, RATE), RECIPES[recipe])
    expected = feature_columns(frame_features(sound, RATE, recipe))
    np.testing.assert_allclose(analysis.columns, expected, rtol=1e-5)
    onsets = onset_strength(log_mel(sound, LogMelConfig(sample_rate=RATE)))
    assert analysis.tempo_bpm == tempo(onsets, RATE)
    assert analysis.tempo_bpm == pytest.approx(120, abs=3)
    assert analysis.excerpt.duration_s == 6


@pytest.mark.slow
def test_long_sound_is_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = song(100)
    excerpt = Excerpt(sound, RATE)
    analysis = analyze(excerpt)
    monkeypatch.setattr(plot, "_IN_MEMORY_SAMPLES", 0)
    np.testing.assert_allclose(analyze(excerpt).columns, analysis.columns, rtol=1e-4, atol=1e-6)

    mel_db = log_mel(sound, LogMelConfig(sample_rate=RATE))  # 4,307 frames: five to a column
    assert analysis.log_mel.shape == (128, 862)
    np.testing.assert_allclose(analysis.log_mel[:, 7], mel_db[:, 35:40].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(analysis.log_mel[:, -1], mel_db[:, 4305:].mean(axis=1), rtol=1e-5)
    repeats = tempogram(onset_strength(mel_db), window_frames=tempo_window(RATE))
    assert analysis.tempogram.shape == (tempo_window(RATE), 862)
    for column in (50, 60, 500):  # across the borders of blocks
        expected = repeats[:, 5 * column : 5 * column + 5].mean(axis=1)
        np.testing.assert_allclose(analysis.tempogram[:, column], expected, atol=1e-6)


def test_sound_without_tempo() -> None:
    assert analyze(Excerpt(np.zeros(5 * RATE, np.float32), RATE)).tempo_bpm is None
    assert analyze(Excerpt(song(2.9), RATE)).tempo_bpm is None
    assert analyze(Excerpt(song(3), RATE)).tempo_bpm is not None


def test_an_analysis_equals_extraction(file: Path) -> None:
    analysis = analyze(read_excerpt(file))
    expected = extract_file(file, analysis.recipe).columns
    np.testing.assert_allclose(analysis.columns, expected, rtol=1e-5)


def test_frequencies_are_scaled_unless_corrected() -> None:
    sample_rate = 44100
    tone = np.sin(2 * np.pi * 5000 * np.arange(sample_rate) / sample_rate).astype(np.float32)
    for recipe, scale in (("fma", 0.5), ("fma-corrected", 1.0)):
        analysis = analyze(Excerpt(tone, sample_rate), RECIPES[recipe])
        assert analysis.frequency_scale == scale
        median = np.median(analysis.features["spectral_centroid"])
        assert median / scale == pytest.approx(5000, rel=0.01)


def drawn(analysis: TrackAnalysis, path: Path, **texts: str) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_analysis(analysis, path, **texts)
    assert os.listdir(path.parent) == [path.name]
    picture = matplotlib.image.imread(path)
    assert picture.shape == (1540, 1210, 4)
    return picture


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "sample_rate", "start_s", "level", "recipe"),
    [
        (1e-9, 44100, 3, 1, "fma"),
        (0.1, 44100, 0, 0, "fma"),
        (4, 8000, 7200, 1, "fma-corrected"),
        (4, RATE, 0, 2e9, "fma"),
    ],
)
def test_a_picture_of_any_sound(
    seconds: float, sample_rate: int, start_s: float, level: float, recipe: str, tmp_path: Path
) -> None:
    sound = np.float32(level) * song(seconds, sample_rate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        analysis = analyze(Excerpt(sound, sample_rate, start_s), RECIPES[recipe])
    drawn(analysis, tmp_path / "picture.png", title="song", note="a note")


@pytest.mark.slow
def test_titles_are_not_markup(tmp_path: Path) -> None:
    analysis = analyze(Excerpt(song(0.5), RATE))
    title = "a $\\frac{1}$ b\n\x1b[31m\udcff 曲"
    drawn(analysis, tmp_path / "picture.png", title=title, note=100 * title)


@pytest.mark.slow
def test_the_time_axis_is_that_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig

    def keep(self: Figure, *given: Any, **options: Any) -> None:
        figures.append(self)
        save(self, *given, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    drawn(analyze(Excerpt(song(6), RATE, start_s=62)), tmp_path / "picture.png")
    panels = figures[0].axes[:14:2]
    assert [panel.get_title().split()[0].rstrip(",;") for panel in panels] == [
        "Waveform",
        "Log-mel",
        "Chroma",
        "MFCC",
        "Tempogram",
        "Spectral",
        "Spectral",
    ]
    for panel in panels:
        assert panel.get_xlim() == (62, 68)
        assert panel.get_ylabel()
    labels = [label.get_text() for label in panels[-1].get_xticklabels()]
    assert "1:03.0" in labels
    # images reach from edge to edge, a frame in the middle of its hop
    left, right, _, _ = panels[1].images[0].get_extent()
    assert left == pytest.approx(62 - 256 / RATE)
    assert 68 <= right < 68 + 1024 / RATE
