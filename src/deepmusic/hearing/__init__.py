"""The capsule classifier: from a recording to its genre, and from a folder of music to a model.

The public names are looked up on first use: what only shows or keeps verdicts does without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepmusic.lazy import lazy_names

if TYPE_CHECKING:
    from deepmusic.hearing.calibration import Calibration, calibration_error, fit_calibration
    from deepmusic.hearing.config import ClassifierConfig
    from deepmusic.hearing.evaluation import draw_confusion, measure
    from deepmusic.hearing.explanation import Explanation, draw_explanation, explain
    from deepmusic.hearing.inference import Classifier
    from deepmusic.hearing.library import classify_library, walk_audio
    from deepmusic.hearing.model import CapsuleClassifier, Committee
    from deepmusic.hearing.results import ResultsFile
    from deepmusic.hearing.timeline import draw_timeline, text_timeline
    from deepmusic.hearing.training import Trained, train_classifier
    from deepmusic.hearing.verdict import GenreProbability, SegmentVerdict, Verdict

__all__ = [
    "Calibration",
    "CapsuleClassifier",
    "Classifier",
    "ClassifierConfig",
    "Committee",
    "Explanation",
    "GenreProbability",
    "ResultsFile",
    "SegmentVerdict",
    "Trained",
    "Verdict",
    "calibration_error",
    "classify_library",
    "draw_confusion",
    "draw_explanation",
    "draw_timeline",
    "explain",
    "fit_calibration",
    "measure",
    "text_timeline",
    "train_classifier",
    "walk_audio",
]

_MODULES = {
    "calibration": ("Calibration", "calibration_error", "fit_calibration"),
    "config": ("ClassifierConfig",),
    "evaluation": ("draw_confusion", "measure"),
    "explanation": ("Explanation", "draw_explanation", "explain"),
    "inference": ("Classifier",),
    "library": ("classify_library", "walk_audio"),
    "model": ("CapsuleClassifier", "Committee"),
    "results": ("ResultsFile",),
    "timeline": ("draw_timeline", "text_timeline"),
    "training": ("Trained", "train_classifier"),
    "verdict": ("GenreProbability", "SegmentVerdict", "Verdict"),
}

__getattr__, __dir__ = lazy_names(__name__, __all__, _MODULES)
