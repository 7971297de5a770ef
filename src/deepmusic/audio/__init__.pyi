from .decode import (
    AudioStream as AudioStream,
    open_audio as open_audio,
)
from .find import (
    AUDIO_EXTENSIONS as AUDIO_EXTENSIONS,
    NotAudio as NotAudio,
    find_audio as find_audio,
)
from .loading import (
    Audio as Audio,
    load as load,
)
from .mel import (
    LogMelConfig as LogMelConfig,
    LogMelStream as LogMelStream,
    log_mel as log_mel,
    mel_filters as mel_filters,
)
from .segments import (
    SegmentStream as SegmentStream,
    segment_batches as segment_batches,
    segment_starts as segment_starts,
    wrap as wrap,
)
from .sources import Source as Source
