"""Statistics of data sets, and their plots."""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from miniature_fma import make_miniature
from miniature_gtzan import write_gtzan

from deepmusic.datasets import Fold, FolderDataset, Track, scan_folder
from deepmusic.datasets.fma import read_fma
from deepmusic.datasets.stats import dataset_statistics, fma_statistics, measure_durations
from deepmusic.datasets.stats_plot import plot_statistics
from deepmusic.errors import DataError


def dataset_of(*tracks: Track) -> FolderDataset:
    return FolderDataset(Path("music"), tracks, tuple(sorted({track.genre for track in tracks})))


TRACKS = st.lists(
    st.builds(
        Track,
        path=st.uuids().map(lambda name: f"a/{name}"),
        genre=st.sampled_from(["rock", "jazz", "pop"]),
        artist=st.sampled_from([None, "Ann", "ann", "Bob", "VA"]),
        album=st.sampled_from([None, "One", "Two"]),
        content_hash=st.integers(0, 20).map(str),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda track: track.path,
)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(tracks=TRACKS, data=st.data())
def test_counts_agree_with_a_slow_count(tracks: list[Track], data: st.DataObject) -> None:
    seconds = {
        track.path: data.draw(st.floats(0.1, 1000))
        for track in tracks
        if data.draw(st.integers(0, 4))
    }
    found = dataset_statistics(dataset_of(*tracks), durations=seconds, duration_source="header")
    counts = Counter(track.genre for track in tracks)
    assert {genre.genre: genre.tracks for genre in found.genres} == counts
    assert [g.tracks for g in found.genres] == sorted(counts.values(), reverse=True)
    assert found.tracks == len(tracks)
    assert found.without_genre == 0
    known = [t.artist.lower() for t in tracks if t.artist not in (None, "VA")]
    assert found.artists == len(set(known))
    assert found.unknown_artists == len(tracks) - len(known)
    assert sorted(found.tracks_per_artist) == sorted(Counter(known).values())
    assert found.majority_accuracy == max(counts.values()) / len(tracks)
    assert counts[found.majority_genre] == max(counts.values())
    assert found.copies == len(tracks) - len({t.content_hash for t in tracks})
    for genre in found.genres:
        of_genre = [t for t in tracks if t.genre == genre.genre]
        lengths = [seconds[t.path] for t in of_genre if t.path in seconds]
        assert (genre.durations is None) == (not lengths)
        if genre.durations is not None:
            times = (sum(lengths), statistics.median(lengths), min(lengths), max(lengths))
            d = genre.durations
            assert d.tracks == len(lengths)
            assert (d.total_s, d.median_s, d.shortest_s, d.longest_s) == pytest.approx(times)
        names = Counter(t.artist.lower() for t in of_genre if t.artist not in (None, "VA"))
        assert genre.artists == len(names)
        assert genre.largest_artist == max(names.values(), default=0)
    assert found.duration_source == ("header" if seconds else "")


def test_an_album_title_of_another_artist_is_another_album() -> None:
    rows = [("Queen", "Greatest Hits"), ("ABBA", "Greatest Hits"), ("Queen", "greatest hits")]
    tracks = [Track(f"a/{n}", "a", *row, "1") for n, row in enumerate([*rows, ("Queen", None)])]
    assert dataset_statistics(dataset_of(*tracks)).albums == 2
    with pytest.raises(DataError, match="has no tracks"):
        dataset_statistics(dataset_of())


def test_the_majority_of_training_is_evaluated_on_the_test() -> None:
    genres = ["rock"] * 3 + ["jazz"] * 5
    dataset = dataset_of(*(Track(f"a/{n}", g, None, None, str(n)) for n, g in enumerate(genres)))
    for split, expected in (
        (Fold((0, 1, 3), (4,), (2, 5, 6, 7)), ("rock", 0.25, "test")),
        (None, ("jazz", 0.625, "all")),
    ):
        found = dataset_statistics(dataset, split=split)
        assert (found.majority_genre, found.majority_accuracy, found.majority_part) == expected


def test_durations_from_headers_and_by_decoding(tmp_path: Path) -> None:
    write_gtzan(tmp_path, names=["pop.00001", "rock.00001"], folder="a", broken=())
    root = tmp_path / "a"
    for n, (extension, sample_rate) in enumerate([("wav", 8000), ("flac", 22050), ("ogg", 44100)]):
        sound = 0.1 * np.random.default_rng(n).standard_normal(sample_rate * (n + 1))
        soundfile.write(root / "pop" / f"{n}.{extension}", sound, sample_rate)
    (root / "rock" / "bad.mp3").write_bytes(b"no sound at all" * 100)
    dataset = scan_folder(root)
    calls: list[tuple[int, int]] = []
    for decode in (False, True):
        found = measure_durations(
            dataset, decode=decode, on_progress=lambda done, total: calls.append((done, total))
        )
        assert [scan.path for scan in found] == [track.path for track in dataset.tracks]
        assert {scan.path: scan.duration_s for scan in found} == {
            "pop/0.wav": pytest.approx(1, abs=0.01),
            "pop/1.flac": pytest.approx(2, abs=0.01),
            "pop/2.ogg": pytest.approx(3, abs=0.01),
            "pop/pop.00001.wav": pytest.approx(0.4),
            "rock/bad.mp3": 0.0,
            "rock/rock.00001.wav": pytest.approx(0.4),
        }
        assert [scan.path for scan in found if scan.code] == ["rock/bad.mp3"]
    assert calls == [(n, 6) for n in range(1, 7)] * 2


def test_decoding_corrects_a_wrong_header_and_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = scan_folder(write_gtzan(tmp_path, names=["pop.00001"]))
    file = tmp_path / "genres/pop/pop.00001.wav"
    content = bytearray(file.read_bytes())
    content[40:44] = (10 * (len(content) - 44)).to_bytes(4, "little")  # ten times as long
    file.write_bytes(content)
    cache = tmp_path / "durations.db"
    (decoded,) = measure_durations(dataset, decode=True, cache=cache)
    assert decoded.duration_s == pytest.approx(0.4)
    monkeypatch.setattr("deepmusic.audio.scan._measure", lambda *_: 1 / 0)
    (again,) = measure_durations(dataset, decode=True, cache=cache)
    assert again.duration_s == decoded.duration_s
    cache.write_text("something else\n")
    with pytest.raises(DataError, match="not a store"):
        measure_durations(dataset, decode=True, cache=cache)


def test_fma_from_its_tables_alone(tmp_path: Path) -> None:
    mini = make_miniature(tmp_path, audio=False)
    fma = read_fma(tmp_path)
    found = fma_statistics(fma.subset("full"), fma.tree, name="FMA full")
    assert found.tracks == len(mini.rows)
    assert found.without_genre == sum(not row.genre_top for row in mini.rows)
    assert {genre.genre: genre.tracks for genre in found.genres} == Counter(
        row.genre_top for row in mini.rows if row.genre_top
    )
    assert found.artists == len({row.artist_id for row in mini.rows})
    assert found.albums == len({row.album_id for row in mini.rows})
    assert found.duration_source == "tables"
    assert found.majority_part == "test"
    tested = [row.genre_top for row in mini.rows if row.split == "test" and row.genre_top]
    assert found.majority_accuracy == tested.count(found.majority_genre) / len(tested)
    counts = Counter(genre for row in mini.rows for genre in row.genres_all)
    assert len(found.tree) == len(mini.genres)
    assert {node.id: node.tracks for node in found.tree if node.tracks} == counts
    # a genre stands after its parent, at one depth more
    depth: dict[int | None, int] = {None: 0}
    for node in found.tree:
        assert node.depth == depth[node.parent] + 1
        depth[node.id] = node.depth
    small = fma_statistics(fma.subset("small"), fma.tree)
    assert small.tracks == 24
    assert len(small.genres) == 8


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@pytest.mark.slow
def test_plots_without_data_are_left_out(tmp_path: Path) -> None:
    make_miniature(tmp_path, audio=False)
    fma = read_fma(tmp_path)
    found = fma_statistics(fma.subset("full"), fma.tree)
    names = ["genres", "artists", "tracks-per-artist", "durations", "tree"]
    drawn = plot_statistics(found, tmp_path / "pictures" / "new")
    assert [path.name for path in drawn] == [f"{name}.png" for name in names]
    assert all(min(png_size(path)) > 200 for path in drawn)
    bare = dataset_statistics(dataset_of(Track("a/1", "a", None, None, "1")))
    drawn = plot_statistics(bare, tmp_path / "bare")
    assert [path.name for path in drawn] == ["genres.png"]


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [[30.0] * 50, [0.5, 3000.0]])
def test_plots_of_odd_names_and_durations(
    lengths: list[float], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    odd = ["$x^", "\udce9\n", "日本", "a" * 300, "_b", ""]
    tracks = [
        Track(f"a/{n}", odd[n % len(odd)], f"Name {n % 3}", None, str(n))
        for n in range(max(len(lengths), 6))
    ]
    durations = {track.path: length for track, length in zip(tracks, lengths, strict=False)}
    found = dataset_statistics(
        dataset_of(*tracks), durations=durations, duration_source="decoded", name="$\n"
    )
    assert len(plot_statistics(found, tmp_path)) == 4
    assert not recwarn.list


@pytest.mark.slow
def test_plots_of_many_genres_are_not_endless(tmp_path: Path) -> None:
    tracks = [Track(f"a/{n}", f"genre {n}", f"Name{n % 50}", None, str(n)) for n in range(100)]
    drawn = plot_statistics(dataset_statistics(dataset_of(*tracks)), tmp_path)
    assert all(max(png_size(path)) < 3000 for path in drawn)
