"""Data sets of notes as grids with fixed splits: piano-roll benchmarks, chorales, MIDI folders.

The four piano-roll sets (Boulanger-Lewandowski, Bengio and Vincent 2012, arXiv:1206.6392) are the
usual measure of models of polyphonic music. They say what sounds, not what is struck, and are
transposed to a tonic of C by their authors. The chorales are those of Bach on a sixteenth grid with
a voice to each column (the split of Allan and Williams 2005, as most work on them since).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets.folder import Problem
from deepmusic.errors import DataError, ScoreError
from deepmusic.music import Grid, Part, aligned, read_midi, score_to_grid

__all__ = ["SYMBOLIC", "Piece", "SymbolicDataset", "load_midi_folder", "load_symbolic"]

SIDES = ("train", "validation", "test")
_LOWEST = 21  # pitch of the first column of the piano rolls
_VOICES = ("soprano", "alto", "tenor", "bass")
_CHOIR = 52  # General MIDI: choir aahs


@dataclass(frozen=True)
class Piece:
    """One piece of a data set.

    Args:
        name: unique within the data set; a path where it comes from a file of its own.
        style: what it is labelled as.
        grid: the notes.
    """

    name: str
    style: str
    grid: Grid


@dataclass(frozen=True)
class SymbolicDataset:
    """Pieces with a fixed division.

    Args:
        name: of the data set.
        steps_per_beat: of all grids; 1 where the source does not say what a step is.
        train, validation, test: the pieces, no piece on two sides.
        has_onsets: whether a repeated note can be told from a held one.
        problems: files that could not be used, with the reason.
    """

    name: str
    steps_per_beat: int
    train: tuple[Piece, ...]
    validation: tuple[Piece, ...]
    test: tuple[Piece, ...]
    has_onsets: bool
    problems: tuple[Problem, ...] = ()


def load_symbolic(name: str, root: str | os.PathLike[str]) -> SymbolicDataset:
    """Load a data set by name.

    Args:
        name: one of :data:`SYMBOLIC`.
        root: folder that holds its file.

    Raises:
        DataError: no such data set, its file is missing, or not what it should be.
    """
    if name not in SYMBOLIC:
        raise DataError(
            f"No data set of notes is called {name!r}; there are {', '.join(SYMBOLIC)}."
        )
    file, load = SYMBOLIC[name]
    path = Path(root) / file
    if not path.is_file():
        raise DataError(f"{path} is missing: the data set {name!r} is read from it.")
    try:
        return load(name, path)
    except (KeyError, IndexError, TypeError, ValueError, OSError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is not the file of {name!r}: {said}.") from error


def load_midi_folder(root: str | os.PathLike[str], *, steps_per_beat: int = 12) -> SymbolicDataset:
    """Load one's own music, ``ROOT/STYLE/*.mid``, each piece moved to where its notes fit the grid.

    A piece falls on a side by a hash of its notes: of ten pieces about eight are for training, one
    for validation and one for the test; a piece stays where it is when others come, and copies of a
    piece, whatever their names, fall on one side.

    Args:
        root: folder of style folders; files lie in them or deeper.
        steps_per_beat: of the grids.

    Raises:
        DataError: there is no such folder, or no MIDI file in it can be used.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; music lies in {folder}/STYLE/*.mid.")
    sides: dict[str, list[Piece]] = {side: [] for side in SIDES}
    problems = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".mid", ".midi")):
        inside = path.relative_to(folder)
        if len(inside.parts) < 2:
            problems.append(
                Problem(str(inside), "no_style", f"{path} lies in no style folder; move it to one.")
            )
            continue
        try:
            score = aligned(read_midi(path), steps_per_beat)
            grid = score_to_grid(score, steps_per_beat)
        except ScoreError as error:
            problems.append(Problem(str(inside), error.code, str(error)))
            continue
        sides[_side(grid)].append(Piece(inside.as_posix(), inside.parts[0], grid))
    if not any(sides.values()):
        raise DataError(f"{folder} holds no MIDI file that can be used in STYLE/*.mid.")
    return SymbolicDataset(
        folder.name,
        steps_per_beat,
        tuple(sides["train"]),
        tuple(sides["validation"]),
        tuple(sides["test"]),
        has_onsets=True,
        problems=tuple(problems),
    )


def _side(grid: Grid) -> str:
    content = b"".join(
        column.astype(np.int64).tobytes() for column in (grid.onset, grid.duration, grid.pitch)
    )
    tenth = int.from_bytes(hashlib.sha256(content).digest()[:8], "big") % 10
    return "test" if tenth == 9 else "validation" if tenth == 8 else "train"


def _piano_rolls(name: str, path: Path) -> SymbolicDataset:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except Exception as error:  # it has many of its own for what is no MATLAB file
        raise ValueError(f"it cannot be read as MATLAB's ({error})") from error

    def pieces(key: str) -> tuple[Piece, ...]:
        rolls: list[NDArray[np.uint8]] = list(content[key][0])
        return tuple(
            Piece(
                f"{name}/{key.removesuffix('data')}/{number}",
                name,
                Grid.from_roll(roll, steps_per_beat=1, lowest=_LOWEST),
            )
            for number, roll in enumerate(rolls)
        )

    return SymbolicDataset(
        name, 1, pieces("traindata"), pieces("validdata"), pieces("testdata"), has_onsets=False
    )


def _chorales(name: str, path: Path) -> SymbolicDataset:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        content = json.load(file)
    parts = tuple(Part(voice, program=_CHOIR) for voice in _VOICES)

    def pieces(key: str) -> tuple[Piece, ...]:
        return tuple(
            Piece(f"{name}/{key}/{number}", name, _voices(np.array(steps), parts))
            for number, steps in enumerate(content[key])
        )

    return SymbolicDataset(name, 4, pieces("train"), pieces("valid"), pieces("test"), False)


def _voices(pitches: NDArray[np.int64], parts: tuple[Part, ...]) -> Grid:
    """The grid of ``(steps, voices)`` pitches, -1 for silence; what repeats is held."""
    if pitches.ndim != 2 or pitches.shape[1] != len(parts):
        raise ValueError(f"a chorale is (steps, {len(parts)}) pitches; got {pitches.shape}")
    onsets, durations, sounding, voices = [], [], [], []
    for voice, line in enumerate(pitches.T):
        starts = np.flatnonzero(np.diff(line, prepend=-2))
        ends = np.append(starts[1:], len(line))
        heard = line[starts] >= 0
        onsets.append(starts[heard])
        durations.append((ends - starts)[heard])
        sounding.append(line[starts][heard])
        voices.append(np.full(int(heard.sum()), voice))
    return Grid(
        4,
        len(pitches),
        onset=np.concatenate(onsets),
        duration=np.concatenate(durations),
        pitch=np.concatenate(sounding),
        part=np.concatenate(voices),
        parts=parts,
    )


SYMBOLIC: dict[str, tuple[str, Callable[[str, Path], SymbolicDataset]]] = {
    "jsb": ("polymusic/JSB_Chorales.mat", _piano_rolls),
    "nottingham": ("polymusic/Nottingham.mat", _piano_rolls),
    "musedata": ("polymusic/MuseData.mat", _piano_rolls),
    "piano-midi": ("polymusic/Piano_midi.mat", _piano_rolls),
    "chorales": ("jsb/Jsb16thSeparated.json.gz", _chorales),
}
"""Name to the file, below the folder of data, and what reads it."""
