"""The files of FMA on disk: the path of a track, and the checksums that each archive holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deepmusic.datasets.folder import OnProgress, Problem, Track, file_hash, map_threads
from deepmusic.errors import DataError, os_reason

CHECKSUMS = "checksums"
"""The name of the list of SHA-1 in each archive."""

_LINE = re.compile(r"([0-9a-f]{40})  (\S.*)", re.IGNORECASE)


def track_path(track: int) -> str:
    """The path of a track's mp3 in the folder of any subset.

    Example:
        >>> track_path(2)
        '000/000002.mp3'
    """
    if not 0 <= track <= 999_999:
        raise DataError(f"Track numbers range from 0 to 999,999; got {track}.")
    return f"{track // 1000:03d}/{track:06d}.mp3"


def read_checksums(folder: Path) -> dict[str, str]:
    """The SHA-1 of each file by its path, as listed in a folder; empty if it has no list."""
    path = folder / CHECKSUMS
    try:
        if not path.is_file():
            return {}
        with open(path, encoding="utf-8", errors="replace") as file:
            matches = [_LINE.fullmatch(line.rstrip("\r\n")) for line in file]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {os_reason(error)}.") from error
    return {match[2].removeprefix("./"): match[1].lower() for match in matches if match}


def hash_tracks(
    folder: Path,
    tracks: Sequence[Track],
    checksums: Mapping[str, str],
    *,
    verify: bool = False,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Track | Problem]:
    """The tracks with the SHA-1 of their files, or what is wrong with those.

    Args:
        folder: what the paths of the tracks are relative to.
        tracks: without hashes.
        checksums: of `read_checksums`; files that are listed are not read.
        verify: whether to read and compare them nevertheless.
        workers: files read at a time; by default as many as there are cores, at most 8.
        on_progress: called in this thread with the files done and the number of files.
    """

    def read(track: Track) -> Track | Problem:
        expected = checksums.get(track.path)
        cached = None if verify else expected
        digest = file_hash(folder / track.path, track.path, algorithm="sha1", cached=cached)
        if isinstance(digest, Problem):
            return digest
        if expected is not None and digest != expected:
            message = f"{track.path!r} does not match {CHECKSUMS!r}; unpack it again."
            return Problem(track.path, "changed", message)
        return replace(track, content_hash=digest)

    return map_threads(read, tracks, workers=workers, on_progress=on_progress)
