"""From a sound file to a verdict by a model of feature columns: features, columns, probabilities.

It can take the place of :class:`~deepmusic.classifier.inference.Classifier` wherever whole tracks
are classified. It hears a track as one: there is no verdict over time, and nothing to explain.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from deepmusic.classifier.verdict import GenreProbability, Verdict
from deepmusic.errors import AudioError, CheckpointError
from deepmusic.features import extract_file
from deepmusic.features.recipe import Recipe
from deepmusic.studies.saved_models import COLUMN_NAMES, FittedTable

_LOUDNESS = COLUMN_NAMES.index("rmse/max/01")
_SILENT = 1e-5  # full scale is 1; a 16-bit step is 3e-5


class TableClassifier:
    """A fitted model of feature columns that hears files; it can be pickled for processes.

    Args:
        model: the model; its recipe is known.
        digest: a hash of all that decides a verdict.

    Raises:
        CheckpointError: the model does not say of which recipe its features are.
    """

    is_picklable = True
    has_segments = False

    def __init__(self, model: FittedTable, *, digest: str = "") -> None:
        if model.recipe is None:
            raise CheckpointError(
                f"{model.name} does not say of which recipe its features are, so that none can be "
                "made of a song; train it by 'train baseline'."
            )
        self.model = model
        self.recipe: Recipe = model.recipe
        self.genres = model.genres
        self.calibration = model.calibration
        self.digest = digest

    @classmethod
    def load(cls, run: str | os.PathLike[str], *, trusted: Collection[str] = ()) -> TableClassifier:
        """Read a run of :func:`deepmusic.studies.baseline_runs.train_baseline`.

        Args:
            run: its folder, or a file in it.
            trusted: as in :meth:`FittedTable.load`.

        Raises:
            CheckpointError: see :meth:`FittedTable.load`; or the recipe is not known.
        """
        folder = Path(run)
        if folder.is_file():
            folder = folder.parent
        model = FittedTable.load(folder, trusted=trusted)
        # the hash of the weights is in it
        about = (folder / "model.json").read_bytes()
        return cls(model, digest=hashlib.sha256(about).hexdigest())

    def classify(
        self,
        source: str | os.PathLike[str],
        *,
        name: str | None = None,
        max_seconds: float = 6 * 3600.0,
    ) -> Verdict:
        """Say which genre a track is.

        Args:
            source: a path.
            name: what to call the track in the verdict; None takes the path.
            max_seconds: no more than this is heard.

        Raises:
            AudioError: no features could be had of it, or it is silent (code ``silent``).
        """
        row = extract_file(source, self.recipe, max_seconds=max_seconds)
        if not row.is_done:
            raise AudioError(row.error, code=row.code)
        if row.columns[_LOUDNESS] < _SILENT:
            raise AudioError(
                f"{os.fspath(source)!r} is silent: there is nothing to hear.", code="silent"
            )
        heard = self.model.of_features(row.columns[None])[0]
        order = sorted(range(len(heard)), key=lambda place: -heard[place])
        confidence = float(heard[order[0]])
        sure = confidence >= self.calibration.threshold
        said = [row.warning, f"{row.error} Usual values stand for these." if row.error else ""]
        return Verdict(
            path=os.fspath(source) if name is None else name,
            genre=self.genres[order[0]] if sure else None,
            confidence=confidence,
            top=tuple(GenreProbability(self.genres[i], float(heard[i])) for i in order),
            duration_s=row.duration_s,
            warning=" ".join(filter(None, said)) or None,
        )
