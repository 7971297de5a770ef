from .composer import Composer as Composer, Tune as Tune
from .config import ComposerConfig as ComposerConfig
from .copying import (
    CopyIndex as CopyIndex,
    CopyReport as CopyReport,
    HumanReference as HumanReference,
    Originals as Originals,
    copy_report as copy_report,
    human_reference as human_reference,
    longest_shared_run as longest_shared_run,
)
from .judge import Judge as Judge
from .model import ComposerNetwork as ComposerNetwork
from .note_sets import NoteSetHead as NoteSetHead, spelled as spelled
from .request import Request as Request
from .task import ComposerTask as ComposerTask, likelihood as likelihood
from .training import TrainedComposer as TrainedComposer, train_composer as train_composer
