"""Data sets of notes: what the real files hold, and folders of one's own."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from deepmusic.datasets.symbolic import (
    STYLES,
    SYMBOLIC,
    SymbolicDataset,
    has_styles,
    load_midi_folder,
    load_styles,
    load_symbolic,
)
from deepmusic.errors import DataError
from deepmusic.music import Note, Part, Score, TimeSignature, bars_of, midi_bytes, write_midi

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
    roll = grid.roll(lowest=0, pitches=128)
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


# ------------------------------------------------------------------------- packed MIDI files


def pack(root: Path, name: str, scores: Mapping[str, Score]) -> Path:
    """An archive as the data set ``name`` has it, with a folder and a text among the scores."""
    path = root / SYMBOLIC[name][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:xz") as archive:
        folder = tarfile.TarInfo("midi")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        contents = {inside: midi_bytes(score) for inside, score in scores.items()}
        for inside, content in {**contents, "midi/README.txt": b"no music"}.items():
            member = tarfile.TarInfo(inside)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def song(number: int, *, parts: int = 2, off: int = 0, upbeat: int = 0) -> Score:
    """Bars of a low note and chords, from an upbeat on; ``off`` ticks beside the beats."""
    notes = []
    for beat in range(upbeat, 32):
        onset = 480 * beat + off
        is_first = (beat - upbeat) % 4 == 0
        low = 40 + number % 12 if is_first else 55 + (beat * (number + 1)) % 9
        notes.append(Note(onset, 460, low, part=parts - 1))
        notes.append(Note(onset, 230, 72 + (beat + number) % 7))
    return Score(480, tuple(notes), tuple(Part(f"track {n}") for n in range(parts)))


def sides_of(dataset: SymbolicDataset) -> dict[str, str]:
    return {
        piece.name: side
        for side in ("train", "validation", "test")
        for piece in getattr(dataset, side)
    }


def test_packed_tunes_are_folk_in_melody_and_chords(tmp_path: Path) -> None:
    scores = {f"midi/{n}.mid": song(n) for n in range(12)}
    scores["midi/solo.mid"] = song(50, parts=1)
    pack(tmp_path, "nottingham-midi", scores)
    dataset = load_symbolic("nottingham-midi", tmp_path)
    assert sides_of(dataset).keys() == scores.keys()
    assert dataset.has_onsets
    assert dataset.steps_per_beat == 4
    for piece in (*dataset.train, *dataset.validation, *dataset.test):
        assert piece.style == "folk"
        assert [(part.name, part.program) for part in piece.grid.parts] == [
            ("melody", 40), ("chords", 21),
        ]  # fmt: skip
        score = scores[piece.name]
        onsets = sorted(note.onset // 120 for note in score.notes)
        assert sorted(piece.grid.onset.tolist()) == onsets
        # the side is by the notes, wherever the file lies
        columns = (piece.grid.onset, piece.grid.duration, piece.grid.pitch)
        content = b"".join(column.astype(np.int64).tobytes() for column in columns)
        tenth = int.from_bytes(hashlib.sha256(content).digest()[:8], "big") % 10
        expected = "test" if tenth == 9 else "validation" if tenth == 8 else "train"
        assert sides_of(dataset)[piece.name] == expected
    three = song(1, parts=3)
    three = Score(480, (*three.notes, Note(0, 480, 60, part=1)), three.parts)
    pack(tmp_path, "nottingham-midi", {"midi/three.mid": three})
    with pytest.raises(DataError, match=r"midi/three\.mid has 3 parts"):
        load_symbolic("nottingham-midi", tmp_path)


def test_songs_off_the_sixteenths_are_left_out_and_others_moved_to_their_bars(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(0)
    loose = Score(
        480,
        tuple(Note(int(t), 200, 60) for t in np.sort(random.integers(0, 20_000, 60))),
        (Part("free"),),
    )
    scores = {
        "midi/001.mid": song(1, parts=3),
        "midi/002.mid": song(2, parts=3, off=45),  # all of it beside the beats: it is moved back
        "midi/003.mid": song(3, parts=3, upbeat=1),
        "midi/004.mid": loose,
    }
    path = pack(tmp_path, "pop909", scores)
    dataset = load_symbolic("pop909", tmp_path)
    assert set(sides_of(dataset)) == {"midi/001.mid", "midi/002.mid", "midi/003.mid"}
    assert [(p.path, p.code) for p in dataset.problems] == [("midi/004.mid", "off_grid")]
    assert "off the sixteenths" in dataset.problems[0].message
    pieces = {p.name: p for p in (*dataset.train, *dataset.validation, *dataset.test)}
    for piece in pieces.values():
        assert piece.style == "pop"
        assert [part.name for part in piece.grid.parts] == ["melody", "second melody", "piano"]
        assert piece.grid.time_signatures == (TimeSignature(0, 4, 4),)
        low = piece.grid.onset[piece.grid.pitch < 55]
        assert set(low.tolist()) <= set(bars_of(piece.grid).start.tolist())
    assert pieces["midi/002.mid"].grid.onset[0] == 0
    assert pieces["midi/003.mid"].grid.onset[0] == 16  # a bar of rest less the upbeat

    # the index says which songs are in three
    path.with_name("index.csv").write_text("id,beats_per_measure\n001,3\n002,2\n003,4\n")
    again = load_symbolic("pop909", tmp_path)
    metres = {
        p.name: p.grid.time_signatures[0].numerator
        for p in (*again.train, *again.validation, *again.test)
    }
    assert metres == {"midi/001.mid": 3, "midi/002.mid": 4, "midi/003.mid": 4}


@pytest.mark.parametrize("fault", ["text", "cut short", "flipped", "no scores"])
@pytest.mark.parametrize("name", ["nottingham-midi", "pop909"])
def test_what_is_no_archive_of_midi_is_refused(name: str, fault: str, tmp_path: Path) -> None:
    path = pack(tmp_path, name, {f"midi/{n}.mid": song(n) for n in range(9)})
    content = bytearray(path.read_bytes())
    if fault == "text":
        content = bytearray(b"no archive at all")
    elif fault == "cut short":
        content = content[: len(content) // 2]
    elif fault == "flipped":
        content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    if fault == "no scores":
        with tarfile.open(path, "w:xz") as archive:
            member = tarfile.TarInfo("midi/text.mid")
            member.size = 8
            archive.addfile(member, io.BytesIO(b"la la la"))
    with pytest.raises(DataError, match=f"is not the file of '{name}'") as caught:
        load_symbolic(name, tmp_path)
    assert "\n" not in str(caught.value)


def write_small_styles(root: Path) -> None:
    """All four styles, a few pieces each."""
    pack(root, "nottingham-midi", {f"midi/{n}.mid": song(n) for n in range(3)})
    pack(root, "pop909", {f"songs/{n}.mid": song(n, parts=3) for n in range(3)})
    sides = {
        key: [np.tile(np.eye(4, 88, 30 + n, dtype=np.uint8), (6, 1)) for n in range(count)]
        for key, count in (("traindata", 3), ("validdata", 1), ("testdata", 2))
    }
    path = root / SYMBOLIC["piano-midi"][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {key: cells(rolls) for key, rolls in sides.items()})
    chorale = [[67, 60, 55, 48]] * 16 + [[69, 62, 57, 50]] * 16
    path = root / SYMBOLIC["chorales"][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        json.dump({"train": [chorale] * 2, "valid": [chorale], "test": []}, file)


def test_all_styles_are_one_data_set(tmp_path: Path) -> None:
    assert not has_styles(tmp_path)
    write_small_styles(tmp_path)
    assert has_styles(tmp_path)
    dataset = load_styles(tmp_path)
    assert dataset.steps_per_beat == 4
    assert dataset.has_onsets
    pieces = (*dataset.train, *dataset.validation, *dataset.test)
    count = {style: sum(piece.style == style for piece in pieces) for style in STYLES}
    assert count == {"chorale": 3, "folk": 3, "pop": 3, "classical": 6}
    assert len({piece.name for piece in pieces}) == len(pieces)
    fixed = [p.style for p in dataset.validation if p.style in ("chorale", "classical")]
    assert fixed == ["chorale", "classical"]
    for piece in pieces:
        assert piece.grid.steps_per_beat == 4
        assert piece.grid.time_signatures[0].denominator == 4
    tempi = {piece.style: piece.grid.tempos[0].us_per_beat for piece in pieces}
    assert tempi["chorale"] > tempi["classical"]  # sung slower than played, though neither says so
    for piece in pieces:
        if piece.style == "classical":
            # eighths become two sixteenths each, after rests of less than a bar
            assert piece.grid.duration.tolist() == [2] * 24
            assert np.diff(piece.grid.onset).tolist() == [2] * 23
            assert piece.grid.onset[0] < 16
            assert [part.name for part in piece.grid.parts] == ["piano"]
    (tmp_path / SYMBOLIC["pop909"][0]).unlink()
    assert not has_styles(tmp_path)
    with pytest.raises(DataError, match="'pop909' is read from it"):
        load_styles(tmp_path)


STYLE_COUNTS = {
    "chorale": (229, 76, 77),
    "folk": (844, 95, 95),
    "pop": (548, 70, 61),
    "classical": (87, 12, 25),
}


@needs_data
def test_the_real_folk_tunes_are_melodies_with_chords() -> None:
    dataset = load_symbolic("nottingham-midi", DATA)
    assert tuple(map(len, (dataset.train, dataset.validation, dataset.test))) == (844, 95, 95)
    assert not dataset.problems
    metres = set()
    for piece in dataset.test:
        grid = piece.grid
        assert set(grid.part.tolist()) <= {0, 1}
        assert len(grid.onset) > 10
        melody = grid.pitch[grid.part == 0]
        assert melody.mean() > grid.pitch.mean() - 1  # chords lie below
        metres |= {(s.numerator, s.denominator) for s in grid.time_signatures}
    assert {(4, 4), (6, 8), (3, 4)} <= metres


@needs_data
@pytest.mark.slow
def test_the_real_styles_are_all_there() -> None:
    dataset = load_styles(DATA)
    sides = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for style, counts in STYLE_COUNTS.items():
        got = tuple(sum(piece.style == style for piece in side) for side in sides.values())
        assert got == counts, style
    names = [piece.name for side in sides.values() for piece in side]
    assert len(set(names)) == len(names)
    assert {problem.code for problem in dataset.problems} == {"off_grid"}
    assert len(dataset.problems) == 773 - sum(STYLE_COUNTS["pop"])  # songs that there are
    for piece in dataset.test:
        assert piece.grid.steps_per_beat == 4
        assert len(piece.grid.onset)
    # copies of a tune, note for note, are on one side
    seen: dict[bytes, str] = {}
    for side, pieces in sides.items():
        for piece in pieces:
            if piece.style in ("folk", "pop"):
                grid = piece.grid
                first = int(grid.onset[0])
                content = b"".join(
                    column.astype(np.int64).tobytes()
                    for column in (grid.onset - first, grid.duration, grid.pitch)
                )
                assert seen.setdefault(content, side) == side, piece.name
