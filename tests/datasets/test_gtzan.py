"""GTZAN as people have it: layouts, faults, and the fault-filtered split."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from miniature_gtzan import clip_names, read_gtzan, write_clip, write_gtzan

from deepmusic.datasets import fault_filtered_split, load_dataset
from deepmusic.datasets.gtzan import GTZAN_GENRES, fault_filtered_clips
from deepmusic.errors import DataError

# tracks of each genre in training, validation and test, as counted in the published lists
PER_GENRE = {
    "blues": (46, 23, 31), "classical": (48, 20, 31), "country": (45, 23, 30),
    "disco": (42, 22, 29), "hiphop": (47, 18, 27), "jazz": (43, 17, 27),
    "metal": (44, 20, 27), "pop": (41, 13, 30), "reggae": (43, 17, 26), "rock": (44, 24, 32),
}  # fmt: skip


def test_the_published_lists_have_their_counts_and_share_no_clip() -> None:
    clips = fault_filtered_clips()
    for genre, counts in PER_GENRE.items():
        of_genre = [
            [clip for clip in part if clip.startswith(f"{genre}.")] for part in clips.values()
        ]
        assert tuple(map(len, of_genre)) == counts
    assert [len(part) for part in clips.values()] == [443, 197, 290]
    assert len(set().union(*clips.values())) == 930


def test_the_lists_are_those_of_their_authors(shared_data: Path) -> None:
    for part, name in (("train", "train"), ("validation", "valid"), ("test", "test")):
        lines = (shared_data / "gtzan_splits" / f"{name}_filtered.txt").read_text().split()
        assert [f"{c.split('.')[0]}/{c}.wav" for c in fault_filtered_clips()[part]] == lines


@pytest.mark.parametrize(
    ("folder", "named"),
    [
        ("genres", ""),
        ("genres", "genres"),
        ("Data/genres_original", ""),
        ("Data/genres_original", "Data"),
        ("gtzan/genres", ""),
    ],
)
def test_every_layout_gives_the_same_clips(folder: str, named: str, tmp_path: Path) -> None:
    genres = write_gtzan(tmp_path, folder=folder, names=["blues.00000", "rock.00099"])
    (tmp_path / "features_30_sec.csv").write_text("filename,length\nblues.00000.wav,661794\n")
    for collection in ("input.mf", "blues/bextract_single.mf"):  # of Marsyas, in the archive
        (genres / collection).write_text("genres/blues/blues.00000.au\tblues\n")
    loaded = load_dataset(tmp_path / named)
    assert (loaded.kind, loaded.dataset.root) == ("gtzan", genres)
    paths = [track.path for track in loaded.dataset.tracks]
    assert paths == ["blues/blues.00000.wav", "rock/rock.00099.wav"]
    assert loaded.dataset.genres == ("blues", "rock")
    assert loaded.dataset.problems == ()


def test_what_is_unreadable_or_missing_is_reported(tmp_path: Path) -> None:
    write_gtzan(tmp_path)
    (tmp_path / "genres/pop/pop.00001.wav").write_bytes(b"")
    dataset = read_gtzan(tmp_path)
    assert dataset.genres == GTZAN_GENRES
    problems = {problem.path: problem.code for problem in dataset.problems}
    assert problems == {"jazz/jazz.00054.wav": "not_audio", "pop/pop.00001.wav": "empty"}
    notes = " ".join(dataset.notes)
    assert "Of the 1,000 clips of GTZAN 59 can be used here" in notes
    assert "jazz 94" in notes
    assert "Of the 930 clips in the fault-filtered split 871 cannot be used here" in notes
    assert "without a known artist: 59 of 59;" in notes


def test_other_files_and_second_copies_of_clips_are_problems(tmp_path: Path) -> None:
    root = write_gtzan(tmp_path, names=["blues.00000", "blues.00001"])
    strange = ("blues/blues.00000.au", "blues/jazz.00001.wav", "blues/x.wav", "polka/polka.1.wav")
    for number, name in enumerate(strange, start=7):
        write_clip(root / name, number)
    dataset = read_gtzan(tmp_path)
    paths = [track.path for track in dataset.tracks]
    assert paths == ["blues/blues.00000.wav", "blues/blues.00001.wav"]
    codes = {problem.path: problem.code for problem in dataset.problems}
    assert codes == dict.fromkeys(strange, "not_gtzan") | {strange[0]: "same_clip"}


@pytest.mark.slow
@pytest.mark.parametrize("extension", ["wav", "au"])
def test_the_split_has_the_listed_clips_that_exist(extension: str, tmp_path: Path) -> None:
    clips = fault_filtered_clips()
    unlisted = [f"pop.{n:05}" for n in range(100)]
    unlisted = [name for name in unlisted if name not in set().union(*clips.values())][:3]
    write_gtzan(tmp_path, extension=extension, names=[*clip_names(), *unlisted])
    dataset = read_gtzan(tmp_path)
    fold = fault_filtered_split(dataset)
    unused = set(range(len(dataset.tracks)))
    for part in ("train", "validation", "test"):
        indices = getattr(fold, part)
        unused -= set(indices)
        chosen = [dataset.tracks[index] for index in indices]
        assert Counter(track.genre for track in chosen) == dict.fromkeys(GTZAN_GENRES, 2)
        assert {Path(track.path).stem for track in chosen} <= set(clips[part])
        assert list(indices) == sorted(indices)
    assert [Path(dataset.tracks[index].path).stem for index in sorted(unused)] == unlisted


def test_a_split_with_an_empty_part_is_refused(tmp_path: Path) -> None:
    write_gtzan(tmp_path, names=fault_filtered_clips()["train"][:3])
    with pytest.raises(DataError, match="no clip of the validation part"):
        fault_filtered_split(read_gtzan(tmp_path))


def test_a_table_may_name_artists_and_correct_genres(tmp_path: Path) -> None:
    root = write_gtzan(tmp_path, names=["blues.00000", "rock.00001"])
    table = tmp_path / "artists.csv"
    table.write_text("path,genre,artist\nblues.00000.wav,rock,John Lee Hooker\n")
    tracks = read_gtzan(root, table=table).tracks
    assert [(t.genre, t.artist) for t in tracks] == [("rock", "John Lee Hooker"), ("rock", None)]


def test_folders_without_usable_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no clips of GTZAN"):
        read_gtzan(tmp_path)
    write_gtzan(tmp_path, names=["blues.00000"], broken=("blues.00000",))
    with pytest.raises(DataError, match=r"can be read; first: .*blues.00000"):
        read_gtzan(tmp_path)
