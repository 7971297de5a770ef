"""Sounds for the tests, and files of them in formats that only FFmpeg writes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def tone(seconds: float, sample_rate: int, *, hz: float = 440.0) -> NDArray[np.float32]:
    return (
        0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)
    ).astype("f4")


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
) -> None:
    """Encode mono sound, with a second of black picture beside it when a video codec is named."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=sample_rate, layout="mono")
        stream.bit_rate = 96_000
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


# For child processes: their own peak in MB. After fork and exec, ru_maxrss still counts the parent.
PEAK_MB = """
def peak_mb():
    import pathlib, resource
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
"""
