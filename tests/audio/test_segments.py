"""Segments cover a track, whole or while it arrives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from deepmusic.audio import SegmentStream, segment_batches, segment_starts, wrap
from deepmusic.errors import ShapeError

lengths_and_hops = st.integers(1, 20).flatmap(
    lambda length: st.tuples(st.just(length), st.integers(1, length))
)


def ramp(frames: int) -> NDArray[np.float32]:
    return np.arange(2 * frames, dtype=np.float32).reshape(2, frames)


@given(frames=st.integers(1, 200), shape=lengths_and_hops)
def test_segments_cover_every_frame_and_end_at_the_last(
    frames: int, shape: tuple[int, int]
) -> None:
    length, hop = shape
    starts = segment_starts(frames, length=length, hop=hop)
    assert starts == sorted(set(starts))
    assert [start for start in starts[:-1] if start % hop] == []
    covered = {frame for start in starts for frame in range(start, start + length)}
    assert covered >= set(range(frames))
    assert max(covered) == max(frames, length) - 1


def test_batches_hold_all_segments_in_order() -> None:
    whole = ramp(11).astype(np.float16)
    batches = list(segment_batches(whole, length=4, hop=2, batch_size=3))
    assert [starts for starts, _ in batches] == [[0, 2, 4], [6, 7]]
    for starts, segments in batches:
        assert segments.dtype == np.float32
        for start, segment in zip(starts, segments, strict=True):
            np.testing.assert_array_equal(segment, whole[:, start : start + 4])


@given(blocks=st.lists(st.integers(0, 40), max_size=15), shape=lengths_and_hops)
@settings(deadline=None)
def test_a_stream_gives_the_segments_of_the_whole(
    blocks: list[int], shape: tuple[int, int]
) -> None:
    length, hop = shape
    frames = sum(blocks)
    whole = ramp(frames)
    stream = SegmentStream(length, hop)
    given_out = []
    for block in np.split(whole, np.cumsum(blocks)[:-1], axis=1) if blocks else []:
        given_out += list(stream.push(block))
        assert stream._kept.shape[1] <= length + hop
    given_out += list(stream.flush())
    if frames == 0:
        assert given_out == []
        return
    starts = segment_starts(frames, length=length, hop=hop)
    assert [start for start, _ in given_out] == starts
    padded = wrap(whole, length)
    for start, segment in given_out:
        np.testing.assert_array_equal(segment, padded[:, start : start + length])


def test_segments_are_the_callers_own() -> None:
    stream = SegmentStream(2, 1)
    block = ramp(4)
    segments = list(stream.push(block))
    segments[0][1][:] = -1
    np.testing.assert_array_equal(segments[1][1], block[:, 1:3])
    np.testing.assert_array_equal(block, ramp(4))


def test_wrap_repeats_from_the_start() -> None:
    np.testing.assert_array_equal(wrap(ramp(3), 7), ramp(3)[:, [0, 1, 2, 0, 1, 2, 0]])
    long = ramp(9)
    assert wrap(long, 7) is long
    with pytest.raises(ShapeError, match="frame"):
        wrap(ramp(0), 7)


@pytest.mark.parametrize(("length", "hop"), [(0, 1), (4, 0), (4, 5)])
def test_numbers_out_of_range(length: int, hop: int) -> None:
    with pytest.raises(ValueError, match="length"):
        SegmentStream(length, hop)
    with pytest.raises(ValueError, match="length"):
        segment_starts(10, length=length, hop=hop)
    with pytest.raises(ValueError, match="at least 1 frame"):
        segment_starts(0, length=4, hop=2)
