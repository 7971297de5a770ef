from .classifier.verdict import Verdict as Verdict
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
