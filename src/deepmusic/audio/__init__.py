"""From a file to samples, log-mel frames and segments."""

from __future__ import annotations

from deepmusic.audio.decoding import AudioStream, open_audio
from deepmusic.audio.loading import Audio, load
from deepmusic.audio.log_mel import LogMelConfig, LogMelStream, log_mel, mel_filters
from deepmusic.audio.segments import SegmentStream, segment_starts, wrap

__all__ = [
    "Audio",
    "AudioStream",
    "LogMelConfig",
    "LogMelStream",
    "SegmentStream",
    "load",
    "log_mel",
    "mel_filters",
    "open_audio",
    "segment_starts",
    "wrap",
]
