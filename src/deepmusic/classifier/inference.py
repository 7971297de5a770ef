"""From a sound file to a verdict: decode, cut into segments, run the networks, calibrate."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, LogMelStream, SegmentStream, Source, segment_batches
from deepmusic.audio.bandwidth import BandwidthMeter
from deepmusic.audio.silence import SilenceGate
from deepmusic.audio.sources import name_of
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.exported import ExportedEnsemble, ensemble_graph
from deepmusic.classifier.files import loaded_once
from deepmusic.classifier.verdict import (
    Calibration,
    GenreProbability,
    SegmentVerdict,
    Verdict,
    model_digest,
    reliable_bandwidth,
)
from deepmusic.errors import CheckpointError, DeepMusicError
from deepmusic.extras import need
from deepmusic.training.weights import load_model

if TYPE_CHECKING:
    from deepmusic.classifier.model import Ensemble

_BATCH_SIZE = 16  # segments: large enough to be fast, small enough for little memory
_KIND = "genre classifier"
_RELIABLE_HZ = 9_000  # benchmarks/bandwidth.py: below, right verdicts become wrong ones


class Classifier:
    """A trained ensemble and its calibration; several threads may use it.

    On the CPU `load` gives one that runs under onnxruntime, without importing PyTorch.

    Args:
        ensemble: the networks, in PyTorch or exported.
        calibration: turns scores into probabilities and says when to be unsure.
        card: facts on the training, as JSON types; saved with the weights.
        device: for networks in PyTorch; ``"auto"`` takes a GPU if there is one.

    Raises:
        DeepMusicError: the device does not exist.

    Example:
        >>> classifier = Classifier.load("runs/music")
        >>> classifier.classify("song.mp3").genre
        'rock'
    """

    has_segments = True
    note: str | None = None  # what a person should know about this model
    explained_cells = (16, 8)
    """Cells of a patch in an explanation: bands and columns."""

    def __init__(
        self,
        ensemble: Ensemble | ExportedEnsemble,
        calibration: Calibration,
        *,
        card: Mapping[str, Any] | None = None,
        device: str = "auto",
    ) -> None:
        self._exported: ExportedEnsemble | None = None
        self._torch: Ensemble | None = None
        self._file: str | None = None  # that it was read from
        if isinstance(ensemble, ExportedEnsemble):
            self.device = "cpu"
            self._exported = ensemble
        else:
            self.device = find_device(device)
            self._torch = ensemble.to(self.device).eval()
        self.calibration = calibration
        self.card = dict(card or {})
        self.config = ensemble.config
        self.genres = self.config.genres

    @property
    def ensemble(self) -> Ensemble:
        """The networks in PyTorch; for exported ones a copy, made on first use."""
        if self._torch is None:
            assert self._exported is not None
            self._torch = _torch_ensemble(self.config, self._exported.weights).eval()
        return self._torch

    @property
    def log_mel(self) -> LogMelConfig:
        """Settings of the spectrogram."""
        return self.config.log_mel

    @property
    def patch_frames(self) -> int:
        """Frames of a segment."""
        return self.config.segment_frames

    def patch_scores(self, log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log scores ``(n, genres)`` of segments ``(n, n_mels, frames)``."""
        return self.predict_segments(log_mel)[0]

    def track_scores(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log scores ``(genres,)`` of a track from those of its segments."""
        mean: NDArray[np.float32] = patches.mean(axis=0)
        return mean

    @property
    def is_picklable(self) -> bool:
        """Whether other processes can use it, as exported networks."""
        return self._exported is not None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._file is not None:
            return loaded_once, (Classifier, self._file)
        return partial(Classifier, card=self.card), (self._exported, self.calibration)

    @property
    def reliable_hz(self) -> int:
        """The bandwidth below which verdicts are *unsure*; the card may name a lower one."""
        return reliable_bandwidth(_RELIABLE_HZ, self.card)

    @property
    def digest(self) -> str:
        """A hash of everything that determines a verdict."""
        if self._exported is not None:
            weights: Mapping[str, NDArray[Any]] = self._exported.weights
        else:
            state = self.ensemble.state_dict()
            weights = {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}
        return model_digest((self.config, self.calibration, self.reliable_hz), weights)

    def classify(
        self,
        source: Source,
        *,
        name: str | None = None,
        max_seconds: float = 6 * 3600.0,
        segments: bool = False,
    ) -> Verdict:
        """Classify a track while it is decoded, in bounded memory.

        Args:
            source: a path, a seekable binary file object, or a pair ``(samples, sample_rate)``.
            name: the track's path in the verdict; ``source`` by default.
            max_seconds: seconds analysed, at most.
            segments: whether to give the genres over time.

        Raises:
            AudioError: the file cannot be decoded, or is silent (code ``silent``).
        """
        from deepmusic.audio import open_audio  # loads the decoders

        path = name or (os.fspath(source) if isinstance(source, str | os.PathLike) else "sound")
        config = self.config
        starts: list[int] = []
        scores, lengths = [], []
        gate = SilenceGate(config.log_mel.sample_rate, repr(name) if name else name_of(source))
        meter = BandwidthMeter()
        with open_audio(
            source,
            sample_rate=config.log_mel.sample_rate,
            max_seconds=max_seconds,
            on_block=meter.add,
        ) as audio:
            stream = _segments(gate.through(audio), config)
            while batch := list(islice(stream, _BATCH_SIZE)):
                log_mel = np.stack([segment for _, segment in batch])
                log_scores, capsule_lengths = self.predict_segments(log_mel)
                starts += [start for start, _ in batch]
                scores.append(log_scores)
                lengths.append(capsule_lengths)
            duration_s, warning = audio.duration_s, audio.warning
        log_scores, capsule_lengths = np.concatenate(scores), np.concatenate(lengths)
        per_second = config.log_mel.frames_per_second
        spans = gate.spans((start / per_second for start in starts), config.segment_s)
        verdict = Verdict.from_probabilities(
            path,
            self.genres,
            self.calibration.probabilities(log_scores.mean(axis=0)).tolist(),
            threshold=self.calibration.threshold,
            scores=capsule_lengths.mean(axis=0).tolist(),
            duration_s=duration_s,
            segments=self._segment_verdicts(spans, log_scores, capsule_lengths, duration_s)
            if segments
            else (),
            warning=warning,
            silences=tuple(gate.silences) if segments else (),
        )
        return verdict.with_bandwidth(meter.bandwidth_hz(), reliable_hz=self.reliable_hz)

    def _segment_verdicts(
        self,
        spans: list[tuple[float, float]],
        log_scores: NDArray[np.float32],
        lengths: NDArray[np.float32],
        duration_s: float,
    ) -> tuple[SegmentVerdict, ...]:
        return tuple(
            SegmentVerdict(
                start_s,
                min(end_s, duration_s),
                tuple(map(GenreProbability, self.genres, row)),
                tuple(row_lengths),
            )
            for (start_s, end_s), row, row_lengths in zip(
                spans,
                self.calibration.probabilities(log_scores).tolist(),
                lengths.tolist(),
                strict=True,
            )
        )

    def predict_segments(
        self, log_mel: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log scores and lengths, both ``(n, genres)``, of segments ``(n, n_mels, frames)``."""
        segments = np.ascontiguousarray(log_mel, np.float32)
        if self._exported is not None:
            return self._exported(segments)
        import torch

        with torch.inference_mode():
            log_scores, lengths = self.ensemble(torch.from_numpy(segments).to(self.device))
            return log_scores.float().cpu().numpy(), lengths.float().cpu().numpy()

    def predict_spectrogram(self, log_mel: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probabilities ``(genres,)`` of a track.

        Args:
            log_mel: ``(n_mels, frames)`` in dB, at least one segment long.
        """
        config = self.config
        scores = [
            self.predict_segments(segments)[0]
            for _, segments in segment_batches(
                log_mel,
                length=config.segment_frames,
                hop=config.hop_frames,
                batch_size=_BATCH_SIZE,
            )
        ]
        return self.calibration.probabilities(np.concatenate(scores).mean(axis=0))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, graph, configuration, calibration and card to one safetensors file.

        Raises:
            DeepMusicError: the file cannot be written, or onnx is not installed.
        """
        import torch

        from deepmusic.training import save_weights

        metadata = {
            "kind": _KIND,
            "config": self.config.to_dict(),
            "calibration": self.calibration.to_dict(),
            "card": self.card,
        }
        graph = self._exported.graph if self._exported else ensemble_graph(self.config)
        weights = {
            **self.ensemble.state_dict(),
            "graph": torch.frombuffer(bytearray(graph), dtype=torch.uint8),
        }
        save_weights(path, weights, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "auto") -> Classifier:
        """Read what `save` wrote; a folder is taken for a run.

        Raises:
            CheckpointError: the file is missing, damaged or not a classifier of ours.
        """
        file, weights, metadata = load_model(path, _KIND)
        device = find_device(device)
        config = ClassifierConfig.from_dict(metadata.get("config", {}))
        ensemble: Ensemble | ExportedEnsemble
        try:
            calibration = Calibration(**metadata["calibration"])
            graph = weights.pop("graph", None)  # earlier files have none
            if device == "cpu" and graph is not None:
                ensemble = _exported_ensemble(config, graph.tobytes(), weights, source=file)
            else:
                ensemble = _torch_ensemble(config, weights, source=file)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{file} is of another model: its weights or its calibration do not fit its "
                "configuration; train again, or name another."
            ) from error
        classifier = cls(ensemble, calibration, card=metadata.get("card", {}), device=device)
        if classifier.is_picklable:
            classifier._file = os.path.abspath(file)
        return classifier


def _segments(
    blocks: Iterator[NDArray[np.float32]], config: ClassifierConfig
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """First frame and ``(n_mels, frames)`` of each segment of a track that arrives in blocks."""
    log_mel = LogMelStream(config.log_mel)
    segments = SegmentStream(config.segment_frames, config.hop_frames)
    for block in blocks:
        yield from segments.push(log_mel.push(block))
    yield from segments.push(log_mel.flush())
    yield from segments.flush()


def _exported_ensemble(
    config: ClassifierConfig,
    graph: bytes,
    weights: Mapping[str, NDArray[Any]],
    *,
    source: str | os.PathLike[str],
) -> ExportedEnsemble:
    """The ensemble under onnxruntime, after a trial, with weights from the file ``source``."""
    shape = (1, config.log_mel.n_mels, config.segment_frames)
    try:
        ensemble = ExportedEnsemble(config, graph, weights)
        scores, _ = ensemble(np.zeros(shape, np.float32))
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}; train again, or name another.") from error
    if scores.shape != (1, len(config.genres)):
        raise ValueError(f"{scores.shape[1]} genres")
    return ensemble


def _torch_ensemble(
    config: ClassifierConfig,
    weights: Mapping[str, NDArray[Any]],
    *,
    source: str | os.PathLike[str] = "",
) -> Ensemble:
    """The ensemble in PyTorch, on the CPU, with weights from the file ``source``."""
    need("train")
    from deepmusic.classifier.model import Ensemble
    from deepmusic.training import fill_model

    ensemble = Ensemble(config)
    fill_model(ensemble, weights, source=source)
    return ensemble


def find_device(name: str) -> str:
    """The device that a name stands for, as PyTorch calls it.

    Args:
        name: ``"auto"`` is a GPU if there is one, else the CPU.

    Raises:
        DeepMusicError: the device does not exist, or PyTorch, which it needs, is not installed.
    """
    if name == "cpu" or (name == "auto" and not (has_gpu_driver() and find_spec("torch"))):
        return "cpu"
    need("train")
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeepMusicError(
            f"There is no device {name!r} here; use --device auto, or cpu."
        ) from error
    return str(device)


def has_gpu_driver() -> bool:
    """Whether a CUDA or ROCm driver is installed: only then PyTorch is worth importing to ask."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    library = {"win32": "nvcuda.dll", "linux": "libcuda.so.1"}.get(sys.platform)
    try:
        return library is not None and bool(ctypes.CDLL(library))
    except OSError:
        return sys.platform == "linux" and os.path.exists("/dev/kfd")  # ROCm
