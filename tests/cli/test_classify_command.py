"""``deepmusic classify`` with a classifier that needs no sound."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from ear_stand_in import needs_ear
from fake_classifier import COMMAND, FakeClassifier, Run
from training_runs import Call, refusal, start

from deepmusic.cli import deepmusic
from deepmusic.parallel import cores
from deepmusic.pretrained import MODELS
from deepmusic.store import Store

shipped = pytest.mark.skipif(
    not MODELS["classifier"].exists(), reason="this checkout has no weights yet"
)
CHECK = """
import sys
from deepmusic.cli import main
try:
    main()
finally:
    heavy = {"torch", "scipy", "sklearn", "matplotlib"} & set(sys.modules)
    assert not heavy, heavy
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    contents = {"a.mp3": "rock", "b.mp3": "unsure", "c.mp3": "broken", "d.flac": "classical"}
    for name, content in {**contents, "notes.txt": "rock"}.items():
        (folder / name).write_text(content)
    return folder


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(deepmusic, ["classify", *map(str, arguments)])


def test_text(fake: FakeClassifier, library: Path) -> None:
    result = invoke(library)
    assert result.exit_code == 1
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert names == ["rock", "unsure", "classical"]
    assert "c.mp3' is not a sound file." in result.stderr
    assert "1 of 4 files failed." in result.stderr


@pytest.mark.parametrize("jobs", [1, 2])
def test_json_keeps_the_order_and_goes_on(fake: FakeClassifier, library: Path, jobs: int) -> None:
    (library / "bug.mp3").write_text("bug")
    (library / "lost.mp3").write_text("lost")
    (library / "memory.mp3").write_text("memory")
    result = invoke(library, "--format", "json", "--jobs", jobs)
    assert result.exit_code == 1
    entries = json.loads(result.stdout)
    assert [os.path.basename(entry["path"]) for entry in entries] == sorted(
        path.name for path in library.iterdir() if path.suffix != ".txt"
    )
    by_name = {os.path.basename(entry["path"]): entry for entry in entries}
    assert by_name["a.mp3"]["genre"] == "rock"
    assert by_name["a.mp3"]["error"] is None
    assert by_name["b.mp3"]["genre"] is None
    assert by_name["b.mp3"]["top"][0] == {"genre": "pop", "probability": 0.7}
    assert by_name["bug.mp3"]["code"] == "unexpected"
    assert "RuntimeError: a bug" in by_name["bug.mp3"]["error"]
    assert by_name["memory.mp3"]["code"] == "memory"
    assert "segments" not in by_name["a.mp3"]
    assert "lost.mp3: 1.0 s of sound was decoded." in result.stderr


def test_csv(fake: FakeClassifier, library: Path) -> None:
    result = invoke(library, "--format", "csv", "--top", "1")
    rows = list(csv.DictReader(io.StringIO(result.stdout, newline="")))
    assert [row["genre"] for row in rows] == ["rock", "", "", "classical"]
    assert [row["unsure"] for row in rows] == ["false", "true", "false", "false"]
    assert rows[0]["top"] == "rock=0.7"


def test_timeline(fake: FakeClassifier, library: Path) -> None:
    result = invoke(library / "a.mp3", "--timeline")
    assert result.exit_code == 0
    assert "    0:00-0:06  rock   70%" in result.stdout
    (entry,) = json.loads(invoke(library / "a.mp3", "--timeline", "--format", "json").stdout)
    assert [segment["genre"] for segment in entry["segments"]] == ["rock"] * 3


@pytest.mark.slow
def test_pictures(fake: FakeClassifier, library: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.png"
    assert invoke(library / "a.mp3", "--timeline-picture", one).exit_code == 0
    assert one.read_bytes().startswith(b"\x89PNG")
    folder = tmp_path / "pictures"
    invoke(library, "--timeline-picture", folder)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["a.mp3.png", "b.mp3.png", "d.flac.png"]
    assert invoke(library, "--timeline-picture", one).exit_code == 2
    assert invoke(library / "a.mp3", "--timeline-picture", "x.jpg").exit_code == 2


def test_a_playlist_is_a_list_of_tracks(fake: FakeClassifier, library: Path) -> None:
    (library / "list.m3u").write_text("d.flac\ngone.mp3\nhttp://radio.example/live\na.mp3\n")
    result = invoke(library / "list.m3u", "--format", "json")
    assert result.exit_code == 1
    found = [(Path(entry["path"]).name, entry["code"]) for entry in json.loads(result.stdout)]
    assert found == [("d.flac", None), ("gone.mp3", "missing"), ("a.mp3", None)]
    assert result.stderr.splitlines()[0].endswith(
        "list.m3u': 1 of its entries are not local and are skipped."
    )


def test_more_jobs_than_cores_are_brought_down(fake: FakeClassifier, library: Path) -> None:
    jobs = cores() + 1
    result = invoke(library / "a.mp3", "--jobs", str(jobs))
    assert result.exit_code == 0
    assert result.stderr.startswith(f"--jobs {jobs}: one process per core is used, and there ")
    assert "--jobs" not in invoke(library / "a.mp3", "--jobs", str(cores())).stderr


def test_nothing_there(fake: FakeClassifier, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = invoke(tmp_path / "empty", tmp_path / "missing.mp3", "--format", "json")
    assert result.exit_code == 1
    assert [entry["code"] for entry in json.loads(result.stdout)] == ["no_files", "missing"]


@pytest.mark.slow
def test_odd_names_in_a_process_of_its_own(run: Run, tmp_path: Path) -> None:
    names = [b"line\nbreak.mp3", b"\x1b[31mred.mp3", b"latin1_\xe9.mp3", b"[bold]x.mp3"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_text("rock")
    done = run("classify", ".", "--format", "json", LC_ALL="C", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    paths = {os.fsencode(entry["path"]) for entry in json.loads(done.stdout)}
    assert paths == {b"./" + name for name in names}
    text = run("classify", ".").stdout
    assert text.count(b"\n") == 4
    assert b"\x1b" not in text


def test_a_pipe_does_not_hang(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "song.mp3")
    done = run("classify", "song.mp3", "--results", "kept.db")
    assert done.returncode == 1
    assert b"pipe" in done.stderr


@pytest.mark.slow
def test_killed_and_run_again(run: Run, tmp_path: Path) -> None:
    for index in range(8):
        (tmp_path / f"{index}.mp3").write_text(f"rock {index}")
    arguments = ["classify", ".", "--format", "json", "--results", "kept.db"]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        env={**os.environ, "FAKE_SLEEP_S": "0.2"},
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Store(tmp_path / "kept.db", "verdicts") as store:
        assert 3 <= len(store) < 8
    done = run(*arguments)
    assert done.returncode == 0
    assert len(json.loads(done.stdout)) == 8
    with Store(tmp_path / "kept.db", "verdicts") as store:
        assert len(store) == 8


def test_tags_are_written_and_undone(
    fake: FakeClassifier, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song, log, kept = tmp_path / "song.flac", tmp_path / "log.jsonl", tmp_path / "kept.db"
    soundfile.write(song, [0.0, 0.5] * 4000, 8000)
    before = song.read_bytes()
    classified: list[str] = []

    def rock(source: str, *, max_seconds: float, segments: bool) -> object:
        classified.append(source)
        return replace(FakeClassifier().classify(str(library / "a.mp3")), path=source)

    monkeypatch.setattr(fake, "classify", rock)
    options = [song, "--write-tags", "--tag-log", log, "--results", kept]
    planned = invoke(*options, "--dry-run")
    assert planned.exit_code == 0, planned.output
    assert "planned" in planned.stderr
    assert song.read_bytes() == before
    written = invoke(*options)
    assert "written" in written.stderr
    assert "--undo-tags" in written.stderr
    assert mutagen.File(song)["genre"] == ["rock"]
    classified.clear()
    assert invoke(*options).exit_code == 0
    assert classified == []  # our own tag does not make the file a new one
    undone = invoke("--undo-tags", log)
    assert undone.exit_code == 0
    assert "genre" not in mutagen.File(song)
    assert invoke("--undo-tags", tmp_path / "no.log").exit_code != 0


@pytest.fixture
def songs(
    fake: FakeClassifier, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A library with "Rock", "Pop" and "Other", and a file without a genre; all are rock."""
    folder = tmp_path / "songs"
    folder.mkdir()

    def rock(source: str, *, max_seconds: float, segments: bool) -> object:
        return replace(FakeClassifier().classify(str(library / "a.mp3")), path=source)

    monkeypatch.setattr(fake, "classify", rock)
    for name, genre in {"0": "Rock", "1": "POP", "2": "Other", "3": ""}.items():
        soundfile.write(folder / f"{name}.flac", [0.0, 0.5] * 4000, 8000)
        tagged = mutagen.File(folder / f"{name}.flac")
        tagged["genre"] = genre
        tagged.save()
    return folder


def genres_of(folder: Path) -> list[list[str]]:
    return [mutagen.File(path)["genre"] for path in sorted(folder.glob("*.flac"))]


def test_genres_are_spelled_as_the_library_does(songs: Path, tmp_path: Path) -> None:
    options = [songs, "--write-tags", "--tag-log", tmp_path / "log.db"]
    before = genres_of(songs)
    planned = invoke(*options, "--dry-run")
    assert "3.flac: tag planned: no genre -> Rock" in planned.stderr
    assert "2.flac: tag planned: Other -> Rock" in planned.stderr
    assert genres_of(songs) == before
    several = [*options, "--genres", "3", "--genre-threshold", "0.1", "--format", "json"]
    done, both = invoke(*several), ["Rock", "classical", "POP"]
    assert done.exit_code == 0, done.output
    assert genres_of(songs) == [["Rock"], ["POP"], both, both]
    assert [entry["genres"] for entry in json.loads(done.stdout)] == [both] * 4


def test_a_map_names_the_genres(songs: Path, tmp_path: Path) -> None:
    rules = tmp_path / "map.csv"
    rules.write_text("model,library\nrock,Guitars\nhip-hopp,Rap\n")
    options = [songs, "--write-tags", "--tag-log", tmp_path / "log.db", "--genre-map", rules]
    done = invoke(*options)
    assert genres_of(songs) == [["Rock"], ["POP"], ["Guitars"], ["Guitars"]]
    assert "the model has no genre hiphopp" in done.stderr
    rules.write_text("rock,\n")
    done = invoke(*options, "--overwrite-tags")
    assert "Tags: none." in done.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--genres", "2"), "--genres needs --write-tags, or --format json"),
        (("--genre-map", "x.csv"), "--genre-map needs --write-tags"),
        (("--write-tags", "--genre-threshold", "0.5"), "add --genres 2 or more"),
        (("--write-tags", "--genre-threshold", "2", "--genres", "2"), "range"),
        (("--write-tags", "--genre-map", "gone.csv"), "gone.csv cannot be read"),
    ],
)
def test_requests_about_genres_are_checked_first(
    options: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("deepmusic.pretrained.load", lambda *_, **__: pytest.fail("work began"))
    done = invoke(tmp_path, *options)
    assert done.exit_code != 0
    assert sentence in done.output + done.stderr + str(done.exception)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recordings of noise, and a text that is called one."""
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    for index in range(6):
        noise = rng.normal(0, 0.1, 3 * 22050).cumsum() / 50
        soundfile.write(folder / f"{index}.wav", np.clip(noise, -1, 1), 22050)
    (folder / "text.mp3").write_text("la la la")
    return folder


@pytest.mark.slow
@shipped
@pytest.mark.parametrize("model", ["small", pytest.param("classifier", marks=needs_ear)])
def test_jobs_agree_and_no_process_needs_torch(model: str, sounds: Path) -> None:
    command = [sys.executable, "-c", CHECK, "classify", sounds, "--format", "json"]
    verdicts = []
    for jobs in ("1", "2"):
        done = subprocess.run(
            [*command, "--model", model, "--jobs", jobs],
            capture_output=True,
            text=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )
        assert done.returncode == 1
        assert done.stderr.endswith("1 of 7 files failed.\n")
        verdicts.append(json.loads(done.stdout))
    assert verdicts[0] == verdicts[1]
    assert [entry["code"] for entry in verdicts[0]] == [None] * 6 + ["not_audio"]


def test_a_missing_model_is_one_sentence(sounds: Path, call: Call) -> None:
    done = call("classify", sounds, "--model", "no/such/run")
    assert refusal(done, status=1).startswith("There is no model 'no/such/run'")
    assert done.error.count("\n") == 1


@pytest.mark.slow
@shipped
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupt_leaves_no_trace(sounds: Path) -> None:
    command = [sys.executable, "-m", "deepmusic", "classify", "--jobs", "2", "--model", "small"]
    process = start([*command, *[sounds] * 200], start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = [line for line in error.splitlines() if line and "is no " not in line]
    assert lines == ["deepmusic: interrupted"]
