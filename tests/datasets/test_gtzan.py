"""GTZAN as people have it: layouts, faults, and the fault-filtered split."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from miniature_gtzan import clip_names, write_archive, write_clip, write_gtzan

from deepmusic.datasets import scan_folder
from deepmusic.datasets.gtzan import (
    GTZAN_GENRES,
    fault_filtered_clips,
    fault_filtered_split,
    find_gtzan,
    read_gtzan,
)
from deepmusic.errors import DataError

# tracks of each genre in training, validation and test, as counted in the published lists
PER_GENRE = {
    "blues": (46, 23, 31), "classical": (48, 20, 31), "country": (45, 23, 30),
    "disco": (42, 22, 29), "hiphop": (47, 18, 27), "jazz": (43, 17, 27),
    "metal": (44, 20, 27), "pop": (41, 13, 30), "reggae": (43, 17, 26), "rock": (44, 24, 32),
}  # fmt: skip


def test_the_published_lists_have_their_counts_and_share_no_clip() -> None:
    clips = fault_filtered_clips()
    assert {part: len(names) for part, names in clips.items()} == {
        "train": 443,
        "validation": 197,
        "test": 290,
    }
    assert len(set().union(*clips.values())) == 930
    for genre, counts in PER_GENRE.items():
        assert counts == tuple(
            sum(name.startswith(f"{genre}.") for name in clips[part])
            for part in ("train", "validation", "test")
        )
    numbers = {int(name.split(".")[1]) for names in clips.values() for name in names}
    assert (min(numbers), max(numbers)) == (0, 99)


def test_the_lists_are_those_of_their_authors(shared_data: Path) -> None:
    for part, name in (("train", "train"), ("validation", "valid"), ("test", "test")):
        lines = (shared_data / "gtzan_splits" / f"{name}_filtered.txt").read_text().split()
        assert [f"{clip.split('.')[0]}/{clip}.wav" for clip in fault_filtered_clips()[part]] == (
            lines
        )


@pytest.mark.parametrize(
    ("folder", "named"),
    [
        ("genres", ""),
        ("genres", "genres"),
        ("genres_original", ""),
        ("Data/genres_original", ""),
        ("Data/genres_original", "Data"),
        ("gtzan/genres", ""),
    ],
)
def test_every_layout_gives_the_same_clips(folder: str, named: str, tmp_path: Path) -> None:
    names = ["blues.00000", "jazz.00012", "rock.00099"]
    genres = write_gtzan(tmp_path, folder=folder, names=names)
    (tmp_path / "features_30_sec.csv").write_text("filename,length\nblues.00000.wav,661794\n")
    assert find_gtzan(tmp_path / named) == genres
    dataset = read_gtzan(tmp_path / named)
    assert dataset.root == genres
    assert [track.path for track in dataset.tracks] == [
        "blues/blues.00000.wav",
        "jazz/jazz.00012.wav",
        "rock/rock.00099.wav",
    ]
    assert dataset.genres == ("blues", "jazz", "rock")


def test_a_clip_that_cannot_be_read_is_found_by_trying(tmp_path: Path) -> None:
    write_gtzan(tmp_path, names=["jazz.00054", "pop.00001", "pop.00002"], broken=("pop.00001",))
    dataset = read_gtzan(tmp_path)
    assert [track.path for track in dataset.tracks] == ["jazz/jazz.00054.wav", "pop/pop.00002.wav"]
    (problem,) = dataset.problems
    assert (problem.path, problem.code) == ("pop/pop.00001.wav", "not_audio")
    (tmp_path / "genres/pop/pop.00002.wav").write_bytes(b"")
    problems = {problem.path: problem.code for problem in read_gtzan(tmp_path).problems}
    assert problems == {"pop/pop.00001.wav": "not_audio", "pop/pop.00002.wav": "empty"}


def test_all_ten_genres_and_the_notes(tmp_path: Path) -> None:
    write_gtzan(tmp_path)
    dataset = read_gtzan(tmp_path)
    assert dataset.genres == GTZAN_GENRES
    assert [problem.path for problem in dataset.problems] == ["jazz/jazz.00054.wav"]
    assert len(dataset.tracks) == len(clip_names()) - 1 == 60
    notes = " ".join(dataset.notes)
    assert "Of the 1,000 clips of GTZAN 60 can be used here" in notes
    assert "jazz 94" in notes
    assert "Of the 930 clips in the fault-filtered split 870 cannot be used here" in notes
    assert "without a known artist" in notes


def test_strange_files_and_second_copies_are_told(tmp_path: Path) -> None:
    root = write_gtzan(tmp_path, names=["blues.00000", "blues.00001"])
    write_clip(root / "blues" / "blues.00000.au", 7)
    write_clip(root / "blues" / "jazz.00001.wav", 8)
    write_clip(root / "blues" / "my song.wav", 9)
    write_clip(root / "polka" / "polka.00001.wav", 10)
    dataset = read_gtzan(tmp_path)
    assert [track.path for track in dataset.tracks] == [
        "blues/blues.00000.wav",
        "blues/blues.00001.wav",
    ]
    assert {problem.path: problem.code for problem in dataset.problems} == {
        "blues/blues.00000.au": "same_clip",
        "blues/jazz.00001.wav": "not_gtzan",
        "blues/my song.wav": "not_gtzan",
        "polka/polka.00001.wav": "not_gtzan",
    }


@pytest.mark.parametrize("extension", ["wav", "au"])
def test_the_split_of_what_is_there(extension: str, tmp_path: Path) -> None:
    write_gtzan(tmp_path, extension=extension)
    dataset = read_gtzan(tmp_path)
    fold = fault_filtered_split(dataset)
    clips = fault_filtered_clips()
    for part in ("train", "validation", "test"):
        chosen = [dataset.tracks[index] for index in getattr(fold, part)]
        assert Counter(track.genre for track in chosen) == dict.fromkeys(GTZAN_GENRES, 2)
        assert {Path(track.path).stem for track in chosen} <= set(clips[part])
        assert list(getattr(fold, part)) == sorted(getattr(fold, part))


def test_clips_of_no_list_are_in_no_part(tmp_path: Path) -> None:
    known = set().union(*fault_filtered_clips().values())
    faulty = [name for n in range(100) if (name := f"pop.{n:05}") not in known][:3]
    assert len(faulty) == 3
    write_gtzan(tmp_path, names=[*clip_names(1), *faulty])
    dataset = read_gtzan(tmp_path)
    fold = fault_filtered_split(dataset)
    used = {*fold.train, *fold.validation, *fold.test}
    unused = [track.path for n, track in enumerate(dataset.tracks) if n not in used]
    assert unused == [f"pop/{name}.wav" for name in faulty]


def test_a_split_with_an_empty_part_is_refused(tmp_path: Path) -> None:
    write_gtzan(tmp_path, names=fault_filtered_clips()["train"][:3])
    with pytest.raises(DataError, match="no clip of the validation part"):
        fault_filtered_split(read_gtzan(tmp_path))
    shutil.copytree(tmp_path / "genres", tmp_path / "other")
    (tmp_path / "other/blues/blues.00029.wav").rename(tmp_path / "other/blues/song.wav")
    for name in ("blues.00030.wav", "blues.00031.wav"):
        (tmp_path / "other/blues" / name).unlink()
    with pytest.raises(DataError, match="no clip of the train part"):
        fault_filtered_split(scan_folder(tmp_path / "other"))


def test_a_table_may_name_artists_and_correct_genres(tmp_path: Path) -> None:
    root = write_gtzan(tmp_path, names=["blues.00000", "rock.00001"])
    table = tmp_path / "artists.csv"
    table.write_text("path,genre,artist\nblues.00000.wav,rock,John Lee Hooker\n")
    dataset = read_gtzan(root, table=table)
    assert [(t.genre, t.artist) for t in dataset.tracks] == [
        ("rock", "John Lee Hooker"),
        ("rock", None),
    ]


def test_archives_and_other_folders_are_refused(tmp_path: Path) -> None:
    root = write_gtzan(tmp_path, names=["blues.00000"])
    archive = write_archive(tmp_path, root)
    with pytest.raises(DataError, match=r"deepmusic data download gtzan --to DIR --from .*genres"):
        read_gtzan(archive)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no clips of GTZAN"):
        read_gtzan(tmp_path / "empty")
    with pytest.raises(DataError, match="does not exist"):
        read_gtzan(tmp_path / "gone")
    assert find_gtzan(tmp_path / "a\0b") is None
    write_gtzan(tmp_path / "bad", names=["blues.00000"], broken=("blues.00000",))
    with pytest.raises(DataError, match=r"can be read; first: .*blues.00000"):
        read_gtzan(tmp_path / "bad")
