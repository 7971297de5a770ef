"""Data sets of notes as grids with fixed splits: piano-roll benchmarks, chorales, MIDI folders.

The four piano-roll sets (Boulanger-Lewandowski, Bengio and Vincent 2012, arXiv:1206.6392) are the
usual measure of models of polyphonic music. They say what sounds, not what is struck, and are
transposed to a tonic of C by their authors. The chorales are those of Bach on a sixteenth grid with
a voice to each column (the split of Allan and Williams 2005, as most work on them since).
Nottingham's folk tunes and the pop songs of POP909 (Wang et al. 2020, arXiv:2008.07142) are MIDI
files, packed; they have no fixed split of their own and get one by a hash of their notes.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets.folder import Problem
from deepmusic.errors import DataError, ScoreError
from deepmusic.music import (
    Grid,
    Part,
    Score,
    Tempo,
    aligned,
    quantisation_loss,
    read_midi,
    score_to_grid,
    with_estimated_bars,
)

SIDES = ("train", "validation", "test")
_LOWEST = 21  # pitch of the first column of the piano rolls
_VOICES = ("soprano", "alto", "tenor", "bass")
_CHOIR, _VIOLIN, _ACCORDION, _FLUTE, _GUITAR = 52, 40, 21, 73, 25  # General MIDI
_NOTICED_S, _MOST_MOVED = 0.05, 0.05
"""Of a song at most this share of onsets may move by more than this many seconds."""
_TEMPI = {"chorale": 80, "classical": 100}
"""Beats a minute at which music is taken that says neither its tempo nor its bars."""


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


_UNREADABLE = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    OSError,
    EOFError,
    tarfile.TarError,
    lzma.LZMAError,
)


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
    except (*_UNREADABLE, ScoreError) as error:
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
        why = f"; of {len(problems)} the first: {problems[0].message}" if problems else "."
        raise DataError(f"{folder} holds no MIDI file that can be used in STYLE/*.mid{why}")
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


def _tunes(name: str, path: Path) -> SymbolicDataset:
    """Nottingham's tunes: melody and chords."""
    parts = (Part("melody", program=_VIOLIN), Part("chords", program=_ACCORDION))
    pieces = []
    for inside, score in _packed(path):
        if len(score.parts) > len(parts):
            raise ValueError(f"{inside} has {len(score.parts)} parts")
        grid = score_to_grid(score, 4)
        pieces.append(Piece(inside, "folk", replace(grid, parts=parts)))
    return _divided(name, pieces)


def _songs(name: str, path: Path) -> SymbolicDataset:
    """POP909's songs that fit a sixteenth grid; the rest is told among the problems."""
    parts = (
        Part("melody", program=_FLUTE),
        Part("second melody", program=_GUITAR),
        Part("piano", program=0),
    )
    bars = {}
    index = path.with_name("index.csv")
    if index.is_file():
        with index.open(encoding="utf-8", newline="") as file:
            bars = {row["id"]: 4 * int(row["beats_per_measure"]) for row in csv.DictReader(file)}
    pieces, problems = [], []
    for inside, raw in _packed(path):
        score = aligned(raw, 4)
        late = np.abs(quantisation_loss(score, 4).onset_error_s) > _NOTICED_S
        if late.mean() > _MOST_MOVED:
            problems.append(
                Problem(
                    inside,
                    "off_grid",
                    f"{inside}: {late.mean():.0%} of its notes are off the sixteenths.",
                )
            )
            continue
        # two beats are half a bar: these songs are in four
        length = 12 if bars.get(Path(inside).stem) == 12 else 16
        grid = replace(score_to_grid(score, 4), parts=parts)
        pieces.append(Piece(inside, "pop", with_estimated_bars(grid, (length,))))
    return _divided(name, pieces, tuple(problems))


def _packed(path: Path) -> Iterator[tuple[str, Score]]:
    """Names and scores of the MIDI files in an archive, by name."""
    with tarfile.open(path) as archive:
        contents = {
            member.name: file.read()
            for member in archive
            if member.isfile() and member.name.endswith(".mid")
            if (file := archive.extractfile(member)) is not None
        }
    for inside in sorted(contents):
        yield inside, read_midi(contents[inside])


def _divided(name: str, pieces: list[Piece], problems: tuple[Problem, ...] = ()) -> SymbolicDataset:
    sides: dict[str, list[Piece]] = {side: [] for side in SIDES}
    for piece in pieces:
        sides[_side(piece.grid)].append(piece)
    train, validation, test = (tuple(sides[side]) for side in SIDES)
    return SymbolicDataset(name, 4, train, validation, test, True, problems)


STYLES = {
    "chorale": "chorales",
    "folk": "nottingham-midi",
    "pop": "pop909",
    "classical": "piano-midi",
}
"""The styles that the shipped composer learns, each from one data set."""


def load_styles(root: str | os.PathLike[str]) -> SymbolicDataset:
    """Load what the shipped composer learns from: :data:`STYLES`, four steps a beat, with bars.

    Where a data set does not say where bars begin they are estimated, and rests put before the
    music so that the first bar is whole. The steps of the piano pieces are taken for eighths.

    Args:
        root: folder of the data sets.

    Raises:
        DataError: one of them is missing, or not what it should be.
    """
    sides: dict[str, list[Piece]] = {side: [] for side in SIDES}
    problems: list[Problem] = []
    for style, name in STYLES.items():
        dataset = load_symbolic(name, root)
        problems.extend(dataset.problems)
        for side, pieces in sides.items():
            for piece in getattr(dataset, side):
                grid = piece.grid
                if style == "classical":
                    grid = replace(_finer(grid, 4), parts=(Part("piano", program=0),))
                if style in _TEMPI:
                    us_per_beat = round(60e6 / _TEMPI[style])
                    grid = with_estimated_bars(replace(grid, tempos=(Tempo(0, us_per_beat),)))
                pieces.append(Piece(piece.name, style, grid))
    train, validation, test = (tuple(sides[side]) for side in SIDES)
    return SymbolicDataset("styles", 4, train, validation, test, True, tuple(problems))


def has_styles(root: str | os.PathLike[str]) -> bool:
    """Whether a folder holds the data sets of :func:`load_styles`."""
    return all((Path(root) / SYMBOLIC[name][0]).is_file() for name in STYLES.values())


def _finer(grid: Grid, steps_per_beat: int) -> Grid:
    """A grid of eighths on finer steps."""
    factor = steps_per_beat // 2
    return Grid(
        steps_per_beat,
        grid.steps * factor,
        onset=grid.onset * factor,
        duration=grid.duration * factor,
        pitch=grid.pitch,
        part=grid.part,
        parts=grid.parts,
    )


SYMBOLIC: dict[str, tuple[str, Callable[[str, Path], SymbolicDataset]]] = {
    "jsb": ("polymusic/JSB_Chorales.mat", _piano_rolls),
    "nottingham": ("polymusic/Nottingham.mat", _piano_rolls),
    "musedata": ("polymusic/MuseData.mat", _piano_rolls),
    "piano-midi": ("polymusic/Piano_midi.mat", _piano_rolls),
    "chorales": ("jsb/Jsb16thSeparated.json.gz", _chorales),
    "nottingham-midi": ("nottingham/nottingham_midi.tar.xz", _tunes),
    "pop909": ("pop909/pop909_midi.tar.xz", _songs),
}
"""Name to the file, below the folder of data, and what reads it."""
