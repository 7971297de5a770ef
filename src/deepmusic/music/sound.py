"""The sound of a score: a synthesiser in NumPy, or a SoundFont through symusic.

The synthesiser makes each different note once and adds it wherever it stands. There are three
kinds: *struck* notes (piano, guitar, bells) are sums of decaying partials; *held* notes (strings,
winds, organ) are loops that repeat without a seam, drawn as a spectrum; *drums* are noise and
sweeps. All are band-limited, and whatever is random is seeded by the note: the same score gives
the same samples.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import DeepMusicError, ScoreError
from deepmusic.files import open_regular, write_atomically
from deepmusic.music.midi import midi_bytes
from deepmusic.music.score import Note, Score

Samples = NDArray[np.float32]

LONGEST_S = 3 * 3600.0
"""Longer scores are refused; at 44,100 Hz a minute of sound takes 21 MB, and this 3.8 GB."""

TAIL_S = 2.5
"""So long the sound goes on after the end of a score, while notes and the room die away."""

RATES = (8_000, 192_000)
"""The lowest and the highest sampling rate."""

SOUNDFONT_VARIABLE = "DEEPMUSIC_SOUNDFONT"
"""The environment variable that names a SoundFont to find."""

_FADE_S = 0.4  # the end of the tail goes to silence in so many seconds
_PEAK = 0.98  # no sample is larger; louder sound is turned down as a whole
_BLOCK = 2**18  # samples worked on at a time: more leave the cache of the processor
_HEADROOM = 0.4  # room for several notes at a time
_LOUDNESS = 1.6  # a note sounds as its velocity to this power
_SHADES = 8  # so many kinds of brightness from soft to loud
_SHORTEST_S = 0.05  # a key pressed for less is held for so long
_BAND = 0.45  # of the rate: no partial is higher
_LOOP_S = 0.7  # a loop is at least so long; that of an ensemble
_WIDE_LOOP_S = 1.4  # longer, as it would be heard to repeat itself
_IN_TUNE_CENTS = 0.2  # nobody hears a hundredth of a semitone
_FAINT = 1e-4  # partials of less than this share of the loudest are left out
_WIDE_CENTS = 5  # players so far apart are an ensemble, and sit at several places
_PATIENCE_S = 30.0  # to start a process and to read a large SoundFont
_SEED = 20


@dataclass(frozen=True, slots=True)
class Timbre:
    """How an instrument sounds.

    Args:
        level: loudness of a note struck as hard as can be; amplitude.
        slope: partial k has amplitude ``k ** -slope``,
        cutoff_hz: and less above this frequency; louder notes have a higher one.
        attack_s, release_s: time to full loudness, and from the end of the note to silence.
        ring_s: time in which middle C falls by 60 dB; 0 for notes that are held.
        even: amplitude of the even partials, relative to the odd.
        stretch: how far the partials of a stiff string are sharp (its inharmonicity).
        ratios: frequencies of the partials of a bar or bell, where they are no harmonics.
        vibrato_cents: how far the pitch swings to either side, five times a second.
        spread_cents: how far the players of an ensemble are apart.
        breath: share of noise.
        formants: frequencies in Hz that resound, as of a voice.
        knock: amplitude of the noise of a hammer or a plectrum.
    """

    level: float
    slope: float
    cutoff_hz: float
    attack_s: float = 0.003
    release_s: float = 0.12
    ring_s: float = 0.0
    even: float = 1.0
    stretch: float = 0.0
    ratios: tuple[float, ...] = ()
    vibrato_cents: float = 0.0
    spread_cents: float = 0.0
    breath: float = 0.0
    formants: tuple[float, ...] = ()
    knock: float = 0.0


_BAR = (1.0, 3.93, 9.2)
_BELL = (1.0, 2.76, 5.4, 8.93)

TIMBRES = {
    "piano": Timbre(0.50, 1.1, 2400, ring_s=9, stretch=4e-4, release_s=0.18, knock=0.05),
    "harpsichord": Timbre(0.34, 0.6, 5000, 0.001, ring_s=5, stretch=1e-4, knock=0.06),
    "bells": Timbre(0.36, 1.0, 6000, 0.002, 1.2, ring_s=4, ratios=_BELL, knock=0.03),
    "bars": Timbre(0.46, 1.6, 3000, 0.002, 0.5, ring_s=1.6, ratios=_BAR, knock=0.04),
    "organ": Timbre(0.22, 0.8, 3200, 0.02, 0.09, spread_cents=0.8),
    "guitar": Timbre(0.46, 1.0, 2600, 0.002, 0.14, ring_s=4.5, stretch=8e-5, knock=0.06),
    "bass": Timbre(0.60, 1.3, 1100, 0.004, 0.12, ring_s=6, stretch=5e-5, knock=0.03),
    "harp": Timbre(0.46, 1.4, 2200, 0.002, 0.7, ring_s=4, knock=0.03),
    "solo strings": Timbre(0.26, 1.0, 3600, 0.06, 0.14, vibrato_cents=11, breath=0.010),
    "strings": Timbre(0.26, 1.1, 3000, 0.11, 0.30, spread_cents=11),
    "choir": Timbre(
        0.28, 1.0, 2600, 0.10, 0.28, spread_cents=9, breath=0.012, formants=(620, 1080, 2600)
    ),
    "brass": Timbre(0.26, 0.7, 1900, 0.035, 0.10, vibrato_cents=4, spread_cents=1.5),
    "reed": Timbre(
        0.24, 0.8, 2600, 0.03, 0.09, vibrato_cents=7, breath=0.012, formants=(900, 1500)
    ),
    "clarinet": Timbre(0.28, 0.9, 2600, 0.035, 0.09, even=0.12, vibrato_cents=3, breath=0.008),
    "flute": Timbre(0.32, 1.9, 2600, 0.045, 0.12, vibrato_cents=7, breath=0.035),
    "lead": Timbre(0.20, 1.0, 4200, 0.008, 0.12, vibrato_cents=5, spread_cents=3),
    "pad": Timbre(0.24, 1.3, 1900, 0.30, 0.70, spread_cents=14),
}
"""The instruments of the synthesiser by name."""

# the first General MIDI program of each run, counted from 0
_PROGRAMS = {
    0: "piano", 6: "harpsichord", 8: "bells", 12: "bars", 14: "bells", 15: "harpsichord",
    16: "organ", 20: "reed", 24: "guitar", 32: "bass", 40: "solo strings", 44: "strings",
    45: "harp", 47: "bars", 48: "strings", 52: "choir", 55: "strings", 56: "brass", 64: "reed",
    71: "clarinet", 72: "flute", 80: "lead", 88: "pad", 104: "guitar", 108: "bars", 109: "reed",
    110: "solo strings", 111: "reed", 112: "bells", 115: "bars", 119: "pad",
}  # fmt: skip


def timbre_name(program: int) -> str:
    """Which of ``TIMBRES`` plays a General MIDI program, 0 to 127."""
    return _PROGRAMS[max(first for first in _PROGRAMS if first <= program)]


@dataclass(frozen=True, slots=True)
class Drum:
    """How a drum sounds: a tone that sinks, and noise.

    Args:
        level: loudness when struck as hard as can be; amplitude.
        ring_s: time in which it falls by 60 dB.
        tones: frequencies in Hz of the tone in the end; none for noise alone.
        sink: how many times as high the tone begins.
        noise: share of noise, 0 to 1.
        band: lowest and highest frequency of the noise in Hz.
    """

    level: float
    ring_s: float
    tones: tuple[float, ...] = ()
    sink: float = 1.0
    noise: float = 0.0
    band: tuple[float, float] = (200.0, 8000.0)


_KICK = Drum(0.9, 0.45, (48,), sink=3.2, noise=0.05, band=(1000, 5000))
_SNARE = Drum(0.55, 0.32, (185, 330), sink=1.2, noise=0.75, band=(900, 9000))
_STICK = Drum(0.4, 0.09, (820, 1710), noise=0.3, band=(1500, 8000))
_CLAP = Drum(0.5, 0.25, noise=1, band=(800, 5000))
_HAT = Drum(0.3, 0.11, noise=1, band=(6500, 15000))
_OPEN_HAT = Drum(0.3, 0.9, noise=1, band=(6000, 15000))
_CRASH = Drum(0.38, 2.4, (417, 623), noise=0.95, band=(2500, 14000))
_RIDE = Drum(0.3, 1.6, (3120, 4470), noise=0.6, band=(4500, 14000))
_BLOCK_OF_WOOD = Drum(0.45, 0.12, (980, 2450), noise=0.05)
_COWBELL = Drum(0.35, 0.45, (562, 845), noise=0.05)
_TRIANGLE = Drum(0.25, 2.0, (4110, 6870, 9230))
_SHAKER = Drum(0.28, 0.14, noise=1, band=(4500, 12000))


def _skin(frequency: float, ring_s: float = 0.6) -> Drum:
    return Drum(0.65, ring_s, (frequency, 1.59 * frequency), sink=1.5, noise=0.06)


# by the pitches of General MIDI
_DRUMS = {
    **dict.fromkeys((35, 36), _KICK), **dict.fromkeys((38, 40), _SNARE),
    **dict.fromkeys((42, 44), _HAT), **dict.fromkeys((49, 52, 55, 57), _CRASH),
    **dict.fromkeys((51, 53, 59), _RIDE), **dict.fromkeys((69, 70, 82, 54), _SHAKER),
    **dict.fromkeys((76, 77, 75), _BLOCK_OF_WOOD), **dict.fromkeys((80, 81), _TRIANGLE),
    37: _STICK, 39: _CLAP, 46: _OPEN_HAT, 56: _COWBELL, 67: _COWBELL, 68: _COWBELL,
    41: _skin(78), 43: _skin(95), 45: _skin(115), 47: _skin(140), 48: _skin(170), 50: _skin(205),
    60: _skin(330, 0.3), 61: _skin(240, 0.3), 62: _skin(300, 0.15), 63: _skin(290, 0.4),
    64: _skin(195, 0.4), 65: _skin(380, 0.4), 66: _skin(270, 0.4),
}  # fmt: skip


def render(
    score: Score, *, sample_rate: int = 44100, soundfont: str | os.PathLike[str] | None = None
) -> Samples:
    """The sound of a score.

    Without a SoundFont a built-in synthesiser plays it. Loudness is that of the notes: nothing is
    turned up, and only what would be too loud is turned down, as a whole. A score without a note
    is silent for its length.

    Args:
        score: of at most three hours.
        sample_rate: samples per second, 8,000 to 192,000.
        soundfont: an ``.sf2`` or ``.sf3`` file to play it with; see :func:`find_soundfont`.

    Returns:
        ``(samples, 2)`` float32, left and right, in [-1, 1]. The sound goes on for 2.5 seconds
        after the end of the score, and the last note dies away in them.

    Raises:
        ScoreError: the score is ``too_long``.
        DeepMusicError: the SoundFont is missing or damaged.
        ValueError: the rate is out of range.

    Example:
        >>> sound = render(Score(480, (Note(0, 480, 69),)))
        >>> sound.shape, sound.dtype
        ((132300, 2), dtype('float32'))
    """
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise ValueError(
            f"the rate is {RATES[0]:,} to {RATES[1]:,} samples per second; got {sample_rate}"
        )
    if score.seconds > LONGEST_S:
        raise ScoreError(
            f"The score lasts {score.seconds / 3600:.1f} hours; sound is made of up to "
            f"{LONGEST_S / 3600:g}.",
            code="too_long",
        )
    font = None if soundfont is None else checked_soundfont(soundfont)
    if not score.notes:
        return np.zeros((math.ceil(score.seconds * sample_rate), 2), np.float32)
    if font is None:
        mix = _mixed(score, sample_rate)
        _add_room(mix, sample_rate)
    else:
        mix = _played(score, sample_rate, font)
    _fade_out(mix, sample_rate)
    return _turned_down(mix).T


def write_wav(
    score: Score,
    path: str | os.PathLike[str],
    *,
    sample_rate: int = 44100,
    soundfont: str | os.PathLike[str] | None = None,
) -> None:
    """Write the sound of a score as a WAV file of 16 bits in stereo, whole or not at all.

    Args:
        score: of at most three hours.
        path: the file; its folder must exist. What is there is replaced.
        sample_rate: samples per second, 8,000 to 192,000.
        soundfont: as in :func:`render`.

    Raises:
        ScoreError: the score is ``too_long``.
        DeepMusicError: the SoundFont is missing or damaged, or the file cannot be written.
        ValueError: the rate is out of range.
    """
    sound = render(score, sample_rate=sample_rate, soundfont=soundfont)
    # Not through soundfile: its callbacks print a full disk instead of raising it.
    with write_atomically(path, "wb") as file, wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(sample_rate)
        out.setnframes(len(sound))
        for start in range(0, len(sound), _BLOCK):
            block = np.rint(sound[start : start + _BLOCK] * 32767)
            out.writeframesraw(np.ascontiguousarray(block, "<i2").tobytes())


def find_soundfont() -> Path | None:
    """A SoundFont of this machine: what DEEPMUSIC_SOUNDFONT names, or a General MIDI one.

    Looked through are ``sounds/sf2`` and ``sounds/sf3`` in the usual folders for shared data, for
    ``default-GM.*`` first and then for any ``*GM*.sf2`` and ``*GM*.sf3``.

    Returns:
        The file, or None where there is none.

    Raises:
        DeepMusicError: the environment variable names no file.
    """
    named = os.environ.get(SOUNDFONT_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise DeepMusicError(
                f"{SOUNDFONT_VARIABLE} names {named!r}, and there is no such file."
            )
        return Path(named)
    folders = [shared / "sounds" / kind for shared in _shared_folders() for kind in ("sf2", "sf3")]
    for pattern in ("default-GM.*", "*GM*.sf2", "*GM*.sf3"):
        for folder in folders:
            found = sorted(path for path in folder.glob(pattern) if path.is_file())
            if found:
                return found[0]
    return None


def _shared_folders() -> list[Path]:
    """Where programs find shared data, by the XDG rules, and Homebrew's folder."""
    home = os.environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
    others = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share:/opt/homebrew/share"
    return [Path(home), *(Path(folder) for folder in others.split(os.pathsep) if folder)]


def checked_soundfont(path: str | os.PathLike[str]) -> str:
    """The path of a file that is a SoundFont by its first bytes."""
    shown = f"The SoundFont {os.fspath(path)!r}"
    with open_regular(path, shown=shown, noun="SoundFont", error=ScoreError) as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"sfbk":
        raise DeepMusicError(f"{shown} is no SoundFont; an .sf2 or .sf3 file is needed.")
    return os.fspath(path)


def _played(score: Score, sample_rate: int, font: str) -> Samples:
    """``(2, samples)``: the sound of a SoundFont.

    In a process of its own: symusic 0.5.9 checks no more than the outline of a SoundFont, and a
    damaged one crashes the process that plays it, or keeps it busy for ever.
    """
    call = f"from {__name__} import _play; _play({font!r}, {sample_rate})"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", call],
            input=midi_bytes(score),
            capture_output=True,
            timeout=_PATIENCE_S + score.seconds / 4,  # many times what it takes
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
    # symusic stops dead at the last note: one without sound, after the tail, lets all ring out
    end, beat = events.end(), events.ticks_per_quarter
    events.tempos.append(TempoTick(end, mspq=500_000))
    events.tracks[0].notes.append(NoteTick(end + math.ceil(2 * TAIL_S) * beat, beat, 0, 0))
    sound = np.asarray(Synthesizer(font, sample_rate, 1).render(events, True), np.float32)
    sys.stdout.buffer.write(np.ascontiguousarray(sound).tobytes())


def _turned_down(mix: Samples) -> Samples:
    """The same array, all of it softer if a sample is beyond the peak."""
    peak = max((float(np.abs(part).max(initial=0)) for _, part in _blocks(mix)), default=0.0)
    if peak > _PEAK:
        for _, part in _blocks(mix):
            part *= np.float32(_PEAK / peak)
    return mix


def _blocks(mix: Samples) -> Iterator[tuple[int, Samples]]:
    """Starts and views ``(2, n)`` of what is small enough to work on."""
    for start in range(0, mix.shape[1], _BLOCK):
        yield start, mix[:, start : start + _BLOCK]


def _fade_out(mix: Samples, sample_rate: int) -> None:
    count = min(int(_FADE_S * sample_rate), mix.shape[1])
    mix[:, mix.shape[1] - count :] *= _ramp(count)[::-1]


@lru_cache(maxsize=64)
def _ramp(samples: int) -> Samples:
    """From just above 0 to 1 without a corner at either end; not to be written to."""
    places = (np.arange(samples) + 0.5) / max(samples, 1)
    ramp: Samples = np.square(np.sin(np.pi / 2 * places)).astype(np.float32)
    ramp.setflags(write=False)
    return ramp


# ---- the notes of a score, each different one made once


@dataclass(frozen=True, slots=True)
class _Event:
    """A note in samples: where it starts, for how long its key is down, and its two gains."""

    start: int
    held: int
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class _Tone:
    """What notes of one kind are cut from.

    Args:
        samples: ``(n,)``, either all there is, or a loop.
        is_loop: whether it goes on from its start.
        is_wide: whether left and right are taken from different places of the loop.
        attack, release: gains from the start, and from the end of the note.
    """

    samples: Samples
    is_loop: bool
    is_wide: bool
    attack: Samples
    release: Samples

    def length(self, held: int) -> int:
        """Samples for which a note sounds."""
        sounding = held + len(self.release)
        return sounding if self.is_loop else min(sounding, len(self.samples))

    def part(self, start: int, count: int) -> Samples:
        """A copy of ``count`` samples from a place."""
        if not self.is_loop:
            return self.samples[start : start + count].copy()
        start %= len(self.samples)
        first = self.samples[start : start + count]
        return np.concatenate([first, np.resize(self.samples, count - len(first))])


def _mixed(score: Score, sample_rate: int) -> Samples:
    """``(2, samples)``: all notes of a score, dry."""
    mix = np.zeros((2, math.ceil((score.seconds + TAIL_S) * sample_rate)), np.float32)
    for (name, pitch, shade), events in _events(score, sample_rate).items():
        if name == "drum":
            tone = _drum_tone(pitch, sample_rate)
        else:
            longest = max(event.held for event in events)
            tone = _tone(name, pitch, (shade + 0.5) / _SHADES, sample_rate, longest)
        for event in events:
            _add(mix, tone, event)
    return mix


def _events(score: Score, sample_rate: int) -> dict[tuple[str, int, int], list[_Event]]:
    """The notes by instrument, pitch and brightness."""
    times = score.arrays
    starts = np.rint(score.seconds_at(times.onset) * sample_rate).astype(np.int64).tolist()
    ends = (
        np.rint(score.seconds_at(times.onset + times.duration) * sample_rate)
        .astype(np.int64)
        .tolist()
    )
    names = ["drum" if part.is_drum else timbre_name(part.program) for part in score.parts]
    places = _places(score)
    shortest = int(_SHORTEST_S * sample_rate)
    groups: dict[tuple[str, int, int], list[_Event]] = {}
    for note, start, end in zip(score.notes, starts, ends, strict=True):
        shade = 0 if names[note.part] == "drum" else note.velocity * _SHADES // 128
        left, right = _gains(note, places[note.part])
        event = _Event(start, max(end - start, shortest), left, right)
        groups.setdefault((names[note.part], note.pitch, shade), []).append(event)
    return groups


def _places(score: Score) -> list[float]:
    """Where each part sits, from -1 (left) to 1: in a row before the listener, drums amidst."""
    pitched = [index for index, part in enumerate(score.parts) if not part.is_drum]
    places = [0.0] * len(score.parts)
    if len(pitched) > 1:
        for order, index in enumerate(pitched):
            # high voices come first in most scores, and sit left as in an orchestra
            places[index] = order / (len(pitched) - 1) - 0.5
    return places


def _gains(note: Note, place: float) -> tuple[float, float]:
    """Amplitudes left and right, of equal power wherever a note sits."""
    spread = 0.25 * (note.pitch - 64) / 64  # of a keyboard, low to the left
    angle = (np.pi / 4) * (1 + max(-0.85, min(0.85, place + spread)))
    loud = _HEADROOM * (note.velocity / 127) ** _LOUDNESS
    return loud * math.cos(angle), loud * math.sin(angle)


def _add(mix: Samples, tone: _Tone, event: _Event) -> None:
    """Add one note to ``(2, samples)``, a block at a time."""
    length = min(tone.length(event.held), mix.shape[1] - event.start)
    # copies of one loop that start together would sound as one instrument
    offset = event.start * 7919 if tone.is_loop else 0
    for at in range(0, length, _BLOCK):
        count = min(_BLOCK, length - at)
        target = mix[:, event.start + at : event.start + at + count]
        left = _shaped(tone, offset, event, at, count)
        if tone.is_wide:
            right = _shaped(tone, offset + len(tone.samples) // 2, event, at, count)
        else:
            right = left
        target[0] += np.float32(event.left) * left
        target[1] += np.float32(event.right) * right


def _shaped(tone: _Tone, offset: int, event: _Event, at: int, count: int) -> Samples:
    """``count`` samples of a note from ``at`` on, with its attack and release."""
    piece = tone.part(offset + at, count)
    if at < len(tone.attack):
        attack = tone.attack[at : at + count]
        piece[: len(attack)] *= attack
    if at + count > event.held:
        first = max(at, event.held)
        release = tone.release[first - event.held : at + count - event.held]
        piece[first - at :][: len(release)] *= release
        piece[first - at + len(release) :] = 0
    return piece


# ---- instruments


def _tone(name: str, pitch: int, shade: float, sample_rate: int, longest: int) -> _Tone:
    """The notes of one instrument, pitch and brightness, held for up to ``longest`` samples."""
    timbre = TIMBRES[name]
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    release = _ramp(int(timbre.release_s * sample_rate))[::-1]
    attack = _ramp(int(timbre.attack_s * sample_rate))
    if timbre.ring_s:
        samples = _struck(timbre, frequency, shade, sample_rate, longest + len(release))
    else:
        samples = _held(timbre, frequency, shade, sample_rate)
    # the ear takes high notes of equal power for louder
    samples *= np.float32(timbre.level * min(1.2, (440 / frequency) ** 0.15))
    return _Tone(samples, timbre.ring_s == 0, timbre.spread_cents > _WIDE_CENTS, attack, release)


def _partials(
    timbre: Timbre, frequency: float, shade: float, sample_rate: int, most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies in Hz and amplitudes of the partials below the highest that a rate holds.

    The squares of the amplitudes add up to 1, but for the highest notes of all, whose fundamental
    alone is left, or not even that.
    """
    order = np.arange(1, most + 1, dtype=np.float64)
    if timbre.ratios:
        order = order[: len(timbre.ratios)]
        frequencies = frequency * np.array(timbre.ratios)
    else:
        frequencies = frequency * order * np.sqrt(1 + timbre.stretch * (order**2 - 1))
    below = frequencies < _BAND * sample_rate
    order, frequencies = order[below], frequencies[below]
    amplitudes = order**-timbre.slope
    amplitudes[1::2] *= timbre.even
    # an octave more from the softest to the loudest, and a fundamental that stays
    cutoff = timbre.cutoff_hz * 4 ** (shade - 0.6) + frequency
    amplitudes /= 1 + (frequencies / cutoff) ** 2
    if timbre.formants:
        resonances = sum(
            np.exp(-0.5 * (np.log2(frequencies / formant) / 0.22) ** 2) / place
            for place, formant in enumerate(timbre.formants, start=1)
        )
        amplitudes *= 0.12 + resonances
    heard = amplitudes > _FAINT * amplitudes.max(initial=0)
    frequencies, amplitudes = frequencies[heard], amplitudes[heard]
    power = float(np.square(amplitudes).sum())
    return frequencies, amplitudes / math.sqrt(power) if power else amplitudes


def _struck(timbre: Timbre, frequency: float, shade: float, sample_rate: int, most: int) -> Samples:
    """``(n,)``, at most ``most``: decaying partials, until nothing is heard any more."""
    frequencies, amplitudes = _partials(timbre, frequency, shade, sample_rate, 28)
    # high notes and high partials die sooner; a string first falls fast and then rings on
    ring_s = timbre.ring_s * (261.6 / frequency) ** 0.6
    ring_s = min(max(ring_s, 0.25), 2 * timbre.ring_s)
    falls = 6.91 / ring_s * (1 + 0.22 * np.sqrt(np.arange(len(frequencies))))
    count = min(most, math.ceil(1.1 * ring_s * sample_rate))
    phases = np.pi * np.arange(len(frequencies)) ** 2 / 9  # spread, that peaks are low
    tone = _decaying(
        np.concatenate([frequencies, frequencies * 1.0004]),
        np.concatenate([0.6 * amplitudes, 0.4 * amplitudes]),
        np.concatenate([3.0 * falls, falls]),
        np.tile(phases, 2),
        count,
        sample_rate,
    )
    if timbre.knock:
        length = min(count, int(0.03 * sample_rate))
        noise = _noise(length, (120, 2500 * (0.4 + shade)), sample_rate, round(frequency))
        tone[:length] += noise * _falling(length, 0.03, sample_rate) * np.float32(timbre.knock)
    closing = min(count, int(0.01 * sample_rate))
    tone[count - closing :] *= _ramp(closing)[::-1]
    return tone * np.float32(1.4)  # mean power of a sine is a half


def _decaying(
    frequencies: NDArray[np.float64],
    amplitudes: NDArray[np.float64],
    falls: NDArray[np.float64],
    phases: NDArray[np.float64],
    count: int,
    sample_rate: int,
) -> Samples:
    """A sum of sines that each fall by e in ``1 / falls`` seconds; ``(count,)``.

    With time split into rows and columns, each sine is an outer product of two short exponentials,
    and their sum one product of matrices: many times faster than adding them up.
    """
    columns = max(1, math.isqrt(count))
    rows = -(-count // columns)
    turns = (2j * np.pi * frequencies - falls) / sample_rate
    near = np.exp(np.outer(turns, np.arange(columns)) + 1j * phases[:, None]) * amplitudes[:, None]
    far = np.exp(np.outer(np.arange(rows) * columns, turns))
    left = np.concatenate([far.real, far.imag], axis=1).astype(np.float32)
    right = np.concatenate([near.imag, near.real], axis=0).astype(np.float32)
    sines: Samples = (left @ right).ravel()[:count]
    return sines


def _held(timbre: Timbre, frequency: float, shade: float, sample_rate: int) -> Samples:
    """A loop ``(n,)`` in which the fundamental fits a whole number of times."""
    is_wide = timbre.spread_cents > _WIDE_CENTS
    periods, count = _loop_size(frequency, sample_rate, _WIDE_LOOP_S if is_wide else _LOOP_S)
    frequencies, amplitudes = _partials(timbre, frequency, shade, sample_rate, 80)
    centres = np.rint(frequencies / frequency).astype(np.int64) * periods
    generator = np.random.default_rng([_SEED, periods, len(centres)])
    spectrum = np.zeros(count // 2 + 1, np.complex64)
    if timbre.spread_cents:
        for centre, amplitude in zip(centres.tolist(), amplitudes.tolist(), strict=True):
            _draw_players(spectrum, centre, amplitude, timbre.spread_cents, generator)
    else:
        spectrum[centres] = amplitudes * np.exp(2j * np.pi * generator.random(len(centres)))
    if timbre.breath:
        low, high = (int(hz / sample_rate * count) for hz in (300, min(7000, _BAND * sample_rate)))
        noise = generator.standard_normal((2, high - low), np.float32)
        noise *= np.sqrt(low / np.arange(low, high)) * (timbre.breath / math.sqrt(high - low))
        spectrum[low:high] += noise[0] + 1j * noise[1]
    loop = np.fft.irfft(spectrum, count).astype(np.float32) * np.float32(count / math.sqrt(2))
    return _swung(loop, timbre.vibrato_cents, sample_rate) if timbre.vibrato_cents else loop


def _draw_players(
    spectrum: NDArray[np.complex64],
    centre: int,
    amplitude: float,
    spread_cents: float,
    generator: np.random.Generator,
) -> None:
    """Draw one partial of many players around its bin: a bell of random phases."""
    width = centre * (2 ** (spread_cents / 1200) - 1)
    reach = min(math.ceil(2.5 * width), centre - 1, len(spectrum) - 1 - centre)
    offsets = np.arange(-reach, reach + 1)
    bell = np.exp((-0.5 / width**2) * offsets**2)
    bell *= amplitude / math.sqrt(float(bell @ bell))
    turns = np.exp(2j * np.pi * generator.random(len(bell)))
    spectrum[centre - reach : centre + reach + 1] += bell * turns


def _loop_size(frequency: float, sample_rate: int, least_s: float) -> tuple[int, int]:
    """Periods in a loop, and its samples: the first quick number that is in tune, or the best."""
    counts = _quick_sizes(math.ceil(least_s * sample_rate))
    periods = np.rint(counts * (frequency / sample_rate))
    cents = 1200 * np.abs(np.log2(periods * sample_rate / (frequency * counts)))
    good = np.flatnonzero(cents < _IN_TUNE_CENTS)
    best = int(good[0]) if len(good) else int(cents.argmin())
    return int(periods[best]), int(counts[best])


@lru_cache(maxsize=8)
def _quick_sizes(least: int) -> NDArray[np.int64]:
    """Even sizes from ``least`` to twice as much that are quickly transformed: primes up to 7."""
    products = np.ones(1, np.int64)
    for prime in (2, 3, 5, 7):
        powers = prime ** np.arange(int(math.log(2 * least, prime)) + 1)
        products = np.multiply.outer(products, powers).ravel()
        products = products[products <= 2 * least]
    products = np.sort(products[products % 2 == 0])
    return products[products >= least]


def _swung(loop: Samples, cents: float, sample_rate: int) -> Samples:
    """The loop with vibrato: played a little ahead and behind in turn."""
    count = len(loop)
    swings = max(1, round(5.3 * count / sample_rate))
    reach = (2 ** (cents / 1200) - 1) * count / (2 * np.pi * swings)
    places = np.arange(count, dtype=np.float64)
    places += reach * (1 + np.sin((2 * np.pi * swings / count) * places))
    whole = places.astype(np.intp)
    part = (places - whole).astype(np.float32)
    longer = np.concatenate([loop, loop[: int(2 * reach) + 2]])
    here = longer[whole]
    swung: Samples = here + part * (longer[whole + 1] - here)
    return swung


# ---- drums


def _drum_tone(pitch: int, sample_rate: int) -> _Tone:
    """A drum: it rings for as long as it does, whenever the note ends."""
    drum = _DRUMS.get(pitch, _BLOCK_OF_WOOD)
    count = int(1.1 * drum.ring_s * sample_rate)
    fall = _falling(count, drum.ring_s, sample_rate)
    seconds = np.arange(count) / sample_rate
    tone = np.zeros(count)
    for frequency in drum.tones:
        if frequency < _BAND * sample_rate:
            # the tone sinks to its end within some hundredths of a second
            turns = frequency * (seconds + (drum.sink - 1) * 0.03 * (1 - np.exp(-seconds / 0.03)))
            tone += np.sin(2 * np.pi * turns) * (1 - drum.noise) / len(drum.tones)
    sound = tone.astype(np.float32)
    if drum.noise:
        noise = _noise(count, drum.band, sample_rate, pitch)
        sound += noise * np.float32(0.35 * drum.noise)
    sound *= fall * np.float32(drum.level)
    return _Tone(sound, False, False, _ramp(int(0.001 * sample_rate)), np.ones(count, np.float32))


def _falling(count: int, ring_s: float, sample_rate: int) -> Samples:
    """Gains that fall by 60 dB in ``ring_s`` seconds, and reach 0 at the end."""
    gains: Samples = np.exp(np.arange(count) * (-6.91 / (ring_s * sample_rate))).astype(np.float32)
    return gains - gains[-1] if count else gains


def _noise(count: int, band: tuple[float, float], sample_rate: int, seed: int) -> Samples:
    """Noise ``(count,)`` between two frequencies in Hz, of power 1."""
    size = 2 ** math.ceil(math.log2(max(count, 64)))
    low, high = (min(hz, _BAND * sample_rate) / sample_rate * size for hz in band)
    generator = np.random.default_rng([_SEED, seed])
    bins = np.arange(size // 2 + 1)
    shape = 1 / np.sqrt((1 + (low / np.maximum(bins, 1)) ** 6) * (1 + (bins / max(high, 1)) ** 8))
    shape[bins >= 2 * _BAND * (size // 2)] = 0
    drawn = generator.standard_normal((2, len(bins)), np.float32)
    noise = np.fft.irfft((shape * (drawn[0] + 1j * drawn[1])).astype(np.complex64), size)
    noise *= 1 / math.sqrt(float(np.square(noise).mean()) + 1e-20)
    result: Samples = noise[:count].astype(np.float32)
    return result


# ---- the room

_ROOM_S = 1.1  # the room falls by 60 dB in so many seconds
_ROOM_LEVEL = 0.16
_ROOM_FFT = 2**16


def _add_room(mix: Samples, sample_rate: int) -> None:
    """Add a soft reverberation to ``(2, samples)``.

    The room answers the sum of left and right with noise that dies away, other left than right.
    It has little treble, so that every second sample is enough for it.
    """
    answers = np.fft.rfft(_room(sample_rate / 2), _ROOM_FFT).astype(np.complex64)
    step = _ROOM_FFT - math.ceil(_ROOM_S * sample_rate / 2)  # samples of half the rate at a time
    ringing = np.zeros((2, _ROOM_FFT), np.float32)
    for start in range(0, mix.shape[1], 2 * step):
        dry = mix[:, start : start + 2 * step]
        mono = dry[0] + dry[1]
        halves = mono[: len(mono) // 2 * 2].reshape(-1, 2).sum(axis=1)
        wet = np.fft.irfft(np.fft.rfft(halves, _ROOM_FFT) * answers, _ROOM_FFT)
        ringing += wet.astype(np.float32, copy=False)
        count = len(mono) // 2
        here, after = ringing[:, :count], ringing[:, 1 : count + 1]
        dry[:, : 2 * count : 2] += here
        dry[:, 1 : 2 * count : 2] += 0.5 * (here + after)
        ringing = np.concatenate([ringing[:, step:], np.zeros((2, step), np.float32)], axis=1)


def _room(sample_rate: float) -> Samples:
    """What a room answers to a click, ``(2, samples)``."""
    count = math.ceil(_ROOM_S * sample_rate)
    late = int(0.012 * sample_rate)  # the walls are some metres away
    sides = [_noise(count, (150, 3500), int(sample_rate), seed) for seed in (1, 2)]
    answer: Samples = np.stack(sides) * _falling(count, _ROOM_S, int(sample_rate))
    answer[:, :late] = 0
    answer *= np.float32(_ROOM_LEVEL) / np.sqrt(np.square(answer).sum(axis=1, keepdims=True))
    return answer
