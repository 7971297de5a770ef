"""The sound of a score: a synthesiser in NumPy.

Each different note is made once and added wherever it occurs. *Decaying* notes (piano, guitar,
bells) are sums of decaying partials; *sustained* notes (strings, winds, organ) are seamless loops,
drawn as a spectrum; *drums* are noise and sweeps. All are band-limited, and random numbers are
seeded by the note, so that equal scores give equal samples.
"""

from __future__ import annotations

import math
import os
import wave
from typing import NamedTuple

import numpy as np

from deepmusic.errors import ScoreError
from deepmusic.files import write_atomically
from deepmusic.music.score import Score
from deepmusic.music.soundfont import TAIL_S, checked_soundfont, play_soundfont
from deepmusic.music.timbres import TIMBRES, timbre_name
from deepmusic.music.tones import Samples, Tone, decay, drum_tone, instrument_tone, noise, ramp

LONGEST_S = 3 * 3600.0
"""Longer scores are refused; at 44,100 Hz a minute of sound takes 21 MB, and this 3.8 GB."""

SAMPLE_RATES = (8_000, 192_000)
"""The lowest and the highest sample rate."""

_FADE_S = 0.4  # fade-out at the end of the tail
_PEAK = 0.98  # louder sound is turned down as a whole
_HEADROOM = 0.4  # for several notes at a time
_VELOCITY_EXPONENT = 1.6
_SHADES = 8  # levels of brightness from soft to loud
_SHORTEST_S = 0.05  # shorter notes are lengthened


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
    if font is None:
        mix = _mix_notes(score, sample_rate)
        _add_room(mix, sample_rate)
    else:
        mix = play_soundfont(score, sample_rate, font)
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
    """Write the sound of a score as a 16-bit stereo WAV file, atomically; arguments as `render`.

    Raises:
        ScoreError: the score is ``too_long``.
        DeepMusicError: the SoundFont is missing or damaged, or the file cannot be written.
        ValueError: the sample rate is out of range.
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


class _Event(NamedTuple):
    """A note: its first sample, its length in samples, and its gains left and right."""

    start: int
    length: int
    gains: tuple[float, float]


def _mix_notes(score: Score, sample_rate: int) -> Samples:
    """``(2, samples)``: all notes of a score, dry."""
    mix = np.zeros((2, math.ceil((score.seconds + TAIL_S) * sample_rate)), np.float32)
    for (name, pitch, shade), events in _events(score, sample_rate).items():
        if name == "drum":
            tone = drum_tone(pitch, sample_rate)
        else:
            longest = max(event.length for event in events)
            tone = instrument_tone(
                TIMBRES[name], pitch, (shade + 0.5) / _SHADES, sample_rate, longest
            )
        for event in events:
            _add(mix, tone, event)
    return mix


def _events(score: Score, sample_rate: int) -> dict[tuple[str, int, int], list[_Event]]:
    """The notes by instrument, pitch and brightness."""
    notes = score.arrays
    starts = np.rint(score.seconds_at(notes.onset) * sample_rate).astype(int)
    ends = np.rint(score.seconds_at(notes.onset + notes.duration) * sample_rate).astype(int)
    lengths = np.maximum(ends - starts, int(_SHORTEST_S * sample_rate))
    names = ["drum" if part.is_drum else timbre_name(part.program) for part in score.parts]
    pans = _pans(score)
    events: dict[tuple[str, int, int], list[_Event]] = {}
    for note, start, length in zip(score.notes, starts.tolist(), lengths.tolist(), strict=True):
        name = names[note.part]
        shade = 0 if name == "drum" else note.velocity * _SHADES // 128
        # low notes lean to the left, as on a keyboard; the power is the same at any angle
        pan = pans[note.part] + 0.25 * (note.pitch - 64) / 64
        angle = (np.pi / 4) * (1 + max(-0.85, min(0.85, pan)))
        gain = _HEADROOM * (note.velocity / 127) ** _VELOCITY_EXPONENT
        event = _Event(start, length, (gain * math.cos(angle), gain * math.sin(angle)))
        events.setdefault((name, note.pitch, shade), []).append(event)
    return events


def _pans(score: Score) -> list[float]:
    """The position of each part, -1 (left) to 1: in order from the left, drums centred."""
    pitched = [index for index, part in enumerate(score.parts) if not part.is_drum]
    pans = [0.0] * len(score.parts)
    if len(pitched) > 1:
        for order, index in enumerate(pitched):
            pans[index] = order / (len(pitched) - 1) - 0.5
    return pans


def _add(mix: Samples, tone: Tone, event: _Event) -> None:
    """Add one note to ``(2, samples)``."""
    length = min(event.length + len(tone.release), mix.shape[1] - event.start)
    if not tone.is_loop:
        length = min(length, len(tone.samples))
    # copies of one loop that start together would sound like one instrument
    offset = event.start * 7919
    left = _shaped(tone, offset, event.length, length)
    is_wide = tone.is_wide
    right = (
        _shaped(tone, offset + len(tone.samples) // 2, event.length, length) if is_wide else left
    )
    target = mix[:, event.start : event.start + length]
    target[0] += np.float32(event.gains[0]) * left
    target[1] += np.float32(event.gains[1]) * right


def _shaped(tone: Tone, offset: int, note_length: int, length: int) -> Samples:
    """``length`` samples of a tone with attack and release."""
    samples = tone.cut(offset, length)
    samples[: len(tone.attack)] *= tone.attack[:length]
    samples[note_length:] *= tone.release[: max(length - note_length, 0)]
    return samples


# ---- the room

_ROOM_S = 1.1  # reverberation time
_ROOM_LEVEL = 0.16
_ROOM_FFT = 2**16


def _add_room(mix: Samples, sample_rate: int) -> None:
    """Add a soft reverberation to ``(2, samples)``, in place.

    The impulse responses of left and right are different decaying noise, applied to the sum of
    both channels by overlap-add. They have little treble, so half the sample rate is enough.
    """
    response = np.fft.rfft(_impulse_response(sample_rate / 2), _ROOM_FFT).astype(np.complex64)
    hop = _ROOM_FFT - math.ceil(_ROOM_S * sample_rate / 2)
    wet = np.zeros((2, _ROOM_FFT), np.float32)
    for start in range(0, mix.shape[1], 2 * hop):
        dry = mix[:, start : start + 2 * hop]
        mono = dry[0] + dry[1]
        halved = mono[: len(mono) // 2 * 2].reshape(-1, 2).sum(axis=1)
        wet += np.fft.irfft(np.fft.rfft(halved, _ROOM_FFT) * response, _ROOM_FFT).astype("f4")
        count = len(halved)
        here, after = wet[:, :count], wet[:, 1 : count + 1]
        dry[:, : 2 * count : 2] += here
        dry[:, 1 : 2 * count : 2] += 0.5 * (here + after)
        wet = np.concatenate([wet[:, hop:], np.zeros((2, hop), np.float32)], axis=1)


def _impulse_response(sample_rate: float) -> Samples:
    """The impulse response of the room, ``(2, samples)``."""
    count = math.ceil(_ROOM_S * sample_rate)
    sides = [noise(count, (150, 3500), int(sample_rate), seed) for seed in (1, 2)]
    response: Samples = np.stack(sides) * decay(count, _ROOM_S, int(sample_rate))
    response[:, : int(0.012 * sample_rate)] = 0  # the walls are some metres away
    response *= np.float32(_ROOM_LEVEL) / np.sqrt(np.square(response).sum(axis=1, keepdims=True))
    return response
