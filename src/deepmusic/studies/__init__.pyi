from .baseline_runs import train_baseline as train_baseline
from .baselines import (
    FEATURE_MODELS as FEATURE_MODELS,
    TABLE_MODELS as TABLE_MODELS,
    TableModel as TableModel,
)
from .comparison import (
    Score as Score,
    markdown_table as markdown_table,
    score as score,
)
from .data import StudyData as StudyData, load_study_data as load_study_data
from .feature_sets import (
    FEATURE_SETS as FEATURE_SETS,
    FeatureSet as FeatureSet,
    feature_set as feature_set,
)
from .fma_baselines import reproduce as reproduce
from .jobs import StudyConfig as StudyConfig, plan_study as plan_study, run_jobs as run_jobs
from .models import (
    MODELS as MODELS,
    FittedModel as FittedModel,
    StudyModel as StudyModel,
    model_named as model_named,
)
from .multilabel import (
    consistent as consistent,
    hierarchical_score as hierarchical_score,
    score_labels as score_labels,
    with_ancestors as with_ancestors,
)
from .parameters import count_parameters as count_parameters
from .report_files import write_report as write_report
from .significance import paired_difference as paired_difference
from .table_classifier import TableClassifier as TableClassifier
