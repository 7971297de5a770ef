from __future__ import annotations

import ast
import hashlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from miniature_fma import (
    FEATURE_COLUMNS,
    ROOTS,
    SMALL_ROOTS,
    SPLITS,
    TRACK_COLUMNS,
    Miniature,
    chain,
    make_miniature,
    write_checksums,
)
from pandas.testing import assert_frame_equal

from deepmusic.datasets.fma import BAD_CLIPS, Fma, genre_matrix, read_fma, track_path
from deepmusic.datasets.groups import group_tracks
from deepmusic.errors import DataError
from deepmusic.features import COLUMNS

TABLES = (
    "tracks", "genres", "features", "echonest", "raw_tracks", "raw_albums", "raw_artists",
    "raw_genres", "raw_echonest",
)  # fmt: skip
BAD = (133297, 98565, 107535)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    """One miniature with sound; tests that change files make a copy."""
    return make_miniature(tmp_path_factory.mktemp("fma"), bad_clips=BAD, seconds=0.3, zips=True)


@pytest.fixture
def copied(made: Miniature, tmp_path: Path) -> Path:
    shutil.copytree(made.root, tmp_path / "fma", ignore=shutil.ignore_patterns(".deepmusic"))
    return tmp_path / "fma"


def authors_load(path: Path) -> pd.DataFrame:
    """The tables as FMA's authors read them, rewritten."""
    if path.stem in ("features", "echonest", "raw_echonest"):
        return pd.read_csv(path, index_col=0, header=[0, 1, 2])
    if path.stem != "tracks":
        return pd.read_csv(path, index_col=0)
    tracks = pd.read_csv(path, index_col=0, header=[0, 1])
    for group, name in TRACK_COLUMNS:
        if name in ("tags", "genres", "genres_all"):
            tracks[group, name] = tracks[group, name].map(ast.literal_eval)
        elif name.startswith(("date_", "active_year")):
            tracks[group, name] = pd.to_datetime(tracks[group, name])
        elif name in ("genre_top", "license", "type", "bio") or (group, name) == (
            "album", "information",
        ):  # fmt: skip
            tracks[group, name] = tracks[group, name].astype("category")
    sizes = pd.CategoricalDtype(["small", "medium", "large"], ordered=True)
    tracks["set", "subset"] = tracks["set", "subset"].astype(sizes)
    return tracks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "root"),
    [*((name, "") for name in TABLES), ("genres", "fma_metadata"), ("tracks", "fma_metadata.zip")],
)
def test_tables_are_as_published(made: Miniature, tmp_path: Path, name: str, root: str) -> None:
    expected = authors_load(made.metadata / f"{name}.csv")
    for _ in ("from CSV", "from Parquet"):
        result = read_fma(made.root / root, cache=tmp_path).table(name)
        assert_frame_equal(result, expected, check_exact=True)
        assert result.columns.names == expected.columns.names
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.parquet"]


@pytest.mark.slow
def test_subsets_are_ordered_and_lists_are_lists(made: Miniature, tmp_path: Path) -> None:
    for _ in ("from CSV", "from Parquet"):
        tracks = read_fma(made.root, cache=tmp_path).tracks
        medium = {r.id for r in made.rows if r.subset in ("small", "medium")}
        assert set(tracks.index[tracks["set", "subset"] <= "medium"]) == medium
        for column in (("track", "genres"), ("artist", "tags")):
            lists = tracks[column].tolist()
            assert all(type(value) is list for value in lists)
            assert len({id(value) for value in lists}) == len(lists)
        assert {type(g) for genres in tracks["track", "genres_all"] for g in genres} == {int}
        assert tracks.loc[140, ("track", "title")] == "線\n2,3,4"
        assert "d'angelo" in tracks.loc[2, ("artist", "tags")]
        assert tracks.loc[5, ("album", "listens")] == -1
    features = read_fma(made.root, cache=tmp_path).features
    assert tuple(features.columns) == COLUMNS == FEATURE_COLUMNS


def test_the_second_reading_uses_the_cache(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_fma(copied).tracks

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the CSV was read again")

    with monkeypatch.context() as patch:
        patch.setattr(pd, "read_csv", refuse)
        assert_frame_equal(read_fma(copied).tracks, first)
        with pytest.raises(AssertionError):
            read_fma(copied, cache=copied / "elsewhere").tracks  # noqa: B018
    # a change is detected, also one that keeps the size
    csv = copied / "fma_metadata" / "tracks.csv"
    csv.write_bytes(csv.read_bytes().replace(b"Track 1003", b"Track 2003"))
    write_checksums(csv.parent)
    assert read_fma(copied).tracks.loc[1003, ("track", "title")] == "Track 2003"
    # and so is damage of the cache
    kept = copied / "fma_metadata" / ".deepmusic" / "tracks.parquet"
    for damage in (b"", b"PAR1", kept.read_bytes()[:-100], kept.read_bytes()[::-1]):
        kept.write_bytes(damage)
        assert read_fma(copied).tracks.loc[1003, ("track", "title")] == "Track 2003"
    genres = read_fma(copied).genres
    shutil.copy(kept.with_name("tracks.parquet"), kept.with_name("genres.parquet"))
    assert_frame_equal(read_fma(copied).genres, genres)
    before = kept.read_bytes()
    monkeypatch.setattr(pd, "__version__", "0.1")  # pandas 2 and 3 keep dates in other units
    assert read_fma(copied).tracks.loc[1003, ("track", "title")] == "Track 2003"
    assert kept.read_bytes() != before


def test_a_column_of_text_is_text_throughout(copied: Path) -> None:
    """A reader that takes the file in pieces finds whole numbers in the first of them."""
    more = [f"more_{number}" for number in range(100)]  # the wider a table, the shorter the pieces
    rows = [f"{number},1979" + "," * len(more) for number in range(20_000)]
    lines = [",".join(["album_id", "album_title", *more]), *rows, "20000,x" + "," * len(more)]
    (copied / "fma_metadata" / "raw_albums.csv").write_text("\n".join(lines) + "\n")
    (copied / "fma_metadata" / "checksums").unlink()
    for _ in ("from CSV", "from Parquet"):
        titles = read_fma(copied).table("raw_albums")["album_title"].tolist()
        assert {type(title) for title in titles} == {str}


def test_the_cache_lies_beside_an_archive_or_is_noted_as_missing(copied: Path) -> None:
    fma = read_fma(copied / "fma_metadata.zip")
    assert len(fma.genres) == 163
    assert (copied / ".deepmusic" / "genres.parquet").is_file()
    assert fma.notes == []
    (copied / "taken").write_text("a file, where the folder should be")
    for cache in (copied / "taken", copied / "taken" / "below"):
        fma = read_fma(copied, cache=cache)
        assert len(fma.genres) == 163
        (note,) = fma.notes
        assert "genres.csv is parsed again each time" in note
        assert "cache='FOLDER'" in note


# damage, and its message


def cut(by: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:-by]


def without_quotes(content: bytes) -> bytes:
    return content.replace(b'"', b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("tracks", cut(7), "ends in the middle of a line"),
        ("tracks", cut(4000), r"is damaged|ends in the middle"),
        ("tracks", without_quotes, "is damaged"),
        ("tracks", lambda c: c.replace(b",small,", b",tiny,"), "'subset'. of a track is 'tiny'"),
        ("tracks", lambda c: c.replace(b",test,", b",,"), "'split'. of a track is 'nan'"),
        ("tracks", lambda c: c.replace(b"[21]", b"21"), "'genres'. of a track is '21', not"),
        ("tracks", lambda c: c.replace(b"[21]", b"['21']"), "not a list"),
        ("tracks", lambda c: c.replace(b"\n5,", b"\n2,"), "track_id 2 occurs twice"),
        ("tracks", lambda c: c.replace(b"\n5,", b"\nfive,"), "a row begins with 'five'"),
        ("tracks", lambda c: c.replace(b"2008-11-26 01:48:12", b"yesterday"), "is damaged"),
        ("tracks", lambda c: c.replace("Мумий".encode(), b"\xcd\xf3\xec"), "is damaged"),
        ("tracks", lambda c: b"".join(c.splitlines(True)[:3]), "has no rows"),
        ("tracks", lambda c: b"\n".join(c.split(b"\n")[1:]), "no column .'set', 'subset'"),
        ("tracks", lambda _: b"path,genre\na.mp3,rock\n", "not FMA's"),
        ("tracks", lambda _: b"", r"not FMA's|is damaged"),
        ("tracks", lambda _: b"\xff\xfe\x00\x01" * 99, "is damaged"),
        ("echonest", lambda c: c.replace(b",223\n", b"\n", 1), r"columns, not 249|is damaged"),
        ("raw_tracks", lambda c: c.replace(b"track_title", b"title"), "no column 'track_title'"),
        ("genres", lambda c: c.replace(b"genre_id", b"id"), "not numbered by 'genre_id'"),
    ],
)  # fmt: skip
def test_damaged_tables_are_refused(
    copied: Path, name: str, change: Callable[[bytes], bytes], sentence: str
) -> None:
    csv = copied / "fma_metadata" / f"{name}.csv"
    content = csv.read_bytes()
    csv.write_bytes(change(content))
    assert csv.read_bytes() != content
    (csv.parent / "checksums").unlink()
    with pytest.raises(DataError, match=sentence) as caught:
        read_fma(csv.parent).table(name)
    assert str(csv.parent) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (csv.parent / ".deepmusic" / f"{name}.parquet").exists()


def test_a_file_cut_between_rows_is_found_by_its_checksum(copied: Path) -> None:
    csv = copied / "fma_metadata" / "features.csv"
    csv.write_bytes(b"".join(csv.read_bytes().splitlines(True)[:-1]))
    with pytest.raises(
        DataError, match=r"features\.csv .*does not match its entry in the file 'checksums'"
    ):
        read_fma(copied).features  # noqa: B018
    (csv.parent / "checksums").unlink()
    assert len(read_fma(copied).features) == len(read_fma(copied).tracks) - 1


def test_what_is_missing_is_named(copied: Path, tmp_path: Path) -> None:
    fma = read_fma(copied)
    (copied / "fma_metadata" / "echonest.csv").unlink()
    with pytest.raises(DataError, match=r"echonest\.csv in .*: no such file.*; unpack all"):
        fma.echonest  # noqa: B018
    assert len(fma.genres) == 163  # the others are there
    (copied / "fma_metadata" / "echonest.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read: is a directory"):
        fma.echonest  # noqa: B018
    with pytest.raises(DataError, match="no table 'songs' in FMA; there are tracks, genres"):
        fma.table("songs")
    with pytest.raises(DataError, match="does not exist"):
        read_fma(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no tables of FMA"):
        read_fma(tmp_path)


def test_damaged_archives_are_refused(made: Miniature, tmp_path: Path) -> None:
    assert made.metadata_zip is not None
    whole = made.metadata_zip.read_bytes()
    path = tmp_path / "fma_metadata.zip"
    with zipfile.ZipFile(made.metadata_zip) as archive:
        start = archive.getinfo("fma_metadata/features.csv").header_offset
    flagged = bytearray(whole)  # bit 0 of the flags: encrypted
    flagged[whole.rindex(b"fma_metadata/features.csv") - 46 + 8] |= 1
    for content in (
        whole[:-1000],
        b"",
        whole[: start + 5000] + b"\0" * 200 + whole[start + 5200 :],
        bytes(flagged),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"features\.csv in .* is damaged"):
            read_fma(path, cache=tmp_path / "cache").features  # noqa: B018
    assert not (tmp_path / "cache").exists()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fma_metadata/tracks.csv", b"x")
    with pytest.raises(DataError, match=r"genres\.csv in .* cannot be read: no such file"):
        read_fma(path).genres  # noqa: B018


# subsets, splits, labels


@pytest.fixture(scope="module")
def fma(made: Miniature) -> Fma:
    return read_fma(made.root)


def test_subsets(fma: Fma, made: Miniature) -> None:
    inside = {"small": ("small",), "medium": ("small", "medium")}
    for subset in ("small", "medium", "large", "full"):
        rows = [r for r in made.rows if r.subset in inside.get(subset, (r.subset,))]
        assert fma.subset(subset).index.tolist() == [r.id for r in rows]
    with pytest.raises(DataError, match="small, medium, large, full; got 'tiny'"):
        fma.subset("tiny")


def test_known_bad_clips(fma: Fma) -> None:
    out = [clip for clip in BAD_CLIPS.values() if clip.is_left_out]
    assert len(out) == 21
    assert sum(clip.code == "near_silent" for clip in BAD_CLIPS.values()) == 4
    assert BAD_CLIPS[108924].message == "The clip of track 108924 holds 27.4 s instead of 30."
    for subset, kept in (("medium", {107535}), ("full", {133297, 98565, 107535})):
        rows = fma.subset(subset, bad_clips=False)
        assert {133297, 98565, 107535} & {*rows.index} == kept
    assert 133297 in fma.subset("small").index


@pytest.mark.parametrize("subset", ["small", "medium", "large"])
@pytest.mark.parametrize("column", ["genres", "genres_all"])
def test_all_genres_of_tracks(fma: Fma, made: Miniature, subset: str, column: Any) -> None:
    result = genre_matrix(fma.subset(subset), column)
    sizes = ["small", "medium", "large"][: ["small", "medium", "large"].index(subset) + 1]
    labels = {row.id: getattr(row, column) for row in made.rows if row.subset in sizes}
    columns = sorted(set().union(*labels.values()))
    expected = {track: [g in of for g in columns] for track, of in labels.items() if of}
    assert result.columns.tolist() == columns
    assert result.index.tolist() == sorted(expected)
    assert result.to_numpy().tolist() == [expected[track] for track in sorted(expected)]
    with pytest.raises(DataError, match="None of the tracks has a genre"):
        genre_matrix(fma.subset().iloc[:0])


def test_paths() -> None:
    assert track_path(2) == "000/000002.mp3"
    assert track_path(155320) == "155/155320.mp3"
    for number in (-1, 1_000_000):
        with pytest.raises(DataError, match="999,999"):
            track_path(number)


# files


def test_the_dataset_of_a_folder(fma: Fma, made: Miniature) -> None:
    seen: list[tuple[int, int]] = []
    dataset = fma.dataset("small", on_progress=lambda done, total: seen.append((done, total)))
    rows = {row.path: row for row in made.rows if row.subset == "small"}
    good = sorted(path for path, row in rows.items() if row.id not in (133297, 98565))
    assert seen[-1] == (len(good), len(good))
    assert dataset.root == made.audio
    assert [track.path for track in dataset.tracks] == good
    assert [(p.path, p.code) for p in dataset.problems] == [
        ("098/098565.mp3", "short"),
        ("133/133297.mp3", "no_sound"),
    ]
    assert dataset.genres == tuple(sorted(ROOTS[root] for root in SMALL_ROOTS))
    for track in dataset.tracks:
        row = rows[track.path]
        assert (track.genre, track.album) == (row.genre_top, row.album)
        assert track.content_hash == made.checksums[track.path]
        assert dataset.file(track).is_file()
    assert any("silent, but not left out: 107/107535.mp3" in note for note in dataset.notes)
    fold = fma.fold(dataset)
    for name, indices in zip(SPLITS, (fold.train, fold.validation, fold.test), strict=True):
        assert [dataset.tracks[index].path for index in indices] == [
            path for path in good if rows[path].split == name
        ]
    assert len(fold.train) == 9  # 8, and the one that is all but silent


def test_different_artists_have_different_names(fma: Fma, made: Miniature) -> None:
    dataset = fma.dataset("small")
    by_path = {row.path: row for row in made.rows}
    names = {by_path[t.path].artist_id: t.artist for t in dataset.tracks}
    assert names[1] == "AWOL"
    assert names[3] == "Simon & Garfunkel"
    assert names[2] == "Various Artists [artist 2]"  # else its tracks would be ungrouped
    assert names[7] == "Unknown [artist 7]"
    assert names[6] == "Tim [artist 6]"  # the other one is in medium
    groups = group_tracks(dataset.tracks)
    numbers = [by_path[track.path].artist_id for track in dataset.tracks]
    assert len(set(groups)) == len(set(numbers)) == len(set(zip(groups, numbers, strict=True)))


def test_the_audio_folder(made: Miniature, copied: Path, tmp_path: Path) -> None:
    tracks = read_fma(copied).dataset("small").tracks
    small = copied / "fma_small"
    for audio in (copied, small):
        assert read_fma(copied, audio=audio).dataset("small").tracks == tracks
    with pytest.raises(DataError, match=r"audio='FOLDER/fma_medium'"):
        read_fma(copied).dataset("medium")
    with pytest.raises(DataError, match="is not a folder"):
        read_fma(copied, audio=copied / "nowhere").dataset("medium")
    small.rename(copied / "fma_large")  # small out of the folder of large
    assert read_fma(copied, audio=copied / "fma_large").dataset("small").tracks == tracks
    large = read_fma(copied).dataset("large")
    assert large.tracks == tracks
    codes = {problem.path: problem.code for problem in large.problems}
    for row in made.rows:
        if row.subset != "small":
            assert codes[row.path] == ("missing" if row.genre_top else "no_genre")
    missing = sum(code == "missing" for code in codes.values())
    text = f"Not in the folder: {missing} of {len(made.rows)} tracks of large."
    assert text in large.notes
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no usable track of FMA's small"):
        read_fma(copied, audio=tmp_path / "empty").dataset("small")


def test_files_that_are_not_as_they_should_be(copied: Path, made: Miniature) -> None:
    audio = copied / "fma_small"
    (audio / "000/000002.mp3").unlink()
    (audio / "000/000005.mp3").write_bytes(b"")
    (audio / "000/000010.mp3").unlink()
    (audio / "000/000010.mp3").mkdir()
    changed = audio / "000/000140.mp3"
    changed.write_bytes(changed.read_bytes()[:-9])
    fma = read_fma(copied)

    expected = {"000002": "missing", "000005": "empty", "000010": "not_a_file"}
    expected |= {"133297": "no_sound", "098565": "short"}
    assert {p.path[4:10]: p.code for p in fma.dataset("small").problems} == expected
    # without the list of checksums, the files are read: the hashes are the same
    (audio / "checksums").unlink()
    dataset = fma.dataset("small")
    for track in dataset.tracks:
        assert track.content_hash == hashlib.sha1(dataset.file(track).read_bytes()).hexdigest()
        assert (track.content_hash == made.checksums[track.path]) == ("000140" not in track.path)
    assert any("has no 'checksums'" in note for note in dataset.notes)
    # copies are counted
    shutil.copy(audio / "001/001003.mp3", audio / "002/002016.mp3")
    assert any("Exact copies of other files: 1 of 22" in n for n in fma.dataset("small").notes)


def test_the_split_of_foreign_files_is_refused(fma: Fma) -> None:
    from dataclasses import replace

    dataset = fma.dataset("small")
    first = dataset.tracks[0]
    for path in ("rock/song.mp3", "000/000003.mp3", "²/².mp3"):
        other = replace(dataset, tracks=(replace(first, path=path),))
        with pytest.raises(DataError, match="is not a track of FMA"):
            fma.fold(other)


def test_genres_of_any_level_of_the_tree(fma: Fma, made: Miniature) -> None:
    for level in (1, 2, 3):
        dataset = fma.dataset("small", level=level)
        expected = {}
        for row in made.audio_rows:
            # the miniature's own tree: a genre of level n has n - 1 ancestors
            depth = {genre: len(chain(genre, made.genres)) for genre in row.genres_all}
            at = [made.genres[genre][2] for genre in row.genres_all if depth[genre] == level]
            if len(at) == 1:
                expected[row.path] = at[0]
        bad = {p.path for p in dataset.problems if p.code != "no_genre"}
        assert {track.path: track.genre for track in dataset.tracks} == {
            path: genre for path, genre in expected.items() if path not in bad
        }
        lacking = {p.path for p in dataset.problems if p.code == "no_genre"}
        assert lacking.isdisjoint(expected)
    with pytest.raises(DataError, match="no level 6"):
        fma.dataset("small", level=6)
