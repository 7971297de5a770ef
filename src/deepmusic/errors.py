"""Every error that DeepMusic raises on purpose; each message is one sentence for a person.

A message says what was wrong, where, and what to do. Commands print it as it is, without a
traceback, and go on with the rest of the work.
"""

from __future__ import annotations


class DeepMusicError(Exception):
    """Parent of all errors that DeepMusic raises on purpose."""


class ShapeError(DeepMusicError, ValueError):
    """An array or tensor has another shape, type or size than the function takes."""


class ReasonError(DeepMusicError):
    """Something given cannot be used, for a reason that has a code.

    Args:
        message: one sentence for a person.
        code: a short reason that programs can test for, such as ``"missing"``.
    """

    def __init__(self, message: str, *, code: str = "unreadable") -> None:
        super().__init__(message)
        self.code = code


class AudioError(ReasonError):
    """No sound could be had from a file; a code is such as ``"not_audio"``."""


class ScoreError(ReasonError):
    """No notes could be had from a file, or a score cannot be put where it should go.

    A code is such as ``"not_midi"``.
    """


class DataError(DeepMusicError):
    """A data set, a table or a folder cannot be used as it is."""


class CheckpointError(DeepMusicError):
    """A saved model or run is missing, damaged, foreign or of another version."""


class RequestError(DeepMusicError):
    """What was asked of a composer is impossible, or contradicts itself; the message says so."""


class CopyingError(DeepMusicError):
    """Nothing that a composer wrote may be kept: all of it copies what it was trained on."""


def os_reason(error: OSError) -> str:
    """Why the operating system refused, in lower case, such as "no space left on device"."""
    return (error.strerror or str(error)).lower()


def reason_of(error: Exception, shown: str, failed: str) -> tuple[str, str]:
    """A code and one sentence for what went wrong with one sound file of many.

    Args:
        error: whatever was raised.
        shown: the file, as the sentence names it.
        failed: what did not come about, such as ``"has no features"``.
    """
    if isinstance(error, AudioError):
        return error.code, str(error)
    if isinstance(error, DeepMusicError):
        return "failed", str(error)
    if isinstance(error, MemoryError):
        return "memory", f"{shown!r} needs more memory than there is."
    if isinstance(error, OSError):
        return "unreadable", f"{shown!r} cannot be read: {os_reason(error)}."
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return "unexpected", f"{shown!r} {failed}: unexpected {said}."
