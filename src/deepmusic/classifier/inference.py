"""From a sound file to a verdict: decode, cut, hear, combine, calibrate."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import LogMelStream, SegmentStream, segment_batches
from deepmusic.classifier.calibration import Calibration, probabilities
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.device import find_device
from deepmusic.classifier.model_numpy import ROUTING, NumpyEnsemble, weight_shapes
from deepmusic.classifier.spectrograms import is_silent
from deepmusic.classifier.verdict import GenreProbability, SegmentVerdict, Verdict
from deepmusic.errors import AudioError, CheckpointError
from deepmusic.training.weights import load_arrays, refuse_other_shapes

if TYPE_CHECKING:
    from deepmusic.classifier.model import Ensemble

_AT_ONCE = 16  # segments that are heard together: enough to be fast, little to hold
_KIND = "genre classifier"


@dataclass(frozen=True)
class Segments:
    """What was heard in the segments of a track.

    Args:
        start_s: ``(n,)``, where each begins, in seconds.
        log_scores: ``(n, genres)``.
        lengths: ``(n, genres)`` of the genre capsules, in [0, 1).
    """

    start_s: NDArray[np.float64]
    log_scores: NDArray[np.float32]
    lengths: NDArray[np.float32]


class Classifier:
    """A trained ensemble and its calibration; safe to use from several threads.

    On the CPU :meth:`load` gives one that hears in NumPy, without PyTorch; on a GPU, and where it
    is made of a ensemble in PyTorch, it hears with that.

    Args:
        ensemble: the networks, in PyTorch or in NumPy.
        calibration: how scores become a verdict.
        card: what is known of the training, in JSON types; saved with the weights.
        device: of a ensemble in PyTorch; ``"auto"`` takes a GPU where there is one.

    Raises:
        DeepMusicError: the device is not there.
    """

    def __init__(
        self,
        ensemble: Ensemble | NumpyEnsemble,
        calibration: Calibration,
        *,
        card: Mapping[str, Any] | None = None,
        device: str = "auto",
    ) -> None:
        self._in_numpy: NumpyEnsemble | None = None
        self._in_torch: Ensemble | None = None
        if isinstance(ensemble, NumpyEnsemble):
            self.device = "cpu"
            self._in_numpy = ensemble
        else:
            self.device = find_device(device)
            self._in_torch = ensemble.to(self.device).eval()
        self.calibration = calibration
        self.card = dict(card or {})
        self.config = ensemble.config
        self.genres = self.config.genres

    @property
    def ensemble(self) -> Ensemble:
        """The networks in PyTorch, for what needs gradients.

        Of a classifier that hears in NumPy this is a copy, made when it is first asked for.
        """
        if self._in_torch is None:
            assert self._in_numpy is not None
            self._in_torch = _ensemble_in_torch(self.config, self._in_numpy.weights).eval()
        return self._in_torch

    @property
    def is_picklable(self) -> bool:
        """Whether it can be pickled and hear in other processes; one in PyTorch stays here."""
        return self._in_numpy is not None

    def __getstate__(self) -> dict[str, Any]:
        if self._in_numpy is None:
            raise TypeError("a classifier in PyTorch cannot be pickled; save and load it")
        return self.__dict__ | {"_in_torch": None}

    @property
    def digest(self) -> str:
        """A hash of all that decides a verdict."""
        digest = hashlib.sha256(repr((self.config, self.calibration)).encode())
        for name, array in sorted(self._weights().items()):
            digest.update(name.encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def classify(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        *,
        name: str | None = None,
        max_seconds: float = 6 * 3600.0,
    ) -> Verdict:
        """Say which genre a track is.

        Args:
            source: a path, or a binary file object that can seek.
            name: what to call the track in the verdict; None takes the path.
            max_seconds: no more than this is heard.

        Raises:
            AudioError: no sound could be had from it, or it is silent (code ``silent``).
        """
        shown = name or (os.fspath(source) if isinstance(source, str | os.PathLike) else "sound")
        segments, duration_s, warning = self._hear(source, shown, max_seconds)
        heard = probabilities(segments.log_scores.mean(axis=0), self.calibration)
        by_segment = probabilities(segments.log_scores, self.calibration)
        order = np.argsort(-heard, kind="stable").tolist()
        confidence = float(heard[order[0]])
        sure = confidence >= self.calibration.threshold
        return Verdict(
            path=os.fspath(shown),
            genre=self.genres[order[0]] if sure else None,
            confidence=confidence,
            top=tuple(GenreProbability(self.genres[i], float(heard[i])) for i in order),
            duration_s=duration_s,
            segments=tuple(
                SegmentVerdict(
                    float(start),
                    min(float(start) + self.config.segment_s, duration_s),
                    tuple(map(GenreProbability, self.genres, map(float, row))),
                    tuple(map(float, lengths)),
                )
                for start, row, lengths in zip(
                    segments.start_s, by_segment, segments.lengths, strict=True
                )
            ),
            warning=warning,
        )

    def predict_segments(
        self, log_mel: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log scores and lengths, both ``(n, genres)``, of segments ``(n, mels, frames)``."""
        segments = np.ascontiguousarray(log_mel, np.float32)
        if self._in_numpy is not None:
            return self._in_numpy(segments)
        import torch

        with torch.inference_mode():
            log_scores, lengths = self.ensemble(torch.from_numpy(segments).to(self.device))
            return log_scores.float().cpu().numpy(), lengths.float().cpu().numpy()

    def predict_spectrogram(self, log_mel: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probabilities ``(genres,)`` of a track.

        Args:
            log_mel: ``(n_mels, frames)``, at least one segment long.
        """
        config = self.config
        scores = [
            self.predict_segments(segments)[0]
            for _, segments in segment_batches(
                log_mel, length=config.segment_frames, hop=config.hop_frames, batch_size=_AT_ONCE
            )
        ]
        return probabilities(np.concatenate(scores).mean(axis=0), self.calibration)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, configuration, calibration and card as one safetensors file.

        Raises:
            DeepMusicError: the file cannot be written.
        """
        metadata = {
            "kind": _KIND,
            "config": self.config.to_dict(),
            "calibration": self.calibration.to_dict(),
            "card": self.card,
        }
        from deepmusic.training.checkpoints import save_weights

        save_weights(path, self.ensemble.state_dict(), metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "auto") -> Classifier:
        """Read what :meth:`save` wrote; a folder is taken for a run.

        Raises:
            CheckpointError: the file is missing, damaged or no classifier of ours.
        """
        file = Path(path)
        if file.is_dir():
            file = file / "model.safetensors"
        weights, metadata = load_arrays(file)
        if metadata.get("kind") != _KIND:
            raise CheckpointError(f"{file} holds no genre classifier; train one, or name another.")
        try:
            calibration = Calibration(**metadata["calibration"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{file} holds no calibration that fits: {error}.") from error
        config = ClassifierConfig.from_dict(metadata.get("config", {}))
        card = metadata.get("card", {})
        device = find_device(device)
        if device != "cpu" or config.routing not in ROUTING:
            ensemble = _ensemble_in_torch(config, weights, source=file)
            return cls(ensemble, calibration, card=card, device=device)
        shapes = {name: array.shape for name, array in weights.items()}
        refuse_other_shapes(weight_shapes(config), shapes, source=file)
        return cls(NumpyEnsemble(config, weights), calibration, card=card)

    def _weights(self) -> Mapping[str, NDArray[Any]]:
        if self._in_numpy is not None:
            return self._in_numpy.weights
        state = self.ensemble.state_dict()
        return {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}

    def _hear(
        self, source: str | os.PathLike[str] | BinaryIO, shown: str, max_seconds: float
    ) -> tuple[Segments, float, str | None]:
        """Hear a track while it is decoded, in bounded memory."""
        from deepmusic.audio import open_audio  # where workers hear, this process needs it not

        starts: list[int] = []
        scores, lengths = [], []
        loudest = -np.inf
        with open_audio(
            source, sample_rate=self.config.log_mel.sample_rate, max_seconds=max_seconds
        ) as audio:
            for batch in _batched(self._segments(audio)):
                segments = np.stack([segment for _, segment in batch])
                loudest = max(loudest, float(segments.max()))
                heard = self.predict_segments(segments)
                starts += [start for start, _ in batch]
                scores.append(heard[0])
                lengths.append(heard[1])
            duration_s, warning = audio.duration_s, audio.warning
        if is_silent(np.array([[loudest]]), self.config.log_mel):
            raise AudioError(f"{shown!r} is silent: there is nothing to hear.", code="silent")
        return (
            Segments(
                np.array(starts) / self.config.log_mel.frames_per_second,
                np.concatenate(scores),
                np.concatenate(lengths),
            ),
            duration_s,
            warning,
        )

    def _segments(
        self, blocks: Iterator[NDArray[np.float32]]
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        frames = LogMelStream(self.config.log_mel)
        segments = SegmentStream(self.config.segment_frames, self.config.hop_frames)
        for block in blocks:
            yield from segments.push(frames.push(block))
        yield from segments.push(frames.flush())
        yield from segments.flush()


def _batched(
    segments: Iterator[tuple[int, NDArray[np.float32]]],
) -> Iterator[list[tuple[int, NDArray[np.float32]]]]:
    batch = []
    for segment in segments:
        batch.append(segment)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _ensemble_in_torch(
    config: ClassifierConfig,
    weights: Mapping[str, NDArray[Any]],
    *,
    source: str | os.PathLike[str] = "",
) -> Ensemble:
    """The ensemble in PyTorch, on the CPU, with weights that a file ``source`` held."""
    import torch

    from deepmusic.classifier.model import Ensemble
    from deepmusic.training.checkpoints import fill_model

    ensemble = Ensemble(config)
    # copies: the arrays may not be written to, and PyTorch minds
    tensors = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    fill_model(ensemble, tensors, source=source)
    return ensemble
