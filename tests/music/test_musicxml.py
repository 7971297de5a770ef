"""MusicXML, read back by partitura: the same notes, parts, bars and keys."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings, strategies as st

from deepmusic.errors import DeepMusicError, ScoreError
from deepmusic.music import KeySignature, Note, Part, Score, Tempo, TimeSignature, write_musicxml
from deepmusic.music.musicxml import _spelled

partitura = pytest.importorskip("partitura")


def read_back(score: Score, path: Path) -> Any:
    write_musicxml(score, path)
    return partitura.load_musicxml(path)


def notes_of(part: Any) -> list[tuple[Fraction, Fraction, int]]:
    """Onset and length in beats, and pitch, of the notes of partitura's part, ties joined."""
    beat = int(part.quarter_durations()[0, 1])
    return sorted(
        (Fraction(note.start.t, beat), Fraction(note.duration_tied, beat), note.midi_pitch)
        for note in part.notes_tied
    )


def expected(score: Score, part: int) -> list[tuple[Fraction, Fraction, int]]:
    """The same of a score, where a pitch that is struck again ends before."""
    ends: dict[tuple[int, int], int] = {}
    for note in score.notes_of(part):
        key = note.pitch, note.onset
        ends[key] = max(ends.get(key, 0), note.end)
    result = []
    beat = score.ticks_per_beat
    for (pitch, onset), end in ends.items():
        again = [later for other, later in ends if other == pitch and later > onset]
        stop = min([end, *again])
        result.append((Fraction(onset, beat), Fraction(stop - onset, beat), pitch))
    return sorted(result)


TRIO = Score(
    480,
    (
        # two voices, a chord, a triplet, ties over bars
        Note(0, 5 * 480, 72), Note(480, 160, 60), Note(640, 160, 62), Note(800, 160, 63),
        Note(960, 960, 60), Note(960, 960, 64), Note(5 * 480, 1320, 67),
        Note(0, 240, 40, part=1), Note(720, 480 * 7, 43, part=1),
        Note(480, 1200, 76, part=2), Note(1680, 90, 70, part=2),
    ),
    (Part("flute", 73), Part("bass", 32), Part("violin", 40)),
    tempos=(Tempo(0, 500_000), Tempo(1440, 751_000)),
    time_signatures=(TimeSignature(0, 3, 4), TimeSignature(2 * 1440, 6, 8)),
    key_signatures=(KeySignature(0, -3, is_minor=True), KeySignature(1440, 2)),
)  # fmt: skip


def test_a_score_comes_back(tmp_path: Path) -> None:
    read = read_back(TRIO, tmp_path / "a.musicxml")
    assert [part.part_name for part in read.parts] == ["flute", "bass", "violin"]
    for index, part in enumerate(read.parts):
        assert notes_of(part) == expected(TRIO, index)
        beat = int(part.quarter_durations()[0, 1])
        assert [m.start.t / beat for m in part.measures] == [0, 3, 6]
        signatures = [(t.start.t / beat, t.beats, t.beat_type) for t in part.time_sigs]
        assert signatures == [(0, 3, 4), (6, 6, 8)]
        keys = [(k.start.t / beat, k.fifths, k.mode) for k in part.key_sigs]
        assert keys == [(0, -3, "minor"), (3, 2, "major")]


def test_bars_are_full_in_every_voice_and_values_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.musicxml"
    write_musicxml(TRIO, path)
    root = ElementTree.parse(path).getroot()
    names = ("half", "quarter", "eighth", "16th", "32nd", "64th")
    quarters = {name: 2.0 ** (1 - position) for position, name in enumerate(names)}
    for measure in root.iter("measure"):
        lengths: dict[str, int] = {}
        for note in measure.iter("note"):
            duration = int(note.findtext("duration"))
            if note.find("chord") is None:
                voice = note.findtext("voice")
                lengths[voice] = lengths.get(voice, 0) + duration
            value = quarters[note.findtext("type")] * (1.5 if note.find("dot") is not None else 1)
            value *= 2 / 3 if note.find("time-modification") is not None else 1
            assert value * 48 == pytest.approx(duration)
        assert set(lengths.values()) == {3 * 48}  # 3/4 and 6/8
    tempos = [float(sound.get("tempo")) for sound in root.iter("sound")]
    assert tempos == [120, 80]
    programs = [int(p.text) for p in root.iter("midi-program")]
    assert programs == [74, 33, 41]


# onset, length, pitch, part
ROWS = st.tuples(st.integers(0, 40), st.integers(1, 30), st.integers(30, 90), st.integers(0, 1))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.lists(ROWS, min_size=1, max_size=12),
    st.sampled_from([(4, 4), (3, 4), (6, 8), (7, 8), (5, 4), (2, 2)]),
    st.sampled_from([3, 4, 12, 16]),
    st.integers(-7, 7),
)
def test_any_notes_on_a_grid_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, int, int, int]],
    metre: tuple[int, int],
    steps: int,
    sharps: int,
) -> None:
    notes = tuple(Note(onset, length, pitch, 80, part) for onset, length, pitch, part in rows)
    changes = {"time_signatures": (TimeSignature(0, *metre),)}
    changes["key_signatures"] = (KeySignature(0, sharps),)
    score = Score(steps, notes, (Part("a"), Part("b")), **changes)
    read = read_back(score, tmp_path_factory.mktemp("xml") / "a.musicxml")
    sounding = sorted({note.part for note in notes})
    assert [notes_of(part) for part in read.parts] == [expected(score, part) for part in sounding]


def test_drums_are_unpitched_on_channel_10(tmp_path: Path) -> None:
    score = Score(
        4,
        (Note(0, 4, 36), Note(4, 4, 38), Note(8, 1, 42), Note(0, 16, 60, part=1)),
        (Part("drums", is_drum=True), Part()),
    )
    path = tmp_path / "a.musicxml"
    write_musicxml(score, path)
    root = ElementTree.parse(path).getroot()
    drums, other = root.findall("part")
    assert len(list(drums.iter("unpitched"))) == 3
    assert not list(drums.iter("pitch"))
    assert drums.findtext(".//clef/sign") == "percussion"
    assert len(list(other.iter("pitch"))) == 1
    assert [c.text for c in root.iter("midi-channel")] == ["10", "1"]
    assert [p.text for p in root.iter("part-name")] == ["drums", "Part 2"]


def test_a_wide_part_has_two_staves(tmp_path: Path) -> None:
    score = Score(4, (Note(0, 4, 36), Note(0, 4, 76), Note(4, 4, 79), Note(20, 4, 40)))
    path = tmp_path / "a.musicxml"
    part = read_back(score, path).parts[0]
    assert notes_of(part) == expected(score, 0)
    assert {note.midi_pitch: note.staff for note in part.notes} == {36: 2, 40: 2, 76: 1, 79: 1}
    signs = [c.findtext("sign") for c in ElementTree.parse(path).getroot().iter("clef")]
    assert signs == ["G", "F"]


@pytest.mark.parametrize(
    ("sharps", "is_minor", "names"),
    [
        (0, False, "C C# D Eb E F F# G G# A Bb B"),
        (0, True, "C C# D D# E F F# G G# A Bb B"),
        (-3, True, "C Db D Eb E F F# G Ab A Bb B"),
        (4, False, "B# C# D D# E E# F# G G# A A# B"),
    ],
)
def test_pitches_are_spelled_by_the_key(sharps: int, is_minor: bool, names: str) -> None:
    signs = {0: "", 1: "#", -1: "b", 2: "##", -2: "bb"}
    naturals = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
    spelled = []
    for pitch in range(60, 72):
        step, octave, alter = _spelled(pitch, KeySignature(0, sharps, is_minor))
        assert 12 * (octave + 1) + naturals[step] + alter == pitch
        spelled.append(step + signs[alter])
    assert spelled == names.split()


def test_a_failed_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.musicxml"
    cases = {
        "no_notes": (Score(480, ()), "holds no note"),
        "off_grid": (Score(480, (Note(1, 480, 60),)), r"quantise the score first"),
        "too_long": (Score(1, (Note(4 * 4096, 1, 60),)), "more than 4,096 bars"),
    }
    for code, (score, message) in cases.items():
        with pytest.raises(ScoreError, match=message) as caught:
            write_musicxml(score, path)
        assert caught.value.code == code
    monkeypatch.setitem(sys.modules, "partitura", None)
    with pytest.raises(DeepMusicError, match=r'pip install "deepmusic-capsules\[musicxml\]"$'):
        write_musicxml(TRIO, path)
    assert not list(tmp_path.iterdir())
