from .classifier.estimators import (
    CapsuleClassifier as CapsuleClassifier,
    EarFeatures as EarFeatures,
)
from .classifier.verdict import Verdict as Verdict, verdict_frame as verdict_frame
from .errors import (
    AudioError as AudioError,
    CheckpointError as CheckpointError,
    DataError as DataError,
    DeepMusicError as DeepMusicError,
    RequestError as RequestError,
    ScoreError as ScoreError,
    ShapeError as ShapeError,
)
from .pretrained import (
    classify as classify,
    generate as generate,
    load as load,
    load_composer as load_composer,
)
from .version import __version__ as __version__
