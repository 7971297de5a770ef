"""A clip to try the classifier on: the opening of Bach's Prelude in C (BWV 846), plucked.

    python scripts/make_demo_clip.py demo.flac

The notes have long been in the public domain and the sound is synthesised here, so anyone may hear
and pass it on. Each note is a Karplus-Strong string: a burst of noise that runs round a delay line
of one period and loses its high partials on the way.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import lfilter

from deepmusic.files import write_atomically

RATE = 44_100  # Hz
STEP_S = 0.21  # a sixteenth
# one bar each, as MIDI pitches: two low notes are held, three high ones go round twice
BARS = [
    (60, 64, 67, 72, 76),
    (60, 62, 69, 74, 77),
    (59, 62, 67, 74, 77),
    (60, 64, 67, 72, 76),
    (60, 64, 69, 76, 81),
    (60, 62, 66, 69, 74),
    (59, 62, 67, 74, 79),
    (59, 60, 64, 67, 72),
]


def pluck(pitch: int, seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """One string at a MIDI pitch: (samples,), at most 1 in magnitude."""
    # the averaging filter adds half a sample to the way round
    period = round(RATE / (440 * 2 ** ((pitch - 69) / 12)) - 0.5)
    burst = np.zeros(round(seconds * RATE))
    burst[:period] = lfilter([0.5, 0.5], [1.0], rng.uniform(-1, 1, period))
    loop = np.zeros(period + 2)
    loop[0], loop[period], loop[period + 1] = 1, -0.498, -0.498
    tone = lfilter([1.0], loop, burst)
    tone[-400:] *= np.linspace(1, 0, 400)  # no click at the end
    return tone / np.abs(tone).max()


def prelude() -> NDArray[np.float32]:
    """The eight bars, stereo: (samples, 2), within [-1, 1]."""
    rng = np.random.default_rng(846)
    sound = np.zeros((round((len(BARS) * 16 * STEP_S + 3) * RATE), 2))
    for bar, chord in enumerate(BARS):
        for step in range(16):
            note = (0, 1, 2, 3, 4, 2, 3, 4)[step % 8]
            held = 2.5 if note < 2 else 1.2
            tone = 0.2 * pluck(chord[note], held, rng)
            begin = round((bar * 16 + step) * STEP_S * RATE)
            place = note / 4  # low strings to the left
            sound[begin : begin + len(tone), 0] += (1 - 0.5 * place) * tone
            sound[begin : begin + len(tone), 1] += (0.5 + 0.5 * place) * tone
    return (0.8 * sound / np.abs(sound).max()).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="a .flac file to write")
    path = parser.parse_args().path
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path, "wb") as file:
        soundfile.write(file, prelude(), RATE, format="FLAC")


if __name__ == "__main__":
    main()
