from .extraction import (
    extract as extract,
    extract_file as extract_file,
    extract_library as extract_library,
)
from .frames import (
    chroma_cqt as chroma_cqt,
    chroma_stft as chroma_stft,
    cqt as cqt,
    estimate_tuning as estimate_tuning,
    log_mel_spectrogram as log_mel_spectrogram,
    mfcc as mfcc,
)
from .recipe import (
    COLUMNS as COLUMNS,
    FEATURE_SIZES as FEATURE_SIZES,
    RECIPES as RECIPES,
    Recipe as Recipe,
    recipe_named as recipe_named,
)
from .rhythm import onset_strength as onset_strength, tempo as tempo, tempogram as tempogram
from .statistics import STATISTICS as STATISTICS, summary_statistics as summary_statistics
from .table import (
    FeatureTable as FeatureTable,
    TrackFeatures as TrackFeatures,
    read_features as read_features,
    write_features as write_features,
)
from .track import feature_columns as feature_columns, frame_features as frame_features
