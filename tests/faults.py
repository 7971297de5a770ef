"""Make the n-th open, read, write, flush or rename in a folder fail, or kill the process there.

What goes through Python's ``open`` and ``os`` is counted; what C libraries open by themselves is
not: `small_files` limits these, as a full disk does.
"""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deepmusic.errors import DeepMusicError

FAULTS = ("full", "broken", "memory")
"""A disk that is full from then on, a single failure of it, and no more memory."""
_OPEN = io.open
_LEFTOVER = re.compile(r"\.(tmp|part|unpacking|source)$|-journal$")
_CALLS = ("open", "mkdir", "rename", "replace", "link", "fsync", "sendfile", "write", "read")


class Injector:
    """Counts calls on files below a folder, and lets one of them fail.

    Args:
        folder: calls on other files are left alone.
        at: which call fails, from 1; 0 counts only.
        fault: one of `FAULTS`, or ``"kill"``.
    """

    def __init__(self, folder: Path, at: int, fault: str) -> None:
        self.folder, self.at, self.fault = os.path.realpath(folder), at, fault
        self.calls: list[str] = []

    @property
    def has_failed(self) -> bool:
        return 0 < self.at <= len(self.calls)

    def is_watched(self, file: Any) -> bool:
        if isinstance(file, int):
            try:
                file = os.readlink(f"/proc/self/fd/{file}")
            except OSError:  # not Linux: few other files are written meanwhile
                return True
        path = os.path.abspath(os.fsdecode(file))
        return path == self.folder or path.startswith(self.folder + os.sep)

    def count(self, call: str, file: Any) -> None:
        """Raise if it is this call's turn to fail."""
        if not self.is_watched(file):
            return
        if isinstance(file, int) and call == "open" and self.fault not in ("memory", "kill"):
            return  # a file that is open already
        self.calls.append(f"{call} {file}")
        is_turn = len(self.calls) == self.at
        if self.fault == "full" and self.has_failed and not call.startswith("read"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), _name(file))
        if is_turn and self.fault == "broken":
            raise OSError(errno.EIO, os.strerror(errno.EIO), _name(file))
        if is_turn and self.fault == "memory":
            raise MemoryError
        if is_turn and self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    def open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """In place of the builtin: the same layers on a raw file that counts."""
        if not self.is_watched(file):
            return _OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
        is_read = not set(mode) & set("wxa+")
        self.count("read: open" if is_read else "open", file)
        raw = _CountedFile(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        raw.injector = self
        if buffering == 0:
            return raw
        buffered: Any = io.BufferedReader(raw) if is_read else io.BufferedWriter(raw)
        if "+" in mode:
            buffered = io.BufferedRandom(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)


class _CountedFile(io.FileIO):
    injector: Injector

    def read(self, size: int = -1) -> Any:
        self.injector.count("read", self.name)
        return super().read(size)

    def readall(self) -> Any:
        self.injector.count("read", self.name)
        return super().readall()

    def readinto(self, buffer: Any) -> Any:
        self.injector.count("read", self.name)
        return super().readinto(buffer)

    def write(self, data: Any) -> Any:
        try:
            self.injector.count("write", self.name)
        except OSError:
            super().write(memoryview(data)[: len(data) // 2])  # half of it is there
            raise
        return super().write(data)


def _name(file: Any) -> str | None:
    return None if isinstance(file, int) else os.fsdecode(file)


@contextmanager
def failing(folder: Path, at: int, fault: str) -> Iterator[Injector]:
    """Let the ``at``-th call on files below ``folder`` fail."""
    injector = Injector(folder, at, fault)

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, *rest: Any, **options: Any) -> Any:
            if name != "open" or rest[0] & (os.O_WRONLY | os.O_RDWR):  # not folders, to sync them
                injector.count(name, file)
            return function(file, *rest, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in _CALLS:
            patch.setattr(os, name, counted(name, getattr(os, name)))
        for module in (io, builtins):
            patch.setattr(module, "open", injector.open)
        yield injector


def each_fault(
    operation: Callable[[Path], object],
    check: Callable[[Path], object],
    *,
    prepare: Callable[[Path], object] = lambda folder: None,
    finished: Callable[[Path], object] = lambda folder: None,
    faults: tuple[str, ...] = FAULTS,
    at: Callable[[int], bool] = lambda n: True,
    allowed: tuple[type[BaseException], ...] = (DeepMusicError,),
) -> int:
    """Let every call of an operation fail in turn, and then let it be done again.

    Args:
        operation: takes a folder; raises a `DeepMusicError` of one sentence where it fails.
        check: of the folder, after each failure.
        prepare: makes the folder's content before the operation.
        finished: checks it after the operation that succeeds.
        faults: which to try; ``"kill"`` ends a process of its own.
        at: which calls fail.
        allowed: other errors that may be raised.

    Returns:
        The number of failures.
    """
    failures = 0
    for fault in faults:
        for n in filter(at, itertools.count(1)):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                prepare(folder)
                if fault == "kill":
                    has_failed = _is_killed(operation, folder, n)
                else:
                    with failing(folder, n, fault) as injector:
                        expected = (*allowed, *((MemoryError,) if fault == "memory" else ()))
                        try:
                            operation(folder)
                        except expected as error:
                            _assert_one_sentence(error)
                            if not injector.has_failed:
                                raise
                        except BaseException as error:
                            error.add_note(f"{fault} at {n}: {injector.calls[n - 1 :]}")
                            raise
                    has_failed = injector.has_failed
                try:
                    check(folder)
                    operation(folder)
                    check(folder)
                    finished(folder)
                    leftovers = [p.name for p in folder.rglob("*") if _LEFTOVER.search(p.name)]
                    assert leftovers == []
                except BaseException as error:
                    error.add_note(f"after {fault} at {n}")
                    raise
            if not has_failed:
                break
            failures += 1
    return failures


def _assert_one_sentence(error: BaseException) -> None:
    if isinstance(error, MemoryError):
        return
    message = str(error)
    assert message.endswith(".")
    assert "\n" not in message
    assert "Errno" not in message


def _is_killed(operation: Callable[[Path], object], folder: Path, at: int) -> bool:
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    child = os.fork()
    if child == 0:
        try:
            with failing(folder, at, "kill"):
                operation(folder)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Let every write beyond ``size`` bytes of a file fail, in C libraries too."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
