"""From a sound file to a verdict by a model of feature columns."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from deepmusic.classifier.verdict import Verdict
from deepmusic.errors import AudioError, CheckpointError
from deepmusic.features import extract_file
from deepmusic.features.recipe import Recipe
from deepmusic.studies.tabular_io import COLUMN_NAMES, FittedTable

_LOUDNESS = COLUMN_NAMES.index("rmse/max/01")
_SILENT = 1e-5  # full scale is 1; a 16-bit step is 3e-5


class TableClassifier:
    """A trained model of feature columns that classifies files, in the way of ``Classifier``.

    There is no verdict over time, and nothing to explain. It can be pickled for processes.

    Args:
        model: the model.
        digest: a hash of everything that decides a verdict.

    Raises:
        CheckpointError: the model does not name the recipe of its features.
    """

    is_picklable = True
    has_segments = False

    def __init__(self, model: FittedTable, *, digest: str = "") -> None:
        if model.recipe is None:
            raise CheckpointError(
                f"{model.name} does not name the recipe of its features, so that none can be "
                "computed; train it by 'train baseline'."
            )
        self.model = model
        self.recipe: Recipe = model.recipe
        self.genres = model.genres
        self.calibration = model.calibration
        self.digest = digest

    @classmethod
    def load(cls, run: str | os.PathLike[str], *, trusted: Collection[str] = ()) -> TableClassifier:
        """Read a run of ``train baseline``: its folder, or a file in it.

        Raises:
            CheckpointError: see ``FittedTable.load``, which takes ``trusted``.
        """
        folder = Path(run).parent if Path(run).is_file() else Path(run)
        model = FittedTable.load(folder, trusted=trusted)
        contents = [(folder / name).read_bytes() for name in ("model.json", "model.skops")]
        return cls(model, digest=hashlib.sha256(b"".join(contents)).hexdigest())

    def classify(
        self,
        source: str | os.PathLike[str],
        *,
        name: str | None = None,
        max_seconds: float = 6 * 3600.0,
    ) -> Verdict:
        """Classify a track.

        Args:
            source: a path.
            name: of the track in the verdict; None takes the path.
            max_seconds: no more than this is decoded.

        Raises:
            AudioError: features cannot be computed, or the track is silent (code ``silent``).
        """
        path = os.fspath(source)
        row = extract_file(source, self.recipe, max_seconds=max_seconds)
        if not row.is_done:
            raise AudioError(row.error, code=row.code)
        if row.columns[_LOUDNESS] < _SILENT:
            raise AudioError(f"{path!r} is silent: there is nothing to classify.", code="silent")
        missing = f"{row.error} Medians of the training tracks replace these." if row.error else ""
        return Verdict.from_probabilities(
            path if name is None else name,
            self.genres,
            self.model.of_features(row.columns[None])[0].tolist(),
            threshold=self.calibration.threshold,
            duration_s=row.duration_s,
            warning=" ".join(filter(None, [row.warning, missing])) or None,
        )
