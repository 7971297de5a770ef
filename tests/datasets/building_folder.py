"""Folders of tiny tracks, and builds of them in processes of their own that may be killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 8000


def sound(
    seconds: float, seed: int, *, channels: int = 1, sample_rate: int = RATE
) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((round(seconds * sample_rate), channels))).astype("f4")


def write_track(
    path: Path,
    seconds: float = 1.0,
    seed: int = 0,
    *,
    channels: int = 1,
    sample_rate: int = RATE,
    **tags: str,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix[1:].upper()
    with soundfile.SoundFile(path, "w", sample_rate, channels, format=kind) as file:
        for name, value in tags.items():
            setattr(file, name, value)
        file.write(sound(seconds, seed, channels=channels, sample_rate=sample_rate))
    return path


def write_folder(root: Path) -> Path:
    write_track(root / "rock/one.wav", 1.0, 1, artist="Ann", album="First", title="One")
    write_track(root / "rock/two.flac", 1.4, 2, channels=2, artist="Bob", date="1999")
    write_track(root / "jazz/three.wav", 0.8, 3)
    write_track(root / "jazz/four.ogg", 1.2, 4, license="CC0")
    write_track(root / "jazz/five.flac", 0.5, 5)
    (root / "jazz/broken.wav").write_bytes(b"no sound at all")
    return root


def content_of(folder: Path) -> dict[str, bytes]:
    """All files below a folder, and the archive beside it."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    archive = folder.with_name(folder.name + ".zip")
    if archive.exists():
        found[".zip"] = archive.read_bytes()
    return found


def _kill_often(work: Path, kills: int, seed: int) -> None:
    """Kill builds at random moments; what stands there must be right, and go on to the end."""
    from deepmusic.datasets.building import build_dataset
    from deepmusic.datasets.building_sources import find_sources
    from deepmusic.datasets.building_track import BuildConfig

    config = BuildConfig(seconds=0.3, clips=2, loudness=-23.0, format="flac")

    def build(output: Path) -> None:
        for _ in build_dataset(find_sources(work / "in"), output, config, archive=True):
            pass

    build(work / "warm" / "out")  # all is imported
    started = time.monotonic()
    build(work / "reference" / "out")
    usual_s = time.monotonic() - started
    expected = content_of(work / "reference" / "out")
    output = work / "killed" / "out"
    chance = random.Random(seed)
    landed = ends = 0
    while landed < kills:
        child = os.fork()
        if child == 0:
            build(output)
            os._exit(0)
        time.sleep(chance.uniform(0, 1.1 * usual_s))
        os.kill(child, signal.SIGKILL)
        landed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        for name, content in content_of(output).items():
            if not name.split("/")[-1].startswith(".") or name == ".zip":
                assert content == expected[name], f"{name} is not what it should be"
        if chance.random() < 0.4:
            ends += 1
            build(output)
            assert content_of(output) == expected
            if chance.random() < 0.8:
                shutil.rmtree(output.parent)
    build(output)
    assert content_of(output) == expected
    print(f"{landed} kills, {ends} ends")


if __name__ == "__main__":
    _kill_often(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
