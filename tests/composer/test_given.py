"""Given pieces: nothing that is given changes, whatever the file; mido is the oracle."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from hypothesis import assume, given as property_of, settings, strategies as st

from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.given import merged_grid, read_given
from deepmusic.composer.planning import Plan, StyleProfile, plan_request
from deepmusic.composer.request import Request
from deepmusic.composer.splicing import spliced
from deepmusic.errors import RequestError, ScoreError
from deepmusic.music import Grid, read_midi

CASES = Path(__file__).resolve().parents[3] / "shared" / "data" / "cases" / "midi"
ODD = CASES.parents[1] / "odd" / "midi"
CONFIG = ComposerConfig(styles=("duo",), parts=3)
PROFILE = StyleProfile(
    parts=(("tune", 73), ("chords", 21)), metres=((4, 4, 0.8), (3, 4, 0.2)), minor_share=0.5,
    tempo=100.0, bars=16, ranges=((60, 84), (40, 66)), pieces=9,
)  # fmt: skip


def planned(**options: Any) -> Plan:
    poses = np.zeros((1, CONFIG.pose_dim), np.float32)
    return plan_request(Request(style={"duo": 1}, **options), CONFIG, {"duo": PROFILE}, poses)


def composed(plan: Plan, seed: int) -> Grid:
    """Any notes that a plan allows, beside the fixed ones, with many of the same pitches."""
    random = np.random.default_rng(seed)
    assert plan.fixed is not None
    assert plan.is_fixed is not None
    fixed, steps = plan.fixed, plan.fixed.steps
    rows = np.stack([fixed.onset, fixed.onset + fixed.duration, fixed.pitch, fixed.part], axis=1)
    parts = len(PROFILE.parts)
    is_taken = np.zeros((steps, parts, 128), bool)
    for onset, end, pitch, part in rows.tolist():
        is_taken[onset:end, part, pitch] = True
    # right before and after given notes, where rounding may let them meet, and anywhere
    wanted = [(end, end + 3, pitch, part) for _, end, pitch, part in rows.tolist()]
    wanted += [(max(onset - 3, 0), onset, pitch, part) for onset, _, pitch, part in rows.tolist()]
    for _ in range(2 * steps):
        onset, length, part, pitch = random.integers([0, 0, 0, 40], [steps, 9, parts, 90]).tolist()
        wanted.append((onset, onset + length + 1, pitch, part))
    new = []
    for onset, end, pitch, part in wanted:
        cells = (slice(onset, min(end, steps)), part)
        is_free = onset < steps and onset < end and not plan.is_fixed[cells].any()
        if is_free and not is_taken[(*cells, pitch)].any():
            is_taken[(*cells, pitch)] = True
            new.append((onset, min(end, steps), pitch, part))
    columns = np.concatenate([rows, np.array(new, np.int64).reshape(-1, 4)]).T
    return merged_grid(fixed.steps_per_beat, columns, parts, fixed.steps_per_beat, steps)


def result(plan: Plan, seed: int = 0, *, is_under: bool = False) -> bytes:
    assert plan.given is not None
    assert plan.fixed is not None
    return spliced(
        plan.given,
        composed(plan, seed),
        plan.fixed,
        shift=plan.shift,
        parts=plan.parts,
        is_under=is_under,
        tempo=plan.tempo_limits,
    )


Rows = Counter[tuple[Any, ...]]


def contents(data: bytes) -> tuple[Rows, Rows, Rows]:
    """What a file holds.

    Notes (track, channel, program, pitch, velocity, onset, end), all other events, and where a
    pitch begins that sounds.
    """
    notes: Rows = Counter()
    others: Rows = Counter()
    clashes: Rows = Counter()
    for number, track in enumerate(mido.MidiFile(file=io.BytesIO(data)).tracks):
        now, programs, begun = 0, [0] * 16, defaultdict(list)
        for message in track:
            now += message.time
            if message.type in ("note_on", "note_off"):
                key = (message.channel, message.note)
                if message.type == "note_on" and message.velocity:
                    clashes[number, now, key] += bool(begun[key])
                    begun[key].append((programs[message.channel], message.velocity, now))
                else:
                    program, velocity, onset = begun[key].pop(0)
                    row = (number, key[0], program, key[1], velocity, onset, now)
                    notes[row] += 1
                continue
            if message.type == "program_change":
                programs[message.channel] = message.program
            if message.type != "end_of_track":
                others[number, now, str(message.copy(time=0))] += 1
        assert not any(begun.values())
    return notes, others, +clashes


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Pieces of eight bars or so, with programs, bends, pedals, tempos and metres that change."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ticks = draw(st.sampled_from([1, 3, 24, 96, 480, 1000]))
    file = mido.MidiFile(type=draw(st.sampled_from([0, 1])), ticks_per_beat=ticks)
    first = [(0, mido.MetaMessage("set_tempo", tempo=int(random.integers(200_000, 900_000))))]
    metre = {"numerator": draw(st.sampled_from([2, 3, 4, 5, 6])), "denominator": 4}
    if draw(st.booleans()):
        pickup = mido.MetaMessage("time_signature", numerator=1, denominator=4)
        first += [(0, pickup), (ticks, mido.MetaMessage("time_signature", **metre))]
    else:
        first.append((0, mido.MetaMessage("time_signature", **metre)))
    if draw(st.booleans()):
        other = mido.MetaMessage("time_signature", numerator=3, denominator=8)
        first.append((20 * ticks, other))
        first.append((21 * ticks, mido.MetaMessage("set_tempo", tempo=700_000)))
    tracks = [first] + [[] for _ in range(file.type * draw(st.integers(0, 3)))]
    channels = draw(st.lists(st.integers(0, 15), min_size=1, max_size=5))
    for channel in [*channels, 3]:
        events = tracks[int(random.integers(len(tracks)))]
        free: dict[int, int] = {}
        for onset in np.sort(random.integers(0, 32 * ticks, 20)).tolist():
            pitch, velocity = int(random.integers(30, 100)), int(random.integers(1, 128))
            if random.random() < 0.2:
                program = int(random.integers(128))
                events.append(
                    (onset, mido.Message("program_change", channel=channel, program=program))
                )
                events.append((onset, mido.Message("pitchwheel", channel=channel, pitch=program)))
            if onset >= free.get(pitch, 0):
                free[pitch] = end = onset + int(random.integers(1, 4 * ticks + 1))
                note = {"channel": channel, "note": pitch}
                events.append((onset, mido.Message("note_on", velocity=velocity, **note)))
                events.append((end, mido.Message("note_off", **note)))
    for events in tracks:
        is_off = {"note_off": 0}
        events.sort(key=lambda event: (event[0], is_off.get(event[1].type, 1)))
        track, last = mido.MidiTrack(), 0
        for time, message in events:
            track.append(message.copy(time=time - last))
            last = time
        file.tracks.append(track)
    out = io.BytesIO()
    file.save(file=out)
    return out.getvalue()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("given") / "given.mid"


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@property_of(
    data=files(), kind=st.sampled_from(["primer", "infill", "harmonize"]), seed=st.integers(0, 99)
)
def test_everything_given_is_in_the_result(path: Path, data: bytes, kind: str, seed: int) -> None:
    path.write_bytes(data)
    bars = [float(bar.start) for bar in read_midi(data).bars()]
    first, last = 2, min(2 + seed % 3, len(bars) - 1)
    assume(last >= first and any(row[1] != 9 for row in contents(data)[0]))
    asked = {"primer": path, "infill": (first, last)} if kind == "infill" else {kind: path}
    plan = planned(**asked)
    made = result(plan, seed, is_under=kind == "harmonize")
    (before, events, clashes), (after, events_after, clashes_after) = map(contents, (data, made))
    assert not clashes_after - clashes
    low, high = bars[first - 1], bars[last]
    is_kept = {row: kind != "infill" or not low <= row[5] < high or row[1] == 9 for row in before}
    assert not events - events_after
    lost = before - after
    assert not [row for row in lost if is_kept[row]]
    new = after - before
    for track, *_, onset, end in new:
        if kind == "infill":
            assert low <= onset < end <= high
        elif kind == "primer":
            assert onset >= max(row[5] for row in before)
        else:
            assert track >= len(mido.MidiFile(file=io.BytesIO(data)).tracks)
    # what is added is a name and a program for each new track, and perhaps where the piece ends
    added = {text.split(" ")[0] for *_, text in events_after - events}
    assert added <= {
        "MetaMessage('track_name',",
        "program_change",
        "MetaMessage('marker',",
        "MetaMessage('midi_port',",
    }
    assert not read_midi(made).warnings


def tune(**changes: Any) -> mido.MidiFile:
    """Eight bars of quarter notes, of which tests change something."""
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    file.tracks.append(track)
    pitches = changes.get("pitches", [60, 62, 64, 65, 67, 69, 71, 72] * 4)
    length = changes.get("length", 480)
    for number, pitch in enumerate(pitches):
        channel = changes.get("channel", lambda _: 0)(number)
        wait = changes.get("wait", 0) if number == 0 else 0
        track.append(mido.Message("note_on", channel=channel, note=pitch, velocity=70, time=wait))
        track.append(mido.Message("note_off", channel=channel, note=pitch, time=length))
    for message in reversed(changes.get("first", [])):
        track.insert(0, message)
    return file


def saved(file: mido.MidiFile, path: Path) -> Path:
    file.save(path)
    return path


def test_a_pickup_is_a_bar_of_its_own(path: Path) -> None:
    metres = [mido.MetaMessage("time_signature", numerator=n, denominator=4) for n in (1, 4)]
    file = tune(pitches=[67] + [60, 62, 64, 65] * 4)
    file.tracks.insert(0, mido.MidiTrack([metres[0], metres[1].copy(time=480)]))
    plan = planned(primer=saved(file, path), infill=(2, 3))
    assert plan.given is not None
    assert plan.fixed is not None
    assert plan.given.ticks.tolist() == [0, 480, 2400, 4320, 6240, 8160]
    assert plan.given.steps.tolist() == [0, 16, 32, 48, 64, 80]
    assert plan.fixed.onset.tolist() == [12, *range(48, 80, 4)]
    assert str(plan.time_signature) == "4/4"
    continued = planned(primer=path)
    assert continued.given is not None
    assert continued.given.ticks[[5, -1]].tolist() == [8160, 8160 + 16 * 1920]


def test_silence_at_the_beginning_is_kept_but_not_read(path: Path) -> None:
    saved(tune(wait=100 * 1920), path)
    for options in ({"primer": path}, {"harmonize": path}):
        plan = planned(**options)
        assert plan.given is not None
        assert plan.given.ticks[0] == 100 * 1920
        assert "100 silent bars" in plan.warnings[0]
        assert (
            not contents(path.read_bytes())[0]
            - contents(result(plan, is_under="harmonize" in options))[0]
        )
    # bars are counted as the file has them
    plan = planned(primer=path, infill=(102, 103))
    assert plan.given is not None
    assert plan.given.ticks[list(plan.given.free)].tolist() == [101 * 1920, 103 * 1920]


@pytest.mark.parametrize(("us", "tempo"), [(16_777_215, 20), (100_000, 300)])
def test_a_tempo_out_of_range_is_brought_into_it(path: Path, us: int, tempo: int) -> None:
    saved(tune(first=[mido.MetaMessage("set_tempo", tempo=us)]), path)
    plan = planned(primer=path)
    assert plan.tempo == tempo
    assert f"was brought into range: {tempo}." in plan.warnings[-1]
    assert read_midi(result(plan)).tempos[0].beats_per_minute == tempo
    asked = planned(primer=path, tempo=90)
    assert [t.beats_per_minute for t in read_midi(result(asked)).tempos] == [pytest.approx(90)]


def test_a_long_piece_is_read_from_its_last_bars(path: Path) -> None:
    saved(tune(pitches=[60, 64, 67, 72] * 300), path)
    plan = planned(primer=path)
    assert plan.given is not None
    assert (plan.bars, plan.given.ticks[0]) == (256, 60 * 1920)
    assert "The model reads 240 bars of the 300 given." in plan.warnings
    plan = planned(harmonize=path)
    assert plan.given is not None
    assert (plan.bars, plan.given.ticks[0]) == (256, 44 * 1920)
    for first, last in ((2, 3), (150, 160), (299, 300)):
        plan = planned(primer=path, infill=(first, last))
        assert plan.given is not None
        edges = plan.given.ticks[list(plan.given.free)].tolist()
        assert edges == [(first - 1) * 1920, last * 1920]
    with pytest.raises(RequestError, match="At most 256 bars"):
        planned(primer=path, infill=(1, 300))


def test_wide_and_low_music_is_folded_for_the_model_alone(path: Path) -> None:
    saved(tune(pitches=[0, 127, 36, 96, 60, 72] * 5), path)
    for options in ({"primer": path}, {"harmonize": path}):
        plan = planned(**options)
        assert plan.fixed is not None
        assert "out of its range" in " ".join(plan.warnings)
        melody = plan.fixed.pitch[plan.fixed.part == 0]
        assert 21 <= melody.min() <= melody.max() <= 108
        made = result(plan, is_under="harmonize" in options)
        assert not contents(path.read_bytes())[0] - contents(made)[0]


def test_triplets_are_reported(path: Path) -> None:
    saved(tune(length=160), path)
    (warning,) = planned(primer=path).warnings
    # of 32 onsets a third of a beat apart, those on the beat stay
    assert warning.startswith("The model reads 66% of the onsets, such as those of triplets")
    saved(tune(length=120), path)
    assert planned(primer=path).warnings == ()


@pytest.mark.parametrize("metre", [(255, 1), (1, 128), (7, 8), (5, 4)])
def test_bars_of_any_metre_can_be_read(path: Path, metre: tuple[int, int]) -> None:
    over, under = metre
    signature = mido.MetaMessage("time_signature", numerator=over, denominator=under)
    saved(tune(first=[signature]), path)
    plan = planned(primer=path)
    assert plan.given is not None
    assert plan.fixed is not None
    assert plan.fixed.steps <= 48 * plan.bars
    assert set(plan.given.layout.length.tolist()) == {16}
    if metre in ((7, 8), (5, 4)):
        assert "The style has no" in plan.warnings[-1]
        assert np.diff(plan.given.ticks)[0] == 480 * 4 * over // under


# --------------------------------------------------------------------------------------- melody


def test_the_highest_steady_line_is_the_melody(path: Path) -> None:
    high = [72, 74, 76, 77] * 8
    lines = {
        "Bass": [p - 36 for p in high], "Bells": [100, *[0] * 31], "Flute": high,
        "Piano": [p - 3 for p in high],
    }  # fmt: skip
    file = mido.MidiFile(ticks_per_beat=480)
    for number, (name, pitches) in enumerate(lines.items()):
        file.tracks.append(
            tune(pitches=[p for p in pitches if p], channel=lambda _, n=number: n).tracks[0]
        )
        file.tracks[-1].insert(0, mido.MetaMessage("track_name", name=name))
    saved(file, path)
    piece = read_given(path)
    assert (piece.melody, piece.parts[0]) == (3, "Flute")
    said = "The melody is the top of part 3 of 4 (Flute)"
    assert said in " ".join(planned(harmonize=path).warnings)
    assert read_given(path, 1).parts[0] == "Bass"
    with pytest.raises(RequestError, match="no part 5; it has 1 Bass, 2 Bells, 3 Flute, 4 Piano"):
        planned(harmonize=path, melody=5)
    # a name tells more than the pitch
    file.tracks[3][0] = mido.MetaMessage("track_name", name="Vocals")
    assert read_given(saved(file, path)).parts[0] == "Vocals"


def test_chords_do_not_hide_a_line_and_top_notes_are_taken_of_chords(path: Path) -> None:
    chords = tune(pitches=[])
    for root in [60, 62, 64, 65] * 8:
        for kind in ("note_on", "note_off"):
            for third in (0, 4, 7):
                time = 480 if kind == "note_off" and third == 0 else 0
                chords.tracks[0].append(
                    mido.Message(kind, note=root + third, velocity=64, channel=1, time=time)
                )
    plan = planned(harmonize=saved(chords, path))
    assert plan.fixed is not None
    tops = plan.fixed.pitch[plan.fixed.part == 0].astype(int) + plan.shift
    assert tops.tolist() == [67, 69, 71, 72] * 8
    chords.tracks.append(tune(pitches=[64, 66, 65, 63] * 8).tracks[0])
    assert read_given(saved(chords, path)).melody == 2


@pytest.mark.parametrize("file_format", [0, 1])
def test_a_channel_for_each_note_is_one_part(path: Path, file_format: int) -> None:
    channels = [channel for channel in range(1, 16) if channel != 9]
    file = tune(channel=lambda number: channels[number % len(channels)])
    file.type = file_format
    piece = read_given(saved(file, path))
    assert len(piece.parts) == 1
    made = result(planned(harmonize=path), is_under=True)
    assert not contents(path.read_bytes())[0] - contents(made)[0]


def test_instruments_of_one_track_are_parts(path: Path) -> None:
    file = tune(channel=lambda number: number % 3)
    file.type = 0
    file.tracks[0].insert(0, mido.Message("program_change", channel=1, program=40))
    assert len(read_given(saved(file, path)).parts) == 3


def test_bends_and_pedals_stay_where_notes_never_end(path: Path) -> None:
    bend = mido.Message("pitchwheel", pitch=900)
    file = tune(first=[bend], pitches=[60, 64, 60])
    file.tracks[0].append(mido.Message("note_on", note=67, velocity=9))
    file.tracks[0].append(mido.Message("note_on", note=67, velocity=8, time=240))
    plan = planned(primer=saved(file, path))
    notes, events, _ = contents(result(plan))
    assert events[0, 0, str(bend)] == 1
    assert (0, 0, 0, 67, 9, 1440, 1680) in notes
    assert (0, 0, 0, 67, 8, 1680, 2160) in notes
    assert "never released" in plan.warnings[0]


# ---------------------------------------------------------------------------------------- files


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("options", [{}, {"infill": (2, 3)}, {"harmonize": True}], ids=str)
def test_the_cases_are_kept(options: dict[str, Any]) -> None:
    for file in sorted(CASES.glob("*.mid")):
        if "harmonize" in options:
            plan = planned(harmonize=file)
        else:
            plan = planned(primer=file, **options)
        made = read_midi(result(plan, is_under="harmonize" in options))
        score = read_midi(file)
        assert plan.given is not None
        low, high = plan.given.ticks[list(plan.given.free)]
        is_free = bool(options.get("infill"))
        kept = Counter(
            replace(n, part=0) for n in score.notes if not (is_free and low <= n.onset < high)
        )
        assert not kept - Counter(replace(n, part=0) for n in made.notes), file.name
        assert made.time_signatures == score.time_signatures
        if "tempo" not in file.name:
            assert made.tempos == score.tempos
    assert read_given(CASES / "a38_bass_first.mid").parts[0] == "Melody"
    assert len(read_given(CASES / "a43_mpe_16ch.mid").parts) == 1
    assert len(read_midi(CASES / "a02_running_after_sysex.mid").notes) == 34


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not ODD.is_dir(), reason="needs ../shared/data")
def test_odd_files_are_continued_or_refused_in_one_sentence() -> None:
    problems = []
    for file in sorted(ODD.iterdir()):
        for name in ("primer", "harmonize"):
            try:
                plan = planned(**{name: file})
            except (ScoreError, RequestError) as error:
                problems.append(str(error))
                continue
            made = read_midi(result(plan, is_under=name == "harmonize"))
            kept = Counter(replace(n, part=0) for n in read_midi(file).notes)
            assert not kept - Counter(replace(n, part=0) for n in made.notes), file.name
    assert all(problem.endswith(".") and "\n" not in problem for problem in problems)
