"""The genre over time, in words and as a picture."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from deepmusic.classifier.timeline import draw_timeline, passages, text_timeline
from deepmusic.classifier.verdict import GenreProbability, SegmentVerdict


def track(winners: str, *, hop_s: float = 1.5, genres: str = "cpr") -> list[SegmentVerdict]:
    """Segments of 3 s; each letter wins its segment with 0.8."""
    return [
        SegmentVerdict(
            hop_s * index,
            hop_s * index + 3,
            tuple(
                GenreProbability(g, 0.8 if g == winner else 0.2 / (len(genres) - 1)) for g in genres
            ),
            (0.5,) * len(genres),
        )
        for index, winner in enumerate(winners)
    ]


def test_neighbours_merge() -> None:
    assert text_timeline(track("ccrrrc")) == [
        "0:00-0:03  c   80%",
        "0:03-0:07  r   80%",
        "0:07-0:10  c   80%",
    ]
    assert text_timeline([]) == []
    assert text_timeline(track("cr", hop_s=3600)) == [
        "      0:00-0:03  c   80%",
        "1:00:00-1:00:03  r   80%",
    ]


def test_silence_has_lines_of_its_own() -> None:
    segments = track("cc", hop_s=3)
    after = [replace(s, start_s=s.start_s + 66, end_s=s.end_s + 66) for s in segments]
    silences = ((6.0, 66.0), (72.0, 90.0))
    assert text_timeline(segments + after, silences) == [
        "0:00-0:06  c           80%",
        "0:06-1:06  (silence)",
        "1:06-1:12  c           80%",
        "1:12-1:30  (silence)",
    ]


@given(st.text("cpr", min_size=1, max_size=60), st.floats(0.5, 3.0))
def test_passages_cover_the_track_in_order(winners: str, hop_s: float) -> None:
    segments = track(winners, hop_s=hop_s)
    found = passages(segments)
    assert found[0].start_s == 0
    assert found[-1].end_s == segments[-1].end_s
    for left, right in itertools.pairwise(found):
        assert left.end_s == pytest.approx(right.start_s)
        assert left.genre != right.genre
    for segment, winner in zip(segments, winners, strict=True):
        (there,) = [p for p in found if p.start_s <= segment.start_s < p.end_s]
        assert there.genre == winner


@pytest.mark.slow
@pytest.mark.parametrize("segments", [1, 20, 7200])
def test_picture(tmp_path: Path, segments: int) -> None:
    path = tmp_path / "timeline.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_timeline(track("c" * segments), path, title="$x_{ 音楽 \n\x1b[31m.mp3")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["timeline.png"]


def test_picture_of_odd_genres_and_of_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_timeline(
            track("_$", genres="_$"), tmp_path / "a.png", silences=((4.5, 20.0), (25.0, 60.0))
        )
    with pytest.raises(ValueError, match="segment"):
        draw_timeline([], tmp_path / "b.png")
