"""Names for the pictures that a command draws: one file for one track, a folder for several."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

_MAX_BYTES = 200  # of a name; file systems take 255, extension and number included


def picture_names(target: str, *, tracks: int, option: str) -> Callable[[str], Path]:
    """A function from a track's path to that of its picture.

    Args:
        target: a ``.png`` file for one track, a folder otherwise; the folder is made when needed.
        tracks: number of tracks.
        option: name of the option, for messages.

    Raises:
        click.UsageError: neither a ``.png`` file nor a folder, or one file for several tracks.
    """
    path = Path(target)
    is_file = bool(path.suffix) and not path.is_dir()
    if is_file and path.suffix.lower() != ".png":
        raise click.UsageError(f"{option}: pictures are PNG files; name FILE.png or a folder.")
    if is_file and tracks > 1:
        raise click.UsageError(f"{option}: {tracks} tracks need a folder, not one file.")
    taken: set[str] = set()

    def name(track: str) -> Path:
        if is_file:
            return path
        stem = os.fsdecode(os.fsencode(os.path.basename(track))[:_MAX_BYTES])
        candidate, number = f"{stem}.png", 2
        while candidate.casefold() in taken:  # disks of Windows and macOS fold case
            candidate, number = f"{stem}.{number}.png", number + 1
        taken.add(candidate.casefold())
        path.mkdir(parents=True, exist_ok=True)
        return path / candidate

    return name
