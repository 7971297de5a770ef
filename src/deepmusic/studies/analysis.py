"""One decoding pass per track for everything that a study needs of its sound.

That is the 518 feature columns, the log-mel spectrogram of the classifier and the acoustic
fingerprint. Columns and fingerprints are kept in a ``Store`` and spectrograms in a
``SpectrogramStore``, all under the hash of the file's content, so that a second run, a renamed file
or a run that was killed decodes nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, open_audio
from deepmusic.audio.fingerprint import FingerprintStream
from deepmusic.audio.silence import SilenceGate
from deepmusic.errors import reason_of
from deepmusic.features.recipe import recipe_named
from deepmusic.features.track import feature_columns, track_features
from deepmusic.parallel import map_files
from deepmusic.store import Store

if TYPE_CHECKING:
    from deepmusic.classifier.data import SpectrogramStore

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

    def has(self, outputs: Sequence[Output], spectrograms: SpectrogramStore | None) -> bool:
        """Whether these outputs were computed, and the spectrogram is still there."""
        if not set(outputs) <= set(self.outputs):
            return False
        if spectrograms is None or self.code == "silent":
            return True
        return spectrograms.path(self.content_hash).exists()


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
    """Analyze tracks, each decoded at most once, and return the analyses by content hash.

    Args:
        files: hash of the content, and path, of each track; copies are analyzed once.
        outputs: what is wanted.
        spectrograms: gets the spectrograms; None where they are not wanted.
        store: keeps columns and fingerprints.
        workers: as in ``deepmusic.parallel.map_files``.
        dask: likewise.
        on_progress: called in this thread with the tracks done and the tracks there are.

    Raises:
        DeepMusicError: something cannot be written, or the cluster cannot be reached.
    """
    items = {content: f"{content} {path}" for content, path in files}
    # another version of the features or the fingerprint is another record
    version = f"{RECIPE} {recipe_named(RECIPE).version} {_VERSION}"
    finished: dict[str, TrackAnalysis] = {}
    for content in items:
        record = store.get(f"{content} {version}")
        if record is not None and (analysis := _from_record(record)).has(outputs, spectrograms):
            finished[content] = analysis
    function = partial(analyze_track, outputs=tuple(outputs), spectrograms=spectrograms)
    missing = [item for content, item in items.items() if content not in finished]
    for analysis in map_files(function, missing, _crashed, workers=workers, dask=dask):
        finished[analysis.content_hash] = analysis
        if not analysis.code or analysis.outputs:
            arrays = {name: getattr(analysis, name).tolist() for name in ("columns", "fingerprint")}
            store.put(f"{analysis.content_hash} {version}", {**vars(analysis), **arrays})
        if on_progress is not None:
            on_progress(len(finished), len(items))
    return finished


def _from_record(record: dict[str, Any]) -> TrackAnalysis:
    columns = np.array(record["columns"], np.float32)
    fingerprint = np.array(record["fingerprint"], np.uint32)
    return TrackAnalysis(**{**record, "columns": columns, "fingerprint": fingerprint})


def _crashed(item: str) -> TrackAnalysis:
    path = item.split(" ", 1)[1]
    return TrackAnalysis(item, "worker_died", f"{path!r} crashed its worker process twice.")


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
            rate = stream.sample_rate
            for block in stream:
                samples.write(block.tobytes())
            is_short = samples.tell() <= 4 * _IN_MEMORY_S * rate

            def blocks() -> Iterator[NDArray[np.float32]]:
                samples.seek(0)
                while content := samples.read(4 * int(_BLOCK_S * rate)):
                    yield np.frombuffer(content, np.float32)

            if "columns" in outputs:
                recipe = recipe_named(RECIPE)
                features = track_features(blocks, rate, recipe, in_memory=is_short)
                analysis = replace(analysis, columns=feature_columns(features))
            if "fingerprints" in outputs:
                fingerprint = FingerprintStream(rate)
                for block in blocks():
                    fingerprint.add(block)
                analysis = replace(analysis, fingerprint=fingerprint.finish())
            analysis = replace(analysis, outputs=tuple(outputs))
            if spectrograms is not None:
                log_mel = _log_mel(path, blocks(), rate, spectrograms.config.log_mel)
                spectrograms.keep(content, log_mel)
    except Exception as error:  # a bug that one file triggers must not stop the others
        code, message = reason_of(error, path, "was not analyzed")
        return replace(analysis, code=code, error=message)
    return analysis


def _log_mel(
    path: str, blocks: Iterable[NDArray[np.float32]], sample_rate: int, config: LogMelConfig
) -> NDArray[np.float32]:
    """The spectrogram that is kept, ``(n_mels, frames)`` in dB, of blocks at a track's own rate."""
    from deepmusic.classifier.data import MAX_SECONDS, spectrogram

    def resampled() -> Iterator[NDArray[np.float32]]:
        resampler = soxr.ResampleStream(  # as open_audio resamples
            sample_rate, config.sample_rate, 1, "float32", quality="HQ"
        )
        samples_left = round(MAX_SECONDS * sample_rate)
        for block in blocks:
            if not samples_left:
                break
            block = block[:samples_left]
            samples_left -= len(block)
            yield block if sample_rate == config.sample_rate else resampler.resample_chunk(block)
        if sample_rate != config.sample_rate:
            yield resampler.resample_chunk(np.empty(0, np.float32), last=True)

    gate = SilenceGate(config.sample_rate, repr(path))
    return spectrogram(gate.through(resampled()), config)
