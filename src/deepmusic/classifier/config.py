"""All sizes and choices of the genre classifier, in one frozen, JSON-ready record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from deepmusic.audio import LogMelConfig
from deepmusic.errors import CheckpointError

ROUTINGS = ("dynamic", "inverted_attention", "self_attention", "uniform", "none")
"""The methods of `deepmusic.capsules.ROUTING` whose parents are sums of votes and a bias, so
that two families of children can be routed together, and ``"none"``."""


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes and choices of a genre classifier.

    Args:
        genres: names, in the order of the genre capsules; at least two.
        log_mel: settings of the spectrogram.
        segment_frames: frames of a segment (258 frames of 512 samples are 6 s).
        hop_frames: frames from one segment to the next in inference.
        networks: full networks, each trained and validated on other tracks, and averaged.
        texture_networks: further networks in the average, with texture capsules alone, trained on
            all tracks for a fixed time.
        bands: rows of the image that the stem sees; a divisor of ``log_mel.n_mels``.
        frame_step: frames that are averaged to one column of the image.
        channels: channels of the three convolutions of the stem.
        position_types: capsules at each position in time; 0 omits the stem.
        texture_capsules: capsules that read the statistics of the segment; 0 omits them.
        pose_dim: size of the pose of a child capsule.
        genre_dim: size of the pose of a genre capsule.
        routing: one of `ROUTINGS`. ``"none"`` is a plain CNN on the same inputs: average
            pooling and one linear layer instead of capsules.
        iterations: of the routing.
        dropout: of the stem's channels, in [0, 1).
        texture_dropout: of the statistics, in [0, 1).
        capsule_dropout: of whole texture capsules, in [0, 1).
        reconstruction: weight of the masked reconstruction beside the margin loss, for networks
            with a stem.

    Raises:
        ValueError: a field is out of range.
    """

    genres: tuple[str, ...]
    log_mel: LogMelConfig = field(default_factory=LogMelConfig)
    segment_frames: int = 258
    hop_frames: int = 129
    networks: int = 1
    texture_networks: int = 4
    bands: int = 64
    frame_step: int = 2
    channels: tuple[int, int, int] = (16, 32, 64)
    position_types: int = 16
    texture_capsules: int = 32
    pose_dim: int = 8
    genre_dim: int = 16
    routing: str = "dynamic"
    iterations: int = 3
    dropout: float = 0.2
    texture_dropout: float = 0.5
    capsule_dropout: float = 0.3
    reconstruction: float = 0.05

    def __post_init__(self) -> None:
        if len(self.genres) < 2 or len(set(self.genres)) != len(self.genres):
            raise ValueError(f"a classifier needs at least two different genres; got {self.genres}")
        if self.routing not in ROUTINGS:
            raise ValueError(f"routing is one of {', '.join(ROUTINGS)}; got {self.routing!r}")
        if self.log_mel.n_mels % self.bands:
            raise ValueError(f"bands must divide {self.log_mel.n_mels} mels; got {self.bands}")
        if not 1 <= self.hop_frames <= self.segment_frames or self.segment_frames < 96:
            raise ValueError("segments have 96 frames or more, and 1 <= hop <= segment")
        counts = (self.position_types, self.texture_capsules)
        if min(counts) < 0 or not any(counts):
            raise ValueError("a classifier needs position capsules, texture capsules, or both")
        names = ("networks", "frame_step", "pose_dim", "genre_dim", "iterations")
        if min(*(getattr(self, name) for name in names), *self.channels) < 1:
            raise ValueError("networks, sizes, channels and iterations are at least 1")
        if self.texture_networks < 0 or (self.texture_networks and not self.texture_capsules):
            raise ValueError("texture networks need texture capsules")
        for name in ("dropout", "texture_dropout", "capsule_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} lies in [0, 1); got {getattr(self, name)}")

    @property
    def network_configs(self) -> tuple[ClassifierConfig, ...]:
        """The configuration of each network of the ensemble, full networks first."""
        full = (self,) * self.networks
        if not self.texture_networks:
            return full
        return full + (replace(self, position_types=0),) * self.texture_networks

    @property
    def segment_s(self) -> float:
        """Length of a segment in seconds."""
        return self.segment_frames / self.log_mel.frames_per_second

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON types."""
        values = asdict(self)
        return {**values, "genres": list(self.genres), "channels": list(self.channels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassifierConfig:
        """The inverse of `to_dict`.

        Raises:
            CheckpointError: a field is unknown, missing or out of range.
        """
        try:
            first, second, third = values["channels"]
            if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
                raise ValueError(f"unknown settings {', '.join(unknown)}")
            return cls(
                **{
                    **values,
                    "genres": tuple(values["genres"]),
                    "channels": (first, second, third),
                    "log_mel": LogMelConfig(**values["log_mel"]),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"The model's configuration is not one of this version of DeepMusic: {error}."
            ) from error
