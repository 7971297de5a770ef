"""The built-in synthesiser, in NumPy.

Each different note is made once and added wherever it occurs. *Decaying* notes (piano, guitar,
bells) are sums of decaying partials; *sustained* notes (strings, winds, organ) are seamless loops,
drawn as a spectrum; *drums* are noise and sweeps. All are band-limited, and random numbers are
seeded by the note, so that equal scores give equal samples.
"""

from __future__ import annotations

import math
import tomllib
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.music.score import Score

Samples = NDArray[np.float32]

BAND = 0.45
"""The highest frequency of a partial, as a share of the sample rate."""

_HEADROOM = 0.4  # for several notes at a time
_VELOCITY_EXPONENT = 1.6
_SHADES = 8  # levels of brightness from soft to loud
_SHORTEST_S = 0.05  # shorter notes are lengthened
_LOOP_S, _WIDE_LOOP_S = 0.7, 1.4  # least length of a loop; of an ensemble
_IN_TUNE_CENTS = 0.2  # inaudible
_FAINT = 1e-4  # partials below this share of the loudest are omitted
_WIDE_CENTS = 5  # from this detuning on, left and right differ
_SEED = 20
_DB60 = 6.91  # a decay by 60 dB, as a natural logarithm
_ROOM_S = 1.1  # reverberation time
_ROOM_LEVEL = 0.16
_ROOM_BLOCK = 2**18  # samples of one transform, which bounds the memory


class Timbre(NamedTuple):
    """An instrument."""

    level: float  # amplitude at the greatest velocity
    slope: float  # partial k has amplitude k ** -slope,
    cutoff_hz: float  # attenuated above this frequency, which rises with the velocity
    attack_s: float = 0.003  # time to full loudness
    release_s: float = 0.12  # time from the end of the note to silence
    decay_s: float = 0.0  # in which middle C decays by 60 dB; 0 for sustained instruments
    even: float = 1.0  # amplitude of the even partials, relative to the odd
    inharmonicity: float = 0.0  # how far the partials of a stiff string are sharp
    ratios: tuple[float, ...] = ()  # of the partials of a bar or bell, which are not harmonic
    vibrato_cents: float = 0.0  # depth of the vibrato to either side
    spread_cents: float = 0.0  # detuning of the players of an ensemble
    breath: float = 0.0  # share of noise
    formants: tuple[float, ...] = ()  # resonances in Hz, as of a voice
    knock: float = 0.0  # amplitude of the noise of a hammer or a plectrum


class Drum(NamedTuple):
    """A drum: a tone that falls in pitch, and noise."""

    pitches: tuple[int, ...]  # the General MIDI pitches that play it
    level: float  # amplitude at the greatest velocity
    decay_s: float  # in which it decays by 60 dB
    tones: tuple[float, ...] = ()  # final frequencies of the tone in Hz; none for noise alone
    sweep: float = 1.0  # ratio of the initial to the final frequency
    noise: float = 0.0  # share of noise, 0 to 1
    band: tuple[float, float] = (200.0, 8000.0)  # of the noise, in Hz


_TABLES = tomllib.loads(files(__package__).joinpath("timbres.toml").read_text("utf-8"))
TIMBRES = {name: Timbre(**fields) for name, fields in _TABLES["timbres"].items()}
_DRUMS = {name: Drum(**fields) for name, fields in _TABLES["drums"].items()}
_DRUM_OF_PITCH = {pitch: drum for drum in _DRUMS.values() for pitch in drum.pitches}


def timbre_name(program: int) -> str:
    """The name in ``TIMBRES`` of a General MIDI program, 0 to 127."""
    name: str = max(run for run in _TABLES["programs"] if run[0] <= program)[1]
    return name


class _Tone(NamedTuple):
    """What the notes of one instrument, pitch and brightness are cut from.

    Args:
        samples: ``(n,)``, all there is, or a loop.
        attack, release: gains from the start, and from the end of the note.
        is_loop: whether it repeats.
        is_wide: whether left and right start at opposite positions of the loop.
    """

    samples: Samples
    attack: Samples
    release: Samples
    is_loop: bool = False
    is_wide: bool = False

    def add_to(self, mix: Samples, start: int, note_length: int, gains: Samples) -> None:
        """Add a note to ``(2, samples)``, with the gains of left and right."""
        length = min(note_length + len(self.release), mix.shape[1] - start)
        if not self.is_loop:
            length = min(length, len(self.samples))
        sound = self.samples[:length]
        for side, gain in enumerate(gains):
            if self.is_loop and (side == 0 or self.is_wide):
                # copies of one loop that start together would sound like one instrument
                offset = start * 7919 + side * (len(self.samples) // 2)
                rolled = np.roll(self.samples, -(offset % len(self.samples)))
                sound = np.resize(rolled, length)
            shaped = gain * sound
            shaped[: len(self.attack)] *= self.attack[:length]
            shaped[note_length:] *= self.release[: max(length - note_length, 0)]
            mix[side, start : start + length] += shaped


def synthesize(score: Score, sample_rate: int, samples: int) -> Samples:
    """Play a score in a small room, ``(2, samples)``; notes that last longer are cut."""
    notes = score.arrays
    starts = np.rint(score.seconds_at(notes.onset) * sample_rate).astype(int)
    ends = np.rint(score.seconds_at(notes.onset + notes.duration) * sample_rate).astype(int)
    lengths = np.maximum(ends - starts, int(_SHORTEST_S * sample_rate))
    # parts from left to right, drums centred; low notes lean to the left, as on a keyboard; the
    # power is the same at any angle
    pans = np.zeros(len(score.parts))
    pitched = [index for index, part in enumerate(score.parts) if not part.is_drum]
    if len(pitched) > 1:
        pans[pitched] = np.linspace(-0.5, 0.5, len(pitched))
    pan = pans[notes.part] + 0.25 * (notes.pitch - 64) / 64
    angle = np.pi / 4 * (1 + np.clip(pan, -0.85, 0.85))
    gain = _HEADROOM * (notes.velocity / 127) ** _VELOCITY_EXPONENT
    gains = (gain * [np.cos(angle), np.sin(angle)]).astype(np.float32)

    timbres = ["" if part.is_drum else timbre_name(part.program) for part in score.parts]
    groups: dict[tuple[str, int, int], list[int]] = {}
    for index, note in enumerate(score.notes):
        timbre = timbres[note.part]
        shade = note.velocity * _SHADES // 128 if timbre else 0
        groups.setdefault((timbre, note.pitch, shade), []).append(index)

    mix = np.zeros((2, samples), np.float32)
    for (timbre, pitch, shade), indices in groups.items():
        if timbre:
            brightness, longest = (shade + 0.5) / _SHADES, int(lengths[indices].max())
            tone = _instrument_tone(TIMBRES[timbre], pitch, brightness, sample_rate, longest)
        else:
            tone = _drum_tone(pitch, sample_rate)
        for index in indices:
            tone.add_to(mix, int(starts[index]), int(lengths[index]), gains[:, index])
    _add_room(mix, sample_rate)
    return mix


def ramp(samples: int) -> Samples:
    """A raised cosine from just above 0 to 1."""
    phase = (np.arange(samples) + 0.5) / max(samples, 1)
    return np.square(np.sin(np.pi / 2 * phase)).astype(np.float32)


def _instrument_tone(
    timbre: Timbre, pitch: int, brightness: float, sample_rate: int, longest: int
) -> _Tone:
    """The tone of notes that last up to ``longest`` samples; brightness is 0 to 1."""
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    release = ramp(int(timbre.release_s * sample_rate))[::-1]
    attack = ramp(int(timbre.attack_s * sample_rate))
    is_loop = timbre.decay_s == 0
    if is_loop:
        samples = _sustained(timbre, frequency, brightness, sample_rate)
    else:
        samples = _decaying(timbre, frequency, brightness, sample_rate, longest + len(release))
    # high notes sound louder at equal power
    samples *= np.float32(timbre.level * min(1.2, (440 / frequency) ** 0.15))
    return _Tone(samples, attack, release, is_loop, timbre.spread_cents > _WIDE_CENTS)


def _partials(
    timbre: Timbre, frequency: float, brightness: float, sample_rate: int, count: int
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
    cutoff = timbre.cutoff_hz * 4 ** (brightness - 0.6) + frequency
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
    timbre: Timbre, frequency: float, brightness: float, sample_rate: int, longest: int
) -> Samples:
    """``(n,)``, at most ``longest``: decaying partials, until they are inaudible."""
    frequencies, amplitudes = _partials(timbre, frequency, brightness, sample_rate, 28)
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
        hiss = _noise(length, (120, 2500 * (0.4 + brightness)), sample_rate, round(frequency))
        tone[:length] += hiss * _decay(length, 0.03, sample_rate) * np.float32(timbre.knock)
    closing = min(count, int(0.01 * sample_rate))
    tone[count - closing :] *= ramp(closing)[::-1]
    return tone * np.float32(1.4)  # the mean power of a sine is a half


def _sustained(timbre: Timbre, frequency: float, brightness: float, sample_rate: int) -> Samples:
    """A loop ``(n,)`` that holds a whole number of periods of the fundamental."""
    seconds = _WIDE_LOOP_S if timbre.spread_cents > _WIDE_CENTS else _LOOP_S
    # the first number of periods at which whole samples are in tune, or the best of all
    all_periods = np.arange(math.ceil(frequency * seconds), math.ceil(2 * frequency * seconds) + 1)
    counts = 2 * np.rint(all_periods * sample_rate / frequency / 2)
    cents = 1200 * np.abs(np.log2(all_periods * sample_rate / (frequency * counts)))
    in_tune = np.flatnonzero(cents < _IN_TUNE_CENTS)
    best = int(in_tune[0]) if len(in_tune) else int(cents.argmin())
    periods, count = int(all_periods[best]), int(counts[best])
    frequencies, amplitudes = _partials(timbre, frequency, brightness, sample_rate, 80)
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
        breath = random.standard_normal((2, high - low), np.float32)
        breath *= np.sqrt(low / np.arange(low, high)) * (timbre.breath / math.sqrt(high - low))
        spectrum[low:high] += breath[0] + 1j * breath[1]
    loop = np.fft.irfft(spectrum, count).astype(np.float32) * np.float32(count / math.sqrt(2))
    if not timbre.vibrato_cents:
        return loop
    # vibrato: read the loop a little ahead and behind in turn
    cycles = max(1, round(5.3 * count / sample_rate))
    depth = (2 ** (timbre.vibrato_cents / 1200) - 1) * count / (2 * np.pi * cycles)  # samples
    times = np.arange(count) + depth * np.sin((2 * np.pi * cycles / count) * np.arange(count))
    bent: Samples = np.interp(times, np.arange(count), loop, period=count).astype(np.float32)
    return bent


def _drum_tone(pitch: int, sample_rate: int) -> _Tone:
    """A drum: it rings for the same time, whenever the note ends."""
    drum = _DRUM_OF_PITCH.get(pitch, _DRUMS["wood_block"])
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
        sound += _noise(count, drum.band, sample_rate, pitch) * np.float32(0.35 * drum.noise)
    sound *= _decay(count, drum.decay_s, sample_rate) * np.float32(drum.level)
    return _Tone(sound, ramp(int(0.001 * sample_rate)), np.ones(count, np.float32))


def _decay(count: int, decay_s: float, sample_rate: int) -> Samples:
    """Gains that fall by 60 dB in ``decay_s`` seconds, and reach 0 at the end."""
    gains: Samples = np.exp(np.arange(count) * (-_DB60 / (decay_s * sample_rate))).astype("f4")
    return gains - gains[-1] if count else gains


def _noise(count: int, band: tuple[float, float], sample_rate: int, seed: int) -> Samples:
    """Noise ``(count,)`` between two frequencies in Hz, of power 1."""
    size = 2 ** math.ceil(math.log2(max(count, 64)))
    low, high = (min(hz, BAND * sample_rate) / sample_rate * size for hz in band)
    bins = np.arange(size // 2 + 1)
    shape = 1 / np.sqrt((1 + (low / np.maximum(bins, 1)) ** 6) * (1 + (bins / max(high, 1)) ** 8))
    shape[bins >= 2 * BAND * (size // 2)] = 0
    drawn = np.random.default_rng([_SEED, seed]).standard_normal((2, len(bins)), np.float32)
    noise = np.fft.irfft((shape * (drawn[0] + 1j * drawn[1])).astype(np.complex64), size)
    noise *= 1 / math.sqrt(float(np.square(noise).mean()) + 1e-20)
    return noise[:count].astype(np.float32)


def _add_room(mix: Samples, sample_rate: int) -> None:
    """Add a soft reverberation to ``(2, samples)``, in place.

    The impulse responses of left and right are different decaying noise, applied to the sum of
    both channels. They have little treble, so half the sample rate is enough.
    """
    half_rate = sample_rate // 2
    length = math.ceil(_ROOM_S * sample_rate / 2)
    response = np.stack([_noise(length, (150, 3500), half_rate, seed) for seed in (1, 2)])
    response *= _decay(length, _ROOM_S, half_rate)
    response[:, : int(0.012 * half_rate)] = 0  # the walls are some metres away
    response *= np.float32(_ROOM_LEVEL) / np.sqrt(np.square(response).sum(axis=1, keepdims=True))
    count = mix.shape[1] // 2
    halved = mix[:, : 2 * count].reshape(2, count, 2).sum(axis=(0, 2), dtype=np.float32)
    spectrum = np.fft.rfft(response, _ROOM_BLOCK)
    step = _ROOM_BLOCK - length + 1  # the rest is for the echo
    for start in range(0, count, step):
        dry = np.fft.rfft(halved[start : start + step], _ROOM_BLOCK)
        wet = np.fft.irfft(dry * spectrum, _ROOM_BLOCK)
        stop = min(start + wet.shape[1] - 1, count)
        now, later = wet[:, : stop - start], wet[:, 1 : stop - start + 1]
        mix[:, 2 * start : 2 * stop : 2] += now
        mix[:, 2 * start + 1 : 2 * stop : 2] += 0.5 * (now + later)
