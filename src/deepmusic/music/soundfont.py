"""Playing a score with a SoundFont, through symusic, and finding one on this machine."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import DeepMusicError, ScoreError
from deepmusic.files import open_regular
from deepmusic.music.midi import midi_bytes
from deepmusic.music.score import Score

TAIL_S = 2.5
"""Seconds that are rendered after the end of a score, while notes and the room decay."""

SOUNDFONT_VARIABLE = "DEEPMUSIC_SOUNDFONT"
"""The environment variable that names the SoundFont to use."""

_TIMEOUT_S = 30.0  # to start a process and to read a large SoundFont


def find_soundfont() -> Path | None:
    """A SoundFont of this machine: the one DEEPMUSIC_SOUNDFONT names, or a General MIDI one.

    Searched are ``sounds/sf2`` and ``sounds/sf3`` in the shared data folders (XDG and Homebrew),
    for ``default-GM.*`` first and then for any ``*GM*.sf2`` and ``*GM*.sf3``.

    Returns:
        The file, or None where there is none.

    Raises:
        DeepMusicError: the environment variable does not name a file.
    """
    chosen = os.environ.get(SOUNDFONT_VARIABLE)
    if chosen:
        if not Path(chosen).is_file():
            raise DeepMusicError(f"{SOUNDFONT_VARIABLE} names {chosen!r}, which does not exist.")
        return Path(chosen)
    home = os.environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
    others = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share:/opt/homebrew/share"
    shared = [home, *(folder for folder in others.split(os.pathsep) if folder)]
    for pattern in ("default-GM.*", "*GM*.sf2", "*GM*.sf3"):
        for folder in shared:
            for kind in ("sf2", "sf3"):
                files = sorted(Path(folder, "sounds", kind).glob(pattern))
                if files:
                    return files[0]
    return None


def checked_soundfont(path: str | os.PathLike[str]) -> str:
    """The path of a file that is a SoundFont by its first bytes.

    Raises:
        DeepMusicError: the file is missing or not a SoundFont.
    """
    name = f"The SoundFont {os.fspath(path)!r}"
    with open_regular(path, shown=name, noun="SoundFont", error=ScoreError) as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"sfbk":
        raise DeepMusicError(f"{name} is not a SoundFont; an .sf2 or .sf3 file is needed.")
    return os.fspath(path)


def play_soundfont(score: Score, sample_rate: int, font: str) -> NDArray[np.float32]:
    """Render a score, ``(2, samples)``, with a tail of 2.5 seconds.

    This runs in a process of its own: symusic 0.5.9 checks no more than the outline of a
    SoundFont, and a damaged one crashes the process that plays it, or keeps it busy for ever.

    Raises:
        DeepMusicError: the SoundFont cannot be played.
    """
    call = f"from {__name__} import _play; _play({font!r}, {sample_rate})"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", call],
            input=midi_bytes(score),
            capture_output=True,
            timeout=_TIMEOUT_S + score.seconds / 4,  # many times what is needed
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise DeepMusicError(
            f"The SoundFont {font!r} cannot be played; it is damaged, or of an unknown kind."
        ) from error
    sound = np.frombuffer(done.stdout, np.float32).reshape(2, -1)
    mix = np.zeros((2, math.ceil((score.seconds + TAIL_S) * sample_rate)), np.float32)
    count = min(mix.shape[1], sound.shape[1])
    mix[:, :count] = np.nan_to_num(sound[:, :count])
    return mix


def _play(font: str, sample_rate: int) -> None:
    """Play the MIDI file on standard input; write ``(2, samples)`` float32 to standard output."""
    from symusic.core import NoteTick, ScoreTick, Synthesizer, TempoTick

    events = ScoreTick.from_midi(sys.stdin.buffer.read())
    # symusic stops at the last note: a silent one after the tail lets all others ring out
    end, beat = events.end(), events.ticks_per_quarter
    events.tempos.append(TempoTick(end, mspq=500_000))
    events.tracks[0].notes.append(NoteTick(end + math.ceil(2 * TAIL_S) * beat, beat, 0, 0))
    sound = np.asarray(Synthesizer(font, sample_rate, 1).render(events, True), np.float32)
    sys.stdout.buffer.write(np.ascontiguousarray(sound).tobytes())
