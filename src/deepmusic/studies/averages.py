"""Hybrids and averages: models that pool what other models say of the same tracks.

Each is the normalised geometric mean of its parts' probabilities, a logarithmic opinion pool with
equal weights (Genest and Zidek 1986): the same decisions as adding log-probabilities. Nothing is
fitted, so that nothing can be fitted to few validation tracks. Where the parts have been run on the
same fold and seed, :func:`combine` takes their probabilities and nothing is trained twice; fitted
by itself, such a model trains its parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import CheckpointError, DataError, RequestError, ShapeError
from deepmusic.files import write_atomically
from deepmusic.studies.models import FittedModel, Kind, StudyModel, model_named
from deepmusic.version import __version__

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
    "average-features": "Four models on feature columns, pooled; no network.",
    "average-networks": "The networks without capsules, pooled.",
    "average-capsules": "The capsule networks of all routing methods, pooled.",
}
_KIND = "average"
_LEAST = 1e-6  # a probability counts as at least this: no part alone can rule a genre out


def combine(name: str, probabilities: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float64]:
    """Pool the probabilities of a model's parts.

    Args:
        name: one of :data:`PARTS`.
        probabilities: ``(tracks, genres)`` by name of the part; others may be there too.

    Returns:
        ``(tracks, genres)``; rows add up to 1.

    Raises:
        RequestError: there is no hybrid or average of that name.
        DataError: a part is missing.
        ShapeError: the parts are of different tracks or genres.
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
    logs = np.mean([np.log(part.clip(_LEAST)) for part in parts], axis=0)
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    pooled: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return pooled


@dataclass(frozen=True)
class FittedAverage:
    """A hybrid or average whose parts have learned.

    Args:
        name: one of :data:`PARTS`.
        parts: by name.
    """

    name: str
    parts: Mapping[str, FittedModel]

    @property
    def parameters(self) -> int:
        """Those of all parts together."""
        return sum(part.parameters for part in self.parts.values())

    def predict_proba(self, data: StudyData, places: Sequence[int]) -> NDArray[np.float64]:
        """Probabilities ``(len(places), genres)``; rows add up to 1."""
        heard = {name: part.predict_proba(data, places) for name, part in self.parts.items()}
        return combine(self.name, heard)

    def save(self, folder: Path) -> None:
        """Write ``model.json``, and each part in a folder of its name.

        Raises:
            DeepMusicError: the folder cannot be written.
        """
        for name, part in self.parts.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            part.save(folder / name)
        with write_atomically(folder / "model.json") as file:
            about = {
                "kind": _KIND,
                "name": self.name,
                "parts": list(self.parts),
                "version": __version__,
            }
            file.write(json.dumps(about, indent=1) + "\n")


def fit_average(name: str, data: StudyData, fold: Fold, seed: int, work: Path) -> FittedAverage:
    """Train the parts of a hybrid or average, each in a folder of its name below ``work``.

    Raises:
        DeepMusicError: as of the parts.
    """
    parts = {}
    for part in PARTS[name]:
        (work / part).mkdir(parents=True, exist_ok=True)
        parts[part] = model_named(part).fit(data, fold, seed, work / part)
    return FittedAverage(name, parts)


def load_average(folder: Path) -> FittedAverage:
    """Read what :meth:`FittedAverage.save` wrote.

    Raises:
        CheckpointError: the folder holds no hybrid or average of this version.
    """
    path = folder / "model.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        kind, name = about["kind"], about["name"]
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no model at {path}.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged or not a model of the study.") from error
    if kind != _KIND or name not in PARTS or about.get("parts") != list(PARTS[name]):
        raise CheckpointError(f"{path} is of no hybrid or average of this version of DeepMusic.")
    return FittedAverage(
        name, {part: model_named(part).load(folder / part) for part in PARTS[name]}
    )


def average_models() -> tuple[StudyModel, ...]:
    """Entries of :data:`deepmusic.studies.models.MODELS`."""
    return tuple(
        StudyModel(name, _kind(name), _SUMMARIES[name], partial(fit_average, name), load_average)
        for name in PARTS
    )


def _kind(name: str) -> Kind:
    return "hybrid" if name.startswith("hybrid") else "average"
