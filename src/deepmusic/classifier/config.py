"""Every size and choice of the genre classifier, in one frozen, JSON-ready record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from deepmusic.audio import LogMelConfig
from deepmusic.errors import CheckpointError

ROUTINGS = ("dynamic", "inverted_attention", "self_attention", "uniform", "none")
"""Those of :data:`deepmusic.capsules.ROUTING` whose parents are sums of votes and a bias, so that
two families of children can speak to them, and none at all."""
_SILENT_DB = 10.0  # above the floor of the spectrogram


@dataclass(frozen=True)
class ClassifierConfig:
    """What a genre classifier is made of.

    Args:
        genres: names, in the order of the genre capsules; at least two.
        log_mel: how sound becomes a spectrogram.
        segment_frames: frames of a segment (258 frames of 512 samples are 6 s).
        hop_frames: frames from one segment to the next when a track is heard.
        networks: networks that are trained apart, each validated on other tracks, and averaged.
        texture_networks: further networks in the average, with texture capsules alone, that learn
            from all tracks for a fixed time.
        bands: rows of the image that the stem sees; a divisor of ``log_mel.mels``.
        frame_step: frames that are averaged into one column of the image.
        channels: channels of the three convolutions of the stem.
        position_types: place capsules at each moment; 0 leaves the stem out.
        texture_capsules: capsules that read the statistics of the segment; 0 leaves them out.
        pose_dim: numbers in the pose of a child capsule.
        genre_dim: numbers in the pose of a genre capsule.
        routing: one of :data:`ROUTINGS`. ``"none"`` is a plain CNN on the same inputs: average
            pooling and one linear layer instead of capsules.
        iterations: passes of the routing.
        dropout: of the stem's channels, in [0, 1).
        texture_dropout: of the statistics, in [0, 1).
        capsule_dropout: of whole texture capsules, in [0, 1).
        reconstruction: weight of the masked reconstruction beside the margin loss, for networks
            that have an image to rebuild.

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
            raise ValueError(f"a classifier needs two different genres or more; got {self.genres}")
        if self.routing not in ROUTINGS:
            raise ValueError(f"routing is one of {', '.join(ROUTINGS)}; got {self.routing!r}")
        if self.log_mel.n_mels % self.bands:
            raise ValueError(f"bands must divide {self.log_mel.n_mels} mels; got {self.bands}")
        if not 1 <= self.hop_frames <= self.segment_frames or self.segment_frames < 96:
            raise ValueError("segments have 96 frames or more, and 1 <= hop <= segment")
        if (
            self.position_types < 0
            or self.texture_capsules < 0
            or not (self.position_types or self.texture_capsules)
        ):
            raise ValueError("a classifier needs place capsules, texture capsules, or both")
        if (
            min(
                self.networks,
                self.frame_step,
                self.pose_dim,
                self.genre_dim,
                self.iterations,
                *self.channels,
            )
            < 1
        ):
            raise ValueError("networks, sizes, channels and iterations are at least 1")
        if self.texture_networks < 0 or (self.texture_networks and not self.texture_capsules):
            raise ValueError("texture networks need texture capsules")
        for name in ("dropout", "texture_dropout", "capsule_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} lies in [0, 1); got {getattr(self, name)}")

    @property
    def network_configs(self) -> tuple[ClassifierConfig, ...]:
        """The configuration of each network of the ensemble, networks first."""
        if not self.texture_networks:
            return (self,) * self.networks
        light = replace(self, position_types=0)
        return (self,) * self.networks + (light,) * self.texture_networks

    @property
    def segment_s(self) -> float:
        """Seconds of a segment."""
        return self.segment_frames / self.log_mel.frames_per_second

    def is_silent(self, loudest_db: float) -> bool:
        """Whether sound with this loudest cell of its spectrogram counts as silence."""
        return loudest_db < self.log_mel.floor_db + _SILENT_DB

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        values = asdict(self)
        return {**values, "genres": list(self.genres), "channels": list(self.channels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassifierConfig:
        """The record that :meth:`to_dict` wrote.

        Raises:
            CheckpointError: a field is unknown, missing or out of range.
        """
        try:
            first, second, third = values["channels"]
            known = {f.name for f in fields(cls)}
            if unknown := sorted(set(values) - known):
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
