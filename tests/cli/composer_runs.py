"""Small scores, folders of them to train a composer on, and what a refusal must look like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepmusic.music import Note, Part, Score, Tempo, write_midi

BEAT = 480
TINY = ["--epochs", "2", "--excerpts", "4", "--batch-size", "2", "--device", "cpu"]
"""The full network, but two steps an epoch."""

Row = tuple[float, float, int, int]
"""Onset and length in beats, pitch, part."""


def score_of(rows: Sequence[Row], *, parts: int = 2, bpm: float = 120) -> Score:
    notes = (
        Note(round(onset * BEAT), round(length * BEAT), pitch, part=part)
        for onset, length, pitch, part in rows
    )
    return Score(
        BEAT,
        tuple(notes),
        tuple(Part(f"part {number + 1}") for number in range(parts)),
        tempos=(Tempo(0, round(60e6 / bpm)),),
    )


def rows_of(score: Score, *, part: int | None = None) -> list[Row]:
    beat = score.ticks_per_beat
    return sorted(
        (note.onset / beat, note.duration / beat, note.pitch, note.part)
        for note in score.notes
        if part is None or note.part == part
    )


def write_pieces(folder: Path, count: int, *, seed: int) -> None:
    """Pieces of four bars: a wandering tune over one low note a bar."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        tune = [(beat, 1, int(60 + random.integers(12)), 0) for beat in range(16)]
        bass = [(4 * bar, 4, 40 + number + bar, 1) for bar in range(4)]
        write_midi(score_of(tune + bass), folder / f"{number}.mid")


def write_styles(root: Path) -> Path:
    """Two styles of eight pieces each."""
    write_pieces(root / "march", 8, seed=0)
    write_pieces(root / "waltz", 8, seed=1)
    return root
