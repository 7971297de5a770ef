"""From a sound file to a verdict by the pretrained ear and the capsules over it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import Source
from deepmusic.audio.bandwidth import BandwidthMeter
from deepmusic.audio.silence import SilenceGate
from deepmusic.audio.sources import name_of
from deepmusic.classifier.ear.config import HeadConfig
from deepmusic.classifier.ear.install import ear_weights, read_ear
from deepmusic.classifier.ear.patches import (
    EAR_MEL,
    FEATURES,
    PATCH_FRAMES,
    TAGS,
    EarOutput,
    compressed,
    patches_of,
)
from deepmusic.classifier.files import loaded_once
from deepmusic.classifier.verdict import (
    Calibration,
    GenreProbability,
    SegmentVerdict,
    Verdict,
    model_digest,
    reliable_bandwidth,
)
from deepmusic.errors import CheckpointError
from deepmusic.training.onnx_graph import OnnxNetwork
from deepmusic.training.weights import load_model

KIND = "capsules over the ear"
PATCHES = 7
"""Patches heard of a track, spread over its whole length."""
_RELIABLE_HZ = 6_000  # benchmarks/bandwidth.py: below, fewer than 95 % of right verdicts stay so
_WINDOW = 5  # patches that are heard together over time, 15 s
_MOST_OVER_TIME = 400  # patches of a timeline: twenty minutes without gaps
_SPEAKS_UP = 0.15  # length of a genre capsule below which nothing speaks for the genre


def ear_output(
    source: Source,
    *,
    patches: int | None = PATCHES,
    max_seconds: float = 6 * 3600.0,
) -> EarOutput:
    """What the ear gives for a track, silence left out.

    Args:
        source: a path, a seekable binary file object, or a pair ``(samples, sample_rate)``.
        patches: the most patches, spread evenly over the sound; None hears every patch.
        max_seconds: more of a track is not read.

    Raises:
        AudioError: the file cannot be decoded, or is silent (code ``silent``).
        CheckpointError: the ear is not installed, or damaged.
    """
    track = _Track.read(source, patches=patches, max_seconds=max_seconds)
    return track.features, track.tag_logits


@dataclass(frozen=True)
class _Track:
    """What was heard of a track, silence left out."""

    spans: list[tuple[float, float]]  # start and end of each patch in seconds
    features: NDArray[np.float32]
    tag_logits: NDArray[np.float32]
    duration_s: float
    bandwidth_hz: int | None
    warning: str | None
    silences: tuple[tuple[float, float], ...]

    @classmethod
    def read(
        cls,
        source: Source,
        *,
        patches: int | None,
        max_seconds: float,
        name: str | None = None,
    ) -> Self:
        from deepmusic.audio import open_audio  # loads the decoders

        gate = SilenceGate(EAR_MEL.sample_rate, repr(name) if name else name_of(source))
        meter = BandwidthMeter()
        with open_audio(
            source,
            sample_rate=EAR_MEL.sample_rate,
            max_seconds=max_seconds,
            on_block=meter.add,
        ) as audio:
            starts, log_mel = patches_of(gate.through(audio), patches)
        per_second = EAR_MEL.frames_per_second
        spans = gate.spans((start / per_second for start in starts), PATCH_FRAMES / per_second)
        return cls(
            spans,
            *run_ear(log_mel),
            duration_s=audio.duration_s,
            bandwidth_hz=meter.bandwidth_hz(),
            warning=audio.warning,
            silences=tuple(gate.silences),
        )


def run_ear(log_mel: NDArray[np.float32]) -> EarOutput:
    """Features and tag logits of patches ``(n, 96, 187)`` in dB.

    Raises:
        CheckpointError: the ear is not installed, or damaged.
    """
    ear = read_ear()
    # one patch at a time: more would only fall out of the caches
    parts = [ear(compressed(patch[None])) for patch in log_mel]
    features, logits = (np.concatenate(part) for part in zip(*parts, strict=True))
    return features, logits


class EarClassifier:
    """Capsules over the pretrained ear, with their calibration; several threads may use it.

    It runs under onnxruntime, without PyTorch.

    Args:
        config: of the head.
        graph: of the head, from `deepmusic.classifier.ear.head.head_graph`.
        weights: of the head.
        calibration: turns scores into probabilities and says when to be unsure.
        card: facts on the training, as JSON types; saved with the weights.

    Example:
        >>> classifier = EarClassifier.load("runs/music")
        >>> classifier.classify("song.mp3").genre
        'rock'
    """

    has_segments = True
    is_picklable = True
    device = "cpu"
    log_mel = EAR_MEL
    patch_frames = PATCH_FRAMES
    explained_cells = (6, 2)
    """Cells of a patch in an explanation: bands and columns."""
    note: str | None = None

    def __init__(
        self,
        config: HeadConfig,
        graph: bytes,
        weights: Mapping[str, NDArray[Any]],
        calibration: Calibration,
        *,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.genres = config.genres
        self.calibration = calibration
        self.card = dict(card or {})
        self._graph, self._weights = graph, dict(weights)
        self._head = OnnxNetwork(graph, self._weights)
        self._file: str | None = None  # that it was read from

    def __reduce__(self) -> tuple[Any, ...]:
        if self._file is not None:
            return loaded_once, (EarClassifier, self._file)
        return (
            partial(EarClassifier, card=self.card),
            (self.config, self._graph, self._weights, self.calibration),
        )

    @property
    def reliable_hz(self) -> int:
        """The bandwidth below which verdicts are *unsure*; the card may name a lower one."""
        return reliable_bandwidth(_RELIABLE_HZ, self.card)

    @property
    def digest(self) -> str:
        """A hash of everything that determines a verdict."""
        settings = (self.config, self.calibration, PATCHES, self.reliable_hz)
        return model_digest(settings, {**self._weights, **ear_weights()})

    def classify(
        self,
        source: Source,
        *,
        name: str | None = None,
        max_seconds: float = 6 * 3600.0,
        segments: bool = False,
    ) -> Verdict:
        """Classify a track from patches spread over its whole length.

        Args:
            source: a path, a seekable binary file object, or a pair ``(samples, sample_rate)``.
            name: the track's path in the verdict; ``source`` by default.
            max_seconds: seconds analysed, at most.
            segments: whether to give the genres over time; then more patches are heard.

        Raises:
            AudioError: the file cannot be decoded, or is silent (code ``silent``).
            CheckpointError: the ear is not installed, or damaged.
        """
        path = name or (os.fspath(source) if isinstance(source, str | os.PathLike) else "sound")
        count = _MOST_OVER_TIME if segments else PATCHES
        track = _Track.read(source, patches=count, max_seconds=max_seconds, name=path)
        # the verdict is the same with segments
        chosen = np.linspace(0, len(track.spans) - 1, min(len(track.spans), PATCHES))
        few = chosen.round().astype(int)
        log_scores, lengths = self.scores(track.features[few], track.tag_logits[few])
        probability = 1 / (1 + np.exp(-track.tag_logits[few].astype(np.float64)))
        verdict = Verdict.from_probabilities(
            path,
            self.genres,
            self.calibration.probabilities(log_scores).tolist(),
            threshold=self.calibration.threshold if lengths.max() >= _SPEAKS_UP else np.inf,
            scores=lengths.tolist(),
            duration_s=track.duration_s,
            segments=self._over_time(track) if segments else (),
            tags=dict(zip(TAGS, probability.mean(axis=0).tolist(), strict=True)),
            warning=track.warning,
            silences=track.silences if segments else (),
        )
        return verdict.with_bandwidth(track.bandwidth_hz, reliable_hz=self.reliable_hz)

    def scores(
        self, features: NDArray[np.float32], tag_logits: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log scores and lengths, both ``(genres,)``, of a track as `ear_output` gives it."""
        given = {"features": features[None], "tag_logits": tag_logits[None]}
        log_scores, lengths = self._head(*(given[name] for name in self._head.inputs))
        return log_scores[0], lengths[0]

    def patch_scores(self, log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the ear gives for patches ``(n, 96, 187)`` in dB, ``(n, 256 + 50)``."""
        return np.concatenate(run_ear(log_mel), axis=1)

    def track_scores(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log scores ``(genres,)`` of a track from its `patch_scores`."""
        return self.scores(patches[:, :FEATURES], patches[:, FEATURES:])[0]

    def probabilities(
        self, features: NDArray[np.float32], tag_logits: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Calibrated probabilities ``(genres,)`` of a track as `ear_output` gives it."""
        return self.calibration.probabilities(self.scores(features, tag_logits)[0])

    def _over_time(self, track: _Track) -> tuple[SegmentVerdict, ...]:
        """The genres at each patch, heard together with its neighbours."""
        result = []
        for index, (begin_s, end_s) in enumerate(track.spans):
            first = max(0, min(index - _WINDOW // 2, len(track.spans) - _WINDOW))
            near = slice(first, first + _WINDOW)
            log_scores, lengths = self.scores(track.features[near], track.tag_logits[near])
            entries = zip(
                self.genres, self.calibration.probabilities(log_scores).tolist(), strict=True
            )
            result.append(
                SegmentVerdict(
                    begin_s,
                    min(end_s, track.duration_s),
                    tuple(GenreProbability(*entry) for entry in entries),
                    tuple(lengths.tolist()),
                )
            )
        return tuple(result)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, graph, configuration, calibration and card to one safetensors file.

        Weights are written in half precision, which changes probabilities by less than 0.001.

        Raises:
            DeepMusicError: the file cannot be written.
        """
        import torch

        from deepmusic.training import save_weights

        metadata = {
            "kind": KIND,
            "config": self.config.to_dict(),
            "calibration": self.calibration.to_dict(),
            "card": self.card,
        }
        weights = {
            name: torch.from_numpy(np.asarray(array)).half()
            for name, array in self._weights.items()
        }
        weights["graph"] = torch.frombuffer(bytearray(self._graph), dtype=torch.uint8)
        save_weights(path, weights, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EarClassifier:
        """Read what `save` wrote; a folder is taken for a run.

        Raises:
            CheckpointError: the file is missing, damaged or not a model of this kind.
        """
        file, weights, metadata = load_model(path, KIND)
        read_ear()  # says at once where it is missing
        config = HeadConfig.from_dict(metadata.get("config", {}))
        try:
            calibration = Calibration(**metadata["calibration"])
            graph = weights.pop("graph").tobytes()
            classifier = cls(config, graph, weights, calibration, card=metadata.get("card", {}))
        except (KeyError, TypeError, ValueError, CheckpointError) as error:
            raise CheckpointError(
                f"{file} is of another model: its weights or its calibration do not fit its "
                "configuration; train again, or name another."
            ) from error
        classifier._file = os.path.abspath(file)
        return classifier
