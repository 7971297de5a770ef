"""Music as notes: scores, MIDI files, and the grid that models read and write.

What makes sound, pictures and notation of scores is looked up on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepmusic.lazy import lazy_names
from deepmusic.music.grid import Frames, Grid, grid_to_score, score_to_grid
from deepmusic.music.keys import Key, estimate_key
from deepmusic.music.metre import Bars, bars_of, with_estimated_bars
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

if TYPE_CHECKING:
    from deepmusic.music.musicxml import write_musicxml
    from deepmusic.music.piano_roll import draw_piano_roll
    from deepmusic.music.sound import find_soundfont, render, write_wav

__all__ = [
    "Bars",
    "Frames",
    "Grid",
    "Key",
    "KeySignature",
    "Note",
    "NoteArrays",
    "Part",
    "QuantisationLoss",
    "Score",
    "Tempo",
    "TimeSignature",
    "aligned",
    "bars_of",
    "draw_piano_roll",
    "estimate_key",
    "find_soundfont",
    "grid_to_score",
    "midi_bytes",
    "quantisation_loss",
    "read_midi",
    "render",
    "score_to_grid",
    "with_estimated_bars",
    "write_midi",
    "write_musicxml",
    "write_wav",
]

_MODULES = {
    "musicxml": ("write_musicxml",),
    "piano_roll": ("draw_piano_roll",),
    "sound": ("find_soundfont", "render", "write_wav"),
}

__getattr__, __dir__ = lazy_names(__name__, __all__, _MODULES)
