from __future__ import annotations

import os
import shutil
from pathlib import Path

import av
import mutagen
import numpy as np
import pytest
import soundfile
from sounds import tone, write_with_ffmpeg

from deepmusic.audio import tags as module
from deepmusic.audio.metadata import Tags, read_tags
from deepmusic.audio.tag_formats.fields import Splice, copy_spliced
from deepmusic.audio.tag_log import TagLog
from deepmusic.audio.tags import TagChange, undo, write_genre
from deepmusic.errors import DataError, DeepMusicError
from deepmusic.files import write_atomically

RATE = 48000
FORMATS = ("mp3", "flac", "ogg", "opus", "wav", "aiff", "m4a", "wma")


def sound(path: Path, **tags: str) -> Path:
    """A second of a tone, with tags written by libsndfile or FFmpeg."""
    codecs = {
        ".mp3": "libmp3lame", ".flac": "flac", ".opus": "libopus", ".wav": "pcm_s16le",
        ".aiff": "pcm_s16be", ".m4a": "aac", ".wma": "wmav2",
    }  # fmt: skip
    samples = tone(1, RATE)
    if path.suffix == ".ogg":  # PyAV has no encoder for Vorbis
        with soundfile.SoundFile(path, "w", RATE, 1) as file:
            for name, value in tags.items():
                setattr(file, name, value)
            file.write(samples)
    else:
        write_with_ffmpeg(path, samples, RATE, codecs[path.suffix], tags=tags)
    return path


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)


@pytest.fixture(scope="session")
def untagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    for kind in FORMATS:
        tagged = mutagen.File(sound(folder / f"plain.{kind}"))
        if tagged.tags:
            tagged.delete()
    return folder


@pytest.fixture(params=FORMATS)
def song(request: pytest.FixtureRequest, untagged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(untagged / f"plain.{request.param}", tmp_path))


@pytest.fixture
def mp3(untagged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(untagged / "plain.mp3", tmp_path / "song.mp3"))


def test_written_genre_is_read_back_and_the_sound_is_the_same(song: Path) -> None:
    before = decoded(song)
    song.chmod(0o640)
    assert write_genre(song, "Ræggae") == TagChange(str(song), (), ("Ræggae",), "written")
    assert read_tags(song).genres == ("Ræggae",)
    np.testing.assert_array_equal(decoded(song), before)
    assert song.stat().st_mode & 0o777 == 0o640
    assert os.listdir(song.parent) == [song.name]
    assert write_genre(song, "Ræggae").status == "same"


def test_undo_leaves_no_genre_where_there_was_none(song: Path, tmp_path: Path) -> None:
    before = decoded(song)
    log = TagLog(tmp_path / "tags.db")
    write_genre(song, "rock", log=log)
    assert [change.status for change in undo(TagLog(log.path))] == ["restored"]
    assert read_tags(song).genres == ()
    np.testing.assert_array_equal(decoded(song), before)
    assert undo(TagLog(log.path)) == []


@pytest.mark.parametrize("kind", ["mp3", "flac", "m4a", "wav", "ogg"])
def test_undo_restores_several_genres_and_all_else_stays(
    kind: str, untagged: Path, tmp_path: Path
) -> None:
    song = sound(tmp_path / f"a.{kind}", artist="Zoë", title="T", album="A", genre="Jazz")
    tagged = mutagen.File(song)
    values = ["Jazz", "Hard Bop"]
    if kind in ("mp3", "wav"):
        if tagged.tags is None:
            tagged.add_tags()
        tagged.tags.add(mutagen.id3.TCON(encoding=3, text=values))
    else:
        tagged["\xa9gen" if kind == "m4a" else "genre"] = values
    tagged.save()
    others = {key: str(value) for key, value in mutagen.File(song).tags.items()}
    log = TagLog(tmp_path / "tags.db")
    change = write_genre(song, "pop", overwrite=True, log=log)
    assert (change.before, change.after) == (("Jazz", "Hard Bop"), ("pop",))
    assert read_tags(song).artists == ("Zoë",)
    assert undo(log) == [TagChange(str(song), ("pop",), ("Jazz", "Hard Bop"), "restored")]
    assert {key: str(value) for key, value in mutagen.File(song).tags.items()} == others


def test_a_genre_that_a_person_set_is_kept(tmp_path: Path) -> None:
    for kind in FORMATS:
        song = sound(tmp_path / f"a.{kind}", genre="Polka")
        content = song.read_bytes()
        change = write_genre(song, "rock")
        assert (change.status, change.after) == ("kept", ("Polka",)), kind
        assert song.read_bytes() == content


def test_a_logged_genre_may_be_replaced(mp3: Path, tmp_path: Path) -> None:
    log = TagLog(tmp_path / "tags.db")
    write_genre(mp3, "rock", log=log)
    assert write_genre(mp3, "pop").status == "kept"
    assert write_genre(mp3, "pop", log=TagLog(log.path)).status == "written"
    assert write_genre(mp3, "jazz", log=log).status == "written"
    (change,) = undo(TagLog(log.path))
    assert (change.before, change.after) == (("jazz",), ())
    assert mutagen.File(mp3).tags is None
    # a genre that somebody set in between is what undo restores
    write_genre(mp3, "rock", log=log)
    write_genre(mp3, "Polka", overwrite=True)
    write_genre(mp3, "pop", overwrite=True, log=log)
    assert [change.after for change in undo(log)] == [("Polka",)]


def test_undo_leaves_alone_what_others_changed_since(mp3: Path, tmp_path: Path) -> None:
    log = TagLog(tmp_path / "tags.db")
    write_genre(mp3, "rock", log=log)
    write_genre(mp3, "Polka", overwrite=True)
    (change,) = undo(log)
    assert change.status == "kept"
    assert "Polka" in str(change.reason)
    assert read_tags(mp3).genres == ("Polka",)


def test_a_dry_run_changes_nothing(song: Path, tmp_path: Path) -> None:
    content = song.read_bytes()
    log = TagLog(tmp_path / "tags.db")
    change = write_genre(song, "rock", dry_run=True, log=log)
    assert (change.status, change.after) == ("planned", ("rock",))
    assert song.read_bytes() == content
    assert not log.path.exists()
    write_genre(song, "rock", log=log)
    content = song.read_bytes()
    assert [c.status for c in undo(log, dry_run=True)] == ["planned"]
    assert song.read_bytes() == content


def test_an_id3_tag_keeps_its_version(mp3: Path) -> None:
    tags = mutagen.id3.ID3()
    tags.add(mutagen.id3.TPE1(encoding=1, text=["Ålborg"]))
    tags.add(mutagen.id3.TYER(encoding=0, text=["1999"]))
    tags.save(mp3, v2_version=3)
    write_genre(mp3, "rock")
    assert mutagen.id3.ID3(mp3, translate=False).version == (2, 3, 0)
    assert str(mutagen.id3.ID3(mp3, translate=False)["TYER"]) == "1999"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no locks that tell who writes")
def test_what_a_kill_left_beside_a_file_is_removed(mp3: Path, tmp_path: Path) -> None:
    log = TagLog(tmp_path / "tags.db")
    content = mp3.read_bytes()
    with write_atomically(mp3, "wb") as file:
        (name,) = set(os.listdir(mp3.parent)) - {mp3.name, "tags.db"}
        file.write(content)
    leftover = mp3.parent / name
    for change, status in (
        (lambda: write_genre(mp3, "rock", log=log), "written"),
        (lambda: write_genre(mp3, "rock"), "same"),
        (lambda: write_genre(mp3, "pop"), "kept"),
        (lambda: undo(log)[0], "restored"),
    ):
        leftover.touch()
        assert write_genre(mp3, "jazz", dry_run=True).status
        assert leftover.exists()
        assert change().status == status
        assert not leftover.exists()


def test_undo_after_a_kill_between_log_and_change(mp3: Path, tmp_path: Path) -> None:
    log = TagLog(tmp_path / "tags.db")
    content = mp3.read_bytes()
    write_genre(mp3, "rock", log=log)
    mp3.write_bytes(content)
    assert [change.status for change in undo(TagLog(log.path))] == ["same"]
    assert mp3.read_bytes() == content
    assert TagLog(log.path).entries() == []


def test_no_change_is_made_without_a_log(mp3: Path, tmp_path: Path) -> None:
    content = mp3.read_bytes()
    with pytest.raises(DataError, match="is not a store of genres written"):
        TagLog(mp3)
    with pytest.raises(DataError, match="its folder is missing"):
        TagLog(tmp_path / "gone" / "tags.db")
    (tmp_path / "log").mkdir()
    log = TagLog(tmp_path / "log" / "tags.db")
    (tmp_path / "log").rmdir()
    assert write_genre(mp3, "rock", log=log).status == "failed"
    assert mp3.read_bytes() == content


def test_a_tag_that_harms_the_sound_is_not_written(
    mp3: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = mp3.read_bytes()

    harm = [
        (Splice(4000, len(content), b""), "its sound would not survive the tag"),
        (
            Splice(len(content), len(content), b"TAG".ljust(128, b"\0")),
            "its other tags would not survive",
        ),
    ]
    for splice, reason in harm:
        monkeypatch.setattr(
            module,
            "copy_spliced",
            lambda file, splices, target, splice=splice: copy_spliced(
                file, [*splices, splice], target
            ),
        )
        change = write_genre(mp3, "rock")
        assert (change.status, change.reason) == ("failed", reason)
        assert mp3.read_bytes() == content


def test_names_that_are_not_utf8(mp3: Path, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.mp3"))
    try:
        mp3.rename(odd)
    except OSError:
        pytest.skip("this file system refuses a name that is not UTF-8")
    log = TagLog(tmp_path / "tags.db")
    assert write_genre(odd, "rock", log=log).status == "written"
    assert read_tags(odd).genres == ("rock",)
    assert [c.status for c in undo(TagLog(log.path))] == ["restored"]


def test_a_genre_is_one_line(mp3: Path) -> None:
    for genre in ("", "  ", "rock\nroll", "a\0b"):
        with pytest.raises(DeepMusicError, match="one line"):
            write_genre(mp3, genre)


def test_real_tags_are_read(shared_data: Path) -> None:
    tags = read_tags(shared_data / "emotify" / "classical" / "1.mp3")
    assert tags.artists == ("Voices of Music",)
    assert tags.album == "Bach and Telemann - Sonatas, Preludes and Fantasias"
    assert tags.genres == ()


def test_the_album_artist_replaces_a_missing_artist(tmp_path: Path) -> None:
    assert read_tags(sound(tmp_path / "a.flac", album_artist="B", genre=" ")) == Tags(
        artists=("B",)
    )


@pytest.mark.slow
def test_odd_files_have_tags_or_none_and_are_never_harmed(
    shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = shared_data / "odd" / "audio"
    statuses = {}
    for source in sorted(odd.rglob("*")):
        if source.name == "bomb_3h.flac":
            continue
        assert isinstance(read_tags(source), Tags)
        if not source.is_file():
            assert write_genre(source, "rock").status == "failed"
            continue
        file = tmp_path / source.name
        shutil.copyfile(source, file)
        content = file.read_bytes()
        log = TagLog(tmp_path / "tags.db")
        change = write_genre(file, "rock", log=log)
        statuses[f"{source.parent.name}/{source.name}"] = change
        if change.status == "written":
            assert read_tags(file).genres == ("rock",), source
        else:
            assert change.reason, source
            assert file.read_bytes() == content, source
    assert statuses["mp3/plain.mp3"].status == "written"
    assert statuses["not/text.mp3"].status == "failed"
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are of Unix")
def test_pipes_devices_and_links_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.mp3")
    (tmp_path / "endless.mp3").symlink_to("/dev/zero")
    (tmp_path / "self.mp3").symlink_to("self.mp3")
    (tmp_path / "gone.mp3").symlink_to("nowhere")
    for name in ("fifo.mp3", "endless.mp3", "self.mp3", "gone.mp3"):
        assert read_tags(tmp_path / name) == Tags()
        assert write_genre(tmp_path / name, "rock").status == "failed"


def test_a_file_named_wrongly_is_tagged_as_what_it_is(untagged: Path, tmp_path: Path) -> None:
    song = Path(shutil.copy(untagged / "plain.ogg", tmp_path / "song.mp3"))
    assert write_genre(song, "rock").status == "written"
    assert mutagen.File(song)["genre"] == ["rock"]
    samples, _ = soundfile.read(song)
    assert len(samples)


@pytest.mark.parametrize("kind", FORMATS)
def test_several_genres_are_written_as_each_format_wants(
    kind: str, untagged: Path, tmp_path: Path
) -> None:
    song = Path(shutil.copy(untagged / f"plain.{kind}", tmp_path))
    content, log, genres = song.read_bytes(), TagLog(tmp_path / "tags.db"), ("Hip Hop", "Soul")
    assert write_genre(song, genres, log=log).status == "written"
    assert sorted(read_tags(song).genres) == list(genres)
    tags = mutagen.File(song).tags
    if kind == "wav":  # its INFO list, of one text
        assert b"IGNR" in song.read_bytes()
        assert b"Hip Hop; Soul" in song.read_bytes()
    else:
        key = {"m4a": "\xa9gen", "wma": "WM/Genre", "mp3": "TCON", "aiff": "TCON"}.get(
            kind, "genre"
        )
        value = tags[key]
        assert list(map(str, getattr(value, "text", value))) == list(genres)
    assert write_genre(song, genres).status == "same"
    assert [change.status for change in undo(log)] == ["restored"]
    assert song.read_bytes() == content


def test_id3_before_24_gets_one_text_with_semicolons(mp3: Path) -> None:
    tags = mutagen.id3.ID3()
    tags.add(mutagen.id3.TIT2(encoding=0, text=["T"]))
    tags.save(mp3, v2_version=3)
    write_genre(mp3, ["Pop/Rock", "Soul"])
    assert str(mutagen.id3.ID3(mp3, translate=False)["TCON"]) == "Pop/Rock; Soul"
    assert read_tags(mp3).genres == ("Pop/Rock", "Soul")
    assert write_genre(mp3, ["Pop/Rock", "Soul"]).status == "same"


@pytest.mark.parametrize("kind", ["mp3", "flac", "m4a", "wma"])
def test_a_genre_that_says_nothing_is_replaced_and_restored(kind: str, tmp_path: Path) -> None:
    song = sound(tmp_path / f"a.{kind}", genre="Other", artist="A")
    log = TagLog(tmp_path / "tags.db")
    planned = write_genre(song, "rock", dry_run=True, log=log)
    assert (planned.status, planned.before, planned.after) == ("planned", ("Other",), ("rock",))
    assert write_genre(song, "rock", log=log).status == "written"
    assert read_tags(song).genres == ("rock",)
    undo(log)
    assert read_tags(song).genres == ("Other",)
    kept = sound(tmp_path / f"b.{kind}", genre="Other; Rock")
    assert write_genre(kept, "pop").status == "kept"


def test_a_placeholder_in_one_tag_does_not_give_up_a_genre_in_another(mp3: Path) -> None:
    ape = mutagen.apev2.APEv2()
    ape["Genre"] = "Polka"
    ape.save(mp3)
    tags = mutagen.id3.ID3()
    tags.add(mutagen.id3.TCON(encoding=0, text=["Other"]))
    tags.save(mp3)
    content = mp3.read_bytes()
    assert write_genre(mp3, "rock").status == "kept"
    assert mp3.read_bytes() == content
