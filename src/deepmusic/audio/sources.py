"""Opens the sound that a caller names: a file, a file object, or samples."""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import AudioError
from deepmusic.files import open_regular

Samples = tuple[NDArray[Any], float]
"""Samples and their rate in Hz, as ``soundfile.read`` and ``librosa.load`` return them.

Samples are ``(n,)``, ``(n, channels)`` or ``(channels, n)``: floats with full scale at 1, or signed
integers with their own full scale.
"""
Source = str | os.PathLike[str] | BinaryIO | Samples
"""A path, a binary file object that can seek, or a pair of samples and their rate."""

RATES_HZ = (1000, 3_072_000)
"""Credible sample rates: less cannot hold music, the upper end is raw DSD."""

LARGEST_SAMPLE = 2.0**24
"""Full scale is 1; integers of 16 and 24 bits stored as floats are less than this."""

_MOST_CHANNELS = 64


def name_of(source: Source) -> str:
    """The source as messages name it: quoted, control characters escaped."""
    if isinstance(source, tuple):
        return "the array of samples"
    name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    return repr(os.fspath(name)) if isinstance(name, str | os.PathLike) else "the file object"


def open_source(source: Source) -> tuple[BinaryIO, bool]:
    """Open a regular file of at least one byte; the second value says if it is ours to close.

    Raises:
        AudioError: ``missing``, ``directory``, ``not_a_file``, ``permission``, ``unreadable``,
            ``not_seekable`` or ``empty``; for samples ``empty``, ``bad_rate`` or ``not_audio``.
        TypeError: the source is neither a path, a binary file object nor a pair with samples.
    """
    if isinstance(source, tuple):
        return _file_of(source), True
    name = name_of(source)
    is_ours = isinstance(source, str | os.PathLike)
    if isinstance(source, str | os.PathLike):
        file: BinaryIO = open_regular(source, name=name, noun="sound file", error=AudioError)
    elif not (hasattr(source, "read") and isinstance(source.read(0), bytes)):
        raise TypeError(
            "a sound is given as a path, a binary file object or a pair (samples, sample_rate); "
            f"got {type(source).__name__}"
        )
    elif not source.seekable():
        raise AudioError(
            f"{name} cannot seek; read it into io.BytesIO or save it to a file first.",
            code="not_seekable",
        )
    else:
        file = source
    if not file.seek(0, os.SEEK_END):
        if is_ours:
            file.close()
        raise AudioError(f"{name} is empty (0 bytes); copy or download it again.", code="empty")
    return file, is_ours


def _file_of(source: Samples) -> BinaryIO:
    """A sound file in memory with these samples, so that they are treated as a file's."""
    import soundfile  # most sounds are files

    if len(source) != 2 or np.ndim(source[0]) == 0 or np.ndim(source[1]) != 0:
        raise TypeError("a sound in memory is a pair (samples, sample_rate), in this order")
    samples, rate = np.asarray(source[0]), float(source[1])
    if not samples.size:
        raise AudioError("The array of samples is empty.", code="empty")
    channels = min(samples.shape) if samples.ndim == 2 else 1
    if samples.ndim > 2 or samples.dtype.kind not in "fi" or channels > _MOST_CHANNELS:
        raise AudioError(
            "Samples are floats or signed integers of the shape (n,) or (n, channels); got "
            f"{samples.dtype} of the shape {samples.shape}.",
            code="not_audio",
        )
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise AudioError(
            f"The sample rate is {RATES_HZ[0]:,} to {RATES_HZ[1]:,} Hz; got {rate:g}.",
            code="bad_rate",
        )
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
        samples = samples.T
    scale = 1 if samples.dtype.kind == "f" else 1 / -float(np.iinfo(samples.dtype).min)
    with np.errstate(over="ignore"):  # what float32 cannot hold is silenced as in a file
        samples = samples.astype(np.float32) * np.float32(scale)
    file = io.BytesIO()
    # Sony Wave64: the sizes in a WAV file end at 4 GB
    soundfile.write(file, samples, round(rate), format="W64", subtype="FLOAT")
    return file


class SteadyFile:
    """A file that C libraries read through callbacks: its methods never raise.

    An exception in a callback would be printed to standard error instead of passed on, and some
    files make FFmpeg seek to a position before their start. ``failed`` says whether a read failed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failed = False
        name = getattr(file, "name", None)
        # FFmpeg considers the extension when the first bytes are not conclusive
        self.name = "sound" + (os.path.splitext(name)[1] if isinstance(name, str) else "")
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes."""
        try:
            return self._file.read(size) or b""
        except (OSError, ValueError):
            self.failed = True
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position, or -1."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):  # the last beyond 63 bits
            return -1
