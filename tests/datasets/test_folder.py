"""Your own music as a data set: folders, tables, and files that cannot be tracks."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deepmusic.datasets import FolderDataset, dataset_digest, scan_folder, scan_table
from deepmusic.errors import DataError


def fill(root: Path, *paths: str) -> Path:
    """Files that are not audio, each with different content: nothing is decoded by a scan."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def table(root: Path, text: str, *, name: str = "tracks.csv") -> Path:
    file = root / name
    file.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    return file


def paths(dataset: FolderDataset) -> list[str]:
    return [track.path for track in dataset.tracks]


def codes(dataset: FolderDataset) -> dict[str, str]:
    return {problem.path: problem.code for problem in dataset.problems}


def test_genres_are_folders_and_other_files_are_skipped(tmp_path: Path) -> None:
    fill(
        tmp_path, "rock/b.mp3", "rock/a/deep/er/c.flac", "jazz/d", "jazz/e.XYZ",
        "jazz/cover.JPG", "jazz/list.m3u", "jazz/notes.txt", "jazz/.hidden.mp3",
        "jazz/.DS_Store", ".git/config.mp3", "rock/__MACOSX/x.mp3", "README.md",
        "jazz/@eaDir/d/SYNOAUDIO", "#recycle/old.mp3", "$RECYCLE.BIN/S-1/old.mp3", "jazz/in.mf",
        "rock/index.ts",
    )  # fmt: skip
    dataset = scan_folder(tmp_path)
    assert paths(dataset) == ["jazz/d", "jazz/e.XYZ", "rock/a/deep/er/c.flac", "rock/b.mp3"]
    assert (dataset.genres, dataset.labels) == (("jazz", "rock"), (0, 0, 1, 1))
    assert dataset.problems == ()
    assert any("without a known artist: 4 of 4;" in note for note in dataset.notes)
    assert dataset.file(dataset.tracks[0]) == tmp_path / "jazz" / "d"


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.mp3", "a/2.mp3")
    shutil.copy(tmp_path / "a/1.mp3", tmp_path / "a/3.mp3")
    progress: list[tuple[int, int]] = []
    dataset = scan_folder(tmp_path, workers=2, on_progress=lambda *counts: progress.append(counts))
    assert progress == [(1, 3), (2, 3), (3, 3)]
    one, two, three = (track.content_hash for track in dataset.tracks)
    assert one == three == hashlib.sha256(b"a/1.mp3").hexdigest() != two
    assert any("Exact copies of other files: 1 of 3" in note for note in dataset.notes)


def test_the_digest_depends_on_path_genre_and_content_only(tmp_path: Path) -> None:
    dataset = scan_folder(fill(tmp_path, "a/1.mp3", "b/2.mp3"))
    first, second = dataset.tracks
    digest = dataset_digest(dataset)
    moved = replace(dataset, tracks=(second, replace(first, artist="Ann")), root=Path("elsewhere"))
    assert digest == dataset_digest(moved)
    for changed in ({"path": "a/3.mp3"}, {"genre": "b"}, {"content_hash": "0"}):
        other = replace(dataset, tracks=(replace(first, **changed), second))
        assert digest != dataset_digest(other)


def test_a_table_takes_precedence(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.mp3", "a/x/2.mp3", "b/3.mp3", "b/4.mp3", "loose.mp3")
    table(
        tmp_path,
        "\ufeffAlbum;Artist; PATH;genre;year;Source\r\n"
        "One;Ann;a/1.mp3;;1999;lp/7.flac\r\n"
        ";Bob;2.mp3;b;\r\n"
        "Two;Cid;.\\b\\3.mp3\r\n"
        ";Dan;loose.mp3;b\r\n"
        "\r\n",
    )
    dataset = scan_folder(tmp_path)
    assert [(t.path, t.genre, t.artist, t.album, t.source) for t in dataset.tracks] == [
        ("a/1.mp3", "a", "Ann", "One", "lp/7.flac"),
        ("a/x/2.mp3", "b", "Bob", None, None),
        ("b/3.mp3", "b", "Cid", "Two", None),
        ("b/4.mp3", "b", None, None, None),
        ("loose.mp3", "b", "Dan", None, None),
    ]
    assert dataset.problems == ()
    assert "Files without a row in tracks.csv: 1, such as 'b/4.mp3'" in " ".join(dataset.notes)


def test_scan_table_finds_the_listed_files(tmp_path: Path) -> None:
    fill(tmp_path, "music/rock/1.mp3", "music/2.mp3", "music/pop/3.mp3", "music/pop/4.mp3")
    lines = "path,genre,artist,album\nrock/1.mp3,,Ann,One\n./2.mp3,jazz,Bob,\n"
    lines += f"{tmp_path}/music/pop/3.mp3,,,\n"
    dataset = scan_table(table(tmp_path / "music", lines, name="mine.csv"))
    assert dataset.root == tmp_path / "music"
    assert [(t.path, t.genre, t.artist, t.album) for t in dataset.tracks] == [
        ("2.mp3", "jazz", "Bob", None),
        ("pop/3.mp3", "pop", None, None),
        ("rock/1.mp3", "rock", "Ann", "One"),
    ]
    assert dataset.problems == ()


def test_a_table_may_be_in_another_folder_than_its_files(tmp_path: Path) -> None:
    fill(tmp_path, "disk/music/rock/1.mp3", "disk/music/pop/2.mp3")
    (tmp_path / "lists").mkdir()
    lines = f"path\n{tmp_path}/disk/music/rock/1.mp3\n../disk/music/pop/2.mp3\n"
    dataset = scan_table(table(tmp_path / "lists", lines))
    assert dataset.root == tmp_path / "disk" / "music"
    assert [(t.path, t.genre) for t in dataset.tracks] == [
        ("pop/2.mp3", "pop"),
        ("rock/1.mp3", "rock"),
    ]


def test_unusable_rows_of_a_table_are_problems(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.mp3", "2.mp3")
    lines = "path,genre\na/1.mp3,\na/../a/1.mp3,x\na/9.mp3,\n2.mp3,\na,x\n"
    dataset = scan_table(table(tmp_path, lines))
    assert paths(dataset) == ["a/1.mp3"]
    assert codes(dataset) == {
        "2.mp3": "no_genre", "a": "not_a_file", "a/1.mp3": "row_repeated",
        "a/9.mp3": "row_without_file",
    }  # fmt: skip
    assert "Line 3 of the table" in dataset.problems[2].message


def test_rows_that_match_no_file_or_several_are_problems(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.mp3", "b/1.mp3", "b/2.mp3")
    (tmp_path / "b" / "empty.mp3").touch()
    lines = f"path,artist\na/9.mp3,A\n1.mp3,B\nb/2.mp3,C\n{tmp_path}/b/2.mp3,D\nempty.mp3,E\n"
    dataset = scan_folder(tmp_path, table=table(tmp_path, lines, name="other.csv"))
    assert codes(dataset) == {
        "a/9.mp3": "row_without_file", "1.mp3": "row_unclear",
        f"{tmp_path}/b/2.mp3": "row_repeated", "b/empty.mp3": "empty",
    }  # fmt: skip
    assert dataset.tracks[-1].artist == "C"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("file,artist\na/1.mp3,Ann\n", "no column 'path'"),
        ("", "no column 'path'"),
        ('path,artist\na/1.mp3,"' + "x" * 200_000 + '"\n', "is not a CSV"),
        ("path,genre\n", "has no rows"),
        ("path,genre\na/1.mp3,x\n", r"None of the files .*'a/1.mp3', which does not exist"),
    ],
)
def test_tables_that_list_nothing_are_refused(content: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        scan_table(table(tmp_path, content))


def test_a_table_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.mp3")
    with pytest.raises(DataError, match="does not exist"):
        scan_folder(tmp_path, table=tmp_path / "gone.csv")
    (tmp_path / "tracks.csv").mkdir()
    with pytest.raises(DataError, match="not a file"):
        scan_folder(tmp_path)


def test_missing_empty_and_wrong_folders_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "loose/song.mp3", "texts/a.txt")
    (tmp_path / "empty" / "rock").mkdir(parents=True)
    for name, sentence in (
        ("gone", "does not exist"),
        ("a\0b", "does not exist"),
        ("empty", "holds no audio files"),
        ("texts", "holds no audio files"),
        ("loose/song.mp3", "is not a folder"),
        ("loose", r"left out: 1, first: 'song.mp3' is not in a genre folder"),
    ):
        with pytest.raises(DataError, match=sentence):
            scan_folder(tmp_path / name)


def test_a_genre_without_usable_files_is_noted(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.mp3", "a/2.mp3", "b/1.mp3")
    (tmp_path / "b" / "1.mp3").write_text("")
    dataset = scan_folder(tmp_path)
    assert dataset.genres == ("a",)
    assert "No track could be used of: b." in dataset.notes


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are of Unix")
def test_pipes_devices_and_links_are_problems_and_nothing_hangs(tmp_path: Path) -> None:
    root = fill(tmp_path / "data", "rock/good.mp3", "rock/folder/in.mp3", "pop/song.mp3/x.mp3")
    rock = root / "rock"
    os.mkfifo(rock / "fifo.mp3")
    (rock / "empty.mp3").touch()
    fill(tmp_path, "outside/far.mp3")
    for link, target in {
        "endless.mp3": "/dev/zero", "self.mp3": "self.mp3", "gone.mp3": "nowhere.mp3",
        "link.mp3": "good.mp3", "folder/up": "..", "another": "../pop",
        "../zz": root, "out": tmp_path / "outside",
    }.items():  # fmt: skip
        (rock / link).symlink_to(target)
    dataset = scan_folder(root)
    assert paths(dataset) == [
        "pop/song.mp3/x.mp3", "rock/folder/in.mp3", "rock/good.mp3", "rock/link.mp3",
        "rock/out/far.mp3",
    ]  # fmt: skip
    assert codes(dataset) == {
        "rock/fifo.mp3": "not_a_file", "rock/endless.mp3": "not_a_file",
        "rock/self.mp3": "unreadable", "rock/gone.mp3": "missing", "rock/empty.mp3": "empty",
        "rock/folder/up": "seen_before", "rock/another": "seen_before", "zz": "seen_before",
    }  # fmt: skip


def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    names = [f"g{n}" for n in range(8)]
    fill(tmp_path, *(f"{name}/song.mp3" for name in names))
    for name in names:
        for other in names:
            (tmp_path / name / f"to_{other}").symlink_to(f"../{other}")
    assert len(scan_folder(tmp_path).tracks) == 8


def test_unusual_names(tmp_path: Path) -> None:
    fill(tmp_path, "rock/line\nbreak.mp3", "rock/-dash.mp3", "rock/ trailing .mp3", "a b/12:30.mp3")
    fill(tmp_path, "a b/cafe\u0301.mp3")
    odd = os.fsencode(tmp_path / "rock") + b"/latin1_\xe9.mp3"
    try:
        with open(odd, "wb") as file:
            file.write(b"sound")
    except OSError:
        pytest.skip("this file system refuses a name that is not UTF-8")
    table(tmp_path, "path,artist\nrock/latin1_\udce9.mp3,Ann\na b/caf\u00e9.mp3,Bob\n")
    dataset = scan_folder(tmp_path)
    assert len(dataset.tracks) == 6
    assert len(dataset_digest(dataset)) == 64
    artists = {Path(t.path).name[:3]: t.artist for t in dataset.tracks if t.artist}
    assert artists == {"lat": "Ann", "caf": "Bob"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_files_without_permission_are_problems(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.mp3", "a/2.mp3", "b/3.mp3")
    (tmp_path / "a" / "1.mp3").chmod(0)
    (tmp_path / "b").chmod(0)
    dataset = scan_folder(tmp_path)
    (tmp_path / "b").chmod(0o700)
    assert codes(dataset) == {"a/1.mp3": "permission", "b": "permission"}


def test_a_file_that_fails_while_it_is_read_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a/1.mp3", "a/2.mp3")
    real = hashlib.file_digest

    def fail(file: object, name: str) -> object:
        if os.fstat(file.fileno()).st_ino == (tmp_path / "a/1.mp3").stat().st_ino:  # type: ignore[attr-defined]
            raise OSError(5, "Input/output error")
        return real(file, name)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", fail)
    (problem,) = scan_folder(tmp_path).problems
    assert problem.code == "unreadable"
    assert problem.message == "'a/1.mp3' cannot be read: input/output error."


def test_emotify_by_table_and_by_tags(shared_data: Path, tmp_path: Path) -> None:
    dataset = scan_folder(shared_data / "emotify")
    assert [dataset.labels.count(n) for n in range(4)] == [80] * 4
    assert (dataset.problems, dataset.notes) == ((), ())
    # without the table, the tags of the same files give the same artists
    for genre in dataset.genres:
        (tmp_path / genre).symlink_to(shared_data / "emotify" / genre)
    tagged = scan_folder(tmp_path)
    assert [t.artist for t in tagged.tracks] == [t.artist for t in dataset.tracks]
    assert dataset_digest(tagged) == dataset_digest(dataset)


def test_odd_files_are_tracks_unless_empty(
    shared_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = scan_folder(shared_data / "odd" / "audio")
    assert {problem.code for problem in dataset.problems} == {"empty"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252"])
def test_a_table_in_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    fill(tmp_path, "a/1.wav", "b/2.wav")
    text = "path,genre,artist\na/1.wav,Cumbia,Célia\nb/2.wav,Tröt,Bob\n"
    (tmp_path / "tracks.csv").write_bytes(text.encode(encoding))
    with pytest.raises(DataError, match=r"tracks\.csv is (not UTF-8 \(line 2\)|UTF-16)"):
        scan_folder(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_genre_is_text_whatever_its_folder_is_called(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/m\xfasica")
    fill(tmp_path, "rock/1.wav")
    os.rename(tmp_path / "rock", folder)
    (track,) = scan_folder(tmp_path).tracks
    assert track.genre == r"m\xfasica"
    assert os.fsencode(track.path) == b"m\xfasica/1.wav"
