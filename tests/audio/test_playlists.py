"""Playlists and cue sheets stand for the local tracks that they list."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest

from deepmusic.audio import NotAudio, find_audio
from deepmusic.audio.playlists import read_playlist


@pytest.fixture
def music(tmp_path: Path) -> Path:
    for name in ("a b.mp3", "Café.flac", "Music/Album/01.mp3", "x.ogg", "odd.name"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "lists").mkdir()
    return tmp_path


def found(playlist: Path, content: str | bytes) -> tuple[list[str], list[str]]:
    """Tracks below the folder above the playlist's, codes in brackets; and notes."""
    playlist.write_bytes(content if isinstance(content, bytes) else content.encode())
    notes: list[str] = []
    root = playlist.parent.parent
    names = []
    for entry in find_audio([playlist], on_note=notes.append):
        if isinstance(entry, NotAudio):
            assert entry.error.endswith(".")
            assert "\n" not in entry.error
            names.append(f"[{entry.code}]")
        else:
            names.append(os.path.relpath(os.path.realpath(entry), os.path.realpath(root)))
    return names, notes


@pytest.mark.parametrize(
    "entry",
    [
        "../Café.flac".encode(),
        "../Café.flac".encode("cp1252"),
        unicodedata.normalize("NFD", "../Café.flac").encode(),
        b"..\\Caf\xe9.flac",
        b"..\\Caf\xc3\xa9.flac",
        quote("../Café.flac").encode(),
        b"  ../Caf\xc3\xa9.flac \r",
    ],
)
def test_a_name_is_read_in_whatever_way_leads_to_a_file(music: Path, entry: bytes) -> None:
    assert found(music / "lists" / "l.m3u", b"#EXTM3U\n#EXTINF:9,x\n\n" + entry + b"\n") == (
        ["Café.flac"],
        [],
    )


@pytest.mark.parametrize(
    "entry",
    ["{root}/a b.mp3", "file://{quoted}/a%20b.mp3", "FILE://localhost{quoted}/a%20b.mp3",
     "file:{quoted}/a%20b.mp3", "file:../a%20b.mp3", "../a%20b.mp3", "..\\lists\\..\\a b.mp3"],
)  # fmt: skip
@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")
def test_addresses_and_absolute_paths(music: Path, entry: str) -> None:
    line = entry.format(root=music, quoted=quote(str(music)))
    assert found(music / "lists" / "l.m3u8", "\ufeff" + line) == (["a b.mp3"], [])


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("D:\\Music\\Album\\01.mp3", "Music/Album/01.mp3"),
        ("C:\\Users\\me\\Music\\Album\\01.mp3", "Music/Album/01.mp3"),
        ("\\Music\\Album\\01.mp3", "Music/Album/01.mp3"),
        ("\\\\nas\\share\\Music\\Album\\01.mp3", "Music/Album/01.mp3"),
        ("file:///C:/Music/Album/01.mp3", "Music/Album/01.mp3"),
        ("C:\\x.ogg", None),  # a name alone may be that of another track
        ("D:\\Other\\01.mp3", None),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="there these are paths as they are")
def test_absolute_paths_of_windows(music: Path, entry: str, expected: str | None) -> None:
    assert found(music / "lists" / "l.m3u", entry)[0] == [expected or "[no_files]"]


def test_all_kinds_list_the_same(music: Path) -> None:
    names = ["../a b.mp3", "../Café.flac", "../odd.name"]
    expected = [name.removeprefix("../") for name in names]
    location = "<track><location>{}</location></track>"
    contents = {
        ".m3u": "\r\n".join(names).encode(),
        ".m3u8": "\n".join(names).encode("utf-16"),
        ".pls": "\n".join(
            ["[playlist]", *(f"File{n}={name}\nTitle{n}=x" for n, name in enumerate(names, 1))]
        ).encode(),
        ".xspf": (
            '<playlist version="1" xmlns="http://xspf.org/ns/0/"><location>http://x/</location>'
            f"<trackList>{''.join(location.format(quote(name)) for name in names)}</trackList>"
            "</playlist>"
        ).encode(),
        ".CUE": "\n".join(
            f'FILE "{name}" WAVE\n  TRACK {n:02} AUDIO\n' for n, name in enumerate(names)
        ).encode("utf-8-sig"),
    }
    for extension, content in contents.items():
        assert found(music / "lists" / f"list{extension}", content) == (expected, []), extension


def test_a_cue_sheet_of_before_a_conversion(music: Path) -> None:
    sheet = 'REM x\nFILE x.wav WAVE\n  TRACK 01 AUDIO\n  TRACK 02 AUDIO\nFILE "none.wav" WAVE\n'
    names, notes = found(music / "lists" / "l.cue", sheet.replace("x.wav", "../x.wav"))
    assert names == ["x.ogg", "[missing]"]
    (note,) = notes
    assert note.endswith("x.ogg' holds 2 tracks and is taken as one.")


def test_what_is_not_there_is_named_and_streams_are_noted(music: Path) -> None:
    lines = "gone.mp3\n../x.ogg\nhttp://radio.example/x\nhttps://x.example/y.mp3\nnul\0l.mp3\n.."
    playlist = music / "lists" / "l.m3u"
    names, notes = found(playlist, lines)
    assert names[:3] == ["[missing]", "x.ogg", "[missing]"]
    assert len(names) == 3 + 4  # the folder's, without what the playlist in it lists
    assert notes == [f"{str(playlist)!r}: 2 of its entries are not local and are skipped."]
    first = next(iter(find_audio([playlist])))
    assert isinstance(first, NotAudio)
    gone = str(music / "lists" / "gone.mp3")
    assert first.error == f"{gone!r} does not exist; line 1 of {str(playlist)!r} names it."


def test_playlists_within_playlists_are_read_once(music: Path) -> None:
    lists = music / "lists"
    (lists / "b.m3u").write_text("a.m3u\n../x.ogg\nb.m3u\nc.xspf")
    (lists / "c.xspf").write_text("no XML")
    assert found(lists / "a.m3u", "b.m3u\nb.m3u\n../a b.mp3")[0] == [
        "x.ogg", "[unreadable]", "a b.mp3",
    ]  # fmt: skip
    assert found(lists / "loop.m3u", "loop.m3u")[0] == ["[no_files]"]
    assert found(lists / "empty.pls", "[playlist]")[0] == ["[no_files]"]
    chain = 1500  # deeper than Python's stack
    for number in range(chain):
        (lists / f"{number}.m3u").write_text(f"{number + 1}.m3u")
    assert found(lists / f"{chain}.m3u", "../x.ogg")[0] == ["x.ogg"]
    assert found(lists / "start.m3u", "0.m3u")[0] == ["x.ogg"]


def test_only_named_playlists_are_read(music: Path) -> None:
    (music / "lists" / "l.m3u").write_text("gone.mp3")
    assert [os.path.basename(str(path)) for path in find_audio([music])] == [
        "Café.flac", "01.mp3", "a b.mp3", "x.ogg",
    ]  # fmt: skip
    (music / "m.m3u").mkdir()
    assert [entry.code for entry in find_audio([music / "m.m3u"]) if isinstance(entry, NotAudio)]


def test_a_playlist_without_any_track_fails_itself_and_names_what_is_missing(music: Path) -> None:
    playlist = music / "lists" / "l.pls"
    names, notes = found(playlist, "[playlist]\nFile1=gone.mp3\nfile2=..\\lost.mp3\n")
    assert names == ["[no_files]"]
    assert [note.split("; ")[1] for note in notes] == [
        f"line {line} of {str(playlist)!r} names it." for line in (2, 3)
    ]


def test_a_huge_file_is_no_playlist(tmp_path: Path) -> None:
    with (tmp_path / "x.m3u").open("wb") as file:
        file.truncate(1 << 32)
    (entry,) = find_audio([tmp_path / "x.m3u"])
    assert isinstance(entry, NotAudio)
    assert "16 MiB" in entry.error


@pytest.mark.skipif(os.name == "nt", reason="there, names in any case are the same file")
def test_names_in_another_case_where_one_file_is_meant(tmp_path: Path) -> None:
    (tmp_path / "Music" / "Björk").mkdir(parents=True)
    for name in ("Björk/Jóga.mp3", "Two.mp3", "TWO.mp3"):
        (tmp_path / "Music" / name).touch()
    if len(os.listdir(tmp_path / "Music")) < 3:
        pytest.skip("this file system does not tell them apart")
    lines = [
        "MUSIC\\BJÖRK\\jóga.MP3",
        "music/two.mp3",
        "Music/Two.mp3",
        "D:\\x\\music\\björk\\JÓGA.mp3",
    ]
    (tmp_path / "a.m3u8").write_text("\n".join(lines), encoding="utf-8")
    found = [entry.path for entry in read_playlist(str(tmp_path / "a.m3u8"), ())[0]]
    whole = str(tmp_path / "Music" / "Björk" / "Jóga.mp3")
    assert found == [whole, str(tmp_path / "music/two.mp3"), str(tmp_path / "Music/Two.mp3"), whole]
