"""Finding sound files in odd folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deepmusic.audio import NotAudio, find_audio


def names(*paths: Path) -> list[str]:
    """Names of the files, and codes of what cannot be one in brackets."""
    return [
        os.path.basename(entry) if isinstance(entry, str) else f"[{entry.code}]"
        for entry in find_audio(paths)
    ]


def test_sound_files_of_a_folder_are_found_in_order(tmp_path: Path) -> None:
    for name in ("b.mp3", "A.FLAC", "c/x.m4a", "c/cover.jpg", "._a.mp3", ".git/x.mp3", "t.mp3 "):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert names(tmp_path) == ["A.FLAC", "b.mp3", "x.m4a", "t.mp3 "]
    assert names(tmp_path / "c" / "cover.jpg") == ["cover.jpg"]  # named files are not judged


def test_paths_that_cannot_be_tracks_have_reasons(tmp_path: Path) -> None:
    (tmp_path / "song.mp3").mkdir()
    (tmp_path / "song.mp3" / ".gitkeep").touch()
    (tmp_path / "loop_a.mp3").symlink_to("loop_b.mp3")
    (tmp_path / "loop_b.mp3").symlink_to("loop_a.mp3")
    (tmp_path / "dangling.mp3").symlink_to("gone.mp3")
    (tmp_path / "gone_folder").symlink_to("gone")
    os.mkfifo(tmp_path / "fifo.mp3")
    os.mkfifo(tmp_path / "other_fifo")
    codes = ["[missing]", "[not_a_file]", "[missing]", "[missing]", "[directory]"]
    assert names(tmp_path) == codes
    assert names(tmp_path / "song.mp3") == ["[no_files]"]
    assert names(tmp_path / "other_fifo") == ["[not_a_file]"]
    assert names(tmp_path / "gone", Path("nul\0l")) == ["[missing]", "[missing]"]
    (dangling,) = find_audio([tmp_path / "dangling.mp3"])
    assert isinstance(dangling, NotAudio)
    assert dangling.error.endswith("is a broken link.")


def test_folders_that_link_to_their_parents_are_entered_once(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "up").symlink_to("..", target_is_directory=True)
    (tmp_path / "a.mp3").touch()
    assert names(tmp_path) == ["a.mp3"]
    assert names(tmp_path, tmp_path) == ["a.mp3", "a.mp3"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_locked_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    assert names(tmp_path) == ["[permission]"]
