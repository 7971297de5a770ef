"""What plots share: times, labels, thinning, confusion, and PNG files that are whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

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


@pytest.mark.parametrize(("start_s", "end_s"), [(0, 0), (0, 0.3), (10, 40), (0, 5000), (0, 1e6)])
def test_a_time_axis_has_at_most_a_dozen_ticks(start_s: float, end_s: float) -> None:
    figure = plotting.new_figure(4, 3)
    axes = figure.add_subplot()
    plotting.time_axis(axes, start_s, end_s)
    low, high = axes.get_xlim()
    inside = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert 1 <= len(inside) <= 13


def test_a_plot_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DeepMusicError, match="its folder does not exist"):
        plotting.save_png(plotting.new_figure(1, 1), tmp_path / "missing" / "a.png")
