"""Music as notes: scores, MIDI files, and the grid that models read and write."""

from __future__ import annotations

from deepmusic.music.grid import Frames, Grid, grid_to_score, score_to_grid
from deepmusic.music.midi import midi_bytes, read_midi, write_midi
from deepmusic.music.quantisation import QuantisationLoss, aligned, quantisation_loss
from deepmusic.music.score import (
    KeySignature,
    Note,
    NoteArrays,
    Part,
    Score,
    Tempo,
    TimeSignature,
)

__all__ = [
    "Frames",
    "Grid",
    "KeySignature",
    "Note",
    "NoteArrays",
    "Part",
    "QuantisationLoss",
    "Score",
    "Tempo",
    "TimeSignature",
    "aligned",
    "grid_to_score",
    "midi_bytes",
    "quantisation_loss",
    "read_midi",
    "score_to_grid",
    "write_midi",
]
