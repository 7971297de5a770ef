"""Short-time spectra, computed once for all that is told from them.

Magnitudes are those of ``librosa.stft``: windows of 2048 samples every 512, centred, with zeros
before and after the sound, a periodic Hann window, and a transform in double precision. In single
precision, bins above an mp3's low-pass come out wrong by up to a hundred times.

The transform is our own, since it works on eight windows side by side, or sixteen in single
precision, which SciPy's does not. It is Stockham's in steps of four (Govindaraju et al., SC 2008,
shows it well), on the even samples as real and the odd ones as imaginary parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from deepmusic.features.compiled import compiled
from deepmusic.features.lanes import DOUBLES, FLOATS, load, load_like, magnitude, store

FFT_SIZE, HOP = 2048, 512
BINS = FFT_SIZE // 2 + 1
_BLOCK_FRAMES = 64  # spectra of a block stay inside the second-level cache
_HALF = FFT_SIZE // 2
_HOPS = FFT_SIZE // HOP

Samples = NDArray[np.float32]
_Doubles = NDArray[np.float64]
_Floats = NDArray[np.floating]


def hann(size: int) -> NDArray[np.float64]:
    """Periodic Hann window, to the last bit that of SciPy."""
    return np.asarray(0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, size + 1)))[:-1]


def magnitudes(blocks: Iterable[Samples], *, is_double: bool = True) -> Iterator[Samples]:
    """Magnitude spectra of sound that comes in blocks of any size.

    Args:
        blocks: ``(n,)`` float32 each.
        is_double: whether the transform is in double precision; in single it takes half the time.

    Yields:
        ``(1025, frames)`` float32, at most 64 frames at a time, ``1 + samples // 512`` in all.
    """
    waiting = np.zeros(_HALF, np.float32)
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        count = max(0, 1 + (len(waiting) - FFT_SIZE) // HOP)
        whole = count // _BLOCK_FRAMES * _BLOCK_FRAMES
        yield from _of(waiting, whole, is_double)
        waiting = waiting[whole * HOP :]
    waiting = np.concatenate([waiting, np.zeros(_HALF, np.float32)])
    yield from _of(waiting, max(0, 1 + (len(waiting) - FFT_SIZE) // HOP), is_double)


def _of(sound: Samples, count: int, is_double: bool) -> Iterator[Samples]:
    lanes, precision = (DOUBLES, np.float64) if is_double else (FLOATS, np.float32)
    hops = np.zeros((HOP, _BLOCK_FRAMES + _HOPS - 1), np.float32)
    work = np.empty((4, _HALF * lanes), precision)
    for start in range(0, count, _BLOCK_FRAMES):
        frames = min(_BLOCK_FRAMES, count - start)
        if frames < _BLOCK_FRAMES:  # whose lanes beyond the end find zeros
            hops = np.zeros((HOP, frames + -frames % lanes + _HOPS - 1), np.float32)
        _lay_hops(sound, start * HOP, hops[:, : frames + _HOPS - 1])
        found = np.empty((BINS, frames + -frames % lanes), np.float32)
        _transformed(hops, _WINDOW, _TURNS, _LAST_TURNS, work, found)
        yield found if found.shape[1] == frames else np.ascontiguousarray(found[:, :frames])


@compiled
def _lay_hops(sound: Samples, first: int, hops: Samples) -> None:
    """Write each hop of 512 samples as a column, eight at a time."""
    for begin in range(0, hops.shape[1], 8):
        for place in range(HOP):
            for number in range(begin, min(begin + 8, hops.shape[1])):
                hops[place, number] = sound[first + number * HOP + place]


@compiled
def _transformed(
    hops: Samples,
    window: _Doubles,
    turns: _Doubles,
    last_turns: _Doubles,
    work: _Floats,
    found: Samples,
) -> None:
    """Write the magnitudes of all windows.

    Args:
        hops: ``(512, frames + 3)``.
        window: ``(2048,)``.
        turns: as :func:`_turns` gives them.
        last_turns: as :func:`_last_turns` gives them.
        work: ``(4, 1024 * lanes)``, room to work in; its precision is that of the transform.
        found: ``(1025, frames)``, frames a multiple of the lanes.
    """
    columns, width, row = hops.reshape(-1), hops.shape[1], found.shape[1]
    flat, lanes = found.reshape(-1), work.shape[1] // _HALF
    real, imaginary, real_after, imaginary_after = work
    for frame in range(0, row, lanes):
        for hop in range(_HOPS):
            for pair in range(HOP // 2):
                at, to = 2 * pair * width + frame + hop, (hop * HOP // 2 + pair) * lanes
                even, odd = window[hop * HOP + 2 * pair], window[hop * HOP + 2 * pair + 1]
                store(real, to, load_like(columns, at, real) * even)
                store(imaginary, to, load_like(columns, at + width, real) * odd)
        _step(real, imaginary, real_after, imaginary_after, 1024, turns, lanes)
        _step(real_after, imaginary_after, real, imaginary, 256, turns[256:], lanes)
        _step(real, imaginary, real_after, imaginary_after, 64, turns[320:], lanes)
        _step(real_after, imaginary_after, real, imaginary, 16, turns[336:], lanes)
        _step(real, imaginary, real_after, imaginary_after, 4, turns[340:], lanes)
        _unfold(real_after, imaginary_after, last_turns, flat, frame, row, lanes)


@compiled
def _step(
    real: _Floats, imaginary: _Floats, to_real: _Floats, to_imaginary: _Floats, size: int,
    turns: _Doubles, lanes: int,
) -> None:  # fmt: skip
    """One step of Stockham's transform: from transforms of ``size`` to those of a quarter."""
    quarter = size // 4
    stride = _HALF // size * lanes
    apart = quarter * stride
    for part in range(quarter):
        c1, s1, c2, s2, c3, s3 = turns[part]
        for lane in range(0, stride, lanes):
            at, to = part * stride + lane, 4 * part * stride + lane
            a, ai = load(real, at), load(imaginary, at)
            b, bi = load(real, at + apart), load(imaginary, at + apart)
            c, ci = load(real, at + 2 * apart), load(imaginary, at + 2 * apart)
            d, di = load(real, at + 3 * apart), load(imaginary, at + 3 * apart)
            sum_ac, sum_ac_i, apart_ac, apart_ac_i = a + c, ai + ci, a - c, ai - ci
            sum_bd, sum_bd_i, apart_bd, apart_bd_i = b + d, bi + di, b - d, bi - di
            store(to_real, to, sum_ac + sum_bd)
            store(to_imaginary, to, sum_ac_i + sum_bd_i)
            x, y = apart_ac + apart_bd_i, apart_ac_i - apart_bd
            store(to_real, to + stride, x * c1 - y * s1)
            store(to_imaginary, to + stride, x * s1 + y * c1)
            x, y = sum_ac - sum_bd, sum_ac_i - sum_bd_i
            store(to_real, to + 2 * stride, x * c2 - y * s2)
            store(to_imaginary, to + 2 * stride, x * s2 + y * c2)
            x, y = apart_ac - apart_bd_i, apart_ac_i + apart_bd
            store(to_real, to + 3 * stride, x * c3 - y * s3)
            store(to_imaginary, to + 3 * stride, x * s3 + y * c3)


@compiled
def _unfold(
    real: _Floats, imaginary: _Floats, turns: _Doubles, found: Samples, frame: int, row: int,
    lanes: int,
) -> None:  # fmt: skip
    """Magnitudes of the real sound's spectra from those of its even and odd samples."""
    a, ai = load(real, 0), load(imaginary, 0)
    nothing = a - a
    store(found, frame, magnitude(a + ai, nothing))
    store(found, _HALF * row + frame, magnitude(a - ai, nothing))
    for place in range(1, _HALF // 2 + 1):
        at, mirrored = place * lanes, (_HALF - place) * lanes
        c, s = turns[place]
        a, ai = load(real, at), load(imaginary, at)
        b, bi = load(real, mirrored), load(imaginary, mirrored)
        even, even_i = (a + b) * 0.5, (ai - bi) * 0.5
        x, y = (ai + bi) * 0.5, (b - a) * 0.5
        odd, odd_i = x * c + y * s, y * c - x * s
        store(found, place * row + frame, magnitude(even + odd, even_i + odd_i))
        store(found, (_HALF - place) * row + frame, magnitude(even - odd, even_i - odd_i))


def _turns() -> _Doubles:
    """Cosines and sines by which the three later quarters of each step are turned, ``(341, 6)``."""
    steps = []
    for size in (1024, 256, 64, 16, 4):
        angle = -2 * np.pi * np.multiply.outer(np.arange(size // 4), np.arange(1, 4)) / size
        steps.append(np.stack([np.cos(angle), np.sin(angle)], axis=2).reshape(-1, 6))
    return np.concatenate(steps)


def _last_turns() -> _Doubles:
    """Cosine and sine of each bin's angle, ``(513, 2)``."""
    angle = 2 * np.pi * np.arange(_HALF // 2 + 1) / FFT_SIZE
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


_WINDOW, _TURNS, _LAST_TURNS = hann(FFT_SIZE), _turns(), _last_turns()
