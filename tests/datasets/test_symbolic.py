"""Data sets of notes: what the real files hold, and folders of one's own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from deepmusic.datasets.symbolic import SYMBOLIC, load_midi_folder, load_symbolic
from deepmusic.errors import DataError
from deepmusic.music import Note, Part, Score, write_midi

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "symbolic"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the symbolic data are not here")


def cells(rolls: list[np.ndarray]) -> np.ndarray:
    row = np.empty((1, len(rolls)), object)
    row[0, :] = rolls
    return row


def write_rolls(root: Path, name: str) -> dict[str, list[np.ndarray]]:
    random = np.random.default_rng(0)
    sides = {
        key: [(random.random((12 + n, 88)) < 0.05).astype(np.uint8) for n in range(count)]
        for key, count in (("traindata", 3), ("validdata", 2), ("testdata", 1))
    }
    path = root / SYMBOLIC[name][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {key: cells(rolls) for key, rolls in sides.items()})
    return sides


def test_a_piano_roll_comes_back_from_its_grid(tmp_path: Path) -> None:
    sides = write_rolls(tmp_path, "jsb")
    dataset = load_symbolic("jsb", tmp_path)
    for side, key in (("train", "traindata"), ("validation", "validdata"), ("test", "testdata")):
        pieces = getattr(dataset, side)
        assert [piece.name for piece in pieces] == [
            f"jsb/{key[:-4]}/{n}" for n in range(len(sides[key]))
        ]
        for piece, roll in zip(pieces, sides[key], strict=True):
            np.testing.assert_array_equal(piece.grid.roll(), roll == 1)
    assert not dataset.has_onsets


def test_voices_of_chorales_stay_apart_and_repeats_are_held(tmp_path: Path) -> None:
    steps = [[67, 60, -1, 48], [67, 60, 55, 48], [67, 62, 55, -1], [69, 62, 55, 48]]
    path = tmp_path / SYMBOLIC["chorales"][0]
    path.parent.mkdir()
    with gzip.open(path, "wt") as file:
        json.dump({"train": [steps], "valid": [], "test": []}, file)
    (piece,) = load_symbolic("chorales", tmp_path).train
    grid = piece.grid
    assert [part.name for part in grid.parts] == ["soprano", "alto", "tenor", "bass"]
    notes = sorted(zip(grid.part, grid.onset, grid.duration, grid.pitch, strict=True))
    assert [tuple(map(int, note)) for note in notes] == [
        (0, 0, 3, 67), (0, 3, 1, 69), (1, 0, 2, 60), (1, 2, 2, 62), (2, 1, 3, 55),
        (3, 0, 2, 48), (3, 3, 1, 48),
    ]  # fmt: skip
    sounding = [sorted(p for p in step if p >= 0) for step in steps]
    roll = grid.roll(lowest=0, keys=128)
    assert [np.flatnonzero(row).tolist() for row in roll] == sounding


def melody(path: Path, pitches: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = tuple(Note(480 * i, 480, pitch) for i, pitch in enumerate(pitches))
    write_midi(Score(480, notes, (Part("tune"),)), path)


def test_a_folder_of_styles_is_divided_for_good(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for n in range(60):
        melody(root / ("waltz" if n % 2 else "march") / f"{n}.mid", [40 + n, 50 + n, 45 + n])
    melody(root / "march" / "deep" / "copy.MID", [40, 50, 45])  # the notes of march/0.mid
    melody(root / "lost.mid", [60])
    (root / "waltz" / "text.mid").write_text("la la la")
    (root / "waltz" / "notes.txt").write_text("no music")
    first = load_midi_folder(root, steps_per_beat=4)
    sides = {
        piece.name: side
        for side in ("train", "validation", "test")
        for piece in getattr(first, side)
    }
    assert len(sides) == 61
    assert {side: list(sides.values()).count(side) > 0 for side in sides.values()} == dict.fromkeys(
        ("train", "validation", "test"), True
    )
    assert list(sides.values()).count("train") > 36
    assert sides["march/deep/copy.MID"] == sides["march/0.mid"]
    assert {piece.style for piece in first.train} == {"march", "waltz"}
    assert {(problem.path, problem.code) for problem in first.problems} == {
        ("lost.mid", "no_style"),
        ("waltz/text.mid", "not_midi"),
    }
    melody(root / "polka" / "new.mid", [70, 71, 72])
    again = load_midi_folder(root, steps_per_beat=4)
    for side in ("train", "validation", "test"):  # what was there stays where it was
        names = {piece.name for piece in getattr(again, side)}
        assert {name for name, its in sides.items() if its == side} <= names


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="jsb, nottingham"):
        load_symbolic("bach", tmp_path)
    with pytest.raises(DataError, match="is missing"):
        load_symbolic("jsb", tmp_path)
    path = tmp_path / SYMBOLIC["jsb"][0]
    path.parent.mkdir()
    path.write_bytes(b"no matrix at all")
    with pytest.raises(DataError, match="is not the file of 'jsb'"):
        load_symbolic("jsb", tmp_path)
    savemat(path, {"other": np.zeros(3)})
    with pytest.raises(DataError, match="is not the file of 'jsb'"):
        load_symbolic("jsb", tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        load_midi_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no MIDI file"):
        load_midi_folder(tmp_path)


COUNTS = {  # pieces and steps of each side, as the data's own description has them
    "jsb": ((229, 76, 77), (13807, 4602, 4725)),
    "nottingham": ((694, 173, 170), (176561, 45513, 44463)),
    "musedata": ((524, 135, 124), (245202, 82755, 64339)),
    "piano-midi": ((87, 12, 25), (75911, 8540, 19036)),
    "chorales": ((229, 76, 77), (55228, None, 18900)),
}


@needs_data
@pytest.mark.parametrize("name", COUNTS)
def test_the_real_files_hold_what_they_should(name: str) -> None:
    dataset = load_symbolic(name, DATA)
    pieces, steps = COUNTS[name]
    sides = (dataset.train, dataset.validation, dataset.test)
    assert tuple(map(len, sides)) == pieces
    for side, expected in zip(sides, steps, strict=True):
        if expected is not None:
            assert sum(len(piece.grid) for piece in side) == expected
    if name == "piano-midi":
        content = loadmat(DATA / SYMBOLIC[name][0])
        for piece, roll in zip(dataset.test, content["testdata"][0], strict=True):
            np.testing.assert_array_equal(piece.grid.roll(), roll == 1)
