"""``deepmusic generate`` with the shipped composer: what is asked for is in the files it writes.

With a small composer of its own training the command is tested where that is trained, in
``composer/test_training_composer.py``.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import wave
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composer_runs import Row, rows_of, score_of
from training_runs import Call, refusal, start

from deepmusic.cli import deepmusic
from deepmusic.cli.generate import _Output
from deepmusic.composer import Composer, Request, Tune
from deepmusic.errors import CopyingError
from deepmusic.music import Part, Score, TimeSignature, midi_bytes, read_midi, write_midi
from deepmusic.pretrained import MODELS, load_composer
from faults import each_fault, small_files

pytestmark = pytest.mark.skipif(
    not MODELS["composer"].exists(), reason="this checkout has no composer yet"
)

COMMAND = [sys.executable, "-m", "deepmusic", "generate"]
# as where the extras are not installed
BASE_ALONE = [sys.executable, "-c", """
import sys
for name in ("torch", "onnx", "scipy", "sklearn", "pandas", "numba"):
    sys.modules[name] = None
from deepmusic.cli import run
run()
""", "generate"]  # fmt: skip
SHORT = ["--bars", "4", "--candidates", "1"]
PLAIN = [*SHORT, "--no-wav", "--no-picture"]
FORMS = ("json", "mid", "png", "wav")


def names(folder: Path) -> list[str]:
    """All that lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(autouse=True)
def no_soundfont(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine happens to have must not matter."""
    monkeypatch.setattr("deepmusic.music.find_soundfont", lambda: None)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder one is in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that is made of one tune."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepmusic.music.find_soundfont", lambda: None)
        command = ["generate", "--style", "folk", "--seed", "7", *SHORT, "-o", f"{folder}/tune"]
        assert deepmusic.main(command, standalone_mode=False) == 0
    return folder


@pytest.mark.slow
def test_a_tune_is_written_in_all_forms_and_they_agree(written: Path) -> None:
    from matplotlib.image import imread

    assert names(written) == [f"tune.{form}" for form in FORMS]
    content = (written / "tune.mid").read_bytes()
    score = read_midi(content)
    report = json.loads((written / "tune.json").read_text(encoding="utf-8"))
    assert report["midi_sha256"] == hashlib.sha256(content).hexdigest()
    assert report["notes"] == len(score.notes) > 0
    assert report["seconds"] == pytest.approx(score.seconds, abs=0.01)
    assert (report["bars"], score.beats) == (4, 16)
    assert report["request"]["style"] == {"folk": 1}
    assert report["sound"] == "built-in synthesiser"
    assert [part.name for part in score.parts] == ["melody", "chords"]
    with wave.open(str(written / "tune.wav")) as sound:
        assert (sound.getnchannels(), sound.getsampwidth()) == (2, 2)
        length_s = sound.getnframes() / sound.getframerate()
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    assert length_s == pytest.approx(score.seconds + 2.5, abs=0.01)
    assert np.abs(samples).max() > 1000
    picture = imread(written / "tune.png")
    assert picture.shape[0] > 100
    assert picture.std() > 0.01  # something is drawn


@pytest.mark.slow
def test_a_tune_is_recreated_bit_for_bit_in_another_process(written: Path, tmp_path: Path) -> None:
    """Without PyTorch, with more threads and other hashes, in another folder."""
    done = subprocess.run(
        [*BASE_ALONE, "--again", written / "tune.json", "-o", "twin"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "2",
            "PYTHONHASHSEED": "77",
            "XDG_DATA_HOME": str(tmp_path),
            "XDG_DATA_DIRS": str(tmp_path),
            "DEEPMUSIC_SOUNDFONT": "",
        },
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("twin.mid: 4 bars of ")
    assert names(tmp_path) == [f"twin.{form}" for form in FORMS]
    for form in ("mid", "wav", "json"):
        first, second = written / f"tune.{form}", tmp_path / f"twin.{form}"
        assert first.read_bytes() == second.read_bytes(), form


@pytest.mark.slow
def test_one_of_several_that_only_copies_is_reported_and_the_others_are_written(
    here: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose = Composer.compose

    def compose_or_copy(composer: Composer, request: Request) -> Tune:
        if request.seed == 6:
            raise CopyingError("All 4 candidates copy.")
        return compose(composer, request)

    monkeypatch.setattr(Composer, "compose", compose_or_copy)
    requested = ["--style", "folk", *PLAIN]
    done = call("generate", *requested, "--seed", "5", "--count", "3", "-o", "t")
    assert done.status == 1
    assert done.error == "deepmusic: seed 6: All 4 candidates copy.\n"
    assert [line.partition(":")[0] for line in done.output.splitlines()] == ["t-1.mid", "t-3.mid"]
    assert names(here) == ["t-1.json", "t-1.mid", "t-3.json", "t-3.mid"]
    assert call("generate", *requested, "--seed", "7", "-o", "alone").status == 0
    assert (here / "alone.mid").read_bytes() == (here / "t-3.mid").read_bytes()
    # one alone that fails is refused
    done = call("generate", *requested, "--seed", "6", "-o", "none")
    assert refusal(done, status=1) == "All 4 candidates copy."


Generate = Callable[..., Score]


@pytest.fixture
def generate(here: Path, call: Call) -> Generate:
    """``generate("--style", "folk")``: the notes of the MIDI file that is written."""

    def generate(*options: object, seed: int = 1) -> Score:
        given = ["--seed", seed, "--candidates", "1", "--no-wav", "--no-picture", "-o", "made"]
        done = call("generate", *given, *options)
        assert (done.status, done.error) == (0, "")
        return read_midi(here / "made.mid")

    return generate


def report(here: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((here / "made.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.slow
@pytest.mark.parametrize("style", ["chorale", "folk"])
def test_length_tempo_metre_and_key_are_those_requested(
    generate: Generate, here: Path, style: str
) -> None:
    metre = ["--metre", "3/4"] if style == "folk" else []
    beats = 3 if metre else 4
    requested = ["--bars", "5", "--tempo", "93.5", "--key", "F# minor", *metre]
    score = generate("--style", style, *requested)
    assert score.time_signatures == (TimeSignature(0, beats, 4),)
    assert score.beats == 5 * beats
    assert [tempo.beats_per_minute for tempo in score.tempos] == [pytest.approx(93.5, abs=0.01)]
    assert [(key.sharps, key.is_minor) for key in score.key_signatures] == [(3, True)]
    # the end is on the tonic triad: F#, A, C#
    last = [n.pitch % 12 for n in score.notes if n.onset + n.duration > score.end - 480]
    assert set(last) <= {6, 9, 1}
    assert report(here)["key"] == "F# minor"


# four bars in D major, with notes that are struck again
TWINKLE: list[Row] = [
    (0, 1, 74, 0), (1, 1, 74, 0), (2, 1, 81, 0), (3, 1, 81, 0),
    (4, 1, 83, 0), (5, 1, 83, 0), (6, 2, 81, 0),
    (8, 1, 79, 0), (9, 1, 79, 0), (10, 1, 78, 0), (11, 1, 78, 0),
    (12, 1, 76, 0), (13, 1, 76, 0), (14, 2, 74, 0),
]  # fmt: skip
CHORDS: list[Row] = [
    (4 * bar, 4, root + third, 1)
    for bar, root in enumerate((50, 55, 57, 50))
    for third in (0, 4, 7)
]


@pytest.fixture
def tune(here: Path) -> Path:
    """A melody with chords, as folk has it."""
    write_midi(score_of(TWINKLE + CHORDS, bpm=90), here / "given.mid")
    return here / "given.mid"


@pytest.mark.slow
def test_only_the_named_bars_are_rewritten(generate: Generate, tune: Path) -> None:
    before = rows_of(read_midi(tune))
    made = generate("--style", "folk", "--primer", tune, "--infill", "2:3")
    after = rows_of(made)
    assert made.beats == 16
    for outside in (lambda onset: onset < 4, lambda onset: onset >= 12):
        assert [row for row in after if outside(row[0])] == [
            row for row in before if outside(row[0])
        ]
    inside = [row for row in after if 4 <= row[0] < 12]
    assert inside
    assert inside != [row for row in before if 4 <= row[0] < 12]


@pytest.mark.slow
def test_all_that_is_given_stays_and_the_melody_is_named(
    generate: Generate, here: Path, tune: Path
) -> None:
    """Played unevenly, in an instrument of its own, in ticks that sixteenths do not divide."""
    score = read_midi(tune)
    uneven = tuple(
        replace(note, onset=note.onset + index % 7, velocity=40 + index)
        for index, note in enumerate(score.notes)
    )
    score = replace(score, ticks_per_beat=450, notes=uneven, parts=(Part("a", 40), Part("b", 9)))
    write_midi(score, tune)
    for options in (
        ["--primer", tune],
        ["--harmonize", tune],
        ["--harmonize", tune, "--melody", 2],
    ):
        made = generate("--style", "folk", *options)
        assert made.ticks_per_beat == 450
        assert made.parts[:2] == score.parts
        assert set(score.notes) <= set(made.notes)
        assert (made.tempos, made.time_signatures) == (score.tempos, score.time_signatures)
        if "--harmonize" in options:
            part, name = (2, "b") if "--melody" in options else (1, "a")
            (line,) = [line for line in report(here)["warnings"] if "melody" in line]
            assert line.startswith(f"The melody is the top of part {part} of 2 ({name});")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--style", "jazz"], 2, "'jazz'; there are chorale, folk, pop, classical"),
        (["--bars", "0"], 2, "4 to 256; got 0"),
        (["--tempo", "nan"], 2, "20 to 300"),
        (["--primer", "given.mid", "--infill", "4:5"], 2, "has 4 bars"),
        (["--primer", "given.mid", "--infill", "2:x"], 2, "FROM:TO, such as 5:8"),
        (["--style", "classical", "--harmonize", "given.mid"], 2, "has one part"),
        (["--melody", "2"], 2, "name the piece too"),
        (
            ["--harmonize", "given.mid", "--melody", "3"],
            2,
            "has no part 3; it has 1 part 1, 2 part 2",
        ),
        (["--primer", "text.mid"], 1, "is not a MIDI file"),
        (["--model", "classifier"], 1, "is not a composer"),
        (["--model", "given.mid"], 1, "not a DeepMusic model"),
        (["--model", "lost"], 1, "There is no model 'lost'"),
        (["--again", "given.mid"], 2, "is not the JSON file of a tune"),
        (["--again", "."], 2, "cannot be read"),
        (["--again", "deep.json"], 2, "is not the JSON file of a tune"),
        (["--again", "tune.json", "--tempo", "90"], 2, "give --again alone"),
        (["--again", "tune.json", "--count", "2"], 2, "give --again alone"),
        (["--again", "tune.json", "--no-ending"], 2, "give --again alone"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_request_is_one_sentence_and_writes_nothing(
    options: list[str], status: int, message: str, tune: Path, here: Path, call: Call
) -> None:
    (here / "text.mid").write_text("la la la")
    (here / "deep.json").write_text("[" * 100_000)
    (here / "tune.json").write_text("{}")
    before = names(here)
    done = call("generate", *options, "--no-wav", "--no-picture")
    assert message in refusal(done, status=status)
    assert names(here) == before


def asking(content: dict[str, Any], **changed: object) -> str:
    return json.dumps({**content, "request": {**content["request"], **changed}})


def naming(content: dict[str, Any], path: str) -> str:
    return json.dumps({**content, "files": {path: "0123456789abcdef"}})


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda given: json.dumps(given)[:-100],
        lambda given: json.dumps(given).encode().replace(b"folk", b"f\xfflk"),
        lambda given: json.dumps({**given, "midi_sha256": 3}),
        partial(naming, path="lost.mid"),
        partial(naming, path="a\0b.mid"),
        partial(asking, style={"polka": 1}),
        partial(asking, tempo="fast"),
        partial(asking, temperature=[0.8]),
        partial(asking, candidates=1e9),
        partial(asking, primer="lost.mid"),
        partial(asking, primer="a\0b.mid"),
    ],
    ids=[
        "cut", "no-utf8", "sha", "lost-file", "null-file", "style", "tempo", "temperature",
        "candidates", "lost-primer", "null-primer",
    ],
)  # fmt: skip
def test_a_damaged_record_is_one_sentence_and_writes_nothing(
    damage: Callable[[Any], str | bytes], written: Path, here: Path, call: Call
) -> None:
    broken = damage(json.loads((written / "tune.json").read_text(encoding="utf-8")))
    (here / "a.json").write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    done = call("generate", "--again", "a.json", "-o", "new", "--no-wav", "--no-picture")
    assert refusal(done, status=done.status)
    assert done.status in (1, 2)
    assert names(here) == ["a.json"]


@pytest.mark.parametrize("content", [None, b"", b"no SoundFont, but text"])
def test_an_unusable_soundfont_is_refused_before_anything_is_written(
    content: bytes | None, here: Path, call: Call
) -> None:
    if content is not None:
        (here / "font.sf2").write_bytes(content)
    before = names(here)
    done = call("generate", "--style", "folk", *SHORT, "--soundfont", "font.sf2", "-o", "out")
    assert "font.sf2" in refusal(done, status=1)
    assert names(here) == before


@pytest.mark.slow
def test_a_full_disk_leaves_no_part_of_the_sound(here: Path, call: Call) -> None:
    with small_files(100_000):
        done = call("generate", "--style", "folk", *SHORT, "--no-picture", "-o", "out")
    assert "out.wav could not be written: the file would be larger" in refusal(done, status=1)
    assert names(here) == ["out.mid"]
    assert read_midi(here / "out.mid").notes


@pytest.mark.slow
def test_whatever_fails_no_file_of_a_tune_is_half(monkeypatch: pytest.MonkeyPatch) -> None:
    tune = load_composer("composer").compose(
        Request(style={"folk": 1.0}, seed=7, bars=4, candidates=1)
    )
    sound = np.zeros((9000, 2), np.float32)
    monkeypatch.setattr("deepmusic.music.sound.render", lambda *_, **__: sound)
    output = _Output(wav=True, font=None, picture=False, musicxml=False)

    def whole(folder: Path) -> None:
        record = folder / "a.json"
        if record.exists():
            digest = hashlib.sha256((folder / "a.mid").read_bytes()).hexdigest()
            assert json.loads(record.read_text())["midi_sha256"] == digest
        if (folder / "a.wav").exists():
            with wave.open(str(folder / "a.wav")) as file:
                assert file.getnframes() == 9000

    each_fault(lambda folder: output.write(tune, folder / "a"), whole)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to a child here")
def test_ctrl_c_leaves_whole_tunes_and_nothing_else(tmp_path: Path) -> None:
    options = ["--style", "folk", "--bars", 12, "--candidates", 1, "--count", 500, "--seed", 1]
    process = start([*COMMAND, *options, "--no-picture", "-o", "t"], cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("t-1.mid: 12 bars")
    process.send_signal(signal.SIGINT)  # while the second tune is written
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip() == "deepmusic: interrupted"
    left = names(tmp_path)
    assert not [name for name in left if name.endswith(".tmp")]
    stems = {name.partition(".")[0] for name in left if name.endswith(".json")}
    assert len(stems) in (1 + output.count("\n"), 2 + output.count("\n"))
    for stem in stems:
        given = json.loads((tmp_path / f"{stem}.json").read_text(encoding="utf-8"))
        content = (tmp_path / f"{stem}.mid").read_bytes()
        assert hashlib.sha256(content).hexdigest() == given["midi_sha256"]
        assert midi_bytes(read_midi(content)) == content
        with wave.open(str(tmp_path / f"{stem}.wav")) as sound:
            assert sound.getnframes() > 2 * sound.getframerate()
