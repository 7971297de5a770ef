"""Sizes and choices of the capsules over the ear, in one frozen, JSON-ready record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from deepmusic.classifier.config import ROUTINGS
from deepmusic.classifier.ear.patches import FEATURES, TAGS
from deepmusic.errors import CheckpointError


@dataclass(frozen=True)
class HeadConfig:
    """Sizes and choices of the capsules over the ear; a ValueError refuses those out of range."""

    genres: tuple[str, ...]  # in the order of the genre capsules, at least two
    features: int = FEATURES  # of a patch
    heads: int = 4  # trained together, with other random numbers each, and averaged
    patch_capsules: int = 4  # that read one patch
    track_capsules: int = 48  # that read mean and spread of the features over time
    pose_dim: int = 8  # of these children
    genre_dim: int = 16  # of the pose of a genre capsule
    routing: str = "self_attention"  # one of `deepmusic.classifier.config.ROUTINGS`; "none": linear
    iterations: int = 3  # of the routing
    dropout: float = 0.5  # of features, in [0, 1)
    # for each genre the tags of the ear that speak for it, and what is taken off the logarithm of
    # their probability; empty: the capsules alone decide
    tags: tuple[tuple[str, ...], ...] = ()
    tag_offsets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.genres) < 2 or len(set(self.genres)) != len(self.genres):
            raise ValueError(f"a classifier needs at least two different genres; got {self.genres}")
        if self.routing not in ROUTINGS:
            raise ValueError(f"routing is one of {', '.join(ROUTINGS)}; got {self.routing!r}")
        sizes = (self.heads, self.track_capsules, self.pose_dim, self.genre_dim, self.iterations)
        if min(sizes) < 1 or self.patch_capsules < 0 or not 0 <= self.dropout < 1:
            raise ValueError("sizes and iterations are at least 1, and dropout lies in [0, 1)")
        if self.tags and not len(self.tags) == len(self.genres) == len(self.tag_offsets):
            raise ValueError("tags and their offsets are given for every genre, or for none")
        if unknown := {tag for group in self.tags for tag in group} - set(TAGS):
            raise ValueError(f"the ear has no tag {', '.join(sorted(unknown))}")

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON types."""
        values = asdict(self)
        lists = {"genres": list(self.genres), "tag_offsets": list(self.tag_offsets)}
        return {**values, **lists, "tags": list(map(list, self.tags))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HeadConfig:
        """The inverse of `to_dict`.

        Raises:
            CheckpointError: a field is unknown, missing or out of range.
        """
        try:
            if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
                raise ValueError(f"unknown settings {', '.join(unknown)}")
            lists = {name: tuple(values[name]) for name in ("genres", "tag_offsets")}
            return cls(**{**values, **lists, "tags": tuple(map(tuple, values["tags"]))})
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"The model's configuration is not one of this version of DeepMusic: {error}."
            ) from error
