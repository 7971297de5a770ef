"""MIDI in and out: exact round trips, mido as a second opinion, every odd file, bad sources."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mido
import pytest
from hypothesis import given, settings
from scores import scores

from deepmusic.errors import DeepMusicError, ScoreError
from deepmusic.music import (
    KeySignature,
    Note,
    Part,
    Score,
    Tempo,
    TimeSignature,
    midi,
    midi_bytes,
    read_midi,
    write_midi,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

# As one process reads them all, a crash, a hang, stray output and memory eaten are seen.
READ_ALL = """
import json, sys
from deepmusic.errors import ScoreError
from deepmusic.music import midi_bytes, read_midi

outcomes = {}
for path in json.load(sys.stdin):
    try:
        score = read_midi(path)
    except ScoreError as error:
        outcomes[path] = {"code": error.code, "message": str(error)}
        continue
    outcomes[path] = {
        "notes": len(score.notes), "warnings": score.warnings, "seconds": score.seconds,
        "ticks_per_beat": score.ticks_per_beat, "again": None,
    }
    if score.end < 2**28:
        again = read_midi(midi_bytes(score))
        outcomes[path]["again"] = again == score and not again.warnings
try:
    # of this program alone: getrusage counts what the process was before it began
    status = open("/proc/self/status").read()
    memory_mb = int(status.split("VmHWM:")[1].split()[0]) / 1024
except OSError:
    memory_mb = 0
json.dump({"outcomes": outcomes, "memory_mb": memory_mb}, sys.stdout)
"""

REFUSED = {
    "odd/midi/format_9.mid": "damaged",
    "odd/midi/no_notes.mid": "no_notes",
    "odd/midi/no_tracks.mid": "no_notes",
    "odd/midi/empty_track.mid": "no_notes",
    "odd/midi/all_velocity_0.mid": "no_notes",
    "odd/midi/ticks_0.mid": "zero_ticks",
    "odd/midi/smpte.mid": "no_beats",
    "odd/midi/smpte_bad.mid": "no_beats",
    "odd/midi/empty.mid": "empty",
    "odd/midi/one_byte.mid": "not_midi",
    "odd/midi/text.mid": "not_midi",
    "odd/midi/header_cut.mid": "truncated",
    "odd/midi/gzip.mid": "not_midi",
    "odd/midi/junk_first.mid": "not_midi",
    "odd/midi/running_without_status.mid": "damaged",
    "odd/midi/vlq_too_long.mid": "damaged",
    "odd/midi/vlq_unending.mid": "damaged",
    "odd/midi/meta_length_beyond.mid": "damaged",
    "odd/midi/track_truncated.mid": "truncated",
    "odd/midi/sysex_unterminated.mid": "damaged",
    "odd/midi/ticks_overflow.mid": "too_long",
    "midi_genres/messy/Issue104_Bizarre_Love_Triangle2.mid": "damaged",
    "midi_genres/messy/empty.mid": "no_notes",
    "midi_genres/messy/made_zero_ticks_per_beat.mid": "zero_ticks",
    "midi_genres/messy/made_truncated_half.mid": "truncated",
    "midi_genres/messy/test-corrupt-file-missing-byte.mid": "truncated",
    "midi_genres/messy/test-empty-file.mid": "empty",
    "midi_genres/messy/test-empty.mid": "no_notes",
    "midi_genres/messy/test-illegal-message-all.mid": "damaged",
    "midi_genres/messy/test-illegal-message-f4.mid": "damaged",
    "midi_genres/messy/test-not-a-midi-file.mid": "not_midi",
    "midi_genres/messy/test-silence-all-notes-off.mid": "no_notes",
    "midi_genres/messy/test-silence-end-of-track.mid": "no_notes",
    "midi_genres/messy/test-silence-text-metaevent.mid": "no_notes",
}

# What was repaired, left out or doubtful is said; about all other files there is nothing to say.
WARNED = {
    "odd/midi/claims_fewer_tracks.mid": "all 2 were read",
    "odd/midi/format2.mid": "independent",
    "odd/midi/junk_last.mid": "200 bytes were ignored",
    "odd/midi/key_8_flats.mid": "impossible key signature",
    "odd/midi/key_invalid.mid": "impossible key signature",
    "odd/midi/meter_0_4.mid": "impossible time signature",
    "odd/midi/meter_denominator_2_255.mid": "impossible time signature",
    "odd/midi/tempo_0.mid": "impossible tempo",
    "odd/midi/note_on_without_off.mid": "4 notes were never released",
    "odd/midi/only_note_ons.mid": "16 notes were never released",
    "odd/midi/zero_duration.mid": "16 notes were without length",
    "odd/midi/track_length_4gb.mid": "end is missing",
    "odd/midi/track_length_beyond.mid": "end is missing",
    "odd/midi/track_length_short.mid": "135 bytes were ignored",
    "midi_genres/game/JENOVA.mid": "5 notes were never released",
    "midi_genres/game/lurk_in_dark.mid": "5 notes were never released",
    "midi_genres/messy/test-2-tracks-type-2.mid": "independent",
    "midi_genres/messy/test-corrupt-file-extra-byte.mid": "1 byte was ignored",
    "midi_genres/ragtime/bethena.mid": "2 notes were never released",
    "midi_genres/ragtime/magnetic.mid": "5 notes were never released",
    "midi_genres/ragtime/peacherine.mid": "2 notes were never released",
    "midi_genres/rock_pop/d6caebd1964d9e4a3c5ea59525230e2a.mid": "2 bytes were ignored",
}

# Salvaged otherwise than the manifest counts
NOTES = {
    "odd/midi/track_length_short.mid": 2,
    "odd/midi/data_byte_high_bit.mid": 2,  # a data byte above 127 counts as 127
}


def table(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


ODD = {f"odd/{row['file']}": row for row in table(SHARED / "odd" / "manifest.csv")}
ODD = {name: row for name, row in ODD.items() if row["kind"] != "audio"}
GENRES = {f"midi_genres/{r['file']}": r for r in table(SHARED / "midi_genres" / "check.csv")}


@pytest.fixture(scope="session")
def outcomes(shared_data: Path) -> dict[str, Any]:
    names = [*ODD, *GENRES]
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL],
        input=json.dumps([str(shared_data / name) for name in names]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert result["memory_mb"] < 400
    return {name: result["outcomes"][str(shared_data / name)] for name in names}


def test_every_odd_file_is_read_or_refused_with_a_reason(outcomes: dict[str, Any]) -> None:
    assert len(ODD) > 70
    for name, row in ODD.items():
        outcome = outcomes[name]
        if name not in REFUSED and row["kind"] == "midi":
            assert row["expectation"] != "reason", name
            assert outcome.get("notes") == NOTES.get(name, int(row["notes"])), (name, outcome)
        else:
            assert outcome.get("code") == REFUSED.get(name, "not_midi"), (name, outcome)
            assert row["expectation"] != "notes", name


def test_every_real_file_is_read_or_refused_with_a_reason(outcomes: dict[str, Any]) -> None:
    assert len(GENRES) > 110
    for name, row in GENRES.items():
        outcome = outcomes[name]
        assert outcome.get("code") == REFUSED.get(name), (name, outcome)
        if "code" in outcome or not row["notes"]:
            continue
        result = outcome["notes"]
        never_released = sum(
            int(warning.split()[0]) for warning in outcome["warnings"] if "released" in warning
        )
        assert result - never_released == int(row["notes"]), name
        assert outcome["ticks_per_beat"] == int(row["tpq"])


def test_what_is_read_is_written_as_it_is(outcomes: dict[str, Any]) -> None:
    read = {name: outcome for name, outcome in outcomes.items() if "notes" in outcome}
    assert [name for name, outcome in read.items() if outcome["again"] is None] == [
        "odd/midi/note_1e6_beats.mid"  # more ticks than a MIDI file may have between events
    ]
    assert [name for name, outcome in read.items() if outcome["again"] is False] == []


def test_repairs_are_told_and_nothing_else(outcomes: dict[str, Any]) -> None:
    for name, outcome in outcomes.items():
        if "message" in outcome:
            assert outcome["message"].startswith(repr(str(SHARED / name)))
            assert outcome["message"].endswith(".")
            assert "MiniMidi" not in outcome["message"]
        else:
            given = " ".join(outcome["warnings"])
            assert bool(given) == (name in WARNED), (name, given)
            assert WARNED.get(name, "") in given, (name, given)


@settings(max_examples=50, deadline=None)
@given(scores())
def test_writing_and_reading_is_exact(score: Score) -> None:
    content = midi_bytes(score)
    assert midi_bytes(replace(score)) == content
    again = read_midi(content)
    assert again == score
    assert again.warnings == ()
    assert midi_bytes(again) == content


def test_the_file_is_as_players_expect_it(tmp_path: Path) -> None:
    score = Score(
        480,
        (Note(0, 480, 60), Note(480, 480, 60), Note(0, 240, 36, 100, 1)),
        parts=(Part("Flöte", 73), Part("drums", 0, is_drum=True)),
        tempos=(Tempo(0, 600_000),),
        time_signatures=(TimeSignature(0, 6, 8),),
        key_signatures=(KeySignature(0, -3, True),),
        end=2000,
    )
    write_midi(score, tmp_path / "tune.mid")
    file = mido.MidiFile(tmp_path / "tune.mid")
    assert (file.type, file.ticks_per_beat, len(file.tracks)) == (1, 480, 2)
    melody, drums = file.tracks
    at_start = [message.type for message in melody if message.time == 0]
    first_note = at_start.index("note_on")
    assert {"set_tempo", "time_signature", "key_signature", "program_change"} <= set(
        at_start[:first_note]
    )
    described = {message.type: message for message in melody}
    assert described["set_tempo"].tempo == 600_000
    assert (described["time_signature"].numerator, described["key_signature"].key) == (6, "Cm")
    assert described["program_change"].program == 73
    notes = [message.type for message in melody if message.type.startswith("note")]
    assert notes == ["note_on", "note_off", "note_on", "note_off"]
    assert {m.channel for m in drums if m.type.startswith("note")} == {9}
    assert all(m.channel != 9 for m in melody if m.type.startswith("note"))
    assert sum(message.time for message in melody) >= score.end
    assert read_midi(tmp_path / "tune.mid") == score


def test_the_two_things_midi_cannot_say() -> None:
    silent = Score(4, (Note(0, 4, 60, part=1),), parts=(Part("rests"), Part("sings")))
    assert read_midi(midi_bytes(silent)).parts == (Part("sings"),)
    within = Score(4, (Note(0, 8, 60, 70), Note(2, 2, 60, 90)))
    assert read_midi(midi_bytes(within)).notes == (Note(0, 4, 60, 70), Note(2, 6, 60, 90))


def track(*events: bytes) -> bytes:
    body = b"".join(events) + b"\x00\xff\x2f\x00"
    header = b"MThd" + bytes([0, 0, 0, 6, 0, 0, 0, 1, 0, 100])
    return header + b"MTrk" + len(body).to_bytes(4, "big") + body


def test_a_note_never_released_lasts_a_beat_or_to_the_next_of_its_pitch() -> None:
    on = [b"\x00\x90\x3c\x40", b"\x1e\x90\x3c\x41", b"\x1e\x90\x40\x42"]
    score = read_midi(track(*on))
    assert [(n.onset, n.duration, n.velocity) for n in score.notes] == [
        (0, 30, 0x40),
        (30, 100, 0x41),
        (60, 100, 0x42),
    ]
    assert "3 notes were never released" in score.warnings[0]
    # of one pitch the first to begin is the first to end, so it is the second that has no end
    score = read_midi(track(*on[:2], b"\x00\x80\x3c\x00"))
    assert [(n.onset, n.duration) for n in score.notes] == [(0, 30), (30, 100)]
    score = read_midi(track(*on[:2], b"\x81\x48\x80\x3c\x00"))
    assert [(n.onset, n.duration) for n in score.notes] == [(0, 230), (30, 200)]


@pytest.mark.parametrize(
    ("source", "code"),
    [("missing.mid", "missing"), ("null\0.mid", "missing"), ("", "directory")],
)
def test_paths_without_a_file(source: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(ScoreError) as caught:
        read_midi(os.path.join(tmp_path, source))
    assert caught.value.code == code


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in the file system")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mid")
    with pytest.raises(ScoreError, match="not opened") as caught:
        read_midi(tmp_path / "pipe.mid")
    assert caught.value.code == "not_a_file"


def test_sources_of_all_kinds_and_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = Score(480, (Note(0, 480, 60),))
    content = midi_bytes(score)
    (tmp_path / "tune.mid").write_bytes(content)
    for source in (content, io.BytesIO(content), tmp_path / "tune.mid", str(tmp_path / "tune.mid")):
        assert read_midi(source) == score
    with open(tmp_path / "tune.mid", "rb") as file:
        assert read_midi(file) == score
    for wrong in (io.StringIO("MThd"), 5, None):
        with pytest.raises(TypeError, match="path, bytes or a binary file"):
            read_midi(wrong)  # type: ignore[arg-type]
    monkeypatch.setattr(midi, "MAX_BYTES", len(content) - 1)
    for source in (content, io.BytesIO(content), tmp_path / "tune.mid"):
        with pytest.raises(ScoreError) as caught:
            read_midi(source)
        assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_NOTES", 4, "5 notes"),
        ("MAX_PARTS", 1, "2 tracks"),
    ],
)
def test_too_much_is_refused(
    limit: str, value: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = Score(
        480,
        tuple(Note(i, 1, 60, part=i % 2) for i in range(5)),
        parts=(Part(), Part()),
        tempos=tuple(Tempo(i, 1) for i in range(5)),
    )
    content = midi_bytes(score)
    monkeypatch.setattr(midi, limit, value)
    with pytest.raises(ScoreError, match=message) as caught:
        read_midi(content)
    assert caught.value.code == "too_large"


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    for score, code in (
        (Score(480, ()), "no_notes"),
        (Score(480, (Note(2**28, 5, 60),)), "too_long"),
        (Score(480, (Note(0, 5, 60),), tempos=(Tempo(2**28, 1),)), "too_long"),
    ):
        with pytest.raises(ScoreError) as caught:
            write_midi(score, tmp_path / "tune.mid")
        assert caught.value.code == code
    with pytest.raises(DeepMusicError, match="folder does not exist"):
        write_midi(Score(480, (Note(0, 5, 60),)), tmp_path / "no" / "tune.mid")
    assert list(tmp_path.iterdir()) == []


READ_DAMAGED = """
import random, sys
from deepmusic.errors import ScoreError
from deepmusic.music import Note, Part, Score, midi_bytes, read_midi

score = Score(
    96,
    tuple(Note(24 * i, 24, 48 + 5 * i % 40, part=i % 3) for i in range(60)),
    parts=(Part("a"), Part("b", 30), Part("drums", is_drum=True)),
)
whole = midi_bytes(score)
chance = random.Random(0)
read = 0
for _ in range(500):
    damaged = bytearray(whole)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        position = chance.randrange(8, len(damaged))
        kind = chance.randrange(3)
        if kind == 0:
            damaged[position] = chance.choice([0, 127, 128, 255, chance.randrange(256)])
        elif kind == 1:
            del damaged[position : position + chance.randrange(1, 5)]
        else:
            damaged[position:position] = chance.randbytes(chance.randrange(1, 5))
    try:
        read_midi(bytes(damaged))
        read += 1
    except ScoreError as error:
        assert str(error).endswith("."), error
print(read)
"""


def test_no_damage_crashes_the_process() -> None:
    """Handed to symusic 0.5.9 as they are, some such files end it with a segmentation fault."""
    done = subprocess.run(
        [sys.executable, "-c", READ_DAMAGED], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert 50 < int(done.stdout) < 450
