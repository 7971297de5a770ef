"""A miniature GTZAN: real names and faults, tiny sounds made here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from deepmusic.datasets import FolderDataset, load_dataset
from deepmusic.datasets.gtzan import GTZAN_GENRES, fault_filtered_clips

RATE = 8000


def clip_names(per_part: int = 2) -> list[str]:
    """Some clips of each part and genre of the fault-filtered split, jazz.00054 among them."""
    names = {"jazz.00054"}
    for clips in fault_filtered_clips().values():
        for genre in GTZAN_GENRES:
            of_genre = [clip for clip in clips if clip.startswith(f"{genre}.")]
            names.update(of_genre[:per_part])
    return sorted(names)


def read_gtzan(path: Path, **options: Any) -> FolderDataset:
    """The clips at or below a path."""
    return load_dataset(path, kind="gtzan", **options).dataset


def write_clip(path: Path, number: int, *, seconds: float = 0.4) -> None:
    """A tone and noise of its own, as wav or au by the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * (200 + 7 * number) * time)
    sound = 0.4 * tone + 0.1 * rng.standard_normal(len(time))
    soundfile.write(path, sound, RATE, subtype="PCM_16", format=path.suffix[1:].upper())


def write_gtzan(
    root: Path,
    *,
    folder: str = "genres",
    extension: str = "wav",
    names: Iterable[str] | None = None,
    broken: tuple[str, ...] = ("jazz.00054",),
) -> Path:
    """Write ``root/FOLDER/GENRE/GENRE.NNNNN.EXTENSION``; a broken clip has a header and no sound.

    Returns:
        The folder of the genre folders.
    """
    for number, name in enumerate(clip_names() if names is None else names):
        path = root / folder / name.split(".")[0] / f"{name}.{extension}"
        if name in broken:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\x00\x01\x02\x03" * 1000)
        else:
            write_clip(path, number)
    return root / folder
