"""What kind of data set a path holds, and what is loaded from it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from miniature_fma import make_miniature
from miniature_gtzan import write_gtzan

from deepmusic.datasets import fault_filtered_split, load_dataset
from deepmusic.datasets.table import find_fma
from deepmusic.errors import DataError


def make_folder(root: Path) -> Path:
    for name in ("jazz/0.mp3", "jazz/1.mp3", "rock/0.mp3", "rock/1.mp3"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_a_folder_with_and_without_a_table(tmp_path: Path) -> None:
    make_folder(tmp_path)
    loaded = load_dataset(tmp_path)
    assert (loaded.kind, len(loaded.dataset.tracks)) == ("folder", 4)
    assert "folder of genres." in loaded.about
    (tmp_path / "tracks.csv").write_text("path,artist\n0.mp3,Ann\nrock/1.mp3,Bob\n")
    loaded = load_dataset(tmp_path)
    assert "with the table tracks.csv" in loaded.about
    assert loaded.dataset.tracks[-1].artist == "Bob"
    other = tmp_path / "other.csv"
    other.write_text("path,artist\nrock/1.mp3,Cid\n")
    loaded = load_dataset(tmp_path, table=other)
    assert loaded.dataset.tracks[-1].artist == "Cid"
    with pytest.raises(DataError, match="has no official split"):
        loaded.official_split()


def test_a_csv(tmp_path: Path) -> None:
    make_folder(tmp_path / "music")
    file = tmp_path / "list.csv"
    file.write_text("path,genre,artist\nmusic/rock/0.mp3,metal,Ann\nmusic/jazz/1.mp3,bop,Bob\n")
    loaded = load_dataset(file)
    assert loaded.kind == "table"
    assert [(t.path, t.genre) for t in loaded.dataset.tracks] == [
        ("music/jazz/1.mp3", "bop"),
        ("music/rock/0.mp3", "metal"),
    ]
    with pytest.raises(DataError, match="has its own table"):
        load_dataset(file, table=file)


def test_gtzan_and_its_official_split(tmp_path: Path) -> None:
    genres = write_gtzan(tmp_path, folder="Data/genres_original")
    loaded = load_dataset(tmp_path)
    assert loaded.about == f"{tmp_path} is loaded as GTZAN, since its clips are in {genres}."
    assert loaded.official_split() == fault_filtered_split(loaded.dataset)
    forced = load_dataset(genres, kind="folder")
    assert forced.kind == "folder"
    assert len(forced.dataset.tracks) == len(loaded.dataset.tracks) + 1  # nothing is decoded


@pytest.mark.slow
def test_fma_and_its_official_split(tmp_path: Path) -> None:
    mini = make_miniature(tmp_path, zips=True)
    loaded = load_dataset(tmp_path)
    assert (loaded.kind, loaded.fma is not None) == ("fma", True)
    assert "Its subset small is used, with top genres." in loaded.about
    paths = [track.path for track in loaded.dataset.tracks]
    assert paths == sorted(mini.checksums)
    fold = loaded.official_split()
    split = {row.path: row.split for row in mini.rows}
    for part, theirs in (("train", "training"), ("validation", "validation"), ("test", "test")):
        assert {split[paths[index]] for index in getattr(fold, part)} == {theirs}
    with pytest.raises(DataError, match="has its own table"):
        load_dataset(tmp_path, table="any.csv")
    with pytest.raises(DataError, match="no tables of FMA"):
        load_dataset(mini.audio, kind="fma")


def test_your_own_table_is_not_taken_for_fma(tmp_path: Path) -> None:
    mini = make_miniature(tmp_path / "fma", audio=False, zips=True)
    metadata = tmp_path / "fma" / "fma_metadata"
    archive = mini.metadata_zip
    assert find_fma(tmp_path / "fma") == find_fma(metadata) == metadata
    assert archive is not None
    assert find_fma(archive) == archive
    shutil.rmtree(metadata)
    assert find_fma(tmp_path / "fma") == archive
    make_folder(tmp_path / "own")
    (tmp_path / "own" / "tracks.csv").write_text("path,album,artist\nrock/1.mp3,One,Ann\n")
    assert load_dataset(tmp_path / "own").kind == "folder"


def test_archives_and_missing_paths_are_refused(tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "genres"), "gztar", make_folder(tmp_path)))
    with pytest.raises(DataError, match=r"unpack it, .*deepmusic data download gtzan --to DIR"):
        load_dataset(archive)
    with pytest.raises(DataError, match="does not exist"):
        load_dataset(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no audio files"):
        load_dataset(tmp_path / "empty")
