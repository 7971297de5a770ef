"""Finding sound files in odd folders, and sound in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from deepmusic.audio import NotAudio, find_audio, load
from deepmusic.errors import AudioError


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


def test_bins_thumbnails_and_code_are_passed_over(tmp_path: Path) -> None:
    for folder in (
        "@eaDir/a.mp3", "#recycle", "@Recycle", "$RECYCLE.BIN/S-1", ".Trash-1000/files", "@tmp",
        ".Trashes", "lost+found", "System Volume Information", ".AppleDouble", "__MACOSX/x",
    ):  # fmt: skip
        (tmp_path / "music" / folder).mkdir(parents=True)
        (tmp_path / "music" / folder / "old.mp3").touch()
    packets = b"\x47\x40\0\x10" + bytes(184)
    for name, content in {
        "index.ts": b"export const G = 1;\n" * 300,
        "module.mts": b"\xef\xbb\xbfexport {}",
        "windows.ts": "import x from 'y'".encode("utf-16"),
        "empty.ts": b"",
        "board.dts": b"/dts-v1/;",
        "film.ts": packets * 9,
        "camera.MTS": (bytes(4) + packets) * 9,
        "input.mf": b"blues.00000.au\tblues\n",
        "recycled.mp3": b"",
    }.items():
        (tmp_path / "music" / name).write_bytes(content)
    assert names(tmp_path) == ["camera.MTS", "film.ts", "recycled.mp3"]
    assert names(tmp_path / "music" / "#recycle") == ["old.mp3"]  # what is named is taken
    assert names(tmp_path / "music" / "index.ts") == ["index.ts"]


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


SOUND = np.random.default_rng(0).normal(0, 0.1, (30_000, 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32])
def test_sound_in_memory_is_that_of_a_file(tmp_path: Path, dtype: type) -> None:
    soundfile.write(tmp_path / "sound.wav", SOUND, 44_100, subtype="FLOAT")
    expected = load(tmp_path / "sound.wav", sample_rate=16_000)
    scale = 1 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
    samples = (SOUND * scale).astype(dtype)
    for one in (samples, samples.T):
        sound = load((one, 44_100), sample_rate=16_000)
        np.testing.assert_allclose(sound.samples, expected.samples, atol=1e-4)
        assert (sound.source_rate, sound.channels) == (44_100, 2)
    mono = load((samples.mean(axis=1).astype(dtype), 44_100.0), sample_rate=16_000)
    np.testing.assert_allclose(mono.samples, expected.samples, atol=1e-4)


@pytest.mark.parametrize(
    ("samples", "rate", "code"),
    [
        (np.zeros(0), 44_100, "empty"),
        (np.zeros(9), 44_100, "too_short"),
        (np.full(44_100, np.nan), 44_100, "not_finite"),
        (SOUND * 1e300, 44_100, "not_finite"),
        (SOUND, 0, "bad_rate"),
        (SOUND, np.nan, "bad_rate"),
        (SOUND.astype(complex), 44_100, "not_audio"),
        (np.zeros((99, 99)), 44_100, "not_audio"),
        (np.zeros((2, 2, 2)), 44_100, "not_audio"),
        (np.array(["sound"]), 44_100, "not_audio"),
    ],
)
def test_samples_that_are_no_sound_are_refused(samples: Any, rate: float, code: str) -> None:
    with pytest.raises(AudioError) as caught:
        load((samples, rate))
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_some_samples_that_are_no_numbers_are_silenced() -> None:
    warning = load((np.where(np.arange(30_000) < 9, np.nan, SOUND[:, 0]), 44_100)).warning
    assert warning is not None
    assert "9 samples" in warning
    with pytest.raises(TypeError, match="in this order"):
        load((44_100, SOUND))  # type: ignore[arg-type]
