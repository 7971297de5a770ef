"""From a file to samples, log-mel frames and segments.

What decodes is looked up on first use: its libraries are loaded when there is a file to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepmusic.audio.finding import AUDIO_EXTENSIONS, NotAudio, find_audio
from deepmusic.audio.log_mel import LogMelConfig, LogMelStream, log_mel, mel_filters
from deepmusic.audio.segments import SegmentStream, segment_starts, wrap
from deepmusic.lazy import lazy_names

if TYPE_CHECKING:
    from deepmusic.audio.decoding import AudioStream, open_audio
    from deepmusic.audio.loading import Audio, load

__all__ = [
    "AUDIO_EXTENSIONS",
    "Audio",
    "AudioStream",
    "LogMelConfig",
    "LogMelStream",
    "NotAudio",
    "SegmentStream",
    "find_audio",
    "load",
    "log_mel",
    "mel_filters",
    "open_audio",
    "segment_starts",
    "wrap",
]

_MODULES = {
    "loading": ("Audio", "load"),
    "decoding": ("AudioStream", "open_audio"),
}

__getattr__, __dir__ = lazy_names(__name__, __all__, _MODULES)
