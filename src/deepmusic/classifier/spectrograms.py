"""Log-mel spectrograms of a data set's tracks, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, LogMelStream, wrap
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.errors import AudioError, DataError
from deepmusic.files import write_atomically

if TYPE_CHECKING:
    from deepmusic.datasets import FolderDataset, Problem, Track

LONGEST_S = 600.0
"""No more than this of a track is kept for training: more adds little and fills the disk."""


def whole_spectrogram(
    source: str | os.PathLike[str] | BinaryIO, config: LogMelConfig, *, max_seconds: float
) -> NDArray[np.float32]:
    """The beginning of a track as one spectrogram ``(n_mels, frames)`` in dB.

    Args:
        source: a path, or a binary file object that can seek.
        config: how sound becomes a spectrogram.
        max_seconds: no more than this is read.

    Raises:
        AudioError: no sound could be had from it.
    """
    from deepmusic.audio import open_audio  # with its libraries, for whoever hears

    stream = LogMelStream(config)
    with open_audio(source, sample_rate=config.sample_rate, max_seconds=max_seconds) as audio:
        parts = [stream.push(block) for block in audio]
    return np.concatenate([*parts, stream.flush()], axis=1)


class SpectrogramStore:
    """Spectrograms in a folder, one file a track, named by content and settings.

    Args:
        folder: made if missing.
        config: whose ``log_mel`` and ``segment_frames`` hold.
    """

    def __init__(self, folder: Path, config: ClassifierConfig) -> None:
        self.folder = folder
        self.config = config
        settings = json.dumps([asdict(config.log_mel), config.segment_frames, LONGEST_S])
        self._mark = hashlib.sha256(settings.encode()).hexdigest()[:12]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder} could not be made: {error.strerror}.") from error

    def path(self, track: Track) -> Path:
        """Where a track's spectrogram is kept."""
        return self.folder / f"{track.content_hash[:32]}-{self._mark}.npy"

    def load(self, track: Track) -> NDArray[np.float16]:
        """A track's spectrogram ``(n_mels, frames)`` in dB, mapped from disk.

        It is never shorter than a segment: a short track is repeated.
        """
        mapped: NDArray[np.float16] = np.load(self.path(track), mmap_mode="r")
        return mapped

    def fill(
        self,
        dataset: FolderDataset,
        *,
        workers: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Problem]:
        """Compute what is missing.

        Args:
            dataset: the tracks.
            workers: threads; None takes one a core.
            on_progress: called with tracks done and tracks in all.

        Returns:
            A problem for each track in which nothing can be heard.

        Raises:
            DeepMusicError: the disk is full or may not be written.
        """
        from deepmusic.datasets import Problem

        problems = []
        with ThreadPoolExecutor(workers or os.cpu_count() or 1) as executor:
            jobs = [
                executor.submit(self._make, dataset.file(track), self.path(track))
                for track in dataset.tracks
            ]
            try:
                for done, (track, job) in enumerate(zip(dataset.tracks, jobs, strict=True), 1):
                    try:
                        job.result()
                    except AudioError as error:
                        problems.append(Problem(track.path, error.code, str(error)))
                    if on_progress is not None:
                        on_progress(done, len(jobs))
            except BaseException:
                executor.shutdown(cancel_futures=True)
                raise
        return problems

    def _make(self, source: Path, path: Path) -> None:
        if path.exists():
            return
        log_mel = whole_spectrogram(source, self.config.log_mel, max_seconds=LONGEST_S)
        if self.config.is_silent(float(log_mel.max())):
            raise AudioError(f"{source} is silent: there is nothing to learn from.", code="silent")
        with write_atomically(path, "wb") as file:
            np.save(file, wrap(log_mel, self.config.segment_frames).astype(np.float16))


def without(dataset: FolderDataset, problems: Sequence[Problem]) -> FolderDataset:
    """The data set less the tracks that have problems; genres that lose all of them go too."""
    from deepmusic.datasets import FolderDataset

    bad = {problem.path for problem in problems}
    tracks = tuple(track for track in dataset.tracks if track.path not in bad)
    left = {track.genre for track in tracks}
    return FolderDataset(
        dataset.root,
        tracks,
        tuple(genre for genre in dataset.genres if genre in left),
        (*dataset.problems, *problems),
        dataset.notes,
    )
