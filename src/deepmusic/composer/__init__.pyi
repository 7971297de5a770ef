from .composer import Composer as Composer, Tune as Tune
from .config import ComposerConfig as ComposerConfig
from .critic_training import train_critic as train_critic
from .exported import ExportedNetwork as ExportedNetwork
from .likelihood import likelihood as likelihood
from .memorization import (
    CopyIndex as CopyIndex,
    CopyReport as CopyReport,
    HumanReference as HumanReference,
    human_reference as human_reference,
)
from .model import ComposerNetwork as ComposerNetwork
from .note_sets import NoteSetHead as NoteSetHead
from .request import Request as Request
from .style_critic import StyleCritic as StyleCritic
from .task import ComposerTask as ComposerTask
from .training import TrainedComposer as TrainedComposer, train_composer as train_composer
