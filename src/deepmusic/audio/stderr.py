"""Keeps C libraries from writing notes to standard error while they are called.

libmpg123, inside libsndfile, prints notes about damaged mp3 files past Python's ``sys.stderr``. To
point file descriptor 2 elsewhere would take along what other threads write in the meantime (a
progress bar, a traceback). The C library's own variable ``stderr`` is set instead, as the manual of
the GNU C library allows: only what C code prints through stdio is dropped, and only while one of
our calls runs; Python's output, faulthandler and child processes write to the descriptor itself and
lose nothing. Where there is no such variable (musl, Windows) the notes stay visible.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0  # calls under way in all threads; the first one redirects, the last one restores
_original: int | None = None
_sink: int | None = None  # a FILE* on the null device, opened once and never closed


def _c_stderr() -> ctypes.c_void_p | None:
    """The C library's variable ``stderr``, or None where it cannot be set."""
    if sys.platform == "darwin":
        name = "__stderrp"
    elif sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        name = "stderr"
    else:
        return None
    try:
        return ctypes.c_void_p.in_dll(ctypes.CDLL(None), name)
    except (OSError, ValueError):
        return None


_variable = _c_stderr()


def _open_sink() -> int | None:
    opener = ctypes.CDLL(None).fopen
    opener.restype = ctypes.c_void_p
    opener.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    stream: int | None = opener(os.devnull.encode(), b"we")  # e: not inherited by children
    return stream


def _restore_in_child() -> None:
    """A process forked in the middle of a call has no thread left that would restore."""
    global _lock, _depth
    _lock = threading.Lock()
    if _depth and _sink and _variable is not None:
        _variable.value = _original
    _depth = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_in_child)


@contextmanager
def quiet_c_stderr() -> Iterator[None]:
    """Drop what C code prints to ``stderr`` inside the block; safe in several threads at once."""
    global _depth, _original, _sink
    if _variable is None:
        yield
        return
    with _lock:
        if _depth == 0:
            _sink = _sink or _open_sink()
            if _sink:
                _original, _variable.value = _variable.value, _sink
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _sink:
                _variable.value = _original
