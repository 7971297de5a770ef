"""Whatever fails while a genre is written or undone: the file is the old or the new one."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from sounds import music, write_with_ffmpeg

from deepmusic.audio import tags as module
from deepmusic.audio.metadata import read_tags
from deepmusic.audio.tag_log import TagLog
from deepmusic.audio.tags import TagChange, undo, write_genre
from deepmusic.errors import DataError

KINDS = {"mp3": "libmp3lame", "flac": "flac", "opus": "libopus", "m4a": "aac", "wav": "pcm_s16le"}


@pytest.fixture(scope="session")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("songs")
    for number, (kind, codec) in enumerate(KINDS.items()):
        tags = {"title": "T", "artist": "Zoë"}
        path = folder / f"song.{kind}"
        write_with_ffmpeg(path, music(0.4, number, 48000), 48000, codec, tags=tags)
    return folder


@pytest.fixture
def song(songs: Path, tmp_path: Path) -> Path:
    (tmp_path / "music").mkdir()
    return Path(shutil.copy(songs / "song.mp3", tmp_path / "music"))


class Failing:
    """Makes the nth call of all the calls that it wraps fail."""

    def __init__(self, nth: int, error: BaseException) -> None:
        self.left, self.error = nth, error

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise self.error
            return function(*arguments, **options)

        return call


class FailingFile(io.FileIO):
    """A temporary file whose reads and writes may fail."""

    failing: Failing

    def read(self, *arguments: Any) -> bytes:
        return self.failing.wrap(super().read)(*arguments)

    def write(self, *arguments: Any) -> int:
        return self.failing.wrap(super().write)(*arguments)


def fail_temporary_files(patch: pytest.MonkeyPatch, failing: Failing) -> None:
    real = module.tempfile.TemporaryFile

    def temporary(**options: Any) -> FailingFile:
        with real(**options) as file:
            opened = FailingFile(os.dup(file.fileno()), "r+")
        opened.failing = failing
        return opened

    patch.setattr(module.tempfile, "TemporaryFile", failing.wrap(temporary))


def fail_copies(patch: pytest.MonkeyPatch, failing: Failing) -> None:
    patch.setattr(module, "copy_spliced", failing.wrap(module.copy_spliced))
    patch.setattr(module.shutil, "copyfileobj", failing.wrap(shutil.copyfileobj))
    patch.setattr(module, "load_tags", failing.wrap(module.load_tags))
    patch.setattr(module, "open_container", failing.wrap(module.open_container))


def fail_system_calls(patch: pytest.MonkeyPatch, failing: Failing) -> None:
    for name in ("open", "replace", "fsync", "fchmod", "chmod", "stat", "listxattr"):
        if hasattr(os, name):
            patch.setattr(os, name, failing.wrap(getattr(os, name)))


FAULTS = [
    (fail_temporary_files, OSError(errno.ENOSPC, "No space left on device")),
    (fail_temporary_files, OSError(errno.EIO, "Input/output error")),
    (fail_copies, MemoryError()),
    (fail_system_calls, OSError(errno.EIO, "Input/output error")),
    (fail_system_calls, OSError(errno.EACCES, "Permission denied")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fail", "error"), FAULTS)
def test_the_file_is_the_old_or_the_new_one(
    fail: Callable[[pytest.MonkeyPatch, Failing], None],
    error: BaseException,
    song: Path,
    tmp_path: Path,
) -> None:
    old = song.read_bytes()
    assert write_genre(song, "rock").status == "written"
    new = song.read_bytes()
    changes: dict[str, Callable[[TagLog], TagChange]] = {
        "write": lambda log: write_genre(song, "rock", log=log),
        "undo": lambda log: undo(log)[0],
    }
    for name, change in changes.items():
        for nth in range(1, 200):
            song.write_bytes(old)
            log = TagLog(tmp_path / f"{name}-{nth}.db")
            if name == "undo":
                write_genre(song, "rock", log=log)
            with pytest.MonkeyPatch.context() as patch:
                failing = Failing(nth, error)
                fail(patch, failing)
                try:
                    result = change(log)
                except DataError:  # the log cannot be opened
                    continue
                finally:
                    patch.undo()
            content = song.read_bytes()
            assert content in (old, new)
            assert os.listdir(song.parent) == [song.name]
            if result.status == "failed":
                assert result.reason
                assert "\n" not in result.reason
            else:
                assert content == (new if name == "write" else old)
            if content == new:  # what was written can be undone
                assert [c.status for c in undo(TagLog(log.path))] == ["restored"]
                assert song.read_bytes() == old
            if failing.left > 0:
                break
        else:
            pytest.fail("it never passed")


def test_a_real_full_disk(song: Path, tmp_path: Path) -> None:
    """A limit on the size of files fails every write beyond it."""
    resource = pytest.importorskip("resource")
    content = song.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        change = write_genre(song, "rock")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert change.status == "failed"
    assert song.read_bytes() == content
    assert os.listdir(song.parent) == [song.name]


WRITER = """
import sys
from pathlib import Path
from deepmusic.audio.tag_log import TagLog
from deepmusic.audio.tags import write_genre
log = TagLog(sys.argv[1])
for path in sorted(Path(sys.argv[2]).iterdir()):
    if not path.name.startswith("."):
        change = write_genre(path, "rock", log=log)
        print(change.status, flush=True)
"""


def write_and_kill(log: Path, folder: Path, delay_s: float) -> bool:
    """Tag a folder in a process that is killed after a time; whether it had ended by itself."""
    command = [sys.executable, "-c", WRITER, str(log), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        try:
            process.communicate(timeout=delay_s)
        except subprocess.TimeoutExpired:
            process.kill()
        return process.wait() == 0


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kill -9 is of Unix")
def test_no_file_is_lost_to_kill_9(songs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "music"
    folder.mkdir()
    # more of them by hand: TAGGED_FILES=1000 pytest -s -k kill_9
    count = int(os.environ.get("TAGGED_FILES", 6 * len(KINDS)))
    kinds = islice(cycle(KINDS), count)
    names = [f"{number:03}.{kind}" for number, kind in enumerate(kinds)]
    for name in names:
        shutil.copyfile(songs / f"song.{name[4:]}", folder / name)
    before = {name: (folder / name).read_bytes() for name in names}
    log, delays = tmp_path / "tags.db", iter(range(1, 1000))
    while not write_and_kill(log, folder, next(delays) / 25):
        for name in names:
            assert read_tags(folder / name).genres in ((), ("rock",)), name
    print(f"{count} files, {next(delays) - 2} kills")
    assert {change.status for change in undo(TagLog(log))} <= {"restored", "same"}
    assert TagLog(log).entries() == []
    assert sorted(os.listdir(folder)) == names
    assert all((folder / name).read_bytes() == before[name] for name in names)


def test_owner_mode_and_attributes_are_kept(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song.chmod(0o604)
    if hasattr(os, "setxattr"):
        try:
            os.setxattr(song, "user.rating", b"5")
        except OSError:
            pytest.skip("this file system keeps no extended attributes")
    if os.getuid() == 0:
        os.chown(song, 12, 34)
    before = song.stat()
    assert write_genre(song, "rock").status == "written"
    after = song.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_uid, after.st_gid, after.st_mode) == (
        before.st_uid, before.st_gid, before.st_mode,
    )  # fmt: skip
    if hasattr(os, "setxattr"):
        assert os.getxattr(song, "user.rating") == b"5"
        content = song.read_bytes()

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "setxattr", refuse)
        for dry_run in (True, False):
            change = write_genre(song, "pop", overwrite=True, dry_run=dry_run)
            assert "cannot be kept: operation not permitted" in (change.reason or "")
        assert song.read_bytes() == content


def test_links_and_files_that_may_not_be_written(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link.mp3"
    link.symlink_to(song)
    assert write_genre(link, "rock").status == "written"
    assert link.is_symlink()
    assert read_tags(song).genres == ("rock",)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        assert write_genre(song, "pop", overwrite=True).reason == "it may not be written"
    os.link(song, tmp_path / "other.mp3")
    content = song.read_bytes()
    for dry_run in (True, False):
        change = write_genre(song, "pop", overwrite=True, dry_run=dry_run)
        assert (change.status, "2 names" in str(change.reason)) == ("failed", True)
    assert song.read_bytes() == content


def test_a_file_that_others_change_at_the_same_time_is_theirs(
    song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.copy_spliced

    def interrupted(*arguments: Any) -> None:
        real(*arguments)
        (song.parent / "x").write_bytes(b"theirs")
        os.replace(song.parent / "x", song)

    monkeypatch.setattr(module, "copy_spliced", interrupted)
    assert write_genre(song, "rock").reason == "another program changed it at the same time"
    assert song.read_bytes() == b"theirs"


def test_undo_finds_moved_files_by_their_sound(songs: Path, tmp_path: Path) -> None:
    """Names that change in a circle would mislead it, and so would a file of the same name."""
    folder, other = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    other.mkdir()
    kinds = [*KINDS]
    before = {}
    for kind in kinds:
        path = Path(shutil.copy(songs / f"song.{kind}", folder))
        before[kind] = path.read_bytes()
    log = TagLog(tmp_path / "tags.db")
    for kind in kinds:
        assert write_genre(folder / f"song.{kind}", "rock", log=log).status == "written"
    (folder / "song.mp3").rename(folder / "x")
    (folder / "song.flac").rename(folder / "song.mp3")
    (folder / "x").rename(folder / "song.flac")
    (folder / "song.opus").rename(other / "renamed.opus")
    (folder / "song.m4a").unlink()
    # tagged again under its new name, it is still ours
    assert write_genre(other / "renamed.opus", "pop", log=log).status == "written"
    dry = undo(log, folders=[other], dry_run=True)
    done = undo(log, folders=[other])
    assert [c.status.replace("planned", "restored") for c in dry] == [c.status for c in done]
    failed = [change for change in done if change.status == "failed"]
    assert [change.path for change in failed] == [str(folder / "song.m4a")]
    assert "no file with its sound" in str(failed[0].reason)
    assert (folder / "song.flac").read_bytes() == before["mp3"]
    assert (folder / "song.mp3").read_bytes() == before["flac"]
    assert (other / "renamed.opus").read_bytes() == before["opus"]
    assert (folder / "song.wav").read_bytes() == before["wav"]
    assert [entry.path for entry in TagLog(log.path).entries()] == [str(folder / "song.m4a")]


@pytest.mark.parametrize("name", ["piped.wav", "adts.aac", "id3v23-sort-order.mp3"])
def test_the_dry_run_says_what_the_real_run_does(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    song = Path(shutil.copyfile(shared_data / "cases" / "audio" / name, tmp_path / name))
    content = song.read_bytes()
    dry = write_genre(song, "rock", dry_run=True)
    assert song.read_bytes() == content
    real = write_genre(song, "rock")
    assert (dry.status, dry.reason) == (real.status.replace("written", "planned"), real.reason)
    assert (song.read_bytes() == content) == (real.status == "failed")
