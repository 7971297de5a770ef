"""``deepmusic data stats``: what it prints, plots and refuses."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from miniature_fma import make_miniature
from miniature_gtzan import write_clip, write_gtzan

from deepmusic.cli import deepmusic


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(deepmusic, ["data", "stats", *map(str, arguments)])


@pytest.fixture
def music(tmp_path: Path) -> Path:
    root = tmp_path / "music"
    rows = ["path,artist,album"]
    for n, (genre, artist) in enumerate([("rock", "Ann"), ("rock", "Ann"), ("jazz", "Bob")]):
        write_clip(root / genre / f"{n}.wav", n, seconds=n + 1)
        rows.append(f"{genre}/{n}.wav,{artist},Album {n}")
    (root / "tracks.csv").write_text("\n".join(rows) + "\n")
    return root


def test_text(music: Path) -> None:
    result = invoke(music)
    assert result.exit_code == 0
    assert result.stdout.startswith("music: 3 tracks, 2 genres, 2 artists, 3 albums\n")
    counts, _, coding = result.stdout.partition("Coding of the files")
    assert "pcm_s16" in coding
    rows = {line.split()[0]: line.split()[1:] for line in counts.splitlines() if line}
    assert rows["rock"] == ["2", "66.7%", "1", "2", "2", "0.0", "1.5", "1.0", "2.0"]
    assert rows["jazz"] == ["1", "33.3%", "1", "1", "1", "0.0", "3.0", "3.0", "3.0"]
    assert "Always predicting 'rock' is right for 66.7% of all tracks." in result.stdout
    assert "by the headers of the files" in result.stdout
    assert "folder of genres with the table" in result.stderr


def test_json_and_csv(music: Path) -> None:
    for options in ((), ("--decode",)):
        found = json.loads(invoke(music, "--format", "json", *options).stdout)
        assert (found["tracks"], found["artists"], found["albums"]) == (3, 2, 3)
        assert found["durations"]["total_s"] == pytest.approx(6)
        assert found["duration_source"] == ("decoded" if options else "header")
        assert [genre["genre"] for genre in found["genres"]] == ["rock", "jazz"]
    rows = list(csv.DictReader(io.StringIO(invoke(music, "--format", "csv").stdout)))
    assert [row["genre"] for row in rows] == ["rock", "jazz"]
    assert float(rows[0]["total_s"]) == pytest.approx(3)
    assert rows[0]["largest_artist"] == "2"


@pytest.mark.slow
def test_pictures_and_a_cache(music: Path, tmp_path: Path) -> None:
    cache = tmp_path / "lengths"
    result = invoke(music, "--decode", "--cache", cache, "--pictures", tmp_path / "pictures")
    assert result.exit_code == 0
    drawn = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert drawn == {"genres.png", "artists.png", "tracks-per-artist.png", "durations.png"}
    assert cache.is_file()
    assert "genres.png" in result.stderr


@pytest.mark.slow
def test_fma_without_audio(tmp_path: Path) -> None:
    make_miniature(tmp_path, audio=False)
    result = invoke(tmp_path, "--subset", "small", "--pictures", tmp_path / "pictures")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("FMA small: 24 tracks, 8 genres")
    assert "is right for 12.5% of the official test tracks" in result.stdout
    assert "tracks  genre, with those of the genres below it" in result.stdout
    assert "of the whole tracks, by FMA's tables" in result.stdout
    assert (tmp_path / "pictures" / "tree.png").is_file()
    found = json.loads(invoke(tmp_path, "--subset", "full", "--format", "json").stdout)
    assert found["tracks"] == 40
    assert len([node for node in found["tree"] if node["parent"] is None]) == 16


def test_gtzan_and_files_that_cannot_be_read(tmp_path: Path) -> None:
    write_gtzan(tmp_path)
    result = invoke(tmp_path)
    assert result.exit_code == 1
    assert result.stdout.startswith("GTZAN: 60 tracks, 10 genres, no known artists\n")
    assert "10.0% of the official test tracks" in result.stdout
    assert "jazz/jazz.00054.wav" in result.stderr


def test_a_file_without_duration_is_reported(music: Path) -> None:
    (music / "rock" / "bad.mp3").write_bytes(b"none" * 1000)
    result = invoke(music)
    assert result.exit_code == 1
    assert "rock/bad.mp3: " in result.stderr
    assert "Durations of 3 tracks" in result.stdout
