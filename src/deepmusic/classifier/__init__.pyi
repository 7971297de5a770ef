from .calibration import (
    Calibration as Calibration,
    calibration_error as calibration_error,
    fit_calibration as fit_calibration,
)
from .config import ClassifierConfig as ClassifierConfig
from .evaluation import draw_confusion as draw_confusion, measure as measure
from .explanation import (
    Explanation as Explanation,
    draw_explanation as draw_explanation,
    explain as explain,
)
from .inference import Classifier as Classifier
from .library import classify_library as classify_library, walk_audio as walk_audio
from .model import CapsuleClassifier as CapsuleClassifier, Ensemble as Ensemble
from .results import ResultsFile as ResultsFile
from .timeline import draw_timeline as draw_timeline, text_timeline as text_timeline
from .training import Trained as Trained, train_classifier as train_classifier
from .verdict import (
    GenreProbability as GenreProbability,
    SegmentVerdict as SegmentVerdict,
    Verdict as Verdict,
)
