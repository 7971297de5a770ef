"""Sounds for the tests, and files of them in formats that only FFmpeg writes."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def tone(seconds: float, sample_rate: int, *, hz: float = 440.0) -> NDArray[np.float32]:
    return (
        0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)
    ).astype("f4")


@lru_cache(maxsize=64)
def music(seconds: float, seed: int, sample_rate: int = 16000) -> NDArray[np.float32]:
    """Notes that begin and fade at random, with a little noise."""
    rng = np.random.default_rng(seed)
    sound = 0.003 * rng.standard_normal(round(seconds * sample_rate))
    for start_s in np.arange(0, seconds - 0.1, 0.2):
        length = round(min(rng.uniform(0.3, 1.5), seconds - start_s) * sample_rate)
        time = np.arange(length) / sample_rate
        hz = 110 * 2 ** (rng.integers(0, 36) / 12)
        tones = sum(np.sin(2 * np.pi * hz * k * time) / k for k in range(1, 6))
        start = round(start_s * sample_rate)
        sound[start : start + length] += rng.uniform(0.05, 0.15) * tones * np.exp(-3 * time)
    sound = sound.astype(np.float32)
    sound.setflags(write=False)
    return sound


def loudest_hz(samples: NDArray[np.float32], sample_rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * sample_rate / len(samples))


def write_with_ffmpeg(
    path: Path,
    samples: NDArray[np.float32],
    sample_rate: int,
    codec: str,
    *,
    picture: str | None = None,
    tags: Mapping[str, str] = {},
) -> None:
    """Encode mono sound, with a second of black picture beside it when a video codec is named."""
    options = {"write_id3v2": "1"} if path.suffix == ".aiff" else {}
    with av.open(str(path), "w", options=options) as container:
        container.metadata.update(tags)
        stream = container.add_stream(codec, rate=sample_rate, layout="mono")
        stream.bit_rate = 96_000
        if path.suffix == ".opus":
            stream.metadata.update(tags)
        if picture:
            video = container.add_stream(picture, rate=10)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            for _ in range(10):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        resampler = av.AudioResampler(
            format=stream.format,
            layout="mono",
            rate=sample_rate,
            frame_size=stream.frame_size or 1024,
        )
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
