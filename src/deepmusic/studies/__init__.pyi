from .baselines import TABLE_MODELS as TABLE_MODELS
from .comparison import (
    bootstrap_difference as bootstrap_difference,
    paired_difference as paired_difference,
)
from .data import StudyData as StudyData, load_study_data as load_study_data
from .feature_sets import (
    FEATURE_SETS as FEATURE_SETS,
    FeatureSet as FeatureSet,
    feature_set as feature_set,
)
from .fma_baselines import reproduce as reproduce
from .jobs import run_jobs as run_jobs
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
from .plan import StudyConfig as StudyConfig, plan_study as plan_study
from .report_files import write_report as write_report
from .table_models import TableModel as TableModel
from .tabular_io import FittedTable as FittedTable
