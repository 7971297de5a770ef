"""Log-mel spectrograms of the tracks of a data set, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, LogMelStream, wrap
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.errors import AudioError, DataError, os_reason
from deepmusic.files import write_atomically

if TYPE_CHECKING:
    from deepmusic.datasets import FolderDataset, Problem, Track

MAX_SECONDS = 600.0
"""More of a track is not kept for training: it adds little and fills the disk."""


def whole_spectrogram(
    source: str | os.PathLike[str] | BinaryIO, config: LogMelConfig, *, max_seconds: float
) -> NDArray[np.float32]:
    """The beginning of a track as one spectrogram ``(n_mels, frames)`` in dB.

    Args:
        source: a path, or a seekable binary file object.
        config: settings of the spectrogram.
        max_seconds: at most this much is read.

    Raises:
        AudioError: the track cannot be decoded.
    """
    from deepmusic.audio import open_audio  # loads the decoders

    stream = LogMelStream(config)
    with open_audio(source, sample_rate=config.sample_rate, max_seconds=max_seconds) as audio:
        parts = [stream.push(block) for block in audio]
    return np.concatenate([*parts, stream.flush()], axis=1)


class SpectrogramStore:
    """Spectrograms in a folder, one file per track, named by content and settings.

    Args:
        folder: made if missing.
        config: its ``log_mel`` and ``segment_frames`` are used.

    Raises:
        DataError: the folder cannot be made.
    """

    def __init__(self, folder: Path, config: ClassifierConfig) -> None:
        self.folder = folder
        self.config = config
        settings = json.dumps([asdict(config.log_mel), config.segment_frames, MAX_SECONDS])
        self._suffix = hashlib.sha256(settings.encode()).hexdigest()[:12]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder} could not be made: {os_reason(error)}.") from error

    def path(self, content_hash: str) -> Path:
        """The file of the spectrogram of a track with this content."""
        return self.folder / f"{content_hash[:32]}-{self._suffix}.npy"

    def load(self, track: Track) -> NDArray[np.float16]:
        """A track's spectrogram ``(n_mels, frames)`` in dB, mapped from disk.

        A track shorter than a segment is repeated.
        """
        path = self.path(track.content_hash)
        mapped: NDArray[np.float16] = np.load(path, mmap_mode="r")
        return mapped

    def fill(
        self,
        dataset: FolderDataset,
        *,
        workers: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Problem]:
        """Compute the missing spectrograms.

        Args:
            dataset: the tracks.
            workers: threads.
            on_progress: called with the number of tracks done and that of all tracks.

        Returns:
            A problem for each track that is silent or cannot be decoded.

        Raises:
            DeepMusicError: the disk is full or cannot be written.
        """
        from deepmusic.datasets import Problem
        from deepmusic.datasets.folder import map_threads

        def make(track: Track) -> Problem | None:
            try:
                self._make(dataset.file(track), track.content_hash)
            except AudioError as error:
                return Problem(track.path, error.code, str(error))
            return None

        problems = map_threads(make, dataset.tracks, workers=workers, on_progress=on_progress)
        return [problem for problem in problems if problem is not None]

    def _make(self, source: Path, content_hash: str) -> None:
        if not self.path(content_hash).exists():
            log_mel = whole_spectrogram(source, self.config.log_mel, max_seconds=MAX_SECONDS)
            self.keep(content_hash, log_mel, source)

    def keep(
        self, content_hash: str, log_mel: NDArray[np.float32], source: str | os.PathLike[str]
    ) -> None:
        """Keep the spectrogram ``(n_mels, frames)`` of a file.

        Raises:
            AudioError: it is silent (code ``silent``).
            DeepMusicError: the disk is full or cannot be written.
        """
        if self.config.is_silent(float(log_mel.max())):
            raise AudioError(f"{source} is silent.", code="silent")
        with write_atomically(self.path(content_hash), "wb") as file:
            np.save(file, wrap(log_mel, self.config.segment_frames).astype(np.float16))


def without(dataset: FolderDataset, problems: Sequence[Problem]) -> FolderDataset:
    """The data set without the tracks that have problems, and without genres left empty."""
    from deepmusic.datasets import FolderDataset

    bad = {problem.path for problem in problems}
    tracks = [track for track in dataset.tracks if track.path not in bad]
    return FolderDataset.of(dataset.root, tracks, (*dataset.problems, *problems), dataset.notes)
