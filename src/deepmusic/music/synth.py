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
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import ScoreError
from deepmusic.files import write_atomically
from deepmusic.music.score import Score
from deepmusic.music.soundfont import TAIL_S, checked_soundfont, play_soundfont
from deepmusic.music.timbres import DRUMS, OTHER_DRUM, TIMBRES, Timbre, timbre_name

Samples = NDArray[np.float32]

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
_BAND = 0.45  # of the sample rate: the highest frequency of a partial
_LOOP_S, _WIDE_LOOP_S = 0.7, 1.4  # least length of a loop; of an ensemble
_IN_TUNE_CENTS = 0.2  # inaudible
_FAINT = 1e-4  # partials below this share of the loudest are omitted
_WIDE_CENTS = 5  # from this detuning on, left and right differ
_SEED = 20
_DB60 = 6.91  # a decay by 60 dB, as a natural logarithm


def render(
    score: Score, *, sample_rate: int = 44100, soundfont: str | os.PathLike[str] | None = None
) -> Samples:
    """Render a score as sound.

    Without a SoundFont a built-in synthesiser plays it. Loudness follows the velocities: nothing
    is normalised, except that sound which would clip is turned down as a whole.

    Args:
        score: of at most three hours.
        sample_rate: in Hz, 8,000 to 192,000.
        soundfont: an ``.sf2`` or ``.sf3`` file to play it with; see :func:`find_soundfont`.

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
    fade = _ramp(int(_FADE_S * sample_rate))[::-1]
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


class _Tone(NamedTuple):
    """What notes of one kind are cut from.

    Args:
        samples: ``(n,)``, all there is, or a loop.
        is_loop: whether it repeats.
        is_wide: whether left and right start at different positions of the loop.
        attack, release: gains from the start, and from the end of the note.
    """

    samples: Samples
    is_loop: bool
    is_wide: bool
    attack: Samples
    release: Samples

    def cut(self, start: int, length: int) -> Samples:
        """A copy of ``length`` samples from a position."""
        if not self.is_loop:
            return self.samples[:length].copy()
        return np.resize(np.roll(self.samples, -(start % len(self.samples))), length)


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
            tone = _drum(pitch, sample_rate)
        else:
            longest = max(event.length for event in events)
            tone = _tone(TIMBRES[name], pitch, (shade + 0.5) / _SHADES, sample_rate, longest)
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


def _add(mix: Samples, tone: _Tone, event: _Event) -> None:
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


def _shaped(tone: _Tone, offset: int, note_length: int, length: int) -> Samples:
    """``length`` samples of a tone with attack and release."""
    samples = tone.cut(offset, length)
    samples[: len(tone.attack)] *= tone.attack[:length]
    samples[note_length:] *= tone.release[: max(length - note_length, 0)]
    return samples


@lru_cache(maxsize=64)
def _ramp(samples: int) -> Samples:
    """A raised cosine from just above 0 to 1; read-only."""
    phase = (np.arange(samples) + 0.5) / max(samples, 1)
    ramp: Samples = np.square(np.sin(np.pi / 2 * phase)).astype(np.float32)
    ramp.setflags(write=False)
    return ramp


# ---- instruments


def _tone(timbre: Timbre, pitch: int, shade: float, sample_rate: int, longest: int) -> _Tone:
    """The notes of one instrument, pitch and brightness, lasting up to ``longest`` samples."""
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    release = _ramp(int(timbre.release_s * sample_rate))[::-1]
    attack = _ramp(int(timbre.attack_s * sample_rate))
    if timbre.decay_s:
        samples = _decaying(timbre, frequency, shade, sample_rate, longest + len(release))
    else:
        samples = _sustained(timbre, frequency, shade, sample_rate)
    # high notes sound louder at equal power
    samples *= np.float32(timbre.level * min(1.2, (440 / frequency) ** 0.15))
    return _Tone(samples, timbre.decay_s == 0, timbre.spread_cents > _WIDE_CENTS, attack, release)


def _partials(
    timbre: Timbre, frequency: float, shade: float, sample_rate: int, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies in Hz and amplitudes of the partials below the band limit, of total power 1.

    The very highest notes keep their fundamental alone, or not even that.
    """
    order = np.arange(1, count + 1, dtype=np.float64)
    if timbre.ratios:
        order = order[: len(timbre.ratios)]
        frequencies = frequency * np.array(timbre.ratios)
    else:
        frequencies = frequency * order * np.sqrt(1 + timbre.inharmonicity * (order**2 - 1))
    is_below = frequencies < _BAND * sample_rate
    order, frequencies = order[is_below], frequencies[is_below]
    amplitudes = order**-timbre.slope
    amplitudes[1::2] *= timbre.even
    # the cutoff rises by two octaves from the softest to the loudest
    cutoff = timbre.cutoff_hz * 4 ** (shade - 0.6) + frequency
    amplitudes /= 1 + (frequencies / cutoff) ** 2
    if timbre.formants:
        resonances = sum(
            np.exp(-0.5 * (np.log2(frequencies / formant) / 0.22) ** 2) / number
            for number, formant in enumerate(timbre.formants, start=1)
        )
        amplitudes *= 0.12 + resonances
    is_audible = amplitudes > _FAINT * amplitudes.max(initial=0)
    frequencies, amplitudes = frequencies[is_audible], amplitudes[is_audible]
    power = float(np.square(amplitudes).sum())
    return frequencies, amplitudes / math.sqrt(power) if power else amplitudes


def _decaying(
    timbre: Timbre, frequency: float, shade: float, sample_rate: int, longest: int
) -> Samples:
    """``(n,)``, at most ``longest``: decaying partials, until they are inaudible."""
    frequencies, amplitudes = _partials(timbre, frequency, shade, sample_rate, 28)
    # high notes and high partials decay faster; a string first decays fast and then slowly
    decay_s = timbre.decay_s * (261.6 / frequency) ** 0.6
    decay_s = min(max(decay_s, 0.25), 2 * timbre.decay_s)
    rates = _DB60 / decay_s * (1 + 0.22 * np.sqrt(np.arange(len(frequencies))))
    count = min(longest, math.ceil(1.1 * decay_s * sample_rate))
    phases = np.tile(np.pi * np.arange(len(frequencies)) ** 2 / 9, 2)  # keeps peaks low
    amplitudes = np.concatenate([0.6 * amplitudes, 0.4 * amplitudes])
    turns = 2j * np.pi * np.concatenate([frequencies, frequencies * 1.0004])
    turns = (turns - np.concatenate([3.0 * rates, rates])) / sample_rate
    # With time split into rows and columns each sine is an outer product of two short
    # exponentials, and their sum one matrix product: many times faster than adding sines.
    columns = max(1, math.isqrt(count))
    near = np.exp(np.outer(turns, np.arange(columns)) + 1j * phases[:, None]) * amplitudes[:, None]
    far = np.exp(np.outer(np.arange(-(-count // columns)) * columns, turns))
    left = np.concatenate([far.real, far.imag], axis=1).astype(np.float32)
    right = np.concatenate([near.imag, near.real], axis=0).astype(np.float32)
    tone: Samples = (left @ right).ravel()[:count]
    if timbre.knock:
        length = min(count, int(0.03 * sample_rate))
        noise = _noise(length, (120, 2500 * (0.4 + shade)), sample_rate, round(frequency))
        tone[:length] += noise * _decay(length, 0.03, sample_rate) * np.float32(timbre.knock)
    closing = min(count, int(0.01 * sample_rate))
    tone[count - closing :] *= _ramp(closing)[::-1]
    return tone * np.float32(1.4)  # the mean power of a sine is a half


def _sustained(timbre: Timbre, frequency: float, shade: float, sample_rate: int) -> Samples:
    """A loop ``(n,)`` that holds a whole number of periods of the fundamental."""
    seconds = _WIDE_LOOP_S if timbre.spread_cents > _WIDE_CENTS else _LOOP_S
    # the first number of periods at which whole samples are in tune, or the best of all
    all_periods = np.arange(math.ceil(frequency * seconds), math.ceil(2 * frequency * seconds) + 1)
    counts = 2 * np.rint(all_periods * sample_rate / frequency / 2)
    cents = 1200 * np.abs(np.log2(all_periods * sample_rate / (frequency * counts)))
    in_tune = np.flatnonzero(cents < _IN_TUNE_CENTS)
    best = int(in_tune[0]) if len(in_tune) else int(cents.argmin())
    periods, count = int(all_periods[best]), int(counts[best])
    frequencies, amplitudes = _partials(timbre, frequency, shade, sample_rate, 80)
    centres = np.rint(frequencies / frequency).astype(np.int64) * periods
    random = np.random.default_rng([_SEED, periods, len(centres)])
    spectrum = np.zeros(count // 2 + 1, np.complex64)
    if timbre.spread_cents:
        # each partial of many players is a bell of random phases around its bin
        for centre, amplitude in zip(centres.tolist(), amplitudes.tolist(), strict=True):
            width = centre * (2 ** (timbre.spread_cents / 1200) - 1)
            reach = min(math.ceil(2.5 * width), centre - 1, len(spectrum) - 1 - centre)
            bell = np.exp((-0.5 / width**2) * np.arange(-reach, reach + 1) ** 2)
            bell *= amplitude / math.sqrt(float(bell @ bell))
            phases = np.exp(2j * np.pi * random.random(len(bell)))
            spectrum[centre - reach : centre + reach + 1] += bell * phases
    else:
        spectrum[centres] = amplitudes * np.exp(2j * np.pi * random.random(len(centres)))
    if timbre.breath:
        low, high = (int(hz / sample_rate * count) for hz in (300, min(7000, _BAND * sample_rate)))
        noise = random.standard_normal((2, high - low), np.float32)
        noise *= np.sqrt(low / np.arange(low, high)) * (timbre.breath / math.sqrt(high - low))
        spectrum[low:high] += noise[0] + 1j * noise[1]
    loop = np.fft.irfft(spectrum, count).astype(np.float32) * np.float32(count / math.sqrt(2))
    if not timbre.vibrato_cents:
        return loop
    # vibrato: read the loop a little ahead and behind in turn
    cycles = max(1, round(5.3 * count / sample_rate))
    reach_s = (2 ** (timbre.vibrato_cents / 1200) - 1) * count / (2 * np.pi * cycles)
    times = np.arange(count) + reach_s * np.sin((2 * np.pi * cycles / count) * np.arange(count))
    bent: Samples = np.interp(times, np.arange(count), loop, period=count).astype(np.float32)
    return bent


def _drum(pitch: int, sample_rate: int) -> _Tone:
    """A drum: it rings for the same time, whenever the note ends."""
    drum = DRUMS.get(pitch, OTHER_DRUM)
    count = int(1.1 * drum.decay_s * sample_rate)
    seconds = np.arange(count) / sample_rate
    sound = np.zeros(count, np.float32)
    for frequency in drum.tones:
        if frequency < _BAND * sample_rate:
            # the pitch falls within some hundredths of a second
            turns = frequency * (seconds + (drum.sweep - 1) * 0.03 * (1 - np.exp(-seconds / 0.03)))
            gain = (1 - drum.noise) / len(drum.tones)
            sound += (np.sin(2 * np.pi * turns) * gain).astype(np.float32)
    if drum.noise:
        noise = _noise(count, drum.band, sample_rate, pitch)
        sound += noise * np.float32(0.35 * drum.noise)
    sound *= _decay(count, drum.decay_s, sample_rate) * np.float32(drum.level)
    return _Tone(sound, False, False, _ramp(int(0.001 * sample_rate)), np.ones(count, np.float32))


def _decay(count: int, decay_s: float, sample_rate: int) -> Samples:
    """Gains that fall by 60 dB in ``decay_s`` seconds, and reach 0 at the end."""
    gains: Samples = np.exp(np.arange(count) * (-_DB60 / (decay_s * sample_rate))).astype("f4")
    return gains - gains[-1] if count else gains


def _noise(count: int, band: tuple[float, float], sample_rate: int, seed: int) -> Samples:
    """Noise ``(count,)`` between two frequencies in Hz, of power 1."""
    size = 2 ** math.ceil(math.log2(max(count, 64)))
    low, high = (min(hz, _BAND * sample_rate) / sample_rate * size for hz in band)
    bins = np.arange(size // 2 + 1)
    shape = 1 / np.sqrt((1 + (low / np.maximum(bins, 1)) ** 6) * (1 + (bins / max(high, 1)) ** 8))
    shape[bins >= 2 * _BAND * (size // 2)] = 0
    drawn = np.random.default_rng([_SEED, seed]).standard_normal((2, len(bins)), np.float32)
    noise = np.fft.irfft((shape * (drawn[0] + 1j * drawn[1])).astype(np.complex64), size)
    noise *= 1 / math.sqrt(float(np.square(noise).mean()) + 1e-20)
    result: Samples = noise[:count].astype(np.float32)
    return result


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
    sides = [_noise(count, (150, 3500), int(sample_rate), seed) for seed in (1, 2)]
    response: Samples = np.stack(sides) * _decay(count, _ROOM_S, int(sample_rate))
    response[:, : int(0.012 * sample_rate)] = 0  # the walls are some metres away
    response *= np.float32(_ROOM_LEVEL) / np.sqrt(np.square(response).sum(axis=1, keepdims=True))
    return response
