"""A data set made of tracks: what is in it, that it is the same bytes, and what goes wrong."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from building_folder import RATE, content_of, sound, write_folder, write_track

from deepmusic.audio.loudness import integrated_loudness, true_peak
from deepmusic.datasets import building_track, group_tracks, scan_folder
from deepmusic.datasets.building import COLUMNS, archive_of, build_dataset
from deepmusic.datasets.building_names import OWN_FILES, clip_names, plain_name
from deepmusic.datasets.building_sources import find_sources
from deepmusic.datasets.building_track import BuildConfig, BuiltTrack, spans
from deepmusic.errors import DataError, DeepMusicError, RequestError
from deepmusic.journal import Journal

FORMATS = ("flac", "wav", "ogg", "mp3")


@pytest.fixture
def music(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "in")


def build(
    root: Path, output: Path, *, archive: bool = False, workers: int = 1, **options: Any
) -> dict[str, BuiltTrack]:
    options.setdefault("seconds", 0.5)
    config = BuildConfig(**options)
    built = build_dataset(find_sources(root), output, config, archive=archive, workers=workers)
    return {track.path: track for track in built}


def rows(output: Path, name: str = "tracks.csv") -> list[dict[str, str]]:
    with open(output / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# What is made


def test_the_middle_of_each_track_with_its_tags(music: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    built = build(music, output)
    assert sorted(built) == [
        "jazz/broken.wav", "jazz/five.flac", "jazz/four.ogg", "jazz/three.wav", "rock/one.wav",
        "rock/two.flac",
    ]  # fmt: skip
    table = {row["source"]: row for row in rows(output)}
    one = table["rock/one.wav"]
    assert tuple(one) == COLUMNS
    assert [one[name] for name in ("path", "genre", "artist", "album", "title")] == [
        "rock/one.flac", "rock", "Ann", "First", "One",
    ]  # fmt: skip
    assert (one["start_s"], one["duration_s"], one["sample_rate"]) == (
        "0.250000",
        "0.500000",
        "8000",
    )
    assert (one["gain_db"], one["channels"], one["warning"]) == ("0.00", "1", "")
    assert table["rock/two.flac"]["date"] == "1999"
    assert table["rock/two.flac"]["channels"] == "2"
    assert table["jazz/four.ogg"]["licence"] == "CC0"
    whole = soundfile.read(music / "rock/one.wav", dtype="float32")[0]
    clip = soundfile.read(output / "rock/one.flac", dtype="float32")[0]
    np.testing.assert_allclose(clip, whole[2000:6000], atol=1 / 32768)
    for row in table.values():
        content = (output / row["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["sha256"]
        source = (music / row["source"]).read_bytes()
        assert hashlib.sha256(source).hexdigest() == row["source_sha256"]
        measured, sample_rate = soundfile.read(output / row["path"], dtype="float32")
        assert float(row["loudness_lufs"]) == pytest.approx(
            integrated_loudness(measured, sample_rate), abs=0.02
        )


def test_checksums_are_those_of_every_file(music: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    build(music, output)
    listed = {}
    for line in (output / "checksums").read_text().splitlines():
        assert line[40:42] == "  "
        listed[line[42:]] = line[:40]
    assert list(listed) == sorted(listed)
    there = content_of(output)
    assert listed == {
        name: hashlib.sha1(content).hexdigest()
        for name, content in there.items()
        if name != "checksums"
    }


def test_what_cannot_be_used_is_listed_and_the_rest_goes_on(music: Path, tmp_path: Path) -> None:
    write_track(music / "lost.wav")
    (music / "rock/empty.flac").write_bytes(b"")
    built = build(music, tmp_path / "out")
    assert built["jazz/broken.wav"].code == "not_audio"
    listed = {row["path"]: row for row in rows(tmp_path / "out", "problems.csv")}
    assert {path: row["code"] for path, row in listed.items()} == {
        "jazz/broken.wav": "not_audio",
        "lost.wav": "no_genre",
        "rock/empty.flac": "empty",
    }
    for row in listed.values():
        assert repr(row["path"]) in row["message"]
        assert str(tmp_path) not in row["message"]
    assert len(rows(tmp_path / "out")) == 5


def test_a_flat_folder_takes_genres_from_table_and_tags(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_track(root / "a.flac", seed=1, genre="Rock; Pop", artist="Tagged")
    write_track(root / "b.flac", seed=2, genre="rock", artist="Tagged")
    write_track(root / "c.flac", seed=3, genre="rock", artist="Tagged")
    write_track(root / "jazz/d.flac", seed=4, genre="rock")
    (root / "tracks.csv").write_text("path,genre,artist,album\nc.flac,Folk,Named,\n")
    build(root, tmp_path / "out")
    found = {row["source"]: (row["genre"], row["artist"]) for row in rows(tmp_path / "out")}
    assert found == {
        "a.flac": ("Rock", "Tagged"),  # one spelling of a genre
        "b.flac": ("Rock", "Tagged"),
        "c.flac": ("Folk", "Named"),  # the table is believed first
        "jazz/d.flac": ("jazz", ""),  # and folders before tags
    }
    assert (tmp_path / "out/Folk/c.flac").is_file()


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_at_another_rate_in_mono(form: str, music: Path, tmp_path: Path) -> None:
    build(music, tmp_path / "out", format=form, sample_rate=16_000, mono=True)
    for row in rows(tmp_path / "out"):
        assert row["path"].endswith(f".{form}")
        info = soundfile.info(tmp_path / "out" / row["path"])
        assert (info.samplerate, info.channels) == (16_000, 1)
        assert info.frames == pytest.approx(16_000 * float(row["duration_s"]), abs=2)


def test_mp3_frames_are_copied(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_track(root / "rock/a.mp3", 6.0, 1, sample_rate=44_100)
    write_track(root / "rock/b.flac", 6.0, 2, sample_rate=44_100)
    built = build(root, tmp_path / "out", format="copy", seconds=2.0)
    assert built["rock/b.flac"].code == "not_mp3"
    (row,) = rows(tmp_path / "out")
    assert float(row["duration_s"]) == pytest.approx(2.0, abs=0.06)
    content = (tmp_path / "out" / row["path"]).read_bytes()
    frames = content[600:1400]  # whatever lies there is a piece of the track
    assert frames in (root / "rock/a.mp3").read_bytes()


def test_loudness_is_as_asked_unless_peaks_forbid_it(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_track(root / "rock/noise.wav", 2.0, 1, sample_rate=44_100)
    spiky = 0.001 * sound(2.0, 2, sample_rate=44_100)
    spiky[[22_050, 44_100]] = 0.5
    soundfile.write(root / "rock/spiky.wav", spiky, 44_100, subtype="FLOAT")
    soundfile.write(root / "rock/silent.wav", 0 * spiky, 44_100)
    build(root, tmp_path / "out", loudness=-16.0, seconds=1.5, format="wav")
    table = {row["source"]: row for row in rows(tmp_path / "out")}
    heard = {
        source: soundfile.read(tmp_path / "out" / row["path"], dtype="float32")[0]
        for source, row in table.items()
    }
    noise = integrated_loudness(heard["rock/noise.wav"], 44_100)
    assert noise == pytest.approx(-16.0, abs=0.02)
    assert float(table["rock/noise.wav"]["loudness_lufs"]) == pytest.approx(-16.0, abs=0.011)
    peak_db = 20 * np.log10(true_peak(heard["rock/spiky.wav"], 44_100))
    assert -1.05 < peak_db <= -0.99
    assert float(table["rock/spiky.wav"]["loudness_lufs"]) < -16.1
    assert table["rock/silent.wav"]["loudness_lufs"] == ""
    assert table["rock/silent.wav"]["gain_db"] == "0.00"


# Where it is cut


@settings(deadline=None)
@given(
    duration=st.floats(0.1, 2000),
    seconds=st.floats(0.1, 300),
    clips=st.integers(1, 12),
    start=st.sampled_from(["middle", "random"]),
)
def test_clips_lie_within_the_track_and_apart(
    duration: float, seconds: float, clips: int, start: Any
) -> None:
    config = BuildConfig(seconds=seconds, clips=clips, start=start)
    found = spans(duration, config, "seed")
    assert 1 <= len(found) <= clips
    assert len(found) == clips or (len(found) + 1) * seconds > duration * (1 - 1e-9)
    for begin, length in found:
        assert length == min(seconds, duration)
        assert -1e-9 <= begin <= duration - length + 1e-6
    for (begin, length), (following, _) in pairwise(found):
        assert begin + length <= following + 1e-6
    if start == "middle":
        middles = [begin + length / 2 for begin, length in found]
        assert np.mean(middles) == pytest.approx(duration / 2)
    assert found == spans(duration, config, "seed")


def test_a_random_start_depends_on_the_content_alone() -> None:
    config = BuildConfig(start="random")
    starts = [spans(300.0, config, str(seed))[0][0] for seed in range(300)]
    assert len(set(starts)) == 300
    assert np.mean(starts) == pytest.approx(135, abs=15)
    assert min(starts) < 10
    assert max(starts) > 260


def test_a_start_in_seconds(music: Path, tmp_path: Path) -> None:
    built = build(music, tmp_path / "out", start=0.75)
    found = {row["source"]: row for row in rows(tmp_path / "out")}
    assert found["rock/two.flac"]["start_s"] == "0.750000"
    assert found["rock/two.flac"]["duration_s"] == "0.500000"
    assert float(found["rock/one.wav"]["duration_s"]) == 0.25  # what is left
    assert built["jazz/five.flac"].code == "starts_too_late"


def test_short_tracks_are_taken_whole_or_dropped(music: Path, tmp_path: Path) -> None:
    build(music, tmp_path / "whole", seconds=1.1)
    assert {row["source"]: float(row["duration_s"]) for row in rows(tmp_path / "whole")} == {
        "rock/one.wav": 1.0, "rock/two.flac": 1.1, "jazz/three.wav": 0.8, "jazz/four.ogg": 1.1,
        "jazz/five.flac": 0.5,
    }  # fmt: skip
    built = build(music, tmp_path / "dropped", seconds=1.1, min_seconds=0.9)
    assert {path for path, track in built.items() if track.code == "dropped_short"} == {
        "jazz/three.wav",
        "jazz/five.flac",
    }


def test_the_decoded_length_counts_not_the_claimed_one(tmp_path: Path) -> None:
    path = write_track(tmp_path / "in/rock/a.wav", 4.0)
    path.write_bytes(path.read_bytes()[: 44 + 2 * 2 * RATE])  # two seconds are left
    build(tmp_path / "in", tmp_path / "out")
    (row,) = rows(tmp_path / "out")
    assert float(row["start_s"]) == pytest.approx(0.75, abs=0.01)
    assert "of sound was decoded" in row["warning"]


# Clips of one track stay together


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"artist": "Ann"},
        {"artist": "Various Artists"},
        {"album": "Unknown Album"},
        {"artist": "unknown", "album": "untitled"},
        {"album": "Album"},
    ],
)
def test_no_split_can_part_the_clips_of_a_track(tags: dict[str, str], tmp_path: Path) -> None:
    write_track(tmp_path / "in/rock/a.flac", 2.0, 1, **tags)
    write_track(tmp_path / "in/rock/deep/b.flac", 2.0, 2, **tags)
    write_track(tmp_path / "in/jazz/c.flac", 2.0, 3)
    build(tmp_path / "in", tmp_path / "out", clips=4)
    dataset = scan_folder(tmp_path / "out")
    source = {row["path"]: row["source"] for row in rows(tmp_path / "out")}
    groups: dict[str, set[int]] = {}
    for track, group in zip(dataset.tracks, group_tracks(dataset.tracks), strict=True):
        groups.setdefault(source[track.path], set()).add(group)
    assert len(dataset.tracks) == 12
    assert all(len(found) == 1 for found in groups.values())
    if not tags:
        assert len({min(found) for found in groups.values()}) == 3  # strangers are not joined


def test_the_table_is_read_as_it_is(music: Path, tmp_path: Path) -> None:
    build(music, tmp_path / "out")
    dataset = scan_folder(tmp_path / "out")
    assert {(track.path, track.genre, track.artist) for track in dataset.tracks} == {
        (row["path"], row["genre"], row["artist"] or None) for row in rows(tmp_path / "out")
    }
    assert {problem.path for problem in dataset.problems} <= {"checksums"}


# Names


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("song", "song"),
        ("a/b:c*d?e\"f<g>h|i\\j", "a_b_c_d_e_f_g_h_i_j"),
        ("tab\there\nline\x1b[31m", "tab here line_[31m"),
        (".hidden", "_hidden"),
        ("ends in dots...", "ends in dots"),
        (" blanks ", "blanks"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("\u202egnp.exe", "_gnp.exe"),
        ("..", "_"),
        ("", "_"),
        ("\u97f3\u697d", "\u97f3\u697d"),
    ],
)  # fmt: skip
def test_plain_names(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_bytes_that_are_no_utf_8_become_a_sign() -> None:
    assert plain_name(os.fsdecode(b"caf\xe9")) == "caf_"


_WORDS = st.text(
    st.sampled_from("abAB.~-_ \u00e9\u00df\u1e9e\u0131I:?*<|\x00\x1f\u0301\u3042\ud83c"), max_size=6
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.lists(_WORDS, max_size=2).map(tuple), _WORDS, _WORDS), max_size=12),
    st.sampled_from([1, 2, 11]),
)
def test_names_are_plain_and_apart_on_every_system(
    tracks: list[tuple[tuple[str, ...], str, str]], clips: int
) -> None:
    paths = list(
        dict.fromkeys(
            ("/".join([genre, *folders, name]).replace("\ud83c", "\udcff"), genre)
            for folders, name, genre in tracks
        )
    )
    paths = [(path, genre.replace("\ud83c", "\udcff")) for path, genre in paths]
    named = clip_names(paths, ".flac", clips)
    names = [name for found in named for name in found]
    assert all(len(found) == clips for found in named)
    # as macOS and Windows compare them, and no file where a folder must be
    keys = [unicodedata.normalize("NFC", name.casefold()) for name in names]
    assert len(set(keys)) == len(keys)
    folders = {str(parent) for key in keys for parent in PurePosixPath(key).parents}
    assert not folders & set(keys)
    assert not folders & {name.casefold() for name in OWN_FILES}
    for name in names:
        assert PurePosixPath(name).suffix == ".flac"
        for part in name.split("/"):
            assert part == plain_name(part)
            assert len(part.encode()) <= 255
    shuffled = clip_names(paths[::-1], ".flac", clips)
    assert shuffled[::-1] == named


def test_no_file_is_named_like_a_folder() -> None:
    (track,), _ = clip_names([("rock/a.wav", "rock"), ("rock/A.flac/b.wav", "rock")], ".flac", 1)
    assert track.startswith("rock/a~")


def test_names_that_clash_are_all_marked(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_track(root / "rock/song.wav", seed=1)
    write_track(root / "rock/song.flac", seed=2)
    write_track(root / "rock/SONG.ogg", seed=3)
    write_track(root / "rock/other.flac", seed=4)
    build(root, tmp_path / "out")
    names = {row["source"]: row["path"] for row in rows(tmp_path / "out")}
    assert names["rock/other.flac"] == "rock/other.flac"
    marked = [path for source, path in names.items() if "other" not in source]
    assert len({path.casefold() for path in marked}) == 3
    assert all("~" in path for path in marked)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are text")
def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_track(root / "rock/x.wav", seed=1)
    os.rename(root / "rock/x.wav", os.path.join(os.fsencode(root), b"rock/caf\xe9.wav"))
    build(root, tmp_path / "out")
    (row,) = rows(tmp_path / "out")
    assert (row["path"], row["source"]) == ("rock/caf_.flac", r"rock/caf\xe9.wav")
    before = content_of(tmp_path / "out")
    build(root, tmp_path / "out")
    assert content_of(tmp_path / "out") == before


def test_a_genre_may_be_called_like_a_file_of_ours(tmp_path: Path) -> None:
    write_track(tmp_path / "in/checksums/a.wav")
    write_track(tmp_path / "in/R&B: Soul/b.wav", seed=1)
    build(tmp_path / "in", tmp_path / "out")
    assert {(row["path"], row["genre"]) for row in rows(tmp_path / "out")} == {
        ("_checksums/a.flac", "checksums"),
        ("R&B_ Soul/b.flac", "R&B: Soul"),
    }


# The same bytes


CHILD = """
import os, sys
os.umask(int(sys.argv[4], 8))
from deepmusic.datasets.building import build_dataset
from deepmusic.datasets.building_sources import find_sources
from deepmusic.datasets.building_track import BuildConfig
config = BuildConfig(seconds=0.4, clips=2, start="random", loudness=-20.0, format=sys.argv[3])
if __name__ == "__main__":
    tracks = build_dataset(
        find_sources(sys.argv[1]), sys.argv[2], config, archive=True, workers=int(sys.argv[5])
    )
    list(tracks)
"""


@pytest.mark.slow
def test_place_clock_locale_umask_order_and_workers_do_not_show(
    music: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere" / "deep" / "in"
    for path in sorted((path for path in music.rglob("*") if path.is_file()), reverse=True):
        target = other / path.relative_to(music)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        os.utime(target, (1_000_000_000, 1_000_000_000))
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    for form in ("flac", "ogg"):
        made = []
        for root, out, umask, workers, environment in (
            (music, tmp_path / "one" / form, "022", "1", {"LC_ALL": "C", "TZ": "UTC"}),
            (other, tmp_path / "two" / form, "077", "2",
             {"LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "5"}),
        ):  # fmt: skip
            subprocess.run(
                [sys.executable, script, root, out, form, umask, workers],
                check=True,
                env={**os.environ, **environment},
                timeout=120,
            )
            made.append(content_of(out))
        assert made[0] == made[1]
        assert ".zip" in made[0]


@pytest.mark.parametrize("form", ["wav", "mp3"])
def test_two_builds_are_equal(form: str, music: Path, tmp_path: Path) -> None:
    build(music, tmp_path / "one" / "x", format=form, archive=True)
    build(music, tmp_path / "two" / "x", format=form, archive=True)
    assert content_of(tmp_path / "one" / "x") == content_of(tmp_path / "two" / "x")


def test_the_archive_holds_all_and_readme_and_checksums_first(music: Path, tmp_path: Path) -> None:
    build(music, tmp_path / "out", archive=True)
    with zipfile.ZipFile(archive_of(tmp_path / "out")) as archive:
        names = archive.namelist()
        assert names[:2] == ["out/README.txt", "out/checksums"]
        packed = {
            name.removeprefix("out/"): archive.read(name)
            for name in names
            if not name.endswith("/")
        }
    there = content_of(tmp_path / "out")
    del there[".zip"]
    assert packed == there


# Going on


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    write_folder(tmp_path / "in")
    script = Path(__file__).with_name("building_folder.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path, "60", "1"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("60 kills")


def test_what_is_there_is_not_made_again(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    build(music, output)
    before = content_of(output)
    (output / "rock/one.flac").write_bytes(b"damaged")
    (output / "rock/two.flac").unlink()
    cut: list[str] = []

    def note(source: Path, *rest: Any) -> Any:
        cut.append(source.name)
        return original(source, *rest)

    original = building_track._cut
    monkeypatch.setattr(building_track, "_cut", note)
    build(music, output)
    assert sorted(cut) == ["broken.wav", "one.wav", "two.flac"]
    assert content_of(output) == before


def test_tracks_that_changed_came_or_went(music: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    build(music, output)
    write_track(music / "rock/one.wav", 2.0, 99, artist="Ann", album="First", title="One")
    write_track(music / "folk/new.wav", 1.0, 98)
    for name in ("jazz/three.wav", "jazz/four.ogg", "jazz/five.flac", "jazz/broken.wav"):
        (music / name).unlink()
    build(music, output)
    build(music, tmp_path / "fresh")
    assert content_of(output) == content_of(tmp_path / "fresh")
    assert not (output / "jazz").exists()


def test_clips_of_a_run_that_was_stopped_before_tracks_went(music: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    config = BuildConfig(seconds=0.5)
    begun = build_dataset(find_sources(music), output, config)
    next(begun)
    next(begun)
    next(begun)
    begun.close()
    clip = next(output.rglob("*.flac"))
    source = next((music / clip.parent.name).glob(f"{clip.stem}.*"))
    source.unlink()
    build(music, output)
    build(music, tmp_path / "fresh")
    assert content_of(output) == content_of(tmp_path / "fresh")


def test_a_clip_that_was_written_and_not_noted_down(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    add = Journal.add

    def stop(journal: Journal, record: dict[str, Any]) -> None:
        if "source" in record:
            raise KeyboardInterrupt
        add(journal, record)

    monkeypatch.setattr(Journal, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        build(music, output)
    monkeypatch.undo()
    clip = next(output.rglob("*.flac"))
    next((music / clip.parent.name).glob(f"{clip.stem}.*")).unlink()
    build(music, output)
    build(music, tmp_path / "fresh")
    assert content_of(output) == content_of(tmp_path / "fresh")


def test_tracks_done_before_a_stop_are_not_done_again(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = build_dataset(find_sources(music), tmp_path / "out", BuildConfig(seconds=0.5))
    done = {track.path for track in (next(begun), next(begun), next(begun)) if track.clips}
    begun.close()
    assert done
    cut: list[str] = []
    original = building_track._cut

    def note(source: Path, *rest: Any) -> Any:
        cut.append(source.relative_to(music).as_posix())
        return original(source, *rest)

    monkeypatch.setattr(building_track, "_cut", note)
    everything = build(music, tmp_path / "out")
    assert sorted(cut) == sorted(set(everything) - done)


def test_files_of_other_people_are_left_alone(music: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    build(music, output, archive=True)
    (output / "notes.txt").write_text("mine")
    (output / "rock/mine.flac").write_bytes(b"mine")
    build(music, output, archive=True)
    assert (output / "notes.txt").read_text() == "mine"
    assert (output / "rock/mine.flac").read_bytes() == b"mine"
    with zipfile.ZipFile(archive_of(output)) as archive:
        assert not [name for name in archive.namelist() if "mine" in name or "notes" in name]


# What is refused


@pytest.mark.parametrize(
    "options",
    [
        {"seconds": 0.0}, {"seconds": 1e9}, {"seconds": float("nan")}, {"clips": 0},
        {"clips": 2, "start": 3.0}, {"start": -1.0}, {"start": float("nan")}, {"start": "end"},
        {"min_seconds": 31.0}, {"min_seconds": -1.0}, {"format": "aac"}, {"sample_rate": 10},
        {"format": "mp3", "sample_rate": 96_000}, {"loudness": 3.0}, {"loudness": float("nan")},
        {"format": "copy", "mono": True}, {"format": "copy", "sample_rate": 8000},
        {"format": "copy", "loudness": -23.0},
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        BuildConfig(**options)


def test_a_rate_that_a_format_lacks_is_a_reason(tmp_path: Path) -> None:
    write_track(tmp_path / "in/rock/a.wav", sample_rate=96_000)
    write_track(tmp_path / "in/rock/b.wav", sample_rate=44_100)
    built = build(tmp_path / "in", tmp_path / "out", format="mp3")
    assert built["rock/a.wav"].code == "not_in_format"
    assert built["rock/b.wav"].clips


@pytest.mark.parametrize("place", ["in/out", "in", "."])
def test_an_output_in_the_way_of_its_input(place: str, music: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder of tracks"):
        build(music, tmp_path / place)
    (tmp_path / "link").symlink_to(music)
    with pytest.raises(DataError, match="folder of tracks"):
        build(music, tmp_path / "link" / "out")


def test_an_output_that_is_something_else(music: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="not a folder"):
        build(music, tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("x")
    with pytest.raises(DataError, match="other things"):
        build(music, tmp_path / "full")
    (tmp_path / "out.zip").write_text("not ours")
    with pytest.raises(DataError, match="move it away"):
        build(music, tmp_path / "out", archive=True)
    assert (tmp_path / "out.zip").read_text() == "not ours"


def test_another_builds_settings(music: Path, tmp_path: Path) -> None:
    build(music, tmp_path / "out")
    with pytest.raises(DataError, match=r"seconds 0\.5, now 0\.6") as refusal:
        build(music, tmp_path / "out", seconds=0.6)
    assert str(refusal.value).count("\n") == 0
    (tmp_path / "out" / "build.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        build(music, tmp_path / "out")


def test_nothing_is_left_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "in/rock").mkdir(parents=True)
    (tmp_path / "in/rock/a.wav").write_bytes(b"no sound")
    with pytest.raises(DataError, match="No track could be used"):
        build(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no sound files"):
        find_sources(tmp_path / "empty")
    with pytest.raises(DataError, match="does not exist"):
        find_sources(tmp_path / "nowhere")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_ends_it_with_one_sentence_and_it_goes_on(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., int] = os.open
    written = 0

    def full(path: Any, flags: int, mode: int = 0o777) -> int:
        nonlocal written
        if str(path).endswith(".tmp"):
            written += 1
            if written > 3:
                real(path, flags, mode)
                return real("/dev/full", os.O_WRONLY)
        return real(path, flags, mode)

    monkeypatch.setattr("deepmusic.files.os.open", full)
    with pytest.raises(DeepMusicError, match="the disk is full"):
        build(music, tmp_path / "out")
    monkeypatch.undo()
    build(music, tmp_path / "out")
    build(music, tmp_path / "fresh")
    assert content_of(tmp_path / "out") == content_of(tmp_path / "fresh")


def test_a_track_that_kills_its_worker_costs_itself_alone() -> None:
    from deepmusic.datasets.building_track import Job, died

    job = Job("rock/x.wav", "in", "out", ("rock/x.flac",), asdict(BuildConfig()))
    row = died(job.text())
    assert row.path == job.text()
    assert (row.code, row.clips) == ("worker_died", ())
    assert "'rock/x.wav'" in row.error


def test_a_bug_that_one_track_uncovers_costs_that_track(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = building_track._cut

    def cut(source: Path, *rest: Any) -> Any:
        if source.name == "one.wav":
            raise ZeroDivisionError("oh\nno")
        if source.name == "two.flac":
            raise MemoryError
        return original(source, *rest)

    monkeypatch.setattr(building_track, "_cut", cut)
    built = build(music, tmp_path / "out")
    assert built["rock/one.wav"].code == "unexpected"
    assert "ZeroDivisionError: oh no" in built["rock/one.wav"].error
    assert built["rock/two.flac"].code == "memory"
    assert built["jazz/three.wav"].clips


def test_real_music_is_built_and_its_loudness_is_right(shared_data: Path, tmp_path: Path) -> None:
    found = sorted((shared_data / "clips").glob("*.mp3"))[:3]
    if not found:
        pytest.skip("there are no clips in the data folder")
    for place, path in enumerate(found):
        folder = tmp_path / "in" / f"genre{place % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
    build(
        tmp_path / "in",
        tmp_path / "out",
        seconds=5.0,
        loudness=-23.0,
        mono=True,
        sample_rate=22_050,
    )
    for row in rows(tmp_path / "out"):
        clip, sample_rate = soundfile.read(tmp_path / "out" / row["path"], dtype="float32")
        assert (sample_rate, clip.ndim) == (22_050, 1)
        assert integrated_loudness(clip, sample_rate) == pytest.approx(-23.0, abs=0.05)
        assert row["artist"]
