"""scikit-learn estimators: the pretrained ear as a transformer, and a classifier of capsules.

They keep to scikit-learn's interface, so that pipelines, cross-validation and searches of
parameters work with them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from deepmusic.audio import Source
from deepmusic.classifier.ear.classifier import ear_output
from deepmusic.classifier.ear.config import HeadConfig
from deepmusic.classifier.ear.fitting import PATCHES, FitOptions, fit_head, predict_log_scores
from deepmusic.classifier.ear.patches import FEATURES, TAGS, EarOutput
from deepmusic.classifier.ear.training import EarStore
from deepmusic.classifier.verdict import Calibration
from deepmusic.errors import AudioError

_UNCALIBRATED = Calibration(inverse_temperature=1, threshold=0)


class EarFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What the pretrained ear hears in tracks, as rows of 512 numbers.

    A row has the mean of the ear's 256 features over ten patches of three seconds, spread evenly
    over the track, and then their standard deviations. The transformer is stateless: ``fit`` does
    nothing.

    Args:
        cache: a folder where what the ear gave is kept by the content of files, so that a file is
            heard once; None keeps nothing. Sound in memory is not kept.
        n_jobs: tracks at a time, in threads; None is one, -1 as many as there are processors.

    Example:
        >>> model = make_pipeline(EarFeatures(cache="ear"), StandardScaler(), LogisticRegression())
        >>> model.fit(["a.mp3", "b.mp3"], ["rock", "folk"]).predict(["c.mp3"])
    """

    def __init__(
        self, *, cache: str | os.PathLike[str] | None = None, n_jobs: int | None = None
    ) -> None:
        self.cache = cache
        self.n_jobs = n_jobs

    def fit(self, X: Sequence[Source], y: object = None) -> Self:
        """Do nothing."""
        return self

    def transform(self, X: Sequence[Source]) -> NDArray[np.float32]:
        """Rows ``(n, 512)`` of tracks.

        Args:
            X: paths, or pairs ``(samples, sample_rate)`` as `deepmusic.audio.Source` has them.

        Raises:
            AudioError: a track cannot be decoded, or is silent; it says which.
            CheckpointError: the ear is not installed.
            ValueError: X is something else.
        """
        if not _has_sounds(X):
            raise ValueError(
                "EarFeatures takes a list of paths or of pairs (samples, sample_rate); got "
                f"{type(X).__name__}"
            )
        store = None if self.cache is None else EarStore(self.cache)
        outputs = Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(_output)(index, source, store) for index, source in enumerate(X)
        )
        rows = [np.concatenate([one.mean(axis=0), one.std(axis=0)]) for one, _ in outputs]
        return np.array(rows, np.float32)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """``mean_0`` to ``mean_255`` and ``spread_0`` to ``spread_255``."""
        names = [f"{what}_{index}" for what in ("mean", "spread") for index in range(FEATURES)]
        return np.array(names, object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags


class CapsuleClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Capsules routed to classes, over the features of `EarFeatures` or any other numbers.

    Tracks may be given as paths or as pairs ``(samples, sample_rate)``: then `EarFeatures` makes
    rows of them first, so that a classifier fitted to those rows also takes paths. Features are
    standardised within. Probabilities are the softmax of the log scores, averaged over the heads;
    they are not calibrated, for which there is ``CalibratedClassifierCV``.

    ``deepmusic train classifier`` fits the same capsules and four more for each patch, calibrates
    them and writes a model for ``deepmusic classify``.

    Args:
        routing: a name of ``deepmusic.classifier.config.ROUTINGS``; ``"none"`` is a linear layer.
        heads: classifiers trained together from other random numbers, whose scores are averaged.
        dropout: share of the features left out in training, in [0, 1); little suits few features.
        epochs, batch_size, learning_rate, weight_decay: of AdamW in one cycle.
        cache, n_jobs: of `EarFeatures`.
        random_state: a number makes fits repeat themselves.

    Attributes:
        classes_: the classes, sorted.
        head_: the capsules, an ``EarHead`` in PyTorch.
        n_features_in_: 512 where sounds were given.

    Example:
        >>> model = CapsuleClassifier(random_state=0).fit(["a.mp3", "b.mp3"], ["rock", "folk"])
        >>> model.predict(["c.mp3"])
    """

    def __init__(
        self,
        *,
        routing: str = "self_attention",
        heads: int = 4,
        dropout: float = 0.5,
        epochs: int = 15,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        cache: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.routing = routing
        self.heads = heads
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.cache = cache
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Sequence[Source] | ArrayLike, y: ArrayLike) -> Self:
        """Fit to tracks, or rows of features ``(n, d)``, and their classes ``(n,)``.

        Raises:
            AudioError: a track cannot be decoded, or is silent; it says which.
            CheckpointError: the ear is not installed.
            ValueError: there is one class only, a parameter is out of range, or rows have NaN.
        """
        rows, labels = validate_data(self, self._rows(X), y, dtype=np.float32)
        check_classification_targets(labels)
        self.classes_, labels = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("CapsuleClassifier needs two or more classes; y has only one class")
        config = HeadConfig(
            tuple(map(str, self.classes_)),
            features=rows.shape[1],
            heads=self.heads,
            patch_capsules=0,
            routing=self.routing,
            dropout=self.dropout,
        )
        options = FitOptions(
            self.epochs,
            self.batch_size,
            self.learning_rate,
            self.weight_decay,
            check_random_state(self.random_state).randint(2**31 - 1),
        )
        self.head_ = fit_head(_tracks(rows), np.eye(len(self.classes_))[labels], config, options)
        return self

    def predict_proba(self, X: Sequence[Source] | ArrayLike) -> NDArray[np.float64]:
        """Probabilities ``(n, classes)``; rows sum to 1."""
        check_is_fitted(self)
        rows = validate_data(self, self._rows(X), dtype=np.float32, reset=False)
        return _UNCALIBRATED.probabilities(predict_log_scores(self.head_, _tracks(rows)))

    def predict(self, X: Sequence[Source] | ArrayLike) -> NDArray[Any]:
        """The most probable class of each, ``(n,)``."""
        probabilities = self.predict_proba(X)
        classes: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return classes

    def _rows(self, X: Any) -> Any:
        if not _has_sounds(X):
            return X
        return EarFeatures(cache=self.cache, n_jobs=self.n_jobs).transform(X)


def _has_sounds(X: Any) -> bool:
    """Whether these are paths or pairs of samples and rate, and not a matrix."""
    if isinstance(X, str) or not hasattr(X, "__len__") or getattr(X, "ndim", 1) != 1 or not len(X):
        return False
    first = next(iter(X))
    is_pair = isinstance(first, tuple) and len(first) == 2 and np.ndim(first[0]) > 0
    return is_pair or isinstance(first, str | os.PathLike)


def _output(index: int, source: Source, store: EarStore | None) -> EarOutput:
    try:
        if store is not None and isinstance(source, str | os.PathLike):
            return store.output(source)
        return ear_output(source, patches=PATCHES)
    except AudioError as error:
        raise AudioError(f"Track {index} of X: {error}", code=error.code) from error


def _tracks(rows: NDArray[np.float32]) -> list[EarOutput]:
    """Each row as a track of one patch, whose spread is zero, without tags."""
    no_tags = np.zeros((1, len(TAGS)), np.float32)
    return [(row[None], no_tags) for row in rows]
