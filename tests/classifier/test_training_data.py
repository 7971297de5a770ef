"""Spectrograms on disk, equal to librosa's and computed once; folds that keep copies together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
from synthetic import RATE, chords, clicks, tiny_config, write_folder

from deepmusic.audio import LogMelConfig
from deepmusic.classifier import data as module
from deepmusic.classifier.data import SpectrogramStore, calibration_folds, without
from deepmusic.datasets import FolderDataset, Problem, scan_folder
from deepmusic.errors import AudioError, DataError, DeepMusicError
from faults import small_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "music"
    for path, sound in {
        "chords/a.wav": chords(1),
        "chords/short.wav": chords(2, 0.5),
        "clicks/b.flac": clicks(1, 4.0),
        "clicks/silent.wav": np.zeros(2 * RATE, np.float32),
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / path, sound, RATE)
    (root / "chords" / "broken.mp3").write_bytes(b"no music" * 100)
    return root


def stored(store: SpectrogramStore, dataset: FolderDataset, path: str) -> np.ndarray:
    return store.load(next(track for track in dataset.tracks if track.path == path))


@pytest.mark.slow
def test_spectrograms_equal_those_of_librosa(folder: Path, tmp_path: Path) -> None:
    config = tiny_config()
    dataset = scan_folder(folder)
    store = SpectrogramStore(tmp_path / "store", config)
    calls: list[tuple[int, int]] = []
    problems = store.fill(dataset, workers=2, on_progress=lambda *done: calls.append(done))
    assert [(p.path, p.code) for p in problems] == [
        ("chords/broken.mp3", "not_audio"),
        ("clicks/silent.wav", "silent"),
    ]
    assert all(p.message.endswith(".") for p in problems)
    assert calls == [(number, 5) for number in range(1, 6)]

    ours = stored(store, dataset, "clicks/b.flac")
    samples, _ = soundfile.read(folder / "clicks" / "b.flac", dtype="float32")
    power = librosa.feature.melspectrogram(
        y=samples, sr=RATE, n_fft=2048, hop_length=512, pad_mode="constant"
    )
    theirs = np.maximum(librosa.power_to_db(power, top_db=None), -100)
    assert ours.dtype == np.float16
    np.testing.assert_allclose(ours, theirs, atol=0.04)  # float16 near -100 has steps of 0.06

    short = stored(store, dataset, "chords/short.wav")
    assert short.shape == (128, config.segment_frames)
    frames = config.log_mel.frames(round(0.5 * RATE))
    np.testing.assert_array_equal(short[:, frames : 2 * frames], short[:, :frames])


def test_each_track_is_decoded_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SpectrogramStore(tmp_path / "store", tiny_config()).fill(scan_folder(folder))

    def refuse(source: Path, **_: Any) -> None:
        raise AudioError("opened again", code="again")

    def opened(**changes: Any) -> set[str]:
        store = SpectrogramStore(tmp_path / "store", replace(tiny_config(), **changes))
        problems = store.fill(scan_folder(folder), workers=1)
        return {Path(p.path).name for p in problems if p.code == "again"}

    monkeypatch.setattr("deepmusic.audio.open_audio", refuse)
    assert opened() == {"broken.mp3", "silent.wav"}
    assert len(opened(log_mel=LogMelConfig(hop_length=256))) == 5
    (folder / "chords" / "a.wav").rename(folder / "chords" / "renamed.wav")
    assert opened() == {"broken.mp3", "silent.wav"}


def test_a_full_disk_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    store = SpectrogramStore(tmp_path / "store", tiny_config())
    with small_files(1000), pytest.raises(DeepMusicError, match="could not be written: the file"):
        store.fill(scan_folder(folder), workers=1)
    assert list((tmp_path / "store").iterdir()) == []


def test_a_damaged_spectrogram_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    store, dataset = SpectrogramStore(tmp_path / "store", tiny_config()), scan_folder(folder)
    store.fill(dataset)
    track = next(t for t in dataset.tracks if store.path(t.content_hash).exists())
    store.path(track.content_hash).write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match="is damaged: delete it"):
        store.load(track)
    store.path(track.content_hash).unlink()
    with pytest.raises(DataError, match="cannot be read: no such file"):
        store.load(track)


def test_only_the_first_minutes_are_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SECONDS", 4.0)
    dataset = scan_folder(folder)
    store = SpectrogramStore(tmp_path / "store", tiny_config())
    store.fill(dataset)
    assert stored(store, dataset, "chords/a.wav").shape[1] == LogMelConfig().frames(4 * RATE)


def test_tracks_with_problems_and_empty_genres_are_left_out(folder: Path) -> None:
    dataset = scan_folder(folder)
    problems = [
        Problem(path, "x", "X.") for path in ("chords/a.wav", "clicks/b.flac", "clicks/silent.wav")
    ]
    rest = without(dataset, problems)
    assert [track.path for track in rest.tracks] == ["chords/broken.mp3", "chords/short.wav"]
    assert rest.genres == ("chords",)
    assert rest.problems == (*dataset.problems, *problems)
    assert rest.labels == (0, 0)


@pytest.mark.slow
def test_copies_count_as_one_artist(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "music", artists=6, seconds=1.0, each=1)
    (root / "tracks.csv").unlink()
    soundfile.write(root / "chords" / "copied.wav", chords(0, 1.0), RATE, subtype="PCM_16")
    dataset = scan_folder(root)
    paths = [track.path for track in dataset.tracks]
    copies = {paths.index("chords/0.wav"), paths.index("chords/copied.wav")}
    for seed in range(3):
        for fold in calibration_folds(dataset, range(len(paths)), networks=2, seed=seed):
            assert copies <= set(fold.train) or copies <= set(fold.validation)
