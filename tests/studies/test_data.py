"""The data of a study: from tables, from sound, and again in another process."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "classifier"))
from synthetic import write_folder

from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.spectrograms import SpectrogramStore
from deepmusic.datasets import FolderDataset, scan_folder
from deepmusic.datasets.folder import Track
from deepmusic.datasets.load import LoadedDataset
from deepmusic.errors import DataError
from deepmusic.features import COLUMNS, FeatureTable, write_features
from deepmusic.studies.data import (
    StudyData,
    keep_study_data,
    load_study_data,
    read_study_data,
)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("study data") / "music", artists=2, each=1)


def rows_for(count: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, len(COLUMNS))).astype(np.float32)


def write_table(path: Path, names: list[str], rows: NDArray[np.float32], **facts: Any) -> Path:
    write_features(path, FeatureTable({"path": [*names], **facts}, rows, "fma", 1))
    return path


def load(music: Path, table: Path, **options: Any) -> StudyData:
    cache = table.parent / "cache"
    return load_study_data(music, cache=cache, needs=("columns",), features=table, **options)


@pytest.mark.parametrize("form", ["as given", "absolute", "inside"])
def test_rows_are_found_by_path_whatever_their_order(
    music: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(music.parent)
    dataset = scan_folder("music")
    names = {
        "as given": [f"./music/{t.path}" for t in dataset.tracks],
        "absolute": [str(music.absolute() / t.path) for t in dataset.tracks],
        "inside": [t.path for t in dataset.tracks],
    }[form]
    rows = rows_for(len(names))
    table = write_table(tmp_path / "t.parquet", names[::-1], rows[::-1])
    data = load(Path("music"), table)
    assert [t.path for t in data.dataset.tracks] == [t.path for t in dataset.tracks]
    np.testing.assert_array_equal(data.columns, rows)
    assert data.dataset.notes == dataset.notes
    assert data.spectrograms is None
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.genres == ("chords", "clicks")


def test_a_table_that_lacks_tracks_and_has_others_is_told_in_a_sentence_each(
    music: Path, tmp_path: Path
) -> None:
    paths = [t.path for t in scan_folder(music).tracks]
    table = write_table(tmp_path / "t.parquet", [*paths[1:], "polka/9.wav"], rows_for(len(paths)))
    data = load(music, table)
    assert [t.path for t in data.dataset.tracks] == paths[1:]
    assert data.columns is not None
    assert len(data.columns) == len(paths) - 1
    (problem,) = data.dataset.problems
    assert problem.code == "no_row"
    assert repr(paths[0]) in problem.message
    assert any("1 row" in n and "'polka/9.wav'" in n for n in data.dataset.notes)


def test_a_table_of_other_music_is_refused(music: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet", ["polka/9.wav"], rows_for(1))
    with pytest.raises(DataError, match=r"None of the 4 tracks .*'polka/9.wav'"):
        load(music, table)


def test_infinite_and_missing_values_are_holes_and_told(music: Path, tmp_path: Path) -> None:
    paths = [t.path for t in scan_folder(music).tracks]
    rows = rows_for(len(paths))
    rows[0, 3] = np.inf
    rows[0, 4] = -np.inf
    rows[1, 5] = np.nan
    data = load(music, write_table(tmp_path / "t.parquet", paths, rows))
    assert data.columns is not None
    assert not np.isinf(data.columns).any()
    assert np.argwhere(np.isnan(data.columns)).tolist() == [[0, 3], [0, 4], [1, 5]]
    said = [note for note in data.dataset.notes if "feature" in note]
    assert len(said) == 2
    assert "1 track has infinite" in said[0]
    assert "2 tracks lack" in said[1]


def test_a_row_without_any_value_leaves_the_track_out(music: Path, tmp_path: Path) -> None:
    paths = [t.path for t in scan_folder(music).tracks]
    rows = rows_for(len(paths))
    rows[2] = np.nan
    errors = ["", "", f"{paths[2]!r} is silent.", ""]
    table = write_table(tmp_path / "t.parquet", paths, rows, error=errors)
    data = load(music, table)
    assert [p.message for p in data.dataset.problems] == [f"{paths[2]!r} is silent."]
    assert len(data.dataset.tracks) == 3
    rows[3] = np.nan  # the last of its genre
    with pytest.raises(DataError, match="only 'chords'"):
        load(music, write_table(tmp_path / "u.parquet", paths, rows, error=errors))


def test_numbers_of_fma_find_their_tracks(tmp_path: Path) -> None:
    tracks = tuple(
        Track(f"{n // 1000:03}/{n:06}.mp3", "rock" if n % 2 else "jazz", f"a {n}", None, f"h{n}")
        for n in (2, 5, 141, 155320)
    )
    dataset = FolderDataset(tmp_path, tracks, ("jazz", "rock"))
    rows = rows_for(4)
    table = write_table(tmp_path / "t.parquet", ["155320", "2", "5", "141"], rows)
    data = load_study_data(
        LoadedDataset(dataset, "fma", ""), cache=tmp_path, needs=("columns",), features=table
    )
    np.testing.assert_array_equal(data.columns, rows[[1, 2, 3, 0]])


def test_a_recipe_of_another_kind_is_told(music: Path, tmp_path: Path) -> None:
    paths = [t.path for t in scan_folder(music).tracks]
    facts: dict[str, list[object]] = {"path": [*paths]}
    write_features(tmp_path / "t.parquet", FeatureTable(facts, rows_for(4), "fma-corrected", 1))
    notes = load(music, tmp_path / "t.parquet").dataset.notes
    assert any("recipe 'fma-corrected'" in note for note in notes)


def test_one_genre_is_refused_before_any_work(music: Path, tmp_path: Path) -> None:
    dataset = scan_folder(music)
    one = FolderDataset(dataset.root, dataset.tracks[:2], ("chords",))
    with pytest.raises(DataError, match="only 'chords'"):
        load_study_data(LoadedDataset(one, "folder", ""), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_spectrograms_are_those_of_the_store_and_silence_is_left_out(
    music: Path, tmp_path: Path
) -> None:
    import soundfile

    dataset = scan_folder(music)
    soundfile.write(tmp_path / "silence.wav", np.zeros(60_000), 22050)
    quiet = Track("../silence.wav", "clicks", None, None, "0" * 64)
    root = tmp_path / "music"
    root.symlink_to(music, target_is_directory=True)
    silent = tmp_path / "silence.wav"
    quiet = replace(quiet, path=str(silent))  # an absolute path stays one below a root
    both = FolderDataset(root, (*dataset.tracks, quiet), dataset.genres)
    seen: list[tuple[str, int, int]] = []
    data = load_study_data(
        LoadedDataset(both, "folder", ""),
        cache=tmp_path / "cache",
        needs=("spectrograms",),
        on_progress=lambda *args: seen.append(args),
    )
    assert data.columns is None
    assert [p.code for p in data.dataset.problems] == ["silent"]
    assert len(data.dataset.tracks) == 4
    assert data.spectrograms is not None
    store = SpectrogramStore(tmp_path / "cache" / "spectrograms", ClassifierConfig(data.genres))
    for place, track in enumerate(data.dataset.tracks):
        np.testing.assert_array_equal(data.spectrograms(place), store.load(track))
    assert seen[-1] == ("spectrograms", 5, 5)


def test_another_process_reads_the_same(music: Path, tmp_path: Path) -> None:
    paths = [t.path for t in scan_folder(music).tracks]
    table = write_table(tmp_path / "t.parquet", paths, rows_for(len(paths)))
    data = load_study_data(music, cache=tmp_path / "cache", features=table)
    keep_study_data(data, tmp_path / "kept")
    for again in (read_study_data(tmp_path / "kept"), pickle.loads(pickle.dumps(data))):
        assert again.dataset.tracks == data.dataset.tracks
        assert again.genres == data.genres
        np.testing.assert_array_equal(again.labels, data.labels)
        np.testing.assert_array_equal(again.columns, data.columns)
        assert again.spectrograms is not None
        assert data.spectrograms is not None
        np.testing.assert_array_equal(again.spectrograms(2), data.spectrograms(2))


@pytest.mark.parametrize("damage", ["missing", "nonsense", "another", "short"])
def test_damaged_data_of_a_study_are_one_sentence(tmp_path: Path, damage: str) -> None:
    tracks = tuple(Track(f"{g}/1.wav", g, None, None, g) for g in ("a", "b"))
    data = StudyData(FolderDataset(tmp_path, tracks, ("a", "b")), rows_for(2))
    keep_study_data(data, tmp_path / "kept")
    file = tmp_path / "kept" / "tracks.json"
    if damage == "missing":
        file.unlink()
    elif damage == "nonsense":
        file.write_text("{")
    elif damage == "another":
        file.write_text('{"format": "x"}')
    else:
        np.save(tmp_path / "kept" / "columns.npy", rows_for(1))
    with pytest.raises(DataError, match=r"data of the study in .* (cannot be read|are damaged)"):
        read_study_data(tmp_path / "kept")


@pytest.mark.slow
def test_columns_are_computed_once(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"cache": tmp_path, "needs": ("columns",)}
    data = load_study_data(music, **options)
    assert data.columns is not None
    assert data.columns.shape == (4, 518)
    assert np.isfinite(data.columns).all()
    asked: list[str] = []
    monkeypatch.setattr(
        "deepmusic.features.extraction.extract", lambda paths, *_, **__: asked.extend(paths) or []
    )
    again = load_study_data(music, **options)
    assert asked == []
    np.testing.assert_array_equal(again.columns, data.columns)
    (table,) = tmp_path.glob("features-*.parquet")
    given = load_study_data(music, features=table, **options)
    np.testing.assert_array_equal(given.columns, data.columns)


def test_near_copies_are_of_one_group_where_asked(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sounds = [np.cumsum(random.standard_normal(12 * 8000)) for _ in range(4)]
    sounds = [0.5 * sound / np.abs(sound).max() for sound in sounds]
    for number, sound in enumerate([*sounds, 0.3 * sounds[0][8000:]]):
        path = tmp_path / "music" / ("rock" if number % 2 else "jazz") / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.diff(sound, prepend=0), 8000)
    seen = []
    data = load_study_data(
        tmp_path / "music",
        cache=tmp_path / "cache",
        needs=(),
        finds_copies=True,
        on_progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    groups = {Path(track.path).name: track.sound_group for track in data.dataset.tracks}
    assert groups["0.wav"] == groups["4.wav"] is not None
    assert {groups[f"{number}.wav"] for number in (1, 2, 3)} == {None}
    assert seen[-1] == ("copies", 5, 5)
    plain = load_study_data(tmp_path / "music", cache=tmp_path / "cache", needs=())
    assert {track.sound_group for track in plain.dataset.tracks} == {None}
