"""Symbolic music with fixed splits: piano-roll benchmarks, chorales, MIDI files.

The four piano-roll sets (Boulanger-Lewandowski, Bengio and Vincent 2012, arXiv:1206.6392) are the
usual benchmark for models of polyphonic music. They give sounding pitches, not onsets, and were
transposed to a tonic of C by their authors. The Bach chorales are on a sixteenth-note grid with one
column per voice (the split of Allan and Williams 2005, as most later work uses it). Nottingham's
folk tunes and the pop songs of POP909 (Wang et al. 2020, arXiv:2008.07142) are packed MIDI files;
they have no published split and get one by a hash of their notes.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import lzma
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio.find import SYSTEM_FOLDERS
from deepmusic.datasets.folder import Problem
from deepmusic.datasets.splits import PARTS
from deepmusic.datasets.table import table_text
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

_LOWEST_PITCH = 21  # first column of the piano rolls
_CHOIR, _VIOLIN, _ACCORDION, _FLUTE, _GUITAR, _PIANO = 52, 40, 21, 73, 25, 0  # General MIDI
_LATE_S, _MAX_LATE = 0.05, 0.05
"""A song is skipped if more than this share of onsets is moved by more than this many seconds."""
_TEMPI = {"chorale": 80, "classical": 100}
"""Beats per minute for music that states neither tempo nor bars."""


@dataclass(frozen=True)
class Piece:
    """One piece of a data set."""

    name: str  # unique within the data set; a path where it comes from its own file
    style: str
    grid: Grid


@dataclass(frozen=True)
class SymbolicDataset:
    """Pieces with a fixed split; none is in two parts."""

    name: str
    steps_per_beat: int  # of all grids; 1 where the source does not say what a step is
    train: tuple[Piece, ...]
    validation: tuple[Piece, ...]
    test: tuple[Piece, ...]
    has_onsets: bool  # whether repeated and held notes are distinguished
    problems: tuple[Problem, ...] = ()  # files that could not be used


def load_symbolic(name: str, root: str | os.PathLike[str]) -> SymbolicDataset:
    """Load a data set by name.

    Args:
        name: one of ``SYMBOLIC``.
        root: the data folder.

    Raises:
        DataError: its file is missing, damaged or another one.

    Example:
        >>> load_symbolic("chorales", "data").steps_per_beat  # doctest: +SKIP
        4
    """
    if name not in SYMBOLIC:
        raise DataError(
            f"No symbolic data set is called {name!r}; there are {', '.join(SYMBOLIC)}."
        )
    file, load = SYMBOLIC[name]
    path = Path(root) / file
    if not path.is_file():
        raise DataError(f"{path} is missing: the data set {name!r} is read from it.")
    unreadable = (LookupError, TypeError, ValueError, OSError, EOFError, ScoreError)
    try:
        return load(name, path)
    except (*unreadable, tarfile.TarError, lzma.LZMAError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is not the file of {name!r}: {reason}.") from error


def load_midi_folder(root: str | os.PathLike[str], *, steps_per_beat: int = 12) -> SymbolicDataset:
    """Load your own music, ``ROOT/STYLE/*.mid``, each piece shifted to where it fits the grid.

    A hash of its notes decides a piece's part: about eight of ten are for training, one each for
    validation and test. A piece stays in its part when others are added, and copies of a piece,
    whatever their names, are in the same part.

    Args:
        root: folder of style folders, with files in them or deeper.
        steps_per_beat: of the grids.

    Raises:
        DataError: there is no such folder, or no MIDI file in it can be used.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; music belongs in {folder}/STYLE/*.mid.")
    pieces, problems = [], []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".mid", ".midi")):
        inside = path.relative_to(folder)
        if not SYSTEM_FOLDERS.isdisjoint(part.lower() for part in inside.parts):
            continue
        if len(inside.parts) < 2:
            message = f"{path} is not in a style folder; move it to one."
            problems.append(Problem(str(inside), "no_style", message))
            continue
        try:
            grid = score_to_grid(aligned(read_midi(path), steps_per_beat), steps_per_beat)
        except ScoreError as error:
            problems.append(Problem(str(inside), error.code, str(error)))
        else:
            pieces.append(Piece(table_text(inside.as_posix()), table_text(inside.parts[0]), grid))
    if not pieces:
        reason = f"; the first of {len(problems)}: {problems[0].message}" if problems else "."
        raise DataError(f"{folder} has no MIDI file that can be used in STYLE/*.mid{reason}")
    return _split(folder.name, pieces, problems, steps_per_beat)


def _split(
    name: str, pieces: Iterable[Piece], problems: Iterable[Problem], steps_per_beat: int
) -> SymbolicDataset:
    """Split pieces by a hash of their notes."""
    sides: dict[str, list[Piece]] = {side: [] for side in PARTS}
    for piece in pieces:
        columns = (piece.grid.onset, piece.grid.duration, piece.grid.pitch)
        content = b"".join(column.astype(np.int64).tobytes() for column in columns)
        tenth = int.from_bytes(hashlib.sha256(content).digest()[:8], "big") % 10
        sides["test" if tenth == 9 else "validation" if tenth == 8 else "train"].append(piece)
    train, validation, test = map(tuple, sides.values())
    return SymbolicDataset(name, steps_per_beat, train, validation, test, True, tuple(problems))


def _load_piano_rolls(name: str, path: Path) -> SymbolicDataset:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except Exception as error:  # SciPy raises many kinds for other files
        raise ValueError(f"it cannot be read as a MATLAB file ({error})") from error
    rolls = {side: content[f"{side}data"][0] for side in ("train", "valid", "test")}
    to_grid = partial(Grid.from_roll, steps_per_beat=1, lowest=_LOWEST_PITCH)
    return _published_split(name, 1, rolls, to_grid)


def _load_chorales(name: str, path: Path) -> SymbolicDataset:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        content = json.load(file)
    return _published_split(name, 4, content, lambda steps: _chorale_grid(np.array(steps)))


def _published_split(
    name: str, steps_per_beat: int, content: Mapping[str, Any], to_grid: Callable[[Any], Grid]
) -> SymbolicDataset:
    train, validation, test = (
        tuple(
            Piece(f"{name}/{side}/{n}", name, to_grid(one)) for n, one in enumerate(content[side])
        )
        for side in ("train", "valid", "test")
    )
    return SymbolicDataset(name, steps_per_beat, train, validation, test, has_onsets=False)


def _chorale_grid(pitches: NDArray[np.int64]) -> Grid:
    """The grid of ``(steps, 4)`` pitches, -1 for rests; a repeated pitch is one held note."""
    parts = tuple(Part(name, program=_CHOIR) for name in ("soprano", "alto", "tenor", "bass"))
    if pitches.ndim != 2 or pitches.shape[1] != len(parts):
        raise ValueError(f"a chorale is (steps, {len(parts)}) pitches; got {pitches.shape}")
    notes = []  # (onset, duration, pitch, part) of each note
    for voice, line in enumerate(pitches.T):
        starts = np.flatnonzero(np.diff(line, prepend=-2))
        durations = np.diff(starts, append=len(line))
        columns = (starts, durations, line[starts], np.full(len(starts), voice))
        notes.append(np.stack(columns)[:, line[starts] >= 0])
    onset, duration, pitch, part = np.concatenate(notes, axis=1)
    return Grid(
        4, len(pitches), onset=onset, duration=duration, pitch=pitch, part=part, parts=parts
    )


def _load_tunes(name: str, path: Path) -> SymbolicDataset:
    """Nottingham's tunes: melody and chords."""
    parts = (Part("melody", program=_VIOLIN), Part("chords", program=_ACCORDION))
    pieces = []
    for inside, score in _packed_scores(path):
        if len(score.parts) > len(parts):
            raise ValueError(f"{inside} has {len(score.parts)} parts")
        pieces.append(Piece(inside, "folk", replace(score_to_grid(score, 4), parts=parts)))
    return _split(name, pieces, (), 4)


def _load_songs(name: str, path: Path) -> SymbolicDataset:
    """POP909's songs that fit a sixteenth-note grid; the others are among the problems."""
    parts = (
        Part("melody", program=_FLUTE),
        Part("second melody", program=_GUITAR),
        Part("piano", program=_PIANO),
    )
    in_three = set()
    index = path.with_name("index.csv")
    if index.is_file():
        with index.open(encoding="utf-8", newline="") as file:
            in_three = {
                row["id"] for row in csv.DictReader(file) if row["beats_per_measure"] == "3"
            }
    pieces, problems = [], []
    for inside, unaligned in _packed_scores(path):
        score = aligned(unaligned, 4)
        late = float((np.abs(quantisation_loss(score, 4).onset_error_s) > _LATE_S).mean())
        if late > _MAX_LATE:
            message = f"{inside}: {late:.0%} of its notes are off the sixteenth-note grid."
            problems.append(Problem(inside, "off_grid", message))
            continue
        # two beats are half a bar: these songs are in four
        bar_steps = 12 if Path(inside).stem in in_three else 16
        grid = replace(score_to_grid(score, 4), parts=parts)
        pieces.append(Piece(inside, "pop", with_estimated_bars(grid, (bar_steps,))))
    return _split(name, pieces, problems, 4)


def _packed_scores(path: Path) -> Iterator[tuple[str, Score]]:
    """Paths and scores of the MIDI files in an archive, sorted by path."""
    with tarfile.open(path) as archive:
        contents = {
            member.name: file.read()
            for member in archive
            if member.isfile() and member.name.endswith(".mid")
            if (file := archive.extractfile(member)) is not None
        }
    for inside in sorted(contents):
        yield inside, read_midi(contents[inside])


STYLES = {
    "chorale": "chorales",
    "folk": "nottingham-midi",
    "pop": "pop909",
    "classical": "piano-midi",
}
"""The styles of the shipped composer, and the data set of each."""


def load_styles(root: str | os.PathLike[str]) -> SymbolicDataset:
    """Load the training data of the shipped composer: ``STYLES``, four steps per beat, in bars.

    Bars that a data set does not state are estimated, and a rest is put before the music so that
    the first bar is complete. The steps of the piano pieces are taken as eighth notes.

    Args:
        root: the data folder.

    Raises:
        DataError: the file of a data set is missing, damaged or another one.
    """
    sides: dict[str, list[Piece]] = {side: [] for side in PARTS}
    problems: list[Problem] = []
    for style, name in STYLES.items():
        dataset = load_symbolic(name, root)
        problems += dataset.problems
        for side, pieces in sides.items():
            for piece in getattr(dataset, side):
                pieces.append(Piece(piece.name, style, _in_bars(piece.grid, style)))
    train, validation, test = map(tuple, sides.values())
    return SymbolicDataset("styles", 4, train, validation, test, True, tuple(problems))


def _in_bars(grid: Grid, style: str) -> Grid:
    """A grid of a style with four steps per beat, and with bars and a tempo."""
    if style == "classical":  # eighth notes on sixteenth-note steps
        grid = replace(
            grid,
            steps_per_beat=4,
            steps=2 * grid.steps,
            onset=2 * grid.onset,
            duration=2 * grid.duration,
            parts=(Part("piano", _PIANO),),
        )
    if style in _TEMPI:
        tempo = Tempo(0, round(60e6 / _TEMPI[style]))
        grid = with_estimated_bars(replace(grid, tempos=(tempo,)))
    return grid


def has_styles(root: str | os.PathLike[str]) -> bool:
    """Whether a folder holds the data sets of ``load_styles``."""
    return all((Path(root) / SYMBOLIC[name][0]).is_file() for name in STYLES.values())


SYMBOLIC: dict[str, tuple[str, Callable[[str, Path], SymbolicDataset]]] = {
    "jsb": ("polymusic/JSB_Chorales.mat", _load_piano_rolls),
    "nottingham": ("polymusic/Nottingham.mat", _load_piano_rolls),
    "musedata": ("polymusic/MuseData.mat", _load_piano_rolls),
    "piano-midi": ("polymusic/Piano_midi.mat", _load_piano_rolls),
    "chorales": ("jsb/Jsb16thSeparated.json.gz", _load_chorales),
    "nottingham-midi": ("nottingham/nottingham_midi.tar.xz", _load_tunes),
    "pop909": ("pop909/pop909_midi.tar.xz", _load_songs),
}
"""Name to the file, relative to the data folder, and its loader."""
