"""Speed of the built-in synthesiser relative to real time, by kind of score.

    OMP_NUM_THREADS=1 python benchmarks/sound.py [--rate 44100]

Prints a table for generated scores.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from deepmusic.music import Note, Part, Score, Tempo, render

BARS = 32
TICKS = 480


def chorale(programs: tuple[int, ...] = (52, 52, 52, 52)) -> Score:
    """Four voices in crotchets and some quavers, 96 beats per minute."""
    generator = np.random.default_rng(1)
    notes = []
    for part, middle in enumerate((72, 65, 58, 48)):
        pitch, at = middle, 0
        while at < BARS * 4 * TICKS:
            length = int(generator.choice([TICKS // 2, TICKS, TICKS, TICKS, 2 * TICKS]))
            notes.append(Note(at, length, pitch, 80, part))
            pitch += int(np.clip(generator.integers(-3, 4), middle - 8 - pitch, middle + 8 - pitch))
            at += length
    parts = tuple(Part(program=program) for program in programs)
    return Score(TICKS, tuple(notes), parts=parts, tempos=(Tempo(0, 625_000),))


def performance() -> Score:
    """Piano with all velocities and durations: no two notes are alike."""
    generator = np.random.default_rng(2)
    notes = tuple(
        Note(int(on), int(length), int(pitch), int(velocity))
        for on, length, pitch, velocity in zip(
            generator.integers(0, BARS * 4 * TICKS, 1500),
            generator.integers(60, 960, 1500),
            np.clip(generator.normal(62, 12, 1500), 21, 108),
            generator.integers(30, 120, 1500),
            strict=True,
        )
    )
    return Score(TICKS, notes, parts=(Part(),))


def band() -> Score:
    """Drums, bass, guitar chords and a lead in quavers."""
    notes = []
    for eighth in range(BARS * 8):
        at = eighth * TICKS // 2
        notes.append(Note(at, 60, 42, 70, 0))
        notes.append(Note(at, 60, (36, 42, 38, 42)[eighth % 4], 100, 0))
        notes.append(Note(at, 220, 40 + (eighth // 8) % 5, 90, 1))
        notes += [Note(at, 200, pitch + (eighth // 8) % 5, 64, 2) for pitch in (52, 56, 59)]
        notes.append(Note(at, 230, 64 + eighth * 5 % 12, 90, 3))
    parts = (Part(is_drum=True), Part(program=33), Part(program=25), Part(program=81))
    return Score(TICKS, tuple(notes), parts=parts)


SCORES = {
    "chorale, choir": chorale(),
    "chorale, piano": chorale((0, 0, 0, 0)),
    "chorale, flute clarinet horn strings": chorale((73, 71, 60, 48)),
    "piano, performed": performance(),
    "band with drums": band(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=44100)
    sample_rate = parser.parse_args().sample_rate
    print(f"{'score':38s} {'notes':>5s} {'seconds':>8s} {'took s':>7s} {'times real time':>16s}")
    for name, score in SCORES.items():
        render(score, sample_rate=sample_rate)  # imports and memory
        times = []
        for _ in range(5):
            start = time.process_time()  # of this process only
            sound = render(score, sample_rate=sample_rate)
            times.append(time.process_time() - start)
        took, length = min(times), len(sound) / sample_rate
        print(f"{name:38s} {len(score.notes):5d} {length:8.1f} {took:7.3f} {length / took:16.0f}")


if __name__ == "__main__":
    main()
