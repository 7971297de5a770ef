"""What plots share: times, labels, thinning, confusion, and PNG files that are whole."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from matplotlib.font_manager import fontManager, get_font

from deepmusic import plotting
from deepmusic.errors import DeepMusicError

PNG = b"\x89PNG\r\n\x1a\n"


@given(seconds=st.integers(0, 400_000))
def test_times_are_read_back(seconds: int) -> None:
    parts = plotting.format_time(seconds).split(":")
    total = 0
    for part in parts:
        total = 60 * total + int(part)
    assert total == seconds
    assert len(parts[-1]) == 2
    assert len(parts) == (3 if seconds >= 3600 else 2)


@given(columns=st.integers(1, 500), limit=st.integers(1, 60))
def test_thinning_keeps_the_mean(columns: int, limit: int) -> None:
    values = np.random.default_rng(columns).normal(size=(3, columns))
    thinned = plotting.thin_out(values, limit)
    assert thinned.shape[-1] <= limit
    size = -(-columns // limit) if columns > limit else 1
    for index in range(thinned.shape[-1]):  # the slow way
        part = values[:, index * size : (index + 1) * size]
        np.testing.assert_allclose(thinned[:, index], part.mean(axis=-1))


GENRES = (
    "rock", "pop", "electronic", "dance/house", "hip-hop", "jazz", "metal", "punk", "soul", "R&B",
    "funk", "folk", "country", "blues", "indie/alternative", "ambient", "classical", "polka",
    "Spoken", "Easy Listening",
)  # fmt: skip


def linear(color: str) -> list[float]:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]


def test_colours_of_genres_can_be_told_apart_and_read_on_white() -> None:
    colors = plotting.genre_colors(GENRES)
    for color in colors:
        luminance = float(np.dot([0.2126, 0.7152, 0.0722], linear(color)))
        assert 1.05 / (luminance + 0.05) > 2.3  # contrast of WCAG
    roots = np.cbrt(np.array([[0.41, 0.54, 0.05], [0.21, 0.68, 0.11], [0.09, 0.28, 0.63]])
                    @ np.array([linear(color) for color in colors]).T)  # fmt: skip
    to_oklab = [[0.21, 0.79, 0.0], [1.98, -2.43, 0.45], [0.03, 0.78, -0.81]]
    oklab = (np.array(to_oklab) @ roots).T
    distances = np.linalg.norm(oklab[:, None] - oklab, axis=2) + np.eye(len(colors))
    assert distances.min() > 0.1


@given(st.lists(st.sampled_from(GENRES), min_size=1, unique=True))
def test_a_known_genre_keeps_its_colour_in_any_company(genres: list[str]) -> None:
    colors = plotting.genre_colors(genres)
    assert len(set(colors)) == len(genres)
    for genre, color in zip(genres, colors, strict=True):
        if genre not in GENRES[-3:]:
            assert plotting.genre_colors([genre]) == [color]


def test_names_of_one_genre_have_its_colour_unless_both_are_there() -> None:
    (rock,) = plotting.genre_colors(["Rock"])
    assert plotting.genre_colors(["rock n roll"]) == [rock]
    both = plotting.genre_colors(["Rock Ballads", "Rock"])
    assert both[1] == rock != both[0]
    assert len(plotting.genre_colors([f"genre {n}" for n in range(60)])) == 60
    assert plotting.genre_colors([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("title", ["plain", "$x^2", "a\nb\x1b[31m", "_hidden", "音楽", "x" * 500])
def test_any_name_can_be_drawn(title: str, tmp_path: Path) -> None:
    figure = plotting.new_figure(4, 3)
    axes = figure.add_subplot()
    plotting.draw_confusion(axes, np.array([[3, 1], [0, 0]]), [title, "other"])
    axes.set_title(plotting.plain_text(title))
    plotting.save_png(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "0"]


@pytest.mark.slow
def test_letters_come_from_any_installed_font_and_boxes_are_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    standard, other = (
        set(get_font(fontManager.findfont(name)).get_charmap())
        for name in ("DejaVu Sans", "STIXGeneral")  # both come with matplotlib
    )
    letter = chr(max(code for code in other - standard if chr(code).isalpha()))
    theirs = [font for font in fontManager.ttflist if font.name in ("DejaVu Sans", "STIXGeneral")]
    monkeypatch.setattr(fontManager, "ttflist", theirs)
    plotting._warn_of_boxes.cache_clear()
    plotting._fonts_with.cache_clear()
    said = []
    for title in (letter, "中", "国"):
        figure = plotting.new_figure(4, 3)
        figure.add_subplot().set_xticks([0, 1], [title, "b"])
        plotting.save_png(figure, tmp_path / "a.png")
        said.append(len(caplog.messages))
    assert said == [0, 1, 1]
    assert "No installed font" in caplog.text


@pytest.mark.parametrize(("start_s", "end_s"), [(0, 0), (0, 0.3), (10, 40), (0, 5000), (0, 1e6)])
def test_a_time_axis_has_at_most_a_dozen_ticks(start_s: float, end_s: float) -> None:
    figure = plotting.new_figure(4, 3)
    axes = figure.add_subplot()
    plotting.time_axis(axes, start_s, end_s)
    low, high = axes.get_xlim()
    inside = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert 1 <= len(inside) <= 13


@given(st.floats(0, 20_000), st.floats(0.01, 50_000))
@settings(max_examples=10, deadline=None)
def test_times_are_even_and_do_not_overlap(start_s: float, length_s: float) -> None:
    figure = plotting.new_figure(10, 3)
    axes = figure.add_subplot()
    plotting.time_axis(axes, start_s, start_s + length_s)
    figure.draw_without_rendering()
    inside = [t for t in axes.get_xticks() if start_s <= t <= start_s + length_s]
    assert len(inside) >= 3
    assert np.allclose(np.diff(inside), inside[1] - inside[0])
    drawn = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    labels = [label for tick, label in drawn if tick in inside]
    assert len({label.get_text() for label in labels}) == len(labels)
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_a_plot_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DeepMusicError, match="its folder does not exist"):
        plotting.save_png(plotting.new_figure(1, 1), tmp_path / "missing" / "a.png")
