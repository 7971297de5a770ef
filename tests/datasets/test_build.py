"""Building a data set of clips: what is written, resuming, names, and what is refused."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from deepmusic.datasets import BuildConfig, BuiltTrack, Track, clips, group_tracks, scan_folder
from deepmusic.datasets.build import (
    COLUMNS,
    archive_path,
    build_dataset,
    clip_names,
    plain_name,
)
from deepmusic.datasets.clips import clip_spans, crashed_track
from deepmusic.datasets.loudness import integrated_loudness, true_peak
from deepmusic.errors import DataError, RequestError
from deepmusic.store import content_digest
from faults import each_fault

RATE = 8000


def noise(seconds: float, seed: int, *, channels: int = 1, rate: int = RATE) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((round(seconds * rate), channels))).astype("f4")


def write_track(
    path: Path,
    seconds: float = 1.0,
    seed: int = 0,
    *,
    channels: int = 1,
    rate: int = RATE,
    **tags: str,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix[1:].upper()
    with soundfile.SoundFile(path, "w", rate, channels, format=kind) as file:
        for name, value in tags.items():
            setattr(file, name, value)
        file.write(noise(seconds, seed, channels=channels, rate=rate))
    return path


@pytest.fixture
def music(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    write_track(root / "rock/one.wav", 1.0, 1, artist="Ann", album="First", title="One")
    write_track(root / "rock/two.flac", 1.4, 2, channels=2, artist="Bob", date="1999")
    write_track(root / "jazz/three.wav", 0.8, 3)
    write_track(root / "jazz/four.ogg", 1.2, 4, license="CC0")
    write_track(root / "jazz/five.flac", 0.5, 5)
    (root / "jazz/broken.wav").write_bytes(b"not audio")
    return root


def build(
    root: Path, output: Path, *, archive: bool = False, workers: int = 1, **options: Any
) -> dict[str, BuiltTrack]:
    config = BuildConfig(**{"seconds": 0.5, **options})
    built = build_dataset(scan_folder(root), output, config, archive=archive, workers=workers)
    return {track.path: track for track in built}


def rows(output: Path, name: str = "tracks.csv") -> list[dict[str, str]]:
    with open(output / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def content_of(folder: Path) -> dict[str, bytes]:
    """The files of a data set, without the store of finished work."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".build.db")
    }


# What is written


def test_clips_table_checksums_and_problems(music: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    built = build(music, output)
    table = {row["source"]: row for row in rows(output)}
    one = table["rock/one.wav"]
    assert tuple(one) == COLUMNS
    expected = {
        "path": "rock/one.flac", "genre": "rock", "artist": "Ann", "album": "First", "title": "One",
        "start_s": "0.25", "duration_s": "0.5", "sample_rate": "8000", "channels": "1",
        "gain_db": "0.0", "warning": "",
    }  # fmt: skip
    assert {name: one[name] for name in expected} == expected
    assert table["rock/two.flac"]["date"] == "1999"
    assert table["rock/two.flac"]["channels"] == "2"
    assert table["jazz/four.ogg"]["licence"] == "CC0"
    whole = soundfile.read(music / "rock/one.wav", dtype="float32")[0]
    clip = soundfile.read(output / "rock/one.flac", dtype="float32")[0]
    np.testing.assert_allclose(clip, whole[2000:6000], atol=1 / 32768)
    for row in table.values():
        assert row["sha256"] == content_digest(output / row["path"])
        assert row["source_sha256"] == content_digest(music / row["source"])
        samples, rate = soundfile.read(output / row["path"], dtype="float32")
        measured = integrated_loudness(samples, rate)
        assert float(row["loudness_lufs"]) == pytest.approx(measured, abs=0.02)
    listed = dict(
        reversed(line.split("  ")) for line in (output / "checksums").read_text().splitlines()
    )
    assert listed.keys() == content_of(output).keys() - {"checksums"}
    assert all(content_digest(output / name) == digest for name, digest in listed.items())
    assert built["jazz/broken.wav"].code == "not_audio"
    (problem,) = rows(output, "problems.csv")
    assert (problem["path"], problem["code"]) == ("jazz/broken.wav", "not_audio")
    assert str(tmp_path) not in problem["message"]
    dataset = scan_folder(output)
    assert {(track.path, track.genre, track.artist) for track in dataset.tracks} == {
        (row["path"], row["genre"], row["artist"] or None) for row in rows(output)
    }


def test_mp3_frames_are_copied(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_track(root / "rock/a.mp3", 6.0, 1, rate=44_100)
    write_track(root / "rock/b.flac", 6.0, 2, rate=44_100)
    built = build(root, tmp_path / "out", format="copy", seconds=2.0)
    assert built["rock/b.flac"].code == "not_mp3"
    (row,) = rows(tmp_path / "out")
    assert float(row["duration_s"]) == pytest.approx(2.0, abs=0.06)
    content = (tmp_path / "out" / row["path"]).read_bytes()
    assert content[600:1400] in (root / "rock/a.mp3").read_bytes()


def test_loudness_is_as_requested_unless_the_peak_is_too_high(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_track(root / "rock/noise.wav", 2.0, 1, rate=44_100)
    peaks = 0.001 * noise(2.0, 2, rate=44_100)
    peaks[[22_050, 44_100]] = 0.5
    soundfile.write(root / "rock/peaks.wav", peaks, 44_100, subtype="FLOAT")
    soundfile.write(root / "rock/silent.wav", 0 * peaks, 44_100)
    build(root, tmp_path / "out", loudness=-16.0, seconds=1.5, format="wav")
    table = {row["source"]: row for row in rows(tmp_path / "out")}
    clips = {
        source: soundfile.read(tmp_path / "out" / row["path"], dtype="float32")[0]
        for source, row in table.items()
    }
    measured = integrated_loudness(clips["rock/noise.wav"], 44_100)
    assert measured == pytest.approx(-16.0, abs=0.02)
    assert -1.05 < 20 * np.log10(true_peak(clips["rock/peaks.wav"], 44_100)) <= -0.99
    assert float(table["rock/peaks.wav"]["loudness_lufs"]) < -16.1
    assert table["rock/silent.wav"]["loudness_lufs"] == ""
    assert table["rock/silent.wav"]["gain_db"] == "0.0"


@pytest.mark.parametrize("form", ["flac", "copy"])
def test_clips_are_cut_where_there_is_sound(tmp_path: Path, form: Any) -> None:
    root, silence = tmp_path / "in", np.zeros((20 * 44_100, 2), np.float32)
    sound = noise(5.0, 1, channels=2, rate=44_100)
    (root / "rock").mkdir(parents=True)
    for name, parts in {
        "late": [silence, silence, sound],
        "early": [sound, silence],
        "silent": [silence],
        "music": [sound, sound],
    }.items():
        soundfile.write(root / f"rock/{name}.mp3", np.concatenate(parts), 44_100, format="MP3")
    built = build(root, tmp_path / "out", seconds=4.0, format=form)
    table = {row["source"].split("/")[1][:-4]: row for row in rows(tmp_path / "out")}
    assert float(table["music"]["start_s"]) == pytest.approx(3, abs=0.1)
    assert float(table["late"]["start_s"]) == pytest.approx(40, abs=0.1)
    assert float(table["early"]["start_s"]) == pytest.approx(1, abs=0.1)
    for name in ("music", "late", "early"):
        assert float(table[name]["silent_share"]) < 0.05
        assert table[name]["warning"] == ""
    warning = "100% of the clip from 8.0 s are below -60 dBFS."
    assert table["silent"]["warning"] == warning == built["rock/silent.mp3"].warning
    # where the start is named, it stays
    build(root, tmp_path / "named", seconds=4.0, start=10.0, format=form)
    warned = [row["source"] for row in rows(tmp_path / "named") if row["warning"]]
    assert warned == ["rock/early.mp3", "rock/late.mp3", "rock/silent.mp3"]


def test_mono_clips_of_channels_that_cancel(tmp_path: Path) -> None:
    sound = noise(3.0, 1)
    (tmp_path / "in/rock").mkdir(parents=True)
    both = np.concatenate([sound, -sound], axis=1)
    soundfile.write(tmp_path / "in/rock/a.wav", both, RATE, subtype="FLOAT")
    build(tmp_path / "in", tmp_path / "out", mono=True, sample_rate=4000)
    (row,) = rows(tmp_path / "out")
    clip, rate = soundfile.read(tmp_path / "out" / row["path"])
    assert (clip.ndim, rate) == (1, 4000)
    assert clip.std() > 0.05
    assert "inverted" in row["warning"]


def test_real_music(shared_data: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted((shared_data / "clips").glob("*.mp3"))[:3]):
        (tmp_path / f"in/{number % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / f"in/{number % 2}")
    build(tmp_path / "in", tmp_path / "out", seconds=5.0, loudness=-23.0, sample_rate=22_050)
    for row in rows(tmp_path / "out"):
        clip, rate = soundfile.read(tmp_path / "out" / row["path"], dtype="float32")
        assert rate == 22_050
        assert integrated_loudness(clip, rate) == pytest.approx(-23.0, abs=0.05)
        assert row["artist"]


def test_a_flat_folder_has_genres_from_table_and_tags(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_track(root / "a.flac", seed=1, genre="Rock; Pop", artist="Tagged")
    write_track(root / "b.flac", seed=2, genre="rock", artist="Tagged")
    write_track(root / "jazz/c.flac", seed=3, genre="rock")
    write_track(root / "d.wav", seed=4)
    (root / "tracks.csv").write_text("path,genre,artist,album\nb.flac,Folk,Named,\n")
    build(root, tmp_path / "out")
    table = {row["source"]: (row["genre"], row["artist"]) for row in rows(tmp_path / "out")}
    assert table == {
        "a.flac": ("Rock", "Tagged"),
        "b.flac": ("Folk", "Named"),
        "jazz/c.flac": ("jazz", ""),
    }
    assert [row["code"] for row in rows(tmp_path / "out", "problems.csv")] == ["no_genre"]


# Where clips are cut


@settings(deadline=None)
@given(
    duration=st.floats(0.1, 2000),
    seconds=st.floats(0.1, 300),
    clips=st.integers(1, 12),
    start=st.sampled_from(["middle", "random"]),
)
def test_clips_lie_within_the_track_without_overlap(
    duration: float, seconds: float, clips: int, start: Any
) -> None:
    config = BuildConfig(seconds=seconds, clips=clips, start=start)
    is_silent = np.random.default_rng(int(seconds)).random(int(20 * duration)) < 0.6
    spans = clip_spans(duration, is_silent, config=config, seed="seed")
    assert 1 <= len(spans) <= clips
    assert len(spans) == clips or (len(spans) + 1) * seconds > duration * (1 - 1e-9)
    for begin, length in spans:
        assert length == min(seconds, duration)
        assert -1e-9 <= begin <= duration - length + 1e-6
    assert all(begin + length <= after + 1e-6 for (begin, length), (after, _) in pairwise(spans))
    assert spans == clip_spans(duration, is_silent, config=config, seed="seed")
    if start == "middle":
        spans = clip_spans(duration, np.zeros(0, bool), config=config, seed="seed")
        assert np.mean([begin + length / 2 for begin, length in spans]) == pytest.approx(
            duration / 2
        )


def test_start_in_seconds_and_short_tracks(music: Path, tmp_path: Path) -> None:
    built = build(music, tmp_path / "a", start=0.75)
    durations = {row["source"]: float(row["duration_s"]) for row in rows(tmp_path / "a")}
    assert durations["rock/two.flac"] == 0.5
    assert durations["rock/one.wav"] == 0.25
    assert built["jazz/five.flac"].code == "starts_too_late"
    built = build(music, tmp_path / "b", seconds=1.1, min_seconds=0.9)
    dropped = {path for path, track in built.items() if track.code == "dropped_short"}
    assert dropped == {"jazz/three.wav", "jazz/five.flac"}
    assert {float(row["duration_s"]) for row in rows(tmp_path / "b")} == {1.0, 1.1}


def test_the_decoded_duration_counts_not_that_of_the_header(tmp_path: Path) -> None:
    path = write_track(tmp_path / "in/rock/a.wav", 4.0)
    path.write_bytes(path.read_bytes()[: 44 + 2 * 2 * RATE])  # two seconds are left
    build(tmp_path / "in", tmp_path / "out")
    (row,) = rows(tmp_path / "out")
    assert float(row["start_s"]) == pytest.approx(0.75, abs=0.01)
    assert "its end is missing" in row["warning"]


def test_clips_of_one_track_are_never_split(tmp_path: Path) -> None:
    write_track(tmp_path / "in/rock/a.flac", 2.0, 1, artist="Various Artists")
    write_track(tmp_path / "in/rock/deep/b.flac", 2.0, 2, album="Unknown Album")
    write_track(tmp_path / "in/jazz/c.flac", 2.0, 3)
    build(tmp_path / "in", tmp_path / "out", clips=4)
    dataset = scan_folder(tmp_path / "out")
    source = {row["path"]: row["source"] for row in rows(tmp_path / "out")}
    groups: dict[str, set[int]] = {}
    for track, group in zip(dataset.tracks, group_tracks(dataset.tracks), strict=True):
        groups.setdefault(source[track.path], set()).add(group)
    assert len(dataset.tracks) == 12
    assert all(len(numbers) == 1 for numbers in groups.values())


# Names


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("song", "song"),
        ("a/b:c*d?e\"f<g>h|i\\j", "a_b_c_d_e_f_g_h_i_j"),
        ("tab\there\nline\x1b[31m", "tab here line_[31m"),
        (".hidden", "_hidden"),
        (" ends in dots...", "ends in dots"),
        ("nul.txt", "_nul.txt"),
        ("Checksums", "_Checksums"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("\u202egnp.exe", "_gnp.exe"),
        ("..", "_"),
        (os.fsdecode(b"caf\xe9"), "caf_"),
        ("\u97f3\u697d", "\u97f3\u697d"),
    ],
)  # fmt: skip
def test_plain_names(name: str, plain: str) -> None:
    assert plain_name(name) == plain


_WORDS = st.text(
    st.sampled_from("abAB.-_ \u00e9\u00df\u1e9e\u0131I:?*<\x1f\u0301\u3042"), max_size=6
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.lists(_WORDS, max_size=2).map(tuple), _WORDS, _WORDS), max_size=12),
    st.sampled_from([1, 2, 11]),
)
def test_names_are_plain_and_differ_on_every_system(
    entries: list[tuple[tuple[str, ...], str, str]], clips: int
) -> None:
    paths = {"/".join([genre, *folders, name]): genre for folders, genre, name in entries}
    tracks = [Track(path, genre, None, None, "") for path, genre in paths.items()]
    named = clip_names(tracks, ".flac", clips)
    names = [name for of_track in named.values() for name in of_track]
    assert len(names) == clips * len(paths)
    # as macOS and Windows compare them, and no file where a folder must be
    keys = [unicodedata.normalize("NFC", name.casefold()) for name in names]
    assert len(set(keys)) == len(keys)
    assert not {str(parent) for key in keys for parent in PurePosixPath(key).parents} & set(keys)
    for name in names:
        assert PurePosixPath(name).suffix == ".flac"
        assert all(part == plain_name(part) for part in name.split("/"))
    assert clip_names(tracks[::-1], ".flac", clips) == named


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are text")
def test_clashing_names_and_one_that_is_not_utf_8(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for seed, name in enumerate(("song.wav", "song.flac", "SONG.ogg", "x.wav")):
        write_track(root / "rock" / name, seed=seed)
    os.rename(root / "rock/x.wav", os.path.join(os.fsencode(root), b"rock/caf\xe9.wav"))
    for _ in range(2):
        build(root, tmp_path / "out")
        names = {row["source"]: row["path"] for row in rows(tmp_path / "out")}
        assert names.pop(r"rock/caf\xe9.wav") == "rock/caf_.flac"
        assert len({path.casefold() for path in names.values()}) == 3
        assert all("~" in path for path in names.values())


# Resuming


@pytest.mark.slow
def test_the_same_tracks_give_the_same_bytes(music: Path, tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        build(
            music, tmp_path / name / "x", clips=2, start="random", archive=True, workers=workers,
            loudness=-20.0, seconds=0.4,
        )  # fmt: skip
    assert content_of(tmp_path / "one") == content_of(tmp_path / "two")
    with zipfile.ZipFile(archive_path(tmp_path / "one/x")) as archive:
        assert archive.testzip() is None
        packed = {name.removeprefix("x/"): archive.read(name) for name in archive.namelist()}
    assert packed == content_of(tmp_path / "one/x")


def test_only_what_changed_is_built_again(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, decoded = tmp_path / "out", list[str]()
    original = clips.cut_clips

    def note(source: Path, *arguments: Any, **options: Any) -> Any:
        decoded.append(source.name)
        return original(source, *arguments, **options)

    monkeypatch.setattr(clips, "cut_clips", note)
    begun = build_dataset(scan_folder(music), output, BuildConfig(seconds=0.5))
    first = next(track.path for track in begun if track.clips)
    begun.close()
    build(music, output)
    assert decoded.count(Path(first).name) == 1  # the stopped build is continued
    (output / "rock/one.flac").write_bytes(b"damaged")
    (output / "rock/two.flac").unlink()
    (output / "notes.txt").write_text("somebody else's")
    decoded.clear()
    build(music, output)
    assert sorted(decoded) == ["broken.wav", "one.wav", "two.flac"]
    write_track(music / "rock/one.wav", 2.0, 99)
    write_track(music / "folk/new.wav", 1.0, 98)
    shutil.rmtree(music / "jazz")
    build(music, output)
    assert content_of(output).pop("notes.txt") == b"somebody else's"
    (output / "notes.txt").unlink()
    build(music, tmp_path / "fresh")
    assert content_of(output) == content_of(tmp_path / "fresh")
    assert not (output / "jazz").exists()


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from deepmusic.datasets import BuildConfig, build_dataset, clips, loudness, scan_folder

music, output, reference = map(Path, sys.argv[1:])
config = BuildConfig(seconds=0.3, clips=2, loudness=-23.0)
rng, longest_s, kills = random.Random(1), 0.2, 0
while kills < 10:
    child = os.fork()
    if child == 0:
        list(build_dataset(scan_folder(music), output, config, archive=True))
        os._exit(0)
    time.sleep(rng.uniform(0, longest_s))
    os.kill(child, signal.SIGKILL)
    was_killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    kills += was_killed
    longest_s *= 1.05 if was_killed else 0.8  # most kills fall into the work
    for path in output.parent.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            same = reference.parent / path.relative_to(output.parent)
            assert path.read_bytes() == same.read_bytes(), path
    if not was_killed:
        (output / "tracks.csv").unlink()
        next(output.rglob("*.flac")).unlink()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_build_that_is_killed_continues_to_the_same_bytes(music: Path, tmp_path: Path) -> None:
    options = {"seconds": 0.3, "clips": 2, "loudness": -23.0, "archive": True}
    build(music, tmp_path / "reference/x", **options)
    folders = [music, tmp_path / "killed/x", tmp_path / "reference/x"]
    subprocess.run([sys.executable, "-c", KILLED, *folders], check=True, timeout=120)
    build(music, tmp_path / "killed/x", **options)
    assert content_of(tmp_path / "killed") == content_of(tmp_path / "reference")


# What is refused


@pytest.mark.parametrize(
    "options",
    [
        {"seconds": 0.0}, {"seconds": float("nan")}, {"clips": 0}, {"clips": 2, "start": 3.0},
        {"start": -1.0}, {"start": float("nan")}, {"start": "end"}, {"min_seconds": 31.0},
        {"format": "aac"}, {"sample_rate": 10}, {"format": "mp3", "sample_rate": 96_000},
        {"loudness": 3.0}, {"loudness": float("nan")}, {"format": "copy", "mono": True},
        {"format": "copy", "sample_rate": 8000}, {"format": "copy", "loudness": -23.0},
    ],
)  # fmt: skip
def test_invalid_options(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        BuildConfig(**options)


def test_output_folders_that_cannot_be_used(music: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(music)
    for overlapping in ("in/out", "in", ".", "link/out"):
        with pytest.raises(DataError, match="overlaps the folder of tracks"):
            build(music, tmp_path / overlapping)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="not a directory"):
        build(music, tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.doc").write_text("x")
    with pytest.raises(DataError, match="other things"):
        build(music, tmp_path / "full")
    (tmp_path / "out.zip").write_text("another file")
    with pytest.raises(DataError, match="move it away"):
        build(music, tmp_path / "out", archive=True)
    build(music, tmp_path / "out")
    with pytest.raises(DataError, match=r"seconds 0\.5, now 0\.6"):
        build(music, tmp_path / "out", seconds=0.6)
    (tmp_path / "out/build.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        build(music, tmp_path / "out")


@pytest.mark.slow
def test_whatever_fails_the_build_continues_to_the_same_bytes(tmp_path: Path) -> None:
    for genre in ("rock", "jazz"):
        write_track(tmp_path / "in" / genre / "a.wav", 1.0)
    build(tmp_path / "in", tmp_path / "x" / "out", archive=True)
    whole = content_of(tmp_path / "x")

    def run(folder: Path) -> None:
        build(tmp_path / "in", folder / "out", archive=True)

    def same_files(folder: Path) -> None:
        assert content_of(folder).items() <= whole.items()

    each_fault(
        run,
        same_files,
        finished=lambda folder: content_of(folder) == whole or pytest.fail("not the same"),
        at=lambda n: n % 9 == 1,
    )


def test_a_track_that_fails_costs_only_itself(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = clips.cut_clips

    def cut(source: Path, *arguments: Any, **options: Any) -> Any:
        if source.name == "one.wav":
            raise ZeroDivisionError("oh\nno")
        if source.name == "two.flac":
            raise MemoryError
        return original(source, *arguments, **options)

    monkeypatch.setattr(clips, "cut_clips", cut)
    built = build(music, tmp_path / "out")
    assert built["rock/one.wav"].code == "unexpected"
    assert "ZeroDivisionError: oh no" in built["rock/one.wav"].error
    assert built["rock/two.flac"].code == "memory"
    assert built["jazz/three.wav"].clips
    assert crashed_track("x").code == "worker_died"
    shutil.rmtree(music / "jazz")
    for output in ("out", "new"):
        with pytest.raises(DataError, match="No track could be used"):
            build(music, tmp_path / output)
        assert not (tmp_path / output).exists()
