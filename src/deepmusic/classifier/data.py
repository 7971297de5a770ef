"""The data of a training: spectrograms on disk, the held-out part, and calibration folds."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, LogMelStream, Source, wrap
from deepmusic.audio.scan import scan_file
from deepmusic.audio.silence import SilenceGate
from deepmusic.audio.sources import name_of
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.datasets import (
    Fold,
    FolderDataset,
    Folds,
    LoadedDataset,
    Problem,
    Track,
    group_tracks,
    make_folds,
    make_split,
    read_splits,
    write_splits,
)
from deepmusic.datasets.folder import map_threads
from deepmusic.errors import AudioError, CheckpointError, DataError
from deepmusic.files import make_folder, reading, write_atomically
from deepmusic.parallel import is_main_process

HeldOut = float | tuple[str | os.PathLike[str], int] | Literal["official"] | None
"""What is held out for the test: a share of the tracks, a file of splits and the number of a fold,
or the official test part; None takes the official one of FMA, and else `TEST_SHARE`."""
TEST_SHARE = 0.2
_FOLDS = 5
_VERSION = 2  # of the stored spectrograms: without silence
MAX_SECONDS = 600.0
"""More of a track is not kept for training: it adds little and fills the disk."""


def whole_spectrogram(
    source: Source, config: LogMelConfig, *, max_seconds: float
) -> tuple[NDArray[np.float32], SilenceGate]:
    """The beginning of a track without silence, as one spectrogram ``(n_mels, frames)`` in dB.

    Args:
        source: a path, a seekable binary file object, or a pair ``(samples, sample_rate)``.
        config: settings of the spectrogram.
        max_seconds: at most this much is read.

    Returns:
        The spectrogram, and what says where the silence was.

    Raises:
        AudioError: the track is silent or cannot be decoded.
    """
    from deepmusic.audio import open_audio  # loads the decoders

    gate = SilenceGate(config.sample_rate, name_of(source))
    with open_audio(source, sample_rate=config.sample_rate, max_seconds=max_seconds) as audio:
        return spectrogram(gate.through(audio), config), gate


def spectrogram(blocks: Iterable[NDArray[np.float32]], config: LogMelConfig) -> NDArray[np.float32]:
    """The spectrogram ``(n_mels, frames)`` in dB of blocks at the sample rate of ``config``."""
    stream = LogMelStream(config)
    return np.concatenate([*map(stream.push, blocks), stream.flush()], axis=1)


class TrackStore(ABC):
    """What was computed from tracks, one file per track in a folder, named by content.

    Args:
        folder: made if missing.
        suffix: of the files' names: for what was computed, and with which settings.

    Raises:
        DataError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], suffix: str) -> None:
        self.folder = make_folder(folder)
        self._suffix = suffix

    def path(self, content_hash: str) -> Path:
        """The file for a track with this content."""
        return self.folder / f"{content_hash[:32]}-{self._suffix}"

    @contextmanager
    def reading(self, track: Track) -> Iterator[Path]:
        """The file of a track, to be read.

        Raises:
            DataError: it is missing, damaged or cannot be read.
        """
        path = self.path(track.content_hash)
        with reading(path):
            try:
                yield path
            except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                raise DataError(f"{path} is damaged: delete it and run again.") from error

    @abstractmethod
    def compute(self, content_hash: str, source: str | os.PathLike[str]) -> None:
        """Write the file for a track with this content from its sound.

        Raises:
            AudioError: the track is silent (code ``silent``) or cannot be decoded.
            DeepMusicError: the disk is full or cannot be written.
        """

    def fill(
        self,
        dataset: FolderDataset,
        *,
        workers: int | None = None,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> list[Problem]:
        """Compute what is missing.

        Args:
            dataset: the tracks.
            workers: threads.
            on_progress: called with the numbers of tracks done and of all tracks.

        Returns:
            A problem for each track that is silent or cannot be decoded.

        Raises:
            DeepMusicError: the disk is full or cannot be written.
        """

        def make(track: Track) -> Problem | None:
            try:
                if not self.path(track.content_hash).exists():
                    self.compute(track.content_hash, dataset.file(track))
            except AudioError as error:
                return Problem(track.path, error.code, str(error))
            return None

        problems = map_threads(make, dataset.tracks, workers=workers, on_progress=on_progress)
        return [problem for problem in problems if problem is not None]


class SpectrogramStore(TrackStore):
    """Spectrograms in a folder, without silence, one file per track.

    Args:
        folder: made if missing.
        config: its ``log_mel`` and ``segment_frames`` are used.

    Raises:
        DataError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], config: ClassifierConfig) -> None:
        settings = json.dumps(
            [asdict(config.log_mel), config.segment_frames, MAX_SECONDS, _VERSION]
        )
        super().__init__(folder, f"{hashlib.sha256(settings.encode()).hexdigest()[:12]}.npy")
        self.config = config

    def load(self, track: Track) -> NDArray[np.float16]:
        """A track's spectrogram ``(n_mels, frames)`` in dB, mapped from disk.

        A track shorter than a segment is repeated.
        """
        with self.reading(track) as path:
            mapped: NDArray[np.float16] = np.load(path, mmap_mode="r")
        return mapped

    def compute(self, content_hash: str, source: str | os.PathLike[str]) -> None:
        """Write the spectrogram of a track; see `TrackStore.compute`."""
        log_mel, _ = whole_spectrogram(source, self.config.log_mel, max_seconds=MAX_SECONDS)
        self.keep(content_hash, log_mel)

    def keep(self, content_hash: str, log_mel: NDArray[np.float32]) -> None:
        """Keep the spectrogram ``(n_mels, frames)`` of a file.

        Raises:
            DeepMusicError: the disk is full or cannot be written.
        """
        buffer = io.BytesIO()  # into a file NumPy writes by itself, and cannot say what failed
        np.save(buffer, wrap(log_mel, self.config.segment_frames).astype(np.float16))
        with write_atomically(self.path(content_hash), "wb") as file:
            file.write(buffer.getbuffer())


def without(dataset: FolderDataset, problems: Sequence[Problem]) -> FolderDataset:
    """The data set without the tracks that have problems, and without genres left empty."""
    bad = {problem.path for problem in problems}
    tracks = [track for track in dataset.tracks if track.path not in bad]
    return FolderDataset.of(dataset.root, tracks, (*dataset.problems, *problems), dataset.notes)


def calibration_folds(
    dataset: FolderDataset, tracks: Sequence[int], *, networks: int, seed: int
) -> Folds:
    """Divide tracks by artist into folds without a test part, each validated on other tracks.

    Args:
        dataset: all tracks.
        tracks: indices of those to divide; other tracks are in no part.
        networks: at least as many folds, and at least five, are made; fewer if a genre has too few
            artists.
        seed: of the division.

    Raises:
        DataError: the tracks cannot be divided by artist.
    """
    subset = replace(dataset, tracks=tuple(dataset.tracks[i] for i in tracks))

    def indices(part: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(tracks[i] for i in part))

    for count in range(max(networks, _FOLDS), 1, -1):
        with suppress(DataError):
            folds = make_folds(subset, folds=count, seed=seed)
            parts = [Fold(indices((*f.train, *f.validation)), indices(f.test), ()) for f in folds]
            return Folds(tuple(parts), seed)
    split = make_split(subset, test=0, validation=1 / _FOLDS, seed=seed)
    return Folds((Fold(indices(split.train), indices(split.validation), ()),), seed)


def check_division(divide: Callable[[FolderDataset], object], dataset: FolderDataset) -> None:
    """Refuse data that cannot be divided before all tracks are decoded.

    Genres without any sound do not count, as they are left out later.

    Args:
        divide: raises `DataError` where a data set cannot be divided.
        dataset: all tracks.

    Raises:
        DataError: a genre has too few tracks, artists or groups.
    """
    try:
        divide(dataset)
    except DataError:
        groups: dict[str, set[int]] = {}
        for track, group in zip(dataset.tracks, group_tracks(dataset.tracks), strict=True):
            groups.setdefault(track.genre, set()).add(group)
        mute = {g for g in groups if len(groups[g]) < _FOLDS and not _has_sound(dataset, g)}
        if not mute:
            raise
        tracks = [track for track in dataset.tracks if track.genre not in mute]
        if len(groups) - len(mute) > 1:
            divide(FolderDataset.of(dataset.root, tracks))


def _has_sound(dataset: FolderDataset, genre: str) -> bool:
    files = (dataset.file(track) for track in dataset.tracks if track.genre == genre)
    scans = (scan_file(os.fspath(file)) for file in files)
    return any(not scan.code and scan.silent_share < 1 for scan in scans)


def can_calibrate(
    divide: Callable[[FolderDataset], Folds], *, networks: int, seed: int
) -> Callable[[FolderDataset], Folds]:
    """A division for `check_division` that also divides what is learned from, as training does."""

    def check(dataset: FolderDataset) -> Folds:
        fold = divide(dataset)[0]
        tracks = [*fold.train, *fold.validation]
        return calibration_folds(dataset, tracks, networks=networks, seed=seed)

    return check


def hold_out(
    test: HeldOut, loaded: LoadedDataset, dataset: FolderDataset, seed: int
) -> Callable[[FolderDataset], Folds]:
    """A function that divides a data set, from which tracks may be missing then, in one fold.

    Args:
        test: what is held out for the test.
        loaded: knows the official split.
        dataset: the tracks that the file of splits or the official split divides.
        seed: of a split that is drawn.

    Raises:
        DataError: there is no such split, or it leaves nothing to learn from or to test.
    """
    if test is None:
        test = "official" if loaded.kind == "fma" else TEST_SHARE
    if test == "official":
        folds, number = Folds((_official(loaded, dataset),), seed, "official"), 0
    elif isinstance(test, tuple):
        path, number = test
        folds = read_splits(path, dataset)
        if not 0 <= number < len(folds):
            raise DataError(f"{path} has folds 0 to {len(folds) - 1}; got {number}.")
    else:
        share = float(test)
        return lambda remaining: Folds((make_split(remaining, test=share, seed=seed),), seed)
    names = ("train", "validation", "test")
    part_of = {dataset.tracks[i].path: part for part in names for i in getattr(folds[number], part)}

    def divide(remaining: FolderDataset) -> Folds:
        parts = [part_of.get(track.path) for track in remaining.tracks]
        sides = (tuple(i for i, part in enumerate(parts) if part == name) for name in names)
        return Folds((Fold(*sides),), folds.seed, folds.protocol)

    return divide


def _official(loaded: LoadedDataset, dataset: FolderDataset) -> Fold:
    fold = loaded.official_split(dataset)
    learned = {dataset.labels[index] for index in (*fold.train, *fold.validation)}
    missing = [genre for label, genre in enumerate(dataset.genres) if label not in learned]
    if missing or not fold.test:
        lack = f"no training track of {missing[0]!r}" if missing else "no test track"
        raise DataError(
            f"The official split has {lack} among the files in {dataset.root}: leave small genres "
            "out, or hold out a share of the tracks instead."
        )
    return fold


def write_run_splits(run: Path, splits: Folds, dataset: FolderDataset, *, resume: bool) -> None:
    """Write ``splits.json``; of a run that is resumed it must be the same."""
    path = run / "splits.json"
    if resume and path.exists() and read_splits(path, dataset).folds != splits.folds:
        raise CheckpointError(
            f"{run} was divided with another seed, share for the test, number of networks or file "
            "of splits; resume with the same, or start a new run."
        )
    if is_main_process():
        write_splits(path, splits, dataset)
