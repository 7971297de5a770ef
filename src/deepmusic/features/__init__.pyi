from .extraction import (
    TrackFeatures as TrackFeatures,
    extract as extract,
    extract_file as extract_file,
)
from .library import extract_library as extract_library
from .recipe import (
    COLUMNS as COLUMNS,
    RECIPES as RECIPES,
    ROWS as ROWS,
    Recipe as Recipe,
    recipe_named as recipe_named,
)
from .rhythm import onset_strength as onset_strength, tempo as tempo, tempogram as tempogram
from .spectrograms import (
    chroma_cqt as chroma_cqt,
    chroma_stft as chroma_stft,
    cqt as cqt,
    estimate_tuning as estimate_tuning,
    log_mel_spectrogram as log_mel_spectrogram,
    mfcc as mfcc,
)
from .statistics import STATISTICS as STATISTICS, describe as describe
from .table import (
    FeatureTable as FeatureTable,
    read_features as read_features,
    write_features as write_features,
)
from .track import feature_columns as feature_columns, feature_rows as feature_rows
