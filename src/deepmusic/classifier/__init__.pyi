from .config import ClassifierConfig as ClassifierConfig
from .estimators import (
    CapsuleClassifier as CapsuleClassifier,
    EarFeatures as EarFeatures,
)
from .evaluation import (
    calibration_error as calibration_error,
    draw_confusion as draw_confusion,
    fit_calibration as fit_calibration,
    measure as measure,
)
from .explanation import (
    Explanation as Explanation,
    draw_explanation as draw_explanation,
    explain as explain,
)
from .files import classify_files as classify_files
from .inference import Classifier as Classifier
from .model import ClassifierNetwork as ClassifierNetwork, Ensemble as Ensemble
from .timeline import draw_timeline as draw_timeline, text_timeline as text_timeline
from .training import Trained as Trained, train_classifier as train_classifier
from .verdict import (
    Calibration as Calibration,
    GenreProbability as GenreProbability,
    SegmentVerdict as SegmentVerdict,
    Verdict as Verdict,
    verdict_frame as verdict_frame,
)
from .verdict_store import VerdictStore as VerdictStore
