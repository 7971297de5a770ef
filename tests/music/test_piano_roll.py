"""Pictures of scores: readable, in several rows, with what is in the score and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from numpy.typing import NDArray

from deepmusic.errors import DeepMusicError
from deepmusic.music import Note, Part, Score, draw_piano_roll, piano_roll
from deepmusic.music.piano_roll import COLORS

BAR = 4 * 480


def line(count: int, *, parts: tuple[Part, ...] = (Part(),)) -> Score:
    """Bars of four notes, the parts taking turns."""
    notes = (
        Note(bar * BAR + beat * 480, 480, 60 + 2 * beat, 127, bar % len(parts))
        for bar in range(count)
        for beat in range(4)
    )
    return Score(480, tuple(notes), parts=parts)


def drawn(score: Score, path: Path, title: str = "") -> NDArray[np.float32]:
    """The picture, ``(height, width, 3)``, in [0, 1]."""
    draw_piano_roll(score, path, title=title)
    return np.asarray(imread(path)[..., :3])


def amount(picture: NDArray[np.float32], colour: str) -> int:
    """Dots of a colour."""
    return int((np.abs(picture - to_rgb(colour)).max(axis=-1) < 0.02).sum())


@pytest.mark.slow
def test_rows_show_their_notes(tmp_path: Path) -> None:
    one = amount(drawn(line(16), tmp_path / "a.png"), COLORS[0])
    two = amount(drawn(line(32), tmp_path / "a.png"), COLORS[0])
    assert one > 1000
    assert two == pytest.approx(2 * one, rel=0.25)


def test_parts_have_colours_and_names(tmp_path: Path) -> None:
    parts = (Part("_high $x$ <b>"), Part("low " * 30), Part())
    picture = drawn(line(6, parts=parts), tmp_path / "a.png", "A title with $ and _")
    assert all(amount(picture, colour) > 1000 for colour in COLORS[:3])
    assert amount(picture, COLORS[3]) == 0
    assert len(set(COLORS)) == 8


def test_soft_notes_are_faint(tmp_path: Path) -> None:
    loud = drawn(Score(480, (Note(0, BAR, 60, 127),)), tmp_path / "a.png")
    soft = drawn(Score(480, (Note(0, BAR, 60, 20),)), tmp_path / "a.png")
    assert amount(loud, COLORS[0]) > 1000
    assert amount(soft, COLORS[0]) == 0
    assert soft.mean() > loud.mean()


def test_drums_have_their_own_lanes(tmp_path: Path) -> None:
    drums = tuple(Note(i * 480, 10, pitch, 127, 1) for i, pitch in enumerate((36, 38, 42, 36)))
    parts = (Part("flute"), Part("drums", is_drum=True))
    melody = (Note(0, 480, 72, 127), Note(480, 480, 76, 127))
    alone = drawn(Score(480, melody), tmp_path / "a.png")
    both = drawn(Score(480, melody + drums, parts=parts), tmp_path / "a.png")
    assert amount(both, COLORS[1]) > 100
    # pitches 36 to 42 would make it far taller
    assert alone.shape[0] < both.shape[0] < alone.shape[0] + 150
    only = drawn(Score(480, drums, parts=parts), tmp_path / "a.png")
    assert amount(only, COLORS[1]) > 100


def test_a_score_without_notes_is_an_empty_bar(tmp_path: Path) -> None:
    picture = drawn(Score(480, ()), tmp_path / "a.png")
    assert amount(picture, COLORS[0]) == 0
    assert (picture < 0.5).any()  # its frame


@pytest.mark.slow
def test_the_title_says_when_not_all_bars_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert piano_roll.MAX_BARS == 256
    monkeypatch.setattr(piano_roll, "MAX_BARS", 20)
    most = drawn(line(20), tmp_path / "a.png")
    more = drawn(line(22), tmp_path / "a.png")
    assert most.shape == more.shape
    assert not np.array_equal(most, more)  # the title


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeepMusicError, match="its folder does not exist"):
        draw_piano_roll(line(1), tmp_path / "none" / "a.png")
    assert not list(tmp_path.iterdir())
