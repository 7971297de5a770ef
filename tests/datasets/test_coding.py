"""Whether coding tells the genre: it is found where it does, and luck is no reason to warn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from deepmusic.audio.scan import AudioScan, scan_file
from deepmusic.datasets import coding, scan_folder
from deepmusic.datasets.coding import CodingReport, coding_report, dataset_coding, scan_beginning
from deepmusic.datasets.folder import Track

PLAIN: dict[str, Any] = {
    "codec": "mp3", "bit_rate": 128_000, "sample_rate": 44_100, "bandwidth_hz": 16_000,
    "channels": 2, "level_db": -15.0,
}  # fmt: skip
OTHER: dict[str, Any] = {
    "codec": "flac", "bit_rate": 96_000, "sample_rate": 48_000, "bandwidth_hz": 9_000,
    "channels": 1, "level_db": -25.0,
}  # fmt: skip


def report_of(genres: Sequence[str], codings: Sequence[dict[str, Any]], **of: Any) -> CodingReport:
    artists = of.get("artists", range(len(genres)))
    tracks = [
        Track(f"{genre}/{number}.mp3", genre, f"artist {artist}", None, str(number))
        for number, (genre, artist) in enumerate(zip(genres, artists, strict=True))
    ]
    scans = [AudioScan(t.path, **c) for t, c in zip(tracks, codings, strict=True)]
    return coding_report(tracks, scans)


@pytest.mark.parametrize("name", PLAIN)
def test_any_one_property_that_tells_the_genre_is_found(name: str) -> None:
    codings = [PLAIN] * 8 + [PLAIN | {name: OTHER[name]}] * 8
    report = report_of(["a"] * 8 + ["b"] * 8, codings)
    assert (report.accuracy, report.chance) == (1.0, 0.5)
    assert report.tells_genre
    assert report.summary.startswith("Warning: coding alone tells the genre of 100% of the tracks")


def test_one_genre_of_many_from_another_source_is_counted_not_warned_of() -> None:
    genres = [genre for genre in "abcdef" for _ in range(10)]
    report = report_of(genres, [OTHER if genre == "c" else PLAIN for genre in genres])
    assert report.accuracy is not None
    assert 0.15 < report.accuracy < 0.35
    assert not report.tells_genre


@pytest.mark.parametrize("tracks", [10, 16, 40])
def test_small_sets_do_not_cry_wolf(tracks: int) -> None:
    random = np.random.default_rng(tracks)
    warned = 0
    for _ in range(20):
        codings = [
            {
                "codec": str(random.choice(["mp3", "flac"])),
                "bandwidth_hz": int(random.choice([16_000, 20_000])),
                "bit_rate": int(random.normal(192e3, 3e4)),
                "level_db": random.normal(-15, 4),
            }
            for _ in range(tracks)
        ]
        warned += report_of(["a", "b"] * (tracks // 2), codings).tells_genre
    assert warned <= 1


def test_an_artist_is_not_recognised_by_their_coding() -> None:
    """Each artist has a bit rate of their own; across artists it says nothing."""
    artists = [number // 4 for number in range(48)]
    random = np.random.default_rng(0)
    rates = random.permutation(12) * 16_000 + 64_000
    report = report_of(
        ["ab"[artist % 2] for artist in artists],
        [PLAIN | {"bit_rate": int(rates[artist])} for artist in artists],
        artists=artists,
    )
    assert report.accuracy is not None
    assert report.accuracy < 0.75
    assert not report.tells_genre


def test_what_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    few = report_of(["a"] * 4 + ["b"] * 4, [PLAIN] * 4 + [OTHER] * 4)
    alone = report_of(["a"] * 8 + ["b"] * 8, [PLAIN] * 8 + [OTHER] * 8, artists=[0] * 8 + [1] * 8)
    failed = report_of(["a"] * 8, [{"code": "empty"}] * 8)
    monkeypatch.setattr(coding, "find_spec", lambda name: None)
    without = report_of(["a"] * 8 + ["b"] * 8, [PLAIN] * 8 + [OTHER] * 8)
    for report in (few, alone, failed, without):
        assert report.accuracy is None
        assert not report.tells_genre
        assert "not measured" in report.summary
    assert failed.genres == ()
    assert json.loads(json.dumps(without.to_dict()))["genres"][0]["codecs"] == {"mp3": 8}


def test_the_table() -> None:
    silent = {"codec": "wav", "sample_rate": 8_000, "bandwidth_hz": None, "level_db": None}
    report = report_of(["a", "a", "b", "c"], [PLAIN, OTHER, PLAIN, silent])
    assert report.rows() == [
        ("genre", "tracks", "codec", "kbit/s", "kHz", "bandwidth kHz", "channels", "dBFS"),
        ("a", "2", "mp3 50%, flac 50%", "112 (96 to 128)", "46.05 (44.1 to 48)",
         "12.5 (9.0 to 16.0)", "1.5 (1 to 2)", "-20 (-25 to -15)"),
        ("b", "1", "mp3", "128", "44.1", "16.0", "2", "-15"),
        ("c", "1", "wav", "0", "8", "-", "0", "-"),
    ]  # fmt: skip
    assert report.bandwidth_hz == 9_000


def test_files_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    for genre, rate in (("a", 22_050), ("b", 8_000)):
        (tmp_path / "music" / genre).mkdir(parents=True)
        for number in range(5):
            sound = random.normal(0, 0.1, 2 * rate)
            soundfile.write(tmp_path / "music" / genre / f"{number}.wav", sound, rate)
    dataset = scan_folder(tmp_path / "music")
    first = dataset_coding(dataset, cache=tmp_path / "codings.db")
    assert first.accuracy == 1.0
    assert [genre.bandwidth_hz for genre in first.genres] == [(11_025,) * 3, (4_000,) * 3]
    monkeypatch.setattr(coding, "scan_beginning", lambda path: pytest.fail("decoded again"))
    assert dataset_coding(dataset, cache=tmp_path / "codings.db") == first


def test_the_beginning_of_a_file_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (6 * 16_000, 2)), 16_000)
    whole, beginning = scan_file(path), scan_beginning(path, seconds=2)
    for name in ("duration_s", "codec", "bit_rate", "sample_rate", "channels", "bandwidth_hz"):
        assert getattr(beginning, name) == getattr(whole, name)
    assert beginning.level_db == pytest.approx(whole.level_db, abs=0.1)
    assert (beginning.sha256, beginning.faults, beginning.damage) == ("", (), "")
    assert scan_beginning(tmp_path / "none.wav").code == "missing"


def test_two_genres_that_differ_in_coding_alone(shared_data: Path) -> None:
    dataset = scan_folder(shared_data / "cases" / "audio" / "coding-is-the-genre")
    assert dataset_coding(dataset).tells_genre


@pytest.mark.slow
def test_music_of_one_source_is_no_reason_to_warn(shared_data: Path) -> None:
    dataset = scan_folder(shared_data / "emotify")
    report = dataset_coding(dataset)
    assert report.accuracy is not None
    assert report.accuracy > 0.4  # classical music is quieter
    assert not report.tells_genre
