"""One decoding pass over a file: duration, levels, faults, hash and acoustic fingerprint.

Levels are measured before the channels are mixed: the mean of two channels hides clipping, and
channels of opposite phase cancel. Scans can be kept in a `Store` by content, so that neither a
second run nor a renamed file nor a killed run repeats the work.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio.bandwidth import BandwidthMeter
from deepmusic.audio.flac import SampleDigest
from deepmusic.audio.silence import FRAMES_PER_SECOND, SILENCE
from deepmusic.audio.sources import LARGEST_SAMPLE, open_source
from deepmusic.errors import AudioError, reason_of
from deepmusic.files import names_of_files, open_regular
from deepmusic.parallel import map_files, under_name
from deepmusic.store import Store, content_digest

VERSION = 5
"""Of the measures and of the fingerprint; scans of another version are not reused."""

MAX_SECONDS = 6 * 3600.0
"""The longest part of a file that is decoded by default."""

CLIPPED_RUN = 3
"""Shortest run of samples at full scale that counts as clipping: a peak may touch it once."""

_BLOCK_S = 3.0  # long blocks amortize the cost per call
# The largest value of a coding, a little less than 1; elsewhere that of 16 bits.
_FULL_SCALE = {
    "pcm_u8": 127 / 128, "pcm_s8": 127 / 128,
    "pcm_mulaw": 32124 / 32768, "pcm_alaw": 32256 / 32768,
}  # fmt: skip
_FULL_SCALE_16 = 32767 / 32768


@dataclass(frozen=True, eq=False)
class AudioScan:
    """What one decoding pass measured."""

    path: str
    code: str = ""  # why there is no sound, as of `open_audio`, memory, unexpected or worker_died
    error: str = ""  # one sentence about the code
    sha256: str = ""
    checksum: str = ""  # another one where it was requested, in hexadecimal
    size: int = -1  # bytes; -1 where the file cannot be read
    duration_s: float = 0.0
    header_s: float | None = None  # what the header promises; None where it is only a guess
    sample_rate: int = 0  # of the file, at its start
    channels: int = 0
    container: str = ""  # this and the next five as in `AudioStream`
    codec: str = ""
    decoder: str = ""
    bit_rate: int = 0  # bits per second, of the sound alone where the header says so
    bandwidth_hz: int | None = None  # as in `BandwidthMeter`
    faults: tuple[str, ...] = ()
    damage: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    peak: float = 0.0  # largest absolute sample; full scale is 1, and lossy codings exceed it
    level_db: float | None = None  # mean power in dBFS, silence left out; None if all is silent
    offset: float = 0.0  # mean of the channel whose mean is farthest from 0
    silent_share: float = 0.0  # of the time, by 50 ms, below -60 dBFS in all channels
    zero_share: float = 0.0  # of the time, in frames of 50 ms, in which every sample is 0
    clipped_share: float = 0.0  # of the samples, at full scale in runs of `CLIPPED_RUN` or more
    mono_share: float = 1.0  # as in `AudioStream`
    fingerprint: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))


def scan_file(
    path: str | os.PathLike[str], *, algorithm: str | None = None, max_seconds: float = MAX_SECONDS
) -> AudioScan:
    """Scan one file; raises nothing, since ``code`` and ``error`` say why there is no sound.

    Args:
        path: a sound file, or a video.
        algorithm: another checksum to take, such as ``"sha1"``.
        max_seconds: longer files are decoded up to here; the warning says so.
    """
    name = os.fspath(path)
    scan = AudioScan(name)
    try:
        with suppress(OSError, ValueError):  # opening says why
            scan = replace(scan, size=os.stat(name).st_size)
        scan = replace(scan, **_measure(name, max_seconds), sha256=_digest(name, "sha256"))
        return replace(scan, checksum=_digest(name, algorithm)) if algorithm else scan
    except Exception as error:  # a bug that one file triggers must not stop the others
        code, message = reason_of(error, name, "was not scanned")
        return replace(scan, code=code, error=message)


def scan_files(
    paths: Iterable[str],
    *,
    cache: str | os.PathLike[str] | None = None,
    workers: int = 1,
    dask: str | None = None,
    algorithm: str | None = None,
    max_seconds: float = MAX_SECONDS,
) -> Iterator[AudioScan]:
    """Scan many files and yield the results as they complete; cached ones are not decoded again.

    A file under several names, by links, is decoded once. ``cache`` is the path of a `Store` of
    scans by content; where a checksum is wanted, size and time do not do for it. ``workers`` and
    ``dask`` are those of `map_files`, ``algorithm`` and ``max_seconds`` those of `scan_file`.

    Yields:
        One result per path, in any order.

    Raises:
        DataError: the cache is something else, or cannot be written.
        DeepMusicError: the cluster cannot be reached.
    """
    settings = {"version": VERSION, "max_seconds": max_seconds}
    with nullcontext() if cache is None else Store(cache, "audio scans", settings) as store:
        names = names_of_files(paths)
        pending = []
        for path in names:
            scan = None if store is None else _cached(store, path, algorithm)
            if scan is None:
                pending.append(path)
            else:
                yield from (replace(scan, path=name) for name in names[path])
        function = partial(scan_file, algorithm=algorithm, max_seconds=max_seconds)
        for scan in map_files(function, pending, crashed, workers=workers, dask=dask):
            if store is not None and not scan.code:
                codes = base64.b64encode(scan.fingerprint.astype("<u4").tobytes()).decode()
                store.put(scan.sha256, {**asdict(scan), "fingerprint": codes})
            yield from (under_name(scan, name) for name in names[scan.path])


def _cached(store: Store, path: str, algorithm: str | None) -> AudioScan | None:
    """The scan of a file's content, if there is one with the checksum."""
    hashed = content_digest if algorithm else store.file_digest  # a checksum is of what is there
    try:
        record = store.get(hashed(path)) if os.path.isfile(path) else None
    except (OSError, ValueError):
        return None
    if record is None:
        return None
    if algorithm and len(record["checksum"]) != 2 * hashlib.new(algorithm).digest_size:
        return None
    codes = np.frombuffer(base64.b64decode(record["fingerprint"]), "<u4").astype(np.uint32)
    changes = {"path": path, "faults": tuple(record["faults"]), "fingerprint": codes}
    return AudioScan(**record | changes)


def crashed(path: str) -> AudioScan:
    """The scan of a file that crashed its worker process twice."""
    return AudioScan(path, code="worker_died", error=f"{path!r} crashed its worker process twice.")


def _digest(path: str, algorithm: str) -> str:
    with open_regular(path, name=repr(path), noun="sound file", error=AudioError) as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _measure(path: str, max_seconds: float) -> dict[str, Any]:
    """Decode a file once; fields of `AudioScan`."""
    from deepmusic.audio import open_audio
    from deepmusic.audio.ffmpeg import read_header
    from deepmusic.audio.fingerprint import FingerprintStream

    meter = LevelMeter()
    with open_source(path)[0] as file:
        digest = SampleDigest(file)

    def measure(block: NDArray[np.float32], sample_rate: int, codec: str) -> None:
        meter.add(block, sample_rate, codec)
        digest.add(block)

    with open_audio(
        path, sample_rate=None, max_seconds=max_seconds, block_s=_BLOCK_S, on_block=measure
    ) as stream:
        fingerprint = FingerprintStream(stream.sample_rate)
        for block in stream:
            fingerprint.add(block)
        faults, damage = stream.faults, stream.damage or ""
        if not {"damaged", "too_long"} & set(faults) and digest.differs():
            faults += ("damaged",)
            damage = f"{damage} The MD5 of its samples is not that in its header.".lstrip()
        same = ("header_s", "channels", "container", "codec", "decoder", "notes")
        return {
            "duration_s": round(stream.duration_s, 6),
            "bit_rate": read_header(path)[1],
            "sample_rate": stream.source_rate,
            "faults": faults,
            "damage": damage,
            "mono_share": stream.mono_share,
            "fingerprint": fingerprint.finish(),
            **{name: getattr(stream, name) for name in same},
            **meter.levels(),
        }


class LevelMeter:
    """Levels of a recording; give its ``add`` to `open_audio`."""

    def __init__(self) -> None:
        self._frames = 0  # samples per channel
        self._samples = 0  # of all channels together
        self._peak = 0.0
        self._energy = 0.0  # mean over the channels, of what is not silent
        self._bandwidth = BandwidthMeter()
        self._sums = np.zeros(0)  # by channel
        self._clipped = self._silent = self._zero = 0  # samples

    def add(self, block: NDArray[np.float32], sample_rate: int, codec: str) -> None:
        """Take a block ``(n, channels)``, its rate in Hz and its codec."""
        self._bandwidth.add(block, sample_rate)
        length, channels = block.shape
        if channels > len(self._sums):
            self._sums = np.pad(self._sums, (0, channels - len(self._sums)))
        full_scale = np.float32(_FULL_SCALE.get(codec, _FULL_SCALE_16))
        frame = max(1, sample_rate // FRAMES_PER_SECOND)
        whole = length - length % frame
        for start, end in ((0, whole), (whole, length)):
            if end > start:
                self._add_frames(block[start:end], min(frame, end - start), full_scale)
        self._frames += length
        self._samples += length * channels

    def levels(self) -> dict[str, Any]:
        """Levels of `AudioScan`."""
        frames, samples = max(1, self._frames), max(1, self._samples)
        power = self._energy / max(1, self._frames - self._silent)
        return {
            "bandwidth_hz": self._bandwidth.bandwidth_hz(),
            "peak": self._peak,
            "level_db": round(10 * float(np.log10(power)), 2) if power else None,
            "offset": float(np.abs(self._sums).max(initial=0.0)) / frames,
            "silent_share": self._silent / frames,
            "zero_share": self._zero / frames,
            "clipped_share": self._clipped / samples,
        }

    def _add_frames(self, block: NDArray[np.float32], frame: int, full_scale: np.float32) -> None:
        """Measure a block that is a whole number of frames."""
        ones = np.ones(frame, np.float32)
        loudest, energy = np.zeros((2, len(block) // frame))
        is_zero = np.ones(len(loudest), bool)
        for channel in range(block.shape[1]):
            samples = np.ascontiguousarray(block[:, channel])
            peak = max(float(samples.max()), -float(samples.min()))
            if not peak <= LARGEST_SAMPLE:  # the decoder silences these samples, too
                samples = np.where(np.abs(samples) <= LARGEST_SAMPLE, samples, np.float32(0))
                peak = float(np.abs(samples).max())
            self._peak = max(self._peak, peak)
            if peak == 0:
                continue
            if peak >= full_scale:
                self._clipped += _clipped(samples, full_scale)
            framed = samples.reshape(-1, frame)
            totals = (framed @ ones).astype(np.float64)
            # row by row: BLAS is faster at that than einsum
            energies = np.matmul(framed[:, None, :], framed[:, :, None]).ravel().astype(np.float64)
            self._sums[channel] += totals.sum()
            is_zero &= energies == 0
            energy += energies / block.shape[1]
            np.maximum(loudest, energies / frame - (totals / frame) ** 2, out=loudest)
        is_silent = loudest < SILENCE
        self._energy += float(energy[~is_silent].sum())
        self._silent += frame * int(np.count_nonzero(is_silent))
        self._zero += frame * int(np.count_nonzero(is_zero))


def _clipped(samples: NDArray[np.float32], full_scale: np.float32) -> int:
    """Samples at either end of the scale in runs of `CLIPPED_RUN` or more."""
    indices = np.flatnonzero(np.abs(samples) >= full_scale)
    signs = samples[indices] > 0
    breaks = np.flatnonzero((np.diff(indices) != 1) | (signs[1:] != signs[:-1])) + 1
    runs = np.diff(np.concatenate([[0], breaks, [len(indices)]]))
    return int(runs[runs >= CLIPPED_RUN].sum())
