"""Synthesise a clip to try the classifier on: the opening of Bach's Prelude in C (BWV 846).

    python scripts/make_demo_clip.py demo.flac

The music is in the public domain and the sound is synthesised here, so anyone may redistribute it.
Each note is a Karplus-Strong string: a burst of noise in a delay line of one period, whose filter
attenuates the high partials.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from deepmusic.files import write_atomically

SAMPLE_RATE = 44_100  # Hz
STEP_S = 0.21  # a sixteenth
# one bar each, as MIDI pitches: two low notes are sustained, three high ones repeat
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
    """A string at a MIDI pitch: ``(samples,)``, at most 1 in magnitude."""
    # the averaging filter delays by half a sample
    period = round(SAMPLE_RATE / (440 * 2 ** ((pitch - 69) / 12)) - 0.5)
    first = period + 1  # zeros before the sound, which the delay line reads
    line = np.zeros(first + round(seconds * SAMPLE_RATE))
    line[first : first + period] = np.convolve(rng.uniform(-1, 1, period), [0.5, 0.5])[:period]
    for start in range(first + period, len(line), period):
        delayed = line[start - period - 1 : min(start, len(line) - period)]
        line[start : start + period] = 0.498 * (delayed[1:] + delayed[:-1])
    tone = line[first:]
    tone[-400:] *= np.linspace(1, 0, 400)  # no click at the end
    return tone / np.abs(tone).max()


def prelude() -> NDArray[np.float32]:
    """The eight bars, stereo: ``(samples, 2)``, within [-1, 1]."""
    rng = np.random.default_rng(846)
    sound = np.zeros((round((len(BARS) * 16 * STEP_S + 3) * SAMPLE_RATE), 2))
    for bar, chord in enumerate(BARS):
        for step in range(16):
            note = (0, 1, 2, 3, 4, 2, 3, 4)[step % 8]
            seconds = 2.5 if note < 2 else 1.2
            tone = 0.2 * pluck(chord[note], seconds, rng)
            begin = round((bar * 16 + step) * STEP_S * SAMPLE_RATE)
            pan = note / 4  # low strings to the left
            sound[begin : begin + len(tone), 0] += (1 - 0.5 * pan) * tone
            sound[begin : begin + len(tone), 1] += (0.5 + 0.5 * pan) * tone
    return (0.8 * sound / np.abs(sound).max()).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="a .flac file to write")
    path = parser.parse_args().path
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path, "wb") as file:
        soundfile.write(file, prelude(), SAMPLE_RATE, format="FLAC")


if __name__ == "__main__":
    main()
