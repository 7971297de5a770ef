"""Symbolic data sets: what the real files hold, and your own MIDI folders."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from deepmusic.datasets.splits import PARTS
from deepmusic.datasets.symbolic import (
    STYLES,
    SYMBOLIC,
    Piece,
    SymbolicDataset,
    has_styles,
    load_midi_folder,
    load_styles,
    load_symbolic,
)
from deepmusic.errors import DataError
from deepmusic.music import Note, Part, Score, TimeSignature, midi_bytes, write_midi


def sides_of(dataset: SymbolicDataset) -> dict[str, tuple[Piece, ...]]:
    return {side: getattr(dataset, side) for side in PARTS}


def pieces_of(dataset: SymbolicDataset) -> dict[str, Piece]:
    return {piece.name: piece for side in sides_of(dataset).values() for piece in side}


def side_of(dataset: SymbolicDataset) -> dict[str, str]:
    return {piece.name: side for side, pieces in sides_of(dataset).items() for piece in pieces}


def file_of(root: Path, name: str) -> Path:
    path = root / SYMBOLIC[name][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_rolls(root: Path, name: str, sides: Mapping[str, list[np.ndarray]]) -> None:
    cells = {}
    for key, rolls in sides.items():
        cells[key] = np.empty((1, len(rolls)), object)
        cells[key][0, :] = rolls
    savemat(file_of(root, name), cells)


def write_chorales(root: Path, **sides: list) -> None:
    with gzip.open(file_of(root, "chorales"), "wt") as file:
        json.dump({"train": [], "valid": [], "test": []} | sides, file)


def write_packed(root: Path, name: str, scores: Mapping[str, Score | bytes]) -> Path:
    """A packed data set, with a text among the scores."""
    path = file_of(root, name)
    with tarfile.open(path, "w:xz") as archive:
        for inside, score in {**scores, "midi/README.txt": b"not music"}.items():
            content = score if isinstance(score, bytes) else midi_bytes(score)
            member = tarfile.TarInfo(inside)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def song(number: int, *, parts: int = 2, offset: int = 0, upbeat: int = 0) -> Score:
    """Bars of a low note and chords after an upbeat; ``offset`` ticks off the beats."""
    notes = []
    for beat in range(upbeat, 32):
        onset = 480 * beat + offset
        is_first = (beat - upbeat) % 4 == 0
        low = 40 + number % 12 if is_first else 55 + (beat * (number + 1)) % 9
        notes.append(Note(onset, 460, low, part=parts - 1))
        notes.append(Note(onset, 230, 72 + (beat + number) % 7))
    return Score(480, tuple(notes), tuple(Part(f"track {n}") for n in range(parts)))


def test_a_piano_roll_is_restored_from_its_grid(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rolls = {
        key: [(random.random((12 + n, 88)) < 0.05).astype(np.uint8) for n in range(count)]
        for key, count in (("traindata", 3), ("validdata", 2), ("testdata", 1))
    }
    write_rolls(tmp_path, "jsb", rolls)
    dataset = load_symbolic("jsb", tmp_path)
    for pieces, (key, expected) in zip(sides_of(dataset).values(), rolls.items(), strict=True):
        for number, (piece, roll) in enumerate(zip(pieces, expected, strict=True)):
            assert piece.name == f"jsb/{key[:-4]}/{number}"
            np.testing.assert_array_equal(piece.grid.roll(), roll == 1)
    assert not dataset.has_onsets


def test_chorales_have_voices_and_repeated_pitches_are_held(tmp_path: Path) -> None:
    steps = [[67, 60, -1, 48], [67, 60, 55, 48], [67, 62, 55, -1], [69, 62, 55, 48]]
    write_chorales(tmp_path, train=[steps])
    (piece,) = load_symbolic("chorales", tmp_path).train
    grid = piece.grid
    assert [part.name for part in grid.parts] == ["soprano", "alto", "tenor", "bass"]
    notes = sorted(zip(grid.part, grid.onset, grid.duration, grid.pitch, strict=True))
    assert [tuple(map(int, note)) for note in notes] == [
        (0, 0, 3, 67), (0, 3, 1, 69), (1, 0, 2, 60), (1, 2, 2, 62), (2, 1, 3, 55),
        (3, 0, 2, 48), (3, 3, 1, 48),
    ]  # fmt: skip


def test_a_folder_of_styles_has_a_stable_split(tmp_path: Path) -> None:
    root = tmp_path / "mine"

    def melody(name: str, *pitches: int) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        notes = tuple(Note(480 * i, 480, pitch) for i, pitch in enumerate(pitches))
        write_midi(Score(480, notes, (Part("tune"),)), root / name)

    for n in range(60):
        melody(f"{'waltz' if n % 2 else 'march'}/{n}.mid", 40 + n, 50 + n, 45 + n)
    melody("march/deep/copy.MID", 40, 50, 45)  # the notes of march/0.mid
    melody("lost.mid", 60)
    melody("#recycle/old.mid", 60, 61, 62)  # the bin of a file server
    melody("waltz/@eaDir/1.mid", 60, 61, 62)
    (root / "waltz" / "text.mid").write_text("la la la")
    (root / "waltz" / "notes.txt").write_text("not music")
    dataset = load_midi_folder(root, steps_per_beat=4)
    sides = side_of(dataset)
    counts = Counter(sides.values())
    assert counts.total() == 61
    assert counts["train"] > 36
    assert counts["validation"] > 0 < counts["test"]
    assert sides["march/deep/copy.MID"] == sides["march/0.mid"]
    assert {piece.style for piece in dataset.train} == {"march", "waltz"}
    assert {(problem.path, problem.code) for problem in dataset.problems} == {
        ("lost.mid", "no_style"),
        ("waltz/text.mid", "not_midi"),
    }
    melody("polka/new.mid", 70, 71, 72)
    assert side_of(load_midi_folder(root, steps_per_beat=4)).items() >= sides.items()


def test_other_files_and_folders_are_refused(tmp_path: Path) -> None:
    for sentence, name, prepare in (
        ("jsb, nottingham", "bach", lambda: None),
        ("is missing", "jsb", lambda: None),
        ("not the file of 'jsb'", "jsb", lambda: file_of(tmp_path, "jsb").write_bytes(b"none")),
        (
            "not the file of 'jsb'",
            "jsb",
            lambda: write_rolls(tmp_path, "jsb", {"other": [np.eye(3)]}),
        ),
        (
            r"chorale is \(steps, 4\)",
            "chorales",
            lambda: write_chorales(tmp_path, train=[[[1, 2]]]),
        ),
    ):
        prepare()
        with pytest.raises(DataError, match=sentence):
            load_symbolic(name, tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        load_midi_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no MIDI file"):
        load_midi_folder(tmp_path)


@pytest.mark.parametrize("fault", ["text", "cut", "flipped", "no scores"])
@pytest.mark.parametrize("name", ["nottingham-midi", "pop909"])
def test_damaged_archives_are_refused(name: str, fault: str, tmp_path: Path) -> None:
    scores = {"midi/text.mid": b"la la la"} if fault == "no scores" else {"midi/1.mid": song(1)}
    path = write_packed(tmp_path, name, scores)
    content = bytearray(path.read_bytes())
    if fault == "flipped":
        content[len(content) // 2] ^= 0xFF
    path.write_bytes({"text": b"la la", "cut": content[: len(content) // 2]}.get(fault, content))
    with pytest.raises(DataError, match=f"is not the file of '{name}'") as caught:
        load_symbolic(name, tmp_path)
    assert "\n" not in str(caught.value)


def test_packed_tunes_are_folk_with_melody_and_chords(tmp_path: Path) -> None:
    scores = {f"midi/{n}.mid": song(n) for n in range(12)}
    scores["midi/solo.mid"] = song(50, parts=1)
    write_packed(tmp_path, "nottingham-midi", scores)
    dataset = load_symbolic("nottingham-midi", tmp_path)
    assert (dataset.has_onsets, dataset.steps_per_beat) == (True, 4)
    pieces = pieces_of(dataset)
    assert pieces.keys() == scores.keys()
    for name, piece in pieces.items():
        parts = [(part.name, part.program) for part in piece.grid.parts]
        assert (piece.style, parts) == ("folk", [("melody", 40), ("chords", 21)])
        onsets = sorted(note.onset // 120 for note in scores[name].notes)
        assert sorted(piece.grid.onset.tolist()) == onsets
    three = song(1, parts=3)
    three = Score(480, (*three.notes, Note(0, 480, 60, part=1)), three.parts)
    write_packed(tmp_path, "nottingham-midi", {"midi/three.mid": three})
    with pytest.raises(DataError, match=r"midi/three\.mid has 3 parts"):
        load_symbolic("nottingham-midi", tmp_path)


def test_songs_off_the_grid_are_skipped_and_others_moved_to_their_bars(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    onsets = np.sort(random.integers(0, 20_000, 60)).tolist()
    loose = Score(480, tuple(Note(onset, 200, 60) for onset in onsets), (Part("free"),))
    scores = {
        "midi/001.mid": song(1, parts=3),
        "midi/002.mid": song(2, parts=3, offset=45),  # off the beats as a whole: shifted back
        "midi/003.mid": song(3, parts=3, upbeat=1),
        "midi/004.mid": loose,
    }
    path = write_packed(tmp_path, "pop909", scores)
    dataset = load_symbolic("pop909", tmp_path)
    pieces = pieces_of(dataset)
    assert set(pieces) == {"midi/001.mid", "midi/002.mid", "midi/003.mid"}
    assert [(p.path, p.code) for p in dataset.problems] == [("midi/004.mid", "off_grid")]
    for piece in pieces.values():
        assert piece.style == "pop"
        assert [part.name for part in piece.grid.parts] == ["melody", "second melody", "piano"]
        assert piece.grid.time_signatures == (TimeSignature(0, 4, 4),)
        low = piece.grid.onset[piece.grid.pitch < 55]
        assert set(low.tolist()) <= set(piece.grid.bars().start.tolist())
    assert pieces["midi/002.mid"].grid.onset[0] == 0
    assert pieces["midi/003.mid"].grid.onset[0] == 16  # a bar of rest less the upbeat
    # the index says which songs are in three
    path.with_name("index.csv").write_text("id,beats_per_measure\n001,3\n002,2\n003,4\n")
    metres = {
        name: piece.grid.time_signatures[0].numerator
        for name, piece in pieces_of(load_symbolic("pop909", tmp_path)).items()
    }
    assert metres == {"midi/001.mid": 3, "midi/002.mid": 4, "midi/003.mid": 4}


def test_all_styles_are_one_data_set(tmp_path: Path) -> None:
    write_packed(tmp_path, "nottingham-midi", {f"midi/{n}.mid": song(n) for n in range(3)})
    write_packed(tmp_path, "pop909", {f"songs/{n}.mid": song(n, parts=3) for n in range(3)})
    scale = np.tile(np.eye(4, 88, 30, dtype=np.uint8), (6, 1))
    counts = {"traindata": 3, "validdata": 1, "testdata": 2}
    write_rolls(tmp_path, "piano-midi", {key: [scale] * count for key, count in counts.items()})
    assert not has_styles(tmp_path)
    with pytest.raises(DataError, match="'chorales' is read from it"):
        load_styles(tmp_path)
    chorale = [[67, 60, 55, 48]] * 16 + [[69, 62, 57, 50]] * 16
    write_chorales(tmp_path, train=[chorale] * 2, valid=[chorale])
    assert has_styles(tmp_path)
    dataset = load_styles(tmp_path)
    assert (dataset.steps_per_beat, dataset.has_onsets) == (4, True)
    styles = Counter(piece.style for side in sides_of(dataset).values() for piece in side)
    assert styles == {"chorale": 3, "folk": 3, "pop": 3, "classical": 6}
    fixed = [p.style for p in dataset.validation if p.style in ("chorale", "classical")]
    assert fixed == ["chorale", "classical"]
    pieces = pieces_of(dataset).values()
    for piece in pieces:
        assert piece.grid.steps_per_beat == 4
        assert piece.grid.time_signatures[0].denominator == 4
        if piece.style == "classical":
            # eighth notes last two steps, after a rest of less than a bar
            assert piece.grid.duration.tolist() == [2] * 24
            assert np.diff(piece.grid.onset).tolist() == [2] * 23
            assert piece.grid.onset[0] < 16
            assert [part.name for part in piece.grid.parts] == ["piano"]
    tempi = {piece.style: piece.grid.tempos[0].us_per_beat for piece in pieces}
    assert tempi["chorale"] > tempi["classical"]  # slower, though neither source says so


# --- the real files

COUNTS = {  # pieces and steps of each part, as published
    "jsb": ((229, 76, 77), (13807, 4602, 4725)),
    "nottingham": ((694, 173, 170), (176561, 45513, 44463)),
    "musedata": ((524, 135, 124), (245202, 82755, 64339)),
    "piano-midi": ((87, 12, 25), (75911, 8540, 19036)),
    "chorales": ((229, 76, 77), (55228, 18408, 18900)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_real_files_hold_what_they_should(shared_data: Path, name: str) -> None:
    root = shared_data / "symbolic"
    sides = sides_of(load_symbolic(name, root))
    counts, steps = COUNTS[name]
    assert tuple(map(len, sides.values())) == counts
    assert tuple(sum(piece.grid.steps for piece in side) for side in sides.values()) == steps
    if name == "piano-midi":
        rolls = loadmat(root / SYMBOLIC[name][0])["testdata"][0]
        for piece, roll in zip(sides["test"], rolls, strict=True):
            np.testing.assert_array_equal(piece.grid.roll(), roll == 1)


@pytest.mark.slow
def test_real_styles_keep_copies_together(tmp_path: Path, shared_data: Path) -> None:
    """All chorales and piano pieces, and every twentieth tune and song."""
    root = shared_data / "symbolic"
    for name in ("nottingham-midi", "pop909"):
        with tarfile.open(root / SYMBOLIC[name][0]) as archive:
            members = sorted((m for m in archive if m.isfile()), key=lambda m: m.name)[::20]
            contents = {m.name: archive.extractfile(m).read() for m in members}  # type: ignore
        write_packed(tmp_path, name, contents)
    for name in ("chorales", "piano-midi"):
        file_of(tmp_path, name).symlink_to(root / SYMBOLIC[name][0])
    dataset = load_styles(tmp_path)
    sides, side_of_piece = sides_of(dataset), side_of(dataset)
    counts = {
        style: tuple(sum(piece.style == style for piece in side) for side in sides.values())
        for style in STYLES
    }
    assert counts == {
        "chorale": (229, 76, 77), "folk": (42, 7, 3), "pop": (31, 0, 3), "classical": (87, 12, 25),
    }  # fmt: skip
    assert len(side_of_piece) == sum(map(len, sides.values()))
    assert {problem.code for problem in dataset.problems} == {"off_grid"}
    metres = set()
    copies: dict[bytes, str] = {}
    for name, piece in pieces_of(dataset).items():
        grid = piece.grid
        if piece.style == "folk":
            metres |= {(s.numerator, s.denominator) for s in grid.time_signatures}
        if piece.style in ("folk", "pop"):
            columns = (grid.onset - grid.onset[0], grid.duration, grid.pitch)
            content = b"".join(column.astype(np.int64).tobytes() for column in columns)
            side = side_of_piece[name]
            assert copies.setdefault(content, side) == side, name
    assert {(4, 4), (6, 8), (3, 4)} <= metres
