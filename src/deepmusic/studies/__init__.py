"""Models to be compared with, and the tables that compare them."""

from __future__ import annotations

from deepmusic.studies.baselines import FEATURE_MODELS, count_parameters
from deepmusic.studies.comparison import Score, markdown_table, paired_difference, score

__all__ = [
    "FEATURE_MODELS",
    "Score",
    "count_parameters",
    "markdown_table",
    "paired_difference",
    "score",
]
