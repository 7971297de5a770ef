"""The study's models of what the pretrained ear gives: scikit-learn's, and capsules by routing.

All learn from the training and the validation tracks; the ear itself does not learn. The entries
can be listed without PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import DataError
from deepmusic.files import make_folder, write_json
from deepmusic.studies.baselines import TABLE_MODELS
from deepmusic.studies.models import StudyModel
from deepmusic.studies.tabular_io import FittedTable, track_ear
from deepmusic.version import __version__

if TYPE_CHECKING:
    from deepmusic.classifier.ear.classifier import EarClassifier
    from deepmusic.datasets import Fold
    from deepmusic.studies.data import StudyData

_TABLES = {"ear-logistic": "logistic", "ear-svc": "svc-rbf"}
_HEADS = {
    "ear-linear": ("none", "A linear layer on mean and spread of the pretrained ear's features."),
    "ear-capsules-self-attention": (
        "self_attention",
        "Capsules of patches and of the track over the pretrained ear, routed to genres by "
        "self-attention (Mazzia et al. 2021).",
    ),
    "ear-capsules-dynamic": ("dynamic", "The same with dynamic routing (Sabour et al. 2017)."),
    "ear-capsules-uniform": ("uniform", "The same with equal couplings: no routing."),
}


@dataclass(frozen=True)
class FittedEar:
    """A trained head over the ear."""

    classifier: EarClassifier

    @property
    def parameters(self) -> int:
        """How many numbers the head has learned; the ear's own are not counted."""
        import torch

        from deepmusic.classifier.ear.head import EarHead

        with torch.device("meta"):  # shapes without numbers
            return sum(
                parameter.numel() for parameter in EarHead(self.classifier.config).parameters()
            )

    def predict_proba(self, data: StudyData, indices: Sequence[int]) -> NDArray[np.float64]:
        """Probabilities ``(len(indices), genres)`` of tracks; rows sum to 1.

        Raises:
            DataError: the ear was not run on the data, or these have other genres.
        """
        genres = self.classifier.genres
        if data.genres != genres:
            raise DataError(
                f"The model distinguishes {', '.join(genres)}; the data have "
                f"{', '.join(data.genres)}."
            )
        rows = [self.classifier.probabilities(*output) for output in track_ear(data, indices)]
        return np.array(rows).reshape(-1, len(genres))

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and a model that ``deepmusic classify`` takes too."""
        make_folder(folder)
        self.classifier.save(folder / "model.safetensors")
        write_json(folder / "model.json", {"kind": "head over the ear", "version": __version__})


def fit_ear(routing: str, data: StudyData, fold: Fold, seed: int, work: Path) -> FittedEar:
    """Fit a head with this routing, as ``deepmusic train classifier`` does.

    It learns from the training and the validation tracks of the fold; another, which learns from
    the training tracks alone, gives its calibration. ``work`` is not used: this takes seconds.

    Raises:
        DataError: the ear was not run on the data.
    """
    from deepmusic.classifier.ear.config import HeadConfig
    from deepmusic.classifier.ear.fitting import FitOptions
    from deepmusic.classifier.ear.training import exported_classifier, fit_calibrated
    from deepmusic.training.runtime import torch_in_one_thread

    rows = sorted((*fold.train, *fold.validation))
    outputs = dict(zip(rows, track_ear(data, rows), strict=True))
    config = HeadConfig(data.genres, routing=routing)
    with torch_in_one_thread():
        head, calibration, _ = fit_calibrated(
            data.dataset, [fold], outputs, config, FitOptions(seed=seed)
        )
        return FittedEar(exported_classifier(head, calibration, {}))


def load_ear(folder: Path) -> FittedEar:
    """Read what ``FittedEar.save`` wrote.

    Raises:
        CheckpointError: it is missing, damaged, or of another model.
    """
    from deepmusic.classifier.ear.classifier import EarClassifier

    return FittedEar(EarClassifier.load(folder))


def study_models() -> tuple[StudyModel, ...]:
    """Entries of ``deepmusic.studies.models.MODELS``, in the order of the report."""
    tables = []
    for name, base in _TABLES.items():
        summary = f"{TABLE_MODELS[base].summary[:-1]}, on mean and spread of the ear's features."
        model = replace(TABLE_MODELS[base], name=name, summary=summary, kind="ear")
        tables.append(StudyModel(name, "ear", summary, model.fit_fold, FittedTable.load))
    heads = [
        StudyModel(name, "ear", summary, partial(fit_ear, routing), load_ear)
        for name, (routing, summary) in _HEADS.items()
    ]
    return (*tables, *heads)
