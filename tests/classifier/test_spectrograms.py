"""Spectrograms on disk: what librosa gives, once a track, and a reason where there is none."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
from synthetic import RATE, chords, clicks, tiny_config

from deepmusic.audio import LogMelConfig, log_mel
from deepmusic.classifier import spectrograms
from deepmusic.classifier.spectrograms import SpectrogramStore, without
from deepmusic.datasets import FolderDataset, Problem, scan_folder
from deepmusic.errors import AudioError, DeepMusicError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "music"
    for genre, sound in {
        "chords/a.wav": chords(1),
        "chords/short.wav": chords(2, 0.5),
        "clicks/b.flac": clicks(1, 4.0),
        "clicks/silent.wav": np.zeros(2 * RATE, np.float32),
    }.items():
        path = root / genre
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, RATE)
    (root / "chords" / "broken.mp3").write_bytes(b"no music" * 100)
    return root


def stored(store: SpectrogramStore, dataset: FolderDataset, path: str) -> np.ndarray:
    return store.load(next(track for track in dataset.tracks if track.path == path))


def test_fill_and_load(folder: Path, tmp_path: Path) -> None:
    config = tiny_config()
    dataset = scan_folder(folder)
    store = SpectrogramStore(tmp_path / "store", config)
    seen: list[tuple[int, int]] = []
    problems = store.fill(dataset, workers=2, on_progress=lambda *done: seen.append(done))
    assert [(p.path, p.code) for p in problems] == [
        ("chords/broken.mp3", "not_audio"),
        ("clicks/silent.wav", "silent"),
    ]
    assert all(p.message.endswith(".") for p in problems)
    assert seen == [(number, 5) for number in range(1, 6)]

    ours = stored(store, dataset, "clicks/b.flac")
    samples, _ = soundfile.read(folder / "clicks" / "b.flac", dtype="float32")
    power = librosa.feature.melspectrogram(
        y=samples, sr=RATE, n_fft=2048, hop_length=512, pad_mode="constant"
    )
    theirs = np.maximum(librosa.power_to_db(power, top_db=None), -100)
    assert ours.dtype == np.float16
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=0.04)  # float16 near -100 has steps of 0.06

    short = stored(store, dataset, "chords/short.wav")
    assert short.shape == (128, config.segment_frames)
    frames = config.log_mel.frames(round(0.5 * RATE))
    np.testing.assert_array_equal(short[:, frames : 2 * frames], short[:, :frames])


def test_each_track_is_decoded_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = scan_folder(folder)
    store = SpectrogramStore(tmp_path / "store", tiny_config())
    store.fill(dataset)
    opened: list[Path] = []

    def refuse(source: Path, **_: Any) -> None:
        opened.append(source)
        raise AudioError("opened again", code="again")

    monkeypatch.setattr("deepmusic.audio.open_audio", refuse)
    store.fill(dataset, workers=1)
    assert {path.name for path in opened} == {"broken.mp3", "silent.wav"}
    # other settings are another spectrogram
    other = replace(tiny_config(), log_mel=LogMelConfig(hop_length=256))
    opened.clear()
    SpectrogramStore(tmp_path / "store", other).fill(dataset, workers=1)
    assert len(opened) == 5
    # renamed, it is still the same sound
    (folder / "chords" / "a.wav").rename(folder / "chords" / "renamed.wav")
    opened.clear()
    store.fill(scan_folder(folder), workers=1)
    assert len(opened) == 2


def test_a_full_disk_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, array: Any) -> None:
        file.write(b"begun")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spectrograms.np, "save", full)
    store = SpectrogramStore(tmp_path / "store", tiny_config())
    with pytest.raises(DeepMusicError, match="disk is full"):
        store.fill(scan_folder(folder), workers=1)
    assert list((tmp_path / "store").iterdir()) == []


def test_only_the_first_minutes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectrograms, "MAX_SECONDS", 4.0)
    soundfile.write(tmp_path / "long.wav", chords(1, 9.0), RATE)
    (tmp_path / "genre").mkdir()
    (tmp_path / "long.wav").rename(tmp_path / "genre" / "long.wav")
    dataset = scan_folder(tmp_path)
    store = SpectrogramStore(tmp_path / "store", tiny_config())
    assert store.fill(dataset) == []
    assert stored(store, dataset, "genre/long.wav").shape[1] == LogMelConfig().frames(4 * RATE)


def test_what_counts_as_silence() -> None:
    config = tiny_config()
    faint = 1e-3 * chords(1, 1.0)  # 60 dB lower
    for sound, is_silent in ((np.zeros(RATE), True), (faint, False), (clicks(1, 1.0), False)):
        assert config.is_silent(float(log_mel(sound.astype(np.float32)).max())) == is_silent


def test_without_problems(folder: Path) -> None:
    dataset = scan_folder(folder)
    left = without(
        dataset,
        [
            Problem("clicks/b.flac", "x", "X."),
            Problem("clicks/silent.wav", "x", "X."),
            Problem("chords/a.wav", "x", "X."),
        ],
    )
    assert [track.path for track in left.tracks] == ["chords/broken.mp3", "chords/short.wav"]
    assert left.genres == ("chords",)
    assert len(left.problems) == len(dataset.problems) + 3
    assert left.labels == (0, 0)
