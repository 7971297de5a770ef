"""Silences C libraries that write to standard error, and nothing else.

libmpg123, inside libsndfile, prints notes about damaged mp3 files past Python's ``sys.stderr``.
Redirecting file descriptor 2 would also swallow what other threads write in the meantime (a
progress bar, a traceback), so the C library's variable ``stderr`` is set instead, as the manual of
the GNU C library allows: only what C code prints through stdio is dropped, and only during our
calls. Where there is no such variable (musl, Windows) the notes stay visible.
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
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        return ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr")
    if sys.platform == "darwin":
        return ctypes.c_void_p.in_dll(ctypes.CDLL(None), "__stderrp")
    return None


_variable = _c_stderr()


def _open_sink() -> int | None:
    opener = ctypes.CDLL(None).fopen
    opener.restype = ctypes.c_void_p
    opener.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    stream: int | None = opener(os.devnull.encode(), b"we")  # e: not inherited by children
    return stream


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
