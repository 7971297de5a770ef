"""From a file to samples, log-mel frames and segments.

What decodes is looked up on first use: its libraries are loaded when there is a file to read.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepmusic.audio.finding import AUDIO_EXTENSIONS, NotAudio, find_audio
from deepmusic.audio.log_mel import LogMelConfig, LogMelStream, log_mel, mel_filters
from deepmusic.audio.segments import SegmentStream, segment_starts, wrap

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

_LAZY = {
    "Audio": "loading",
    "AudioStream": "decoding",
    "load": "loading",
    "open_audio": "decoding",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
