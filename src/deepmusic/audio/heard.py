"""Hearing files once: what a recording is like, and its fingerprint, kept by content.

One pass over a file decodes it, measures its levels, hashes it and takes its fingerprint. What was
heard goes into a journal under the hash of the bytes, so that a second run, a file that was moved,
and a run that was killed cost nothing twice.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import AudioError, reason_of
from deepmusic.files import open_regular
from deepmusic.journal import Journal
from deepmusic.parallel import map_files

LONGEST_S = 6 * 3600.0
"""No more than this of a file is heard, unless asked for."""

_BLOCK_S = 3.0  # longer blocks cost less: what is done once for each outweighs the sums
VERSION = 2
"""Of the measures below and of the fingerprint; what another version has kept is of no use."""


def _no_codes() -> NDArray[np.uint32]:
    return np.zeros(0, np.uint32)


@dataclass(frozen=True, eq=False)
class Heard:
    """What was heard of a file.

    Args:
        path: of the file.
        code: empty where there is sound; else why there is none: a code of
            :func:`deepmusic.audio.open_audio`, ``memory``, ``unexpected`` or ``worker_died``.
        error: one sentence about the code.
        sha256: of the file.
        digest: another checksum of the file where one was asked for, in hexadecimal.
        size, mtime_ns: of the file; -1 where it cannot be read.
        duration_s: seconds of sound.
        header_s: seconds that the header promises; None where it is only a guess.
        sample_rate, channels: of the file, at its start.
        container, codec, decoder: as in :class:`deepmusic.audio.AudioStream`.
        faults: codes of sound that was lost, as in :class:`deepmusic.audio.AudioStream`.
        warning: one sentence about them.
        peak: greatest absolute sample; full scale is 1.
        offset: mean of the channel whose mean is farthest from 0.
        silent_share: share of the time below -60 dBFS.
        zero_share: share of the time in which every sample is 0.
        clipped_share: share of samples at full scale, three or more in a row.
        mono_share: energy of the mean of the channels as a share of their mean energy: 1 where
            they are equal, 0 where they cancel.
        fingerprint: by :func:`deepmusic.audio.fingerprint.acoustic_fingerprint`.
    """

    path: str
    code: str = ""
    error: str = ""
    sha256: str = ""
    digest: str = ""
    size: int = -1
    mtime_ns: int = -1
    duration_s: float = 0.0
    header_s: float | None = None
    sample_rate: int = 0
    channels: int = 0
    container: str = ""
    codec: str = ""
    decoder: str = ""
    faults: tuple[str, ...] = ()
    warning: str = ""
    peak: float = 0.0
    offset: float = 0.0
    silent_share: float = 0.0
    zero_share: float = 0.0
    clipped_share: float = 0.0
    mono_share: float = 1.0
    fingerprint: NDArray[np.uint32] = field(default_factory=_no_codes)


def hear_file(
    path: str | os.PathLike[str],
    *,
    with_hash: bool = True,
    algorithm: str | None = None,
    max_seconds: float = LONGEST_S,
) -> Heard:
    """Hear one file, with a reason in the result where nothing is heard; it raises nothing.

    Args:
        path: a sound file, or a video.
        with_hash: whether its SHA-256 is taken.
        algorithm: of another checksum to take, such as ``"sha1"``.
        max_seconds: no more than this is heard; the warning says so.
    """
    shown = os.fspath(path)
    found = Heard(shown)
    try:
        status = os.stat(shown)
        found = replace(found, size=status.st_size, mtime_ns=status.st_mtime_ns)
    except (OSError, ValueError):
        pass  # opening says why
    try:
        found = _listen(found, max_seconds)
        if with_hash:
            found = replace(found, sha256=_digest(shown, "sha256"))
        return replace(found, digest=_digest(shown, algorithm)) if algorithm else found
    except Exception as error:  # a bug that one file uncovers must not cost the others
        code, said = reason_of(error, shown, "was not heard")
        return replace(found, code=code, error=said)


def hear_files(
    paths: Iterable[str],
    *,
    hashes: Mapping[str, str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    workers: int = 1,
    dask: str | None = None,
    algorithm: str | None = None,
    max_seconds: float = LONGEST_S,
) -> Iterator[Heard]:
    """Hear many files, as they are done; what the cache knows is not heard again.

    A file is known by its path, size and time, or else by its bytes.

    Args:
        paths: of sound files; each is heard once.
        hashes: SHA-256 of each path, where they are known.
        cache: a journal to keep what is heard in; None keeps nothing.
        workers: processes on this machine; one does all in this process.
        dask: address of the scheduler of a Dask cluster, instead.
        algorithm: as in :func:`hear_file`.
        max_seconds: as in :func:`hear_file`.

    Yields:
        A result a path, in any order.

    Raises:
        DataError: the cache is something else, or cannot be written.
        DeepMusicError: the cluster cannot be reached.
    """
    # what was heard in part is another thing
    setting = {"version": VERSION, "max_seconds": max_seconds}
    left = list(dict.fromkeys(paths))
    with nullcontext() if cache is None else Journal(cache, "sounds", setting) as journal:
        if journal is not None:
            known = _Known(map(_heard, journal.records))
            waiting = left
            left = []
            for path in waiting:
                found = known.find(path, (hashes or {}).get(path), algorithm)
                if found is None:
                    left.append(path)
                else:
                    yield found
        function = partial(
            hear_file, with_hash=hashes is None, algorithm=algorithm, max_seconds=max_seconds
        )
        for heard in map_files(function, left, _died, workers=workers, dask=dask):
            if hashes is not None:
                heard = replace(heard, sha256=hashes[heard.path])
            if journal is not None and not heard.code:
                journal.add(_record(heard))
            yield heard


class _Known:
    """What was heard before."""

    def __init__(self, records: Iterable[Heard | None]) -> None:
        self._by_path: dict[str, Heard] = {}
        self._by_hash: dict[str, Heard] = {}
        for heard in records:
            if heard is not None:
                self._by_path[heard.path] = self._by_hash[heard.sha256] = heard
        self._sizes = {heard.size for heard in self._by_hash.values()}

    def find(self, path: str, sha256: str | None, algorithm: str | None) -> Heard | None:
        """What is known of a file as it is now."""
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return None
        state = (status.st_size, status.st_mtime_ns)
        found = self._by_path.get(path)
        is_same = found is not None and (found.size, found.mtime_ns) == state
        if sha256 is None and not is_same:
            if status.st_size not in self._sizes:  # then its bytes are new as well
                return None
            try:
                sha256 = _digest(path, "sha256")
            except (AudioError, OSError):
                return None
        if sha256 is not None:
            found = self._by_hash.get(sha256)
        if found is None or (algorithm and len(found.digest) != _digest_length(algorithm)):
            return None
        return replace(found, path=path, size=state[0], mtime_ns=state[1])


def _listen(found: Heard, max_seconds: float) -> Heard:
    from deepmusic.audio import open_audio
    from deepmusic.audio.fingerprint import FingerprintStream
    from deepmusic.audio.levels import LevelMeter

    meter = LevelMeter()
    energy = 0.0
    with open_audio(
        found.path, sample_rate=None, max_seconds=max_seconds, block_s=_BLOCK_S, on_block=meter.add
    ) as stream:
        fingerprint = FingerprintStream(stream.sample_rate)
        for block in stream:
            fingerprint.add(block)
            if stream.channels > 1:
                energy += float(np.dot(block, block))
        frames = max(1, meter.frames)
        is_mono = stream.channels < 2 or not meter.mean_square
        return replace(
            found,
            duration_s=round(stream.duration_s, 6),
            header_s=stream.promised_s,
            sample_rate=stream.source_rate,
            channels=stream.channels,
            container=stream.container,
            codec=stream.codec,
            decoder=stream.decoder,
            faults=stream.faults,
            warning=stream.warning or "",
            peak=meter.peak,
            offset=meter.offset,
            silent_share=meter.silent_share,
            zero_share=meter.zero_share,
            clipped_share=meter.clipped_share,
            mono_share=1.0 if is_mono else energy / frames / meter.mean_square,
            fingerprint=fingerprint.finish(),
        )


def _digest(path: str, algorithm: str) -> str:
    with open_regular(path, shown=repr(path), noun="sound file", error=AudioError) as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()


def _digest_length(algorithm: str) -> int:
    return 2 * hashlib.new(algorithm, usedforsecurity=False).digest_size


def _record(heard: Heard) -> dict[str, Any]:
    """A result as the journal keeps it; :func:`_heard` is the inverse."""
    codes = base64.b64encode(heard.fingerprint.astype("<u4").tobytes()).decode()
    return {**asdict(heard), "fingerprint": codes}


def _heard(record: dict[str, Any]) -> Heard | None:
    """A result as it was kept; None where the record was changed by other hands."""
    try:
        codes = np.frombuffer(base64.b64decode(record["fingerprint"], validate=True), "<u4").astype(
            np.uint32
        )
        heard = Heard(**{**record, "faults": tuple(record["faults"]), "fingerprint": codes})
        is_whole = bool(heard.sha256) and heard.duration_s > 0
    except (ValueError, TypeError, KeyError):
        return None
    return heard if is_whole else None


def _died(path: str) -> Heard:
    return Heard(path, code="worker_died", error=f"{path!r} twice ended the process that heard it.")
