"""The study: models to be compared with, on the same folds, and the tables that compare them."""

from __future__ import annotations

from deepmusic.studies.baseline_runs import train_baseline
from deepmusic.studies.baselines import FEATURE_MODELS, TABLE_MODELS, TableModel
from deepmusic.studies.comparison import Score, markdown_table, paired_difference, score
from deepmusic.studies.data import StudyData, load_study_data
from deepmusic.studies.feature_sets import FEATURE_SETS, FeatureSet, feature_set
from deepmusic.studies.fma_baselines import reproduce
from deepmusic.studies.hierarchy import consistent, hierarchical_score, with_ancestors
from deepmusic.studies.jobs import StudyConfig, plan_study, run_jobs
from deepmusic.studies.models import MODELS, FittedModel, StudyModel, model_named
from deepmusic.studies.multilabel import score_labels
from deepmusic.studies.parameters import count_parameters
from deepmusic.studies.report_files import write_report
from deepmusic.studies.table_classifier import TableClassifier

__all__ = [
    "FEATURE_MODELS",
    "FEATURE_SETS",
    "MODELS",
    "TABLE_MODELS",
    "FeatureSet",
    "FittedModel",
    "Score",
    "StudyConfig",
    "StudyData",
    "StudyModel",
    "TableClassifier",
    "TableModel",
    "consistent",
    "count_parameters",
    "feature_set",
    "hierarchical_score",
    "load_study_data",
    "markdown_table",
    "model_named",
    "paired_difference",
    "plan_study",
    "reproduce",
    "run_jobs",
    "score",
    "score_labels",
    "train_baseline",
    "with_ancestors",
    "write_report",
]
