"""Every error that DeepMusic raises on purpose; each message is one sentence for the user.

A message says what is wrong, where, and what to do. Commands print it without a traceback and go on
with the rest of the work.
"""

from __future__ import annotations


class DeepMusicError(Exception):
    """Base class of all errors that DeepMusic raises on purpose."""


class ShapeError(DeepMusicError, ValueError):
    """An array or tensor has a shape, type or size that the function does not accept."""


class ReasonError(DeepMusicError):
    """An input cannot be used, for a reason that has a code.

    Args:
        message: one sentence for the user.
        code: a short reason for programs, such as ``"missing"``.
    """

    def __init__(self, message: str, *, code: str = "unreadable") -> None:
        super().__init__(message)
        self.code = code


class AudioError(ReasonError):
    """A file could not be decoded as audio; ``code`` is such as ``"not_audio"``."""


class ScoreError(ReasonError):
    """A file could not be read as a score, or a score cannot be written; ``code`` says why."""


class DataError(DeepMusicError):
    """A data set, table or folder cannot be used as it is."""


class CheckpointError(DeepMusicError):
    """A saved model or run is missing, damaged, foreign or from another version."""


class RequestError(DeepMusicError):
    """A request is impossible or contradicts itself; the message says how."""


class MissingLibraryError(RequestError, ModuleNotFoundError):
    """Something needs a library that an extra of the package brings, and that is not installed."""


class CopyingError(DeepMusicError):
    """Every tune that was composed copies too much of the training music."""


def counted(number: int, noun: str) -> str:
    """A number of things in words, such as "1 track" and "1,200 tracks"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def os_reason(error: OSError) -> str:
    """Why the operating system refused, in lower case, such as "no space left on device"."""
    return (error.strerror or str(error)).lower()


def reason_of(error: Exception, name: str, failed: str) -> tuple[str, str]:
    """A code and one sentence for what went wrong with one audio file of many.

    Args:
        error: the exception that was raised.
        name: the file's name in the sentence.
        failed: what failed, such as ``"has no features"``.
    """
    if isinstance(error, AudioError):
        return error.code, str(error)
    if isinstance(error, DeepMusicError):
        return "failed", str(error)
    if isinstance(error, MemoryError):
        return "memory", f"{name!r} needs more memory than there is."
    if isinstance(error, OSError):
        return "unreadable", f"{name!r} cannot be read: {os_reason(error)}."
    message = " ".join(f"{type(error).__name__}: {error}".split())
    return "unexpected", f"{name!r} {failed}: unexpected {message}."
