"""The instruments and drums of the built-in synthesiser, by General MIDI numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timbre:
    """An instrument.

    Args:
        level: amplitude at the greatest velocity.
        slope: partial k has amplitude ``k ** -slope``,
        cutoff_hz: attenuated above this frequency, which rises with the velocity.
        attack_s, release_s: time to full loudness, and from the end of the note to silence.
        decay_s: time in which middle C decays by 60 dB; 0 for sustained instruments.
        even: amplitude of the even partials, relative to the odd.
        inharmonicity: how far the partials of a stiff string are sharp.
        ratios: frequencies of the partials of a bar or bell, which are not harmonic.
        vibrato_cents: depth of the vibrato to either side.
        spread_cents: detuning of the players of an ensemble.
        breath: share of noise.
        formants: resonances in Hz, as of a voice.
        knock: amplitude of the noise of a hammer or a plectrum.
    """

    level: float
    slope: float
    cutoff_hz: float
    attack_s: float = 0.003
    release_s: float = 0.12
    decay_s: float = 0.0
    even: float = 1.0
    inharmonicity: float = 0.0
    ratios: tuple[float, ...] = ()
    vibrato_cents: float = 0.0
    spread_cents: float = 0.0
    breath: float = 0.0
    formants: tuple[float, ...] = ()
    knock: float = 0.0


_BAR = (1.0, 3.93, 9.2)
_BELL = (1.0, 2.76, 5.4, 8.93)

TIMBRES = {
    "piano": Timbre(0.50, 1.1, 2400, decay_s=9, inharmonicity=4e-4, release_s=0.18, knock=0.05),
    "harpsichord": Timbre(0.34, 0.6, 5000, 0.001, decay_s=5, inharmonicity=1e-4, knock=0.06),
    "bells": Timbre(0.36, 1.0, 6000, 0.002, 1.2, decay_s=4, ratios=_BELL, knock=0.03),
    "bars": Timbre(0.46, 1.6, 3000, 0.002, 0.5, decay_s=1.6, ratios=_BAR, knock=0.04),
    "organ": Timbre(0.22, 0.8, 3200, 0.02, 0.09, spread_cents=0.8),
    "guitar": Timbre(0.46, 1.0, 2600, 0.002, 0.14, decay_s=4.5, inharmonicity=8e-5, knock=0.06),
    "bass": Timbre(0.60, 1.3, 1100, 0.004, 0.12, decay_s=6, inharmonicity=5e-5, knock=0.03),
    "harp": Timbre(0.46, 1.4, 2200, 0.002, 0.7, decay_s=4, knock=0.03),
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
    """The name in ``TIMBRES`` of a General MIDI program, 0 to 127."""
    return _PROGRAMS[max(first for first in _PROGRAMS if first <= program)]


@dataclass(frozen=True, slots=True)
class Drum:
    """A drum: a tone that falls in pitch, and noise.

    Args:
        level: amplitude at the greatest velocity.
        decay_s: time in which it decays by 60 dB.
        tones: final frequencies of the tone in Hz; none for noise alone.
        sweep: ratio of the initial to the final frequency.
        noise: share of noise, 0 to 1.
        band: lowest and highest frequency of the noise in Hz.
    """

    level: float
    decay_s: float
    tones: tuple[float, ...] = ()
    sweep: float = 1.0
    noise: float = 0.0
    band: tuple[float, float] = (200.0, 8000.0)


_KICK = Drum(0.9, 0.45, (48,), sweep=3.2, noise=0.05, band=(1000, 5000))
_SNARE = Drum(0.55, 0.32, (185, 330), sweep=1.2, noise=0.75, band=(900, 9000))
_STICK = Drum(0.4, 0.09, (820, 1710), noise=0.3, band=(1500, 8000))
_CLAP = Drum(0.5, 0.25, noise=1, band=(800, 5000))
_HAT = Drum(0.3, 0.11, noise=1, band=(6500, 15000))
_OPEN_HAT = Drum(0.3, 0.9, noise=1, band=(6000, 15000))
_CRASH = Drum(0.38, 2.4, (417, 623), noise=0.95, band=(2500, 14000))
_RIDE = Drum(0.3, 1.6, (3120, 4470), noise=0.6, band=(4500, 14000))
OTHER_DRUM = _WOODBLOCK = Drum(0.45, 0.12, (980, 2450), noise=0.05)
_COWBELL = Drum(0.35, 0.45, (562, 845), noise=0.05)
_TRIANGLE = Drum(0.25, 2.0, (4110, 6870, 9230))
_SHAKER = Drum(0.28, 0.14, noise=1, band=(4500, 12000))


def _skin(frequency: float, decay_s: float = 0.6) -> Drum:
    return Drum(0.65, decay_s, (frequency, 1.59 * frequency), sweep=1.5, noise=0.06)


DRUMS = {
    **dict.fromkeys((35, 36), _KICK), **dict.fromkeys((38, 40), _SNARE),
    **dict.fromkeys((42, 44), _HAT), **dict.fromkeys((49, 52, 55, 57), _CRASH),
    **dict.fromkeys((51, 53, 59), _RIDE), **dict.fromkeys((69, 70, 82, 54), _SHAKER),
    **dict.fromkeys((76, 77, 75), _WOODBLOCK), **dict.fromkeys((80, 81), _TRIANGLE),
    37: _STICK, 39: _CLAP, 46: _OPEN_HAT, 56: _COWBELL, 67: _COWBELL, 68: _COWBELL,
    41: _skin(78), 43: _skin(95), 45: _skin(115), 47: _skin(140), 48: _skin(170), 50: _skin(205),
    60: _skin(330, 0.3), 61: _skin(240, 0.3), 62: _skin(300, 0.15), 63: _skin(290, 0.4),
    64: _skin(195, 0.4), 65: _skin(380, 0.4), 66: _skin(270, 0.4),
}  # fmt: skip
"""Drums by General MIDI pitch."""
