"""The models that come with the package, found by name and checked; nothing is downloaded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepmusic.errors import CheckpointError

if TYPE_CHECKING:
    from deepmusic.audio import Source
    from deepmusic.classifier.ear.classifier import EarClassifier
    from deepmusic.classifier.inference import Classifier
    from deepmusic.classifier.verdict import Verdict
    from deepmusic.composer import Composer, Tune

_WEIGHTS = Path(__file__).parent / "weights"
MODELS = {
    "classifier": _WEIGHTS / "genres.safetensors",
    "small": _WEIGHTS / "classifier.safetensors",
    "composer": _WEIGHTS / "composer.safetensors",
}
"""Files of the shipped models by name; each has a card, a ``.md`` file, beside it. The classifier
needs the pretrained ear; where that is not installed, the small one of four genres answers."""
WITHOUT_EAR = (
    "The pretrained ear is not installed: the small model answers, which knows four genres; for "
    "seventeen genres and tags, run once: deepmusic ear install"
)
"""What is said then."""


def load(
    name: str | os.PathLike[str] = "classifier", *, device: str = "auto"
) -> Classifier | EarClassifier:
    """Load a shipped classifier, or one of your own training.

    Args:
        name: a key of ``MODELS``, a run folder, or a file of weights.
        device: ``"auto"`` takes a GPU where there is one; capsules over the ear need none, and run
            on the CPU.

    Raises:
        CheckpointError: there is no such model, or it is damaged.
        DeepMusicError: the device is not there.
    """
    if os.fspath(name) == "composer":
        raise CheckpointError("'composer' is not a classifier; load_composer loads it.")
    path = _path(name)
    if (path / "model.skops").exists():
        raise CheckpointError(
            f"{path} is a run of 'train baseline'; 'deepmusic classify' takes it, and in Python "
            "deepmusic.studies.tabular_io.FittedTable.load."
        )
    from deepmusic.classifier.ear.classifier import KIND, EarClassifier
    from deepmusic.classifier.ear.install import has_ear
    from deepmusic.training.weights import model_kind

    if os.fspath(name) == "classifier" and not has_ear():
        path = MODELS["small"]
    if model_kind(path) == KIND:
        return EarClassifier.load(path)
    from deepmusic.classifier.inference import Classifier

    classifier = Classifier.load(path, device=device)
    if os.fspath(name) == "classifier":
        classifier.note = WITHOUT_EAR
    return classifier


def load_composer(name: str | os.PathLike[str] = "composer") -> Composer:
    """Load the shipped composer, or one of your own training.

    Args:
        name: a key of ``MODELS``, a run folder, or a file of weights.

    Raises:
        CheckpointError: there is no such model, or it is damaged.
    """
    from deepmusic.composer import Composer

    return Composer.load(_path(name))


def _path(name: str | os.PathLike[str]) -> Path:
    path = MODELS.get(os.fspath(name)) or Path(name)
    if not path.exists():
        raise CheckpointError(
            f"There is no model {os.fspath(name)!r}: name a run folder, a file of weights, or one "
            f"of {', '.join(MODELS)}."
        )
    return path


def classify(
    source: Source,
    *,
    model: str | os.PathLike[str] = "classifier",
    device: str = "auto",
    segments: bool = False,
) -> Verdict:
    """Classify the genre of a track.

    Args:
        source: a sound file or video, a binary file object that can seek, or a pair
            ``(samples, sample_rate)``, see `deepmusic.audio.Source`.
        model: the shipped classifier, or a run of your own training; loaded on the first call.
        device: ``"auto"`` takes a GPU where there is one.
        segments: whether to give the genres over time.

    Returns:
        Genre (None when unsure), calibrated confidence, all genres, tags, and, where asked for, the
        genres over time. Where the pretrained ear is not installed, a warning says so, and the
        small model of four genres answers.

    Raises:
        AudioError: the file could not be decoded.
        CheckpointError: the model is missing or damaged.
    """
    classifier = _loaded(os.fspath(model), device=device)
    if classifier.note:
        warnings.warn(classifier.note, stacklevel=2)
    return classifier.classify(source, segments=segments)


def generate(
    style: str | Mapping[str, float] = "folk",
    *,
    model: str | os.PathLike[str] = "composer",
    **request: Any,
) -> Tune:
    """Compose a tune.

    Args:
        style: one of the model's styles, or weights of several.
        model: the shipped composer, or a run of your own training; loaded on the first call.
        request: fields of ``Request``, such as ``bars`` and ``seed``.

    Returns:
        The score, and a report about it.

    Raises:
        RequestError: it asks for what is impossible; the message says what is possible.
        ScoreError: a file that it names cannot be used.
        CheckpointError: the model is missing or damaged.

    Example:
        >>> tune = generate("folk", bars=8, seed=7)
        >>> deepmusic.music.write_midi(tune.score, "tune.mid")
    """
    from deepmusic.composer import Request

    weights = {style: 1.0} if isinstance(style, str) else style
    checked = Request(style=weights, **request)
    return _loaded_composer(os.fspath(model)).compose(checked)


_loaded_composer = lru_cache(maxsize=2)(load_composer)
_loaded = lru_cache(maxsize=2)(load)
