"""The sound of a score: by the built-in synthesiser, or with a SoundFont through symusic."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np

from deepmusic.errors import DeepMusicError, ScoreError
from deepmusic.files import open_regular, write_atomically
from deepmusic.music.midi import midi_bytes
from deepmusic.music.score import Score
from deepmusic.music.synth import Samples, ramp, synthesize

LONGEST_S = 3 * 3600.0
"""Longer scores are refused; at 44,100 Hz a minute of sound takes 21 MB, and this 3.8 GB."""

SAMPLE_RATES = (8_000, 192_000)
"""The lowest and the highest sample rate."""

TAIL_S = 2.5
"""Seconds that are rendered after the end of a score, while notes and the room decay."""

SOUNDFONT_VARIABLE = "DEEPMUSIC_SOUNDFONT"
"""The environment variable that names the SoundFont to use."""

_TIMEOUT_S = 30.0  # to start a process and to read a large SoundFont
_FADE_S = 0.4  # fade-out at the end of the tail
_PEAK = 0.98  # louder sound is turned down as a whole


def render(
    score: Score, *, sample_rate: int = 44100, soundfont: str | os.PathLike[str] | None = None
) -> Samples:
    """Render a score as sound.

    Without a SoundFont a built-in synthesiser plays it. Loudness follows the velocities: nothing
    is normalised, except that sound which would clip is turned down as a whole.

    Args:
        score: of at most three hours.
        sample_rate: in Hz, 8,000 to 192,000.
        soundfont: an ``.sf2`` or ``.sf3`` file to play it with; see ``find_soundfont``.

    Returns:
        ``(samples, 2)`` float32, left and right, in [-1, 1], with a tail of 2.5 seconds after the
        end of the score in which the last notes decay. Silence for a score without notes.

    Raises:
        ScoreError: the score is ``too_long``.
        DeepMusicError: the SoundFont is missing or damaged.
        ValueError: the sample rate is out of range.

    Example:
        >>> sound = render(Score(480, (Note(0, 480, 69),)))
        >>> sound.shape, sound.dtype
        ((132300, 2), dtype('float32'))
    """
    low, high = SAMPLE_RATES
    if not low <= sample_rate <= high:
        raise ValueError(f"the sample rate is {low:,} to {high:,} Hz; got {sample_rate}")
    if score.seconds > LONGEST_S:
        raise ScoreError(
            f"The score lasts {score.seconds / 3600:.1f} hours; sound is made of up to "
            f"{LONGEST_S / 3600:g}.",
            code="too_long",
        )
    font = None if soundfont is None else checked_soundfont(soundfont)
    if not score.notes:
        return np.zeros((math.ceil(score.seconds * sample_rate), 2), np.float32)
    samples = math.ceil((score.seconds + TAIL_S) * sample_rate)
    if font is None:
        mix = synthesize(score, sample_rate, samples)
    else:
        mix = _play_soundfont(score, sample_rate, samples, font)
    fade = ramp(int(_FADE_S * sample_rate))[::-1]
    mix[:, -len(fade) :] *= fade[-mix.shape[1] :]
    peak = max(float(mix.max()), -float(mix.min()))
    if peak > _PEAK:
        mix *= np.float32(_PEAK / peak)
    return mix.T


def write_wav(
    score: Score,
    path: str | os.PathLike[str],
    *,
    sample_rate: int = 44100,
    soundfont: str | os.PathLike[str] | None = None,
) -> None:
    """Write the sound of a score as a 16-bit stereo WAV file, atomically.

    Arguments and errors are those of `render`; besides, a DeepMusicError says that the file cannot
    be written.
    """
    sound = render(score, sample_rate=sample_rate, soundfont=soundfont)
    # Not through soundfile: its callbacks print that a disk is full instead of raising it.
    with write_atomically(path, "wb") as file, wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(sample_rate)
        for start in range(0, len(sound), 2**18):
            block = np.rint(sound[start : start + 2**18] * 32767)
            out.writeframes(np.ascontiguousarray(block, "<i2").tobytes())


def find_soundfont() -> Path | None:
    """A SoundFont of this machine: the one DEEPMUSIC_SOUNDFONT names, or a General MIDI one.

    Searched are ``sounds/sf2`` and ``sounds/sf3`` in the shared data folders (XDG and Homebrew),
    for ``default-GM.*`` first and then for any ``*GM*.sf2`` and ``*GM*.sf3``.

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
    shared = [home, *filter(None, others.split(os.pathsep))]
    folders = [Path(folder, "sounds", kind) for folder in shared for kind in ("sf2", "sf3")]
    for pattern in ("default-GM.*", "*GM*.sf2", "*GM*.sf3"):
        for folder in folders:
            if files := sorted(folder.glob(pattern)):
                return files[0]
    return None


def checked_soundfont(path: str | os.PathLike[str]) -> str:
    """The path of a file that is a SoundFont by its first bytes.

    Raises:
        DeepMusicError: the file is missing or not a SoundFont.
    """
    name = f"The SoundFont {os.fspath(path)!r}"
    with open_regular(path, name=name, noun="SoundFont", error=ScoreError) as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"sfbk":
        raise DeepMusicError(f"{name} is not a SoundFont; an .sf2 or .sf3 file is needed.")
    return os.fspath(path)


def _play_soundfont(score: Score, sample_rate: int, samples: int, font: str) -> Samples:
    """Play a score with a SoundFont, ``(2, samples)``.

    This runs in a separate process: symusic 0.5.9 checks no more than the outline of a
    SoundFont, and a damaged one crashes the process that plays it, or hangs it.
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
    sound = np.frombuffer(done.stdout, np.float32).reshape(2, -1)[:, :samples]
    padding = samples - sound.shape[1]
    return np.pad(np.nan_to_num(sound), [(0, 0), (0, padding)])


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
