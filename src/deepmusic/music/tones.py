"""The tones that the synthesiser plays: decaying partials, loops, and drums."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.music.timbres import DRUMS, OTHER_DRUM, Timbre

Samples = NDArray[np.float32]

BAND = 0.45
"""The highest frequency of a partial, as a share of the sample rate."""

_LOOP_S, _WIDE_LOOP_S = 0.7, 1.4  # least length of a loop; of an ensemble
_IN_TUNE_CENTS = 0.2  # inaudible
_FAINT = 1e-4  # partials below this share of the loudest are omitted
_WIDE_CENTS = 5  # from this detuning on, left and right differ
_SEED = 20
_DB60 = 6.91  # a decay by 60 dB, as a natural logarithm


class Tone(NamedTuple):
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


@lru_cache(maxsize=64)
def ramp(samples: int) -> Samples:
    """A raised cosine from just above 0 to 1; read-only."""
    phase = (np.arange(samples) + 0.5) / max(samples, 1)
    ramp: Samples = np.square(np.sin(np.pi / 2 * phase)).astype(np.float32)
    ramp.setflags(write=False)
    return ramp


def instrument_tone(
    timbre: Timbre, pitch: int, shade: float, sample_rate: int, longest: int
) -> Tone:
    """The notes of one instrument, pitch and brightness, lasting up to ``longest`` samples."""
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    release = ramp(int(timbre.release_s * sample_rate))[::-1]
    attack = ramp(int(timbre.attack_s * sample_rate))
    if timbre.decay_s:
        samples = _decaying(timbre, frequency, shade, sample_rate, longest + len(release))
    else:
        samples = _sustained(timbre, frequency, shade, sample_rate)
    # high notes sound louder at equal power
    samples *= np.float32(timbre.level * min(1.2, (440 / frequency) ** 0.15))
    return Tone(samples, timbre.decay_s == 0, timbre.spread_cents > _WIDE_CENTS, attack, release)


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
    is_below = frequencies < BAND * sample_rate
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
        hiss = noise(length, (120, 2500 * (0.4 + shade)), sample_rate, round(frequency))
        tone[:length] += hiss * decay(length, 0.03, sample_rate) * np.float32(timbre.knock)
    closing = min(count, int(0.01 * sample_rate))
    tone[count - closing :] *= ramp(closing)[::-1]
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
        low, high = (int(hz / sample_rate * count) for hz in (300, min(7000, BAND * sample_rate)))
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


def drum_tone(pitch: int, sample_rate: int) -> Tone:
    """A drum: it rings for the same time, whenever the note ends."""
    drum = DRUMS.get(pitch, OTHER_DRUM)
    count = int(1.1 * drum.decay_s * sample_rate)
    seconds = np.arange(count) / sample_rate
    sound = np.zeros(count, np.float32)
    for frequency in drum.tones:
        if frequency < BAND * sample_rate:
            # the pitch falls within some hundredths of a second
            turns = frequency * (seconds + (drum.sweep - 1) * 0.03 * (1 - np.exp(-seconds / 0.03)))
            gain = (1 - drum.noise) / len(drum.tones)
            sound += (np.sin(2 * np.pi * turns) * gain).astype(np.float32)
    if drum.noise:
        hiss = noise(count, drum.band, sample_rate, pitch)
        sound += hiss * np.float32(0.35 * drum.noise)
    sound *= decay(count, drum.decay_s, sample_rate) * np.float32(drum.level)
    return Tone(sound, False, False, ramp(int(0.001 * sample_rate)), np.ones(count, np.float32))


def decay(count: int, decay_s: float, sample_rate: int) -> Samples:
    """Gains that fall by 60 dB in ``decay_s`` seconds, and reach 0 at the end."""
    gains: Samples = np.exp(np.arange(count) * (-_DB60 / (decay_s * sample_rate))).astype("f4")
    return gains - gains[-1] if count else gains


def noise(count: int, band: tuple[float, float], sample_rate: int, seed: int) -> Samples:
    """Noise ``(count,)`` between two frequencies in Hz, of power 1."""
    size = 2 ** math.ceil(math.log2(max(count, 64)))
    low, high = (min(hz, BAND * sample_rate) / sample_rate * size for hz in band)
    bins = np.arange(size // 2 + 1)
    shape = 1 / np.sqrt((1 + (low / np.maximum(bins, 1)) ** 6) * (1 + (bins / max(high, 1)) ** 8))
    shape[bins >= 2 * BAND * (size // 2)] = 0
    drawn = np.random.default_rng([_SEED, seed]).standard_normal((2, len(bins)), np.float32)
    noise = np.fft.irfft((shape * (drawn[0] + 1j * drawn[1])).astype(np.complex64), size)
    noise *= 1 / math.sqrt(float(np.square(noise).mean()) + 1e-20)
    result: Samples = noise[:count].astype(np.float32)
    return result
