"""What a file says about itself (artist, album, title, genre), read through FFmpeg."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

import av

# FFmpeg is let at the same containers for their tags as for their sound.
from deepmusic.audio.ffmpeg import _CONTAINERS, _Bytes

__all__ = ["Tags", "read_tags"]


@dataclass(frozen=True)
class Tags:
    """What a file says about itself; None where it says nothing."""

    artist: str | None = None
    album: str | None = None
    title: str | None = None
    genre: str | None = None


def read_tags(path: str | os.PathLike[str]) -> Tags:
    """Read the tags of a sound file; junk and unreadable files have none, and nothing raises.

    Args:
        path: the file; pipes, devices and folders are not opened.

    Returns:
        The tags; the artist of the album stands in for a missing artist.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return Tags()
        with open(path, "rb", buffering=0) as file:
            found = _metadata(_Bytes(file))
    except Exception:  # FFmpeg meets anything here, and no tag is worth stopping for
        return Tags()
    return Tags(
        artist=found.get("artist") or found.get("album_artist"),
        album=found.get("album"),
        title=found.get("title"),
        genre=found.get("genre"),
    )


def _metadata(file: _Bytes) -> dict[str, str]:
    """Tags by lower-case name, without empty ones."""
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
    with av.open(file, mode="r", options=options, metadata_errors="replace") as container:
        # Ogg keeps its tags with the stream, all others with the container.
        merged: dict[str, str] = {}
        for stream in container.streams.audio:
            merged |= stream.metadata
        merged |= container.metadata
    cleaned = {name.lower(): value.replace("\0", "; ").strip() for name, value in merged.items()}
    return {name: value for name, value in cleaned.items() if value}
