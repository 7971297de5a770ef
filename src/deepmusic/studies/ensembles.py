"""Hybrids and averages: models that pool the predictions of other models for the same tracks.

The pooled probabilities are the normalized geometric mean of the parts' probabilities, a
logarithmic opinion pool with equal weights (Genest and Zidek, 1986). Nothing is fitted. Where the
parts have results of the same fold and seed, ``combine`` pools those and nothing is trained
twice; fitted on its own, such a model trains its parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gmean

from deepmusic.errors import DataError, RequestError, ShapeError
from deepmusic.files import make_folder
from deepmusic.studies.models import FittedModel, Kind, StudyModel, model_named

if TYPE_CHECKING:
    from deepmusic.datasets import Fold
    from deepmusic.studies.data import StudyData

PARTS: dict[str, tuple[str, ...]] = {
    "hybrid-capsules-logistic": ("capsules", "logistic"),
    "hybrid-capsules-svc": ("capsules", "svc-rbf"),
    "hybrid-capsules-svcs": ("capsules", "svc-rbf", "textures-svc"),
    "average-features": ("logistic", "svc-rbf", "forest", "boosting"),
    "average-networks": ("cnn", "alexnet", "lstm", "gru", "crnn"),
    "average-capsules": (
        "capsules-dynamic",
        "capsules-em",
        "capsules-self",
        "capsules-variational",
        "capsules-inverted-attention",
        "capsules-self-attention",
        "capsules-uniform",
    ),
}
"""Name of a hybrid or average -> names of the models that it pools."""

_SUMMARIES = {
    "hybrid-capsules-logistic": "The shipped capsules and logistic regression on features, pooled.",
    "hybrid-capsules-svc": "The shipped capsules and an RBF SVC on features, pooled.",
    "hybrid-capsules-svcs": "The shipped capsules and RBF SVCs on features and textures, pooled.",
    "average-features": "Four models of feature columns, pooled; no network.",
    "average-networks": "The networks without capsules, pooled.",
    "average-capsules": "The capsule networks of all routing methods, pooled.",
}
_MIN_PROBABILITY = 1e-6  # so that no part alone can rule a genre out


def combine(name: str, probabilities: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float64]:
    """Pool the probabilities ``(tracks, genres)`` of a model's parts, by their names.

    Raises:
        RequestError: there is no such hybrid or average.
        DataError: a part is missing.
        ShapeError: the parts have different tracks or genres.
    """
    if name not in PARTS:
        raise RequestError(f"There is no hybrid or average {name!r}; there are {', '.join(PARTS)}.")
    if missing := [part for part in PARTS[name] if part not in probabilities]:
        raise DataError(f"{name} lacks the probabilities of {', '.join(missing)}.")
    parts = [np.asarray(probabilities[part], np.float64) for part in PARTS[name]]
    if len({part.shape for part in parts}) != 1 or parts[0].ndim != 2:
        raise ShapeError(
            f"the parts of {name} must all have one shape (tracks, genres); got "
            f"{', '.join(str(part.shape) for part in parts)}"
        )
    means = gmean([part.clip(_MIN_PROBABILITY) for part in parts], axis=0)
    pooled: NDArray[np.float64] = means / means.sum(axis=1, keepdims=True)
    return pooled


@dataclass(frozen=True)
class FittedEnsemble:
    """A hybrid or average with trained parts, by name."""

    name: str
    parts: Mapping[str, FittedModel]

    @property
    def parameters(self) -> int:
        """Those of all parts together."""
        return sum(part.parameters for part in self.parts.values())

    def predict_proba(self, data: StudyData, indices: Sequence[int]) -> NDArray[np.float64]:
        """Probabilities ``(len(indices), genres)``; rows sum to 1."""
        return combine(
            self.name,
            {name: part.predict_proba(data, indices) for name, part in self.parts.items()},
        )

    def save(self, folder: Path) -> None:
        """Write each part into a folder of its name."""
        for name, part in self.parts.items():
            part.save(make_folder(folder / name))


def fit_ensemble(name: str, data: StudyData, fold: Fold, seed: int, work: Path) -> FittedEnsemble:
    """Train the parts of a hybrid or average, each in a folder of its name below ``work``."""
    parts = {}
    for part in PARTS[name]:
        parts[part] = model_named(part).fit(data, fold, seed, make_folder(work / part))
    return FittedEnsemble(name, parts)


def load_ensemble(name: str, folder: Path) -> FittedEnsemble:
    """Read what ``FittedEnsemble.save`` wrote.

    Raises:
        CheckpointError: parts are missing or damaged.
    """
    parts = {part: model_named(part).load(folder / part) for part in PARTS[name]}
    return FittedEnsemble(name, parts)


def study_models() -> tuple[StudyModel, ...]:
    """Entries of ``deepmusic.studies.models.MODELS``."""
    models = []
    for name in PARTS:
        kind: Kind = "hybrid" if name.startswith("hybrid") else "average"
        fit, load = partial(fit_ensemble, name), partial(load_ensemble, name)
        models.append(StudyModel(name, kind, _SUMMARIES[name], fit, load))
    return tuple(models)
