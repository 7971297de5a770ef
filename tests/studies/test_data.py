"""The data of a study: from tables, and from sound in one decoding pass per track."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "classifier"))
from synthetic import write_folder

from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.data import SpectrogramStore, whole_spectrogram
from deepmusic.datasets import FolderDataset, scan_folder
from deepmusic.datasets.folder import Track
from deepmusic.datasets.load import LoadedDataset
from deepmusic.errors import DataError
from deepmusic.features import COLUMNS, RECIPES, FeatureTable, extract_file, write_features
from deepmusic.studies.analysis import analyze_track
from deepmusic.studies.data import StudyData, load_study_data

ROWS = np.random.default_rng(0).normal(size=(4, len(COLUMNS))).astype(np.float32)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("study data") / "music", artists=2, each=1)


@pytest.fixture(scope="module")
def paths(music: Path) -> list[str]:
    return [track.path for track in scan_folder(music).tracks]


def load(
    data: Path | LoadedDataset,
    folder: Path,
    names: list[str],
    rows: NDArray[np.float32],
    recipe: str = "fma",
    **facts: Any,
) -> StudyData:
    """The data with columns from a table of these rows."""
    table = folder / "t.parquet"
    write_features(table, FeatureTable({"path": [*names], **facts}, rows, recipe, 1))
    return load_study_data(data, cache=folder / "cache", needs=("columns",), features=table)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["./music/{}", "{root}/{}", "{}"])
def test_rows_are_found_by_path_whatever_their_order(
    music: Path, paths: list[str], tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(music.parent)
    names = [form.format(path, root=music.absolute()) for path in paths]
    data = load(Path("music"), tmp_path, names[::-1], ROWS[::-1])
    assert [track.path for track in data.dataset.tracks] == paths
    np.testing.assert_array_equal(data.columns, ROWS)
    assert data.dataset.notes == scan_folder("music").notes
    assert data.spectrograms is None
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.genres == ("chords", "clicks")


def test_numbers_of_fma_find_their_tracks(tmp_path: Path) -> None:
    tracks = tuple(
        Track(f"{n // 1000:03}/{n:06}.mp3", "rock" if n % 2 else "jazz", f"a {n}", None, f"h{n}")
        for n in (2, 5, 141, 155320)
    )
    loaded = LoadedDataset(FolderDataset(tmp_path, tracks, ("jazz", "rock")), "fma", "")
    data = load(loaded, tmp_path, ["155320", "2", "5", "141"], ROWS)
    np.testing.assert_array_equal(data.columns, ROWS[[1, 2, 3, 0]])


@pytest.mark.slow
def test_a_table_of_other_tracks_or_another_recipe_is_reported(
    music: Path, paths: list[str], tmp_path: Path
) -> None:
    names = [*paths[1:], "polka/9.wav"]
    data = load(music, tmp_path, names, ROWS, recipe="fma-corrected")
    assert [track.path for track in data.dataset.tracks] == paths[1:]
    np.testing.assert_array_equal(data.columns, ROWS[:3])
    (problem,) = data.dataset.problems
    assert problem.code == "no_row"
    assert repr(paths[0]) in problem.message
    assert any(n.startswith("1 row of") and "'polka/9.wav'" in n for n in data.dataset.notes)
    assert any("recipe 'fma-corrected'" in note for note in data.dataset.notes)
    with pytest.raises(DataError, match=r"None of the 4 tracks .*'polka/9.wav'"):
        load(music, tmp_path, ["polka/9.wav"], ROWS[:1])


@pytest.mark.slow
def test_infinite_and_missing_values_are_reported(
    music: Path, paths: list[str], tmp_path: Path
) -> None:
    rows = ROWS.copy()
    rows[0, 3:5] = np.inf, -np.inf
    rows[1, 5] = np.nan
    data = load(music, tmp_path, paths, rows)
    assert data.columns is not None
    assert not np.isinf(data.columns).any()
    assert np.argwhere(np.isnan(data.columns)).tolist() == [[0, 3], [0, 4], [1, 5]]
    notes = [note for note in data.dataset.notes if "feature" in note]
    assert [" ".join(note.split()[:3]) for note in notes] == ["1 track with", "2 tracks without"]


@pytest.mark.slow
def test_a_row_without_any_value_leaves_the_track_out(
    music: Path, paths: list[str], tmp_path: Path
) -> None:
    rows = ROWS.copy()
    rows[2] = np.nan
    errors = ["", "", f"{paths[2]!r} is silent.", ""]
    data = load(music, tmp_path, paths, rows, error=errors)
    assert [problem.message for problem in data.dataset.problems] == [errors[2]]
    assert len(data.dataset.tracks) == 3
    rows[3] = np.nan  # the last of its genre
    with pytest.raises(DataError, match="only 'chords'"):
        load(music, tmp_path, paths, rows, error=errors)


def test_one_genre_is_refused_before_any_work(music: Path, tmp_path: Path) -> None:
    dataset = scan_folder(music)
    one = FolderDataset(dataset.root, dataset.tracks[:2], ("chords",))
    with pytest.raises(DataError, match="only 'chords'"):
        load_study_data(LoadedDataset(one, "folder", ""), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were decoded, each time they were."""
    import deepmusic.audio.decode as decode

    opened: list[str] = []
    real = decode.AudioStream

    class Counted(real):  # type: ignore[misc, valid-type]
        def __init__(self, source: Any, *settings: Any) -> None:
            opened.append(os.path.basename(source))
            super().__init__(source, *settings)

    monkeypatch.setattr(decode, "AudioStream", Counted)
    return opened


@pytest.mark.slow
def test_each_track_is_decoded_once_for_everything(
    music: Path, tmp_path: Path, decoded: list[str]
) -> None:
    progress: list[tuple[str, int, int]] = []
    data = load_study_data(
        music,
        cache=tmp_path / "cache",
        finds_copies=True,
        on_progress=lambda *args: progress.append(args),
    )
    assert sorted(decoded) == sorted(Path(track.path).name for track in data.dataset.tracks)
    assert progress[-1] == ("tracks", 4, 4)
    assert data.columns is not None
    assert data.spectrograms is not None
    # the same as each consumer alone gives
    config = ClassifierConfig(data.genres)
    store = SpectrogramStore(tmp_path / "alone", config)
    assert store.fill(data.dataset, workers=1) == []
    for index, track in enumerate(data.dataset.tracks):
        row = extract_file(data.dataset.file(track), RECIPES["fma"])
        np.testing.assert_allclose(data.columns[index], row.columns, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(data.spectrograms(index), store.load(track), atol=0.05)
    decoded.clear()
    again = load_study_data(music, cache=tmp_path / "cache", finds_copies=True)
    few = load_study_data(music, cache=tmp_path / "cache", needs=("spectrograms",))
    assert decoded == []
    assert few.columns is None
    np.testing.assert_array_equal(again.columns, data.columns)
    other = pickle.loads(pickle.dumps(again))  # as worker processes get them
    np.testing.assert_array_equal(other.spectrograms(2), data.spectrograms(2))


def test_another_rate_is_resampled_as_the_classifier_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * rng.normal(size=44100 * 8), 44100)
    store = SpectrogramStore(tmp_path / "kept", ClassifierConfig(("a", "b")))
    found = analyze_track(f"abc {path}", outputs=("spectrograms",), spectrograms=store)
    assert found.outputs == ("spectrograms",)
    assert found.code == ""
    whole, _ = whole_spectrogram(path, store.config.log_mel, max_seconds=60)
    np.testing.assert_allclose(np.load(store.path("abc")), whole, atol=0.05)


def test_long_tracks_wait_on_the_disk_and_give_the_same(
    music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = f"abc {music / 'chords' / '0.wav'}"
    short = analyze_track(item, outputs=("columns",), spectrograms=None)
    monkeypatch.setattr("deepmusic.studies.analysis._IN_MEMORY_S", 1.0)
    long = analyze_track(item, outputs=("columns",), spectrograms=None)
    np.testing.assert_allclose(long.columns, short.columns, rtol=1e-3, atol=1e-3)


def test_silent_and_broken_tracks_are_left_out(music: Path, tmp_path: Path) -> None:
    root = tmp_path / "music"
    shutil.copytree(music, root)
    soundfile.write(root / "clicks" / "silence.wav", np.zeros(60_000), 22050)
    (root / "clicks" / "text.wav").write_text("no sound")
    data = load_study_data(root, cache=tmp_path / "cache", needs=("spectrograms",))
    assert {problem.code for problem in data.dataset.problems} == {"silent", "not_audio"}
    assert len(data.dataset.tracks) == 4
    columns = load_study_data(root, cache=tmp_path / "cache", needs=("columns",))
    assert [problem.code for problem in columns.dataset.problems] == ["not_audio"]


def test_near_copies_are_in_one_group_where_asked(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sounds = [np.cumsum(random.standard_normal(12 * 8000)) for _ in range(4)]
    sounds = [0.5 * sound / np.abs(sound).max() for sound in sounds]
    for number, sound in enumerate([*sounds, 0.3 * sounds[0][8000:]]):
        path = tmp_path / "music" / ("rock" if number % 2 else "jazz") / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.diff(sound, prepend=0), 8000)
    options: dict[str, Any] = {"cache": tmp_path / "cache", "needs": ()}
    data = load_study_data(tmp_path / "music", finds_copies=True, **options)
    groups = {Path(track.path).name: track.sound_group for track in data.dataset.tracks}
    assert groups["0.wav"] == groups["4.wav"] is not None
    assert {groups[f"{number}.wav"] for number in (1, 2, 3)} == {None}
    plain = load_study_data(tmp_path / "music", **options)
    assert {track.sound_group for track in plain.dataset.tracks} == {None}
