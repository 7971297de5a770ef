"""One decoding pass per track for everything that a study needs of its sound.

The blocks of a track go to all consumers at once: the 518 feature columns, the log-mel
spectrogram of the classifier, and the acoustic fingerprint. Columns and fingerprints are kept in a
``Store`` and spectrograms in a
``SpectrogramStore``, all under the hash of the file's
content, so that a second run, a renamed file or a run that was killed decodes nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, LogMelStream, open_audio
from deepmusic.audio.fingerprint import FingerprintStream
from deepmusic.errors import reason_of
from deepmusic.features.recipe import recipe_named
from deepmusic.features.track import feature_columns, track_features
from deepmusic.parallel import map_files
from deepmusic.store import Store

if TYPE_CHECKING:
    from deepmusic.classifier.spectrograms import SpectrogramStore

Output = Literal["columns", "spectrograms", "fingerprints"]

RECIPE = "fma"
"""The recipe of the feature columns that are computed here."""

_VERSION = 1  # of the fingerprint
_BLOCK_S = 3.0
_IN_MEMORY_S = 360.0  # longer tracks are not kept in memory


@dataclass(frozen=True, eq=False)
class TrackAnalysis:
    """What one decoding pass gave."""

    path: str  # hash of the content and path of the file, with a space between
    code: str = ""  # why it failed, or "silent" where only the spectrogram is missing
    error: str = ""  # one sentence about the code
    columns: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # (518,)
    fingerprint: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    outputs: tuple[Output, ...] = ()  # what was computed

    @property
    def content_hash(self) -> str:
        """Hash of the file's content."""
        return self.path.split(" ", 1)[0]


def analyze_tracks(
    files: Iterable[tuple[str, Path]],
    outputs: Sequence[Output],
    spectrograms: SpectrogramStore | None,
    store: Store,
    *,
    workers: int = 1,
    dask: str | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> dict[str, TrackAnalysis]:
    """Analyze tracks, each decoded at most once, and give the analyses by content hash.

    Args:
        files: hash of the content, and path, of each track; copies are analyzed once.
        outputs: what is wanted.
        spectrograms: gets the spectrograms; None where they are not wanted.
        store: keeps columns and fingerprints.
        workers: processes on this machine.
        dask: address of a Dask scheduler whose workers see the same files; they are used instead.
        on_progress: called in this thread with the tracks done and the tracks there are.

    Raises:
        DeepMusicError: something cannot be written, or the cluster cannot be reached.
    """
    items = {content: f"{content} {path}" for content, path in files}
    finished: dict[str, TrackAnalysis] = {}
    for content in items:
        record = store.get(_key(content))
        analysis = None if record is None else _from_record(record)
        if analysis is not None and _is_complete(analysis, outputs, spectrograms):
            finished[content] = analysis
    function = partial(analyze_track, outputs=tuple(outputs), spectrograms=spectrograms)
    missing = [item for content, item in items.items() if content not in finished]
    for analysis in map_files(function, missing, _crashed, workers=workers, dask=dask):
        finished[analysis.content_hash] = analysis
        if not analysis.code or analysis.outputs:
            store.put(_key(analysis.content_hash), _to_record(analysis))
        if on_progress is not None:
            on_progress(len(finished), len(items))
    return finished


def analyze_track(
    item: str, *, outputs: Sequence[Output], spectrograms: SpectrogramStore | None
) -> TrackAnalysis:
    """Decode a track (content hash and path) once, for all outputs; failures are in the result."""
    content, path = item.split(" ", 1)
    analysis = TrackAnalysis(item)
    try:
        with (
            open_audio(path, sample_rate=None, block_s=_BLOCK_S) as stream,
            # of a long track, samples wait on the disk
            SpooledTemporaryFile(int(4 * _IN_MEMORY_S * stream.sample_rate)) as samples,
        ):
            fingerprint = FingerprintStream(stream.sample_rate)
            mel = None
            if spectrograms is not None:
                mel = _MelStream(stream.sample_rate, spectrograms.config.log_mel)
            for block in stream:
                if "columns" in outputs:
                    samples.write(block.tobytes())
                if "fingerprints" in outputs:
                    fingerprint.add(block)
                if mel is not None:
                    mel.add(block)
            if "columns" in outputs:
                analysis = replace(analysis, columns=_columns(samples, stream.sample_rate))
            if "fingerprints" in outputs:
                analysis = replace(analysis, fingerprint=fingerprint.finish())
            analysis = replace(analysis, outputs=tuple(outputs))
            if spectrograms is not None and mel is not None:
                spectrograms.keep(content, mel.spectrogram(), path)
    except Exception as error:  # a bug that one file triggers must not stop the others
        code, message = reason_of(error, path, "was not analyzed")
        return replace(analysis, code=code, error=message)
    return analysis


def _columns(samples: IO[bytes], sample_rate: int) -> NDArray[np.float32]:
    """The 518 feature columns of float32 samples in a file."""

    def blocks() -> Iterator[NDArray[np.float32]]:
        samples.seek(0)
        while content := samples.read(4 * int(_BLOCK_S * sample_rate)):
            yield np.frombuffer(content, np.float32)

    is_short = samples.tell() <= 4 * _IN_MEMORY_S * sample_rate
    recipe = recipe_named(RECIPE)
    return feature_columns(track_features(blocks, sample_rate, recipe, in_memory=is_short))


class _MelStream:
    """The log-mel spectrogram of blocks at a track's own rate."""

    def __init__(self, sample_rate: int, config: LogMelConfig) -> None:
        from deepmusic.classifier.spectrograms import MAX_SECONDS

        self._mel = LogMelStream(config)
        self._parts: list[NDArray[np.float32]] = []
        self._room = round(MAX_SECONDS * sample_rate)
        self._resampler = None
        if sample_rate != config.sample_rate:  # as deepmusic.audio.open_audio resamples
            self._resampler = soxr.ResampleStream(
                sample_rate, config.sample_rate, 1, "float32", quality="HQ"
            )

    def add(self, block: NDArray[np.float32]) -> None:
        block = block[: self._room]
        self._room -= len(block)
        if len(block):
            if self._resampler is not None:
                block = self._resampler.resample_chunk(block)
            self._parts.append(self._mel.push(block))

    def spectrogram(self) -> NDArray[np.float32]:
        """The whole, ``(n_mels, frames)`` in dB."""
        if self._resampler is not None:
            tail = self._resampler.resample_chunk(np.empty(0, np.float32), last=True)
            self._parts.append(self._mel.push(tail))
        return np.concatenate([*self._parts, self._mel.flush()], axis=1)


def _is_complete(
    analysis: TrackAnalysis, outputs: Sequence[Output], spectrograms: SpectrogramStore | None
) -> bool:
    if not set(outputs) <= set(analysis.outputs):
        return False
    if spectrograms is None or analysis.code == "silent":
        return True
    return spectrograms.path(analysis.content_hash).exists()


def _key(content: str) -> str:
    """Key of a record: another version of the features or the fingerprint is another record."""
    return f"{content} {RECIPE} {recipe_named(RECIPE).version} {_VERSION}"


def _to_record(analysis: TrackAnalysis) -> dict[str, Any]:
    arrays = {name: getattr(analysis, name).tolist() for name in ("columns", "fingerprint")}
    return {**vars(analysis), **arrays}


def _from_record(record: dict[str, Any]) -> TrackAnalysis:
    arrays = {
        "columns": np.array(record["columns"], np.float32),
        "fingerprint": np.array(record["fingerprint"], np.uint32),
    }
    return TrackAnalysis(**{**record, **arrays})


def _crashed(item: str) -> TrackAnalysis:
    path = item.split(" ", 1)[1]
    return TrackAnalysis(item, "worker_died", f"{path!r} crashed its worker process twice.")
