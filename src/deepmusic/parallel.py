"""One map over many files: in this process, in processes on this machine, or on a Dask cluster.

joblib dispatches the files. Each worker computes in one thread, so that one worker per core keeps
every core busy without contention.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from itertools import chain, islice
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from deepmusic.errors import DeepMusicError
from deepmusic.extras import need

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_R = TypeVar("_R")


class _HasPath(Protocol):
    @property
    def path(self) -> str: ...


_FileR = TypeVar("_FileR", bound=_HasPath)
_NamedR = TypeVar("_NamedR", bound=Any)  # a dataclass with ``path`` and ``error``

_CONNECT_TIMEOUT_S = 10.0


@contextmanager
def graceful_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the current step or file finish after Ctrl-C; a second one interrupts at once.

    Besides, a KeyboardInterrupt raised in a callback of a C library, such as libsndfile reading
    from a Python file, would be lost.

    Yields a function that returns whether Ctrl-C was pressed. Signals can be handled in the main
    thread only; elsewhere this does nothing.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, handle)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


class Pool(Protocol):
    """Runs a function on many files."""

    crash_errors: tuple[type[Exception], ...]
    """What ``results`` and ``run_isolated`` raise when a file crashed a worker."""

    def results(self, function: Callable[[str], _R], paths: Iterable[str]) -> Iterator[_R]:
        """Yield results in any order; paths are taken as workers become free."""

    def run_isolated(self, function: Callable[[str], _R], path: str) -> _R:
        """Return the result for one file, from a new worker process."""


def is_main_process() -> bool:
    """Whether this process, alone or under ``torchrun``, is the one that writes and reports."""
    return int(os.environ.get("RANK", "0")) == 0


def use_one_thread() -> None:
    """Make libraries that are not imported yet (NumPy, PyTorch) compute in one thread.

    Settings in the environment that somebody made before are left as they are.
    """
    for library in ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "VECLIB_MAXIMUM"):
        os.environ.setdefault(f"{library}_THREADS", "1")


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def single_threaded(function: Callable[[str], _R], path: str) -> _R:
    """Call a function with linear algebra limited to one thread."""
    with _libraries().limit(limits=1):
        return function(path)


def _start_worker() -> None:
    """Leave interrupts to the parent process, and keep freed memory in this one.

    What a worker prints, such as a C library its notes, goes to standard error: on standard output
    it would end up in the middle of the results.

    glibc returns large freed blocks to the system, so every block of samples would be mapped anew,
    which costs as much as processing it. Freeing one larger block first raises the threshold
    (mallopt(3), M_MMAP_THRESHOLD); on other platforms this has no effect.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):  # there may be no standard error
        os.dup2(2, 1)
    bytearray(31 << 20)


def cores() -> int:
    """Cores that this process may use; in a container, or bound to some, fewer than there are."""
    bound: Callable[[int], Any] | None = getattr(os, "sched_getaffinity", None)  # Linux
    number = len(bound(0)) if bound else os.cpu_count() or 1
    with suppress(OSError, ValueError), open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
        quota, period = map(int, file.read().split())  # ValueError: the quota is "max"
        number = min(number, math.ceil(quota / period))
    return max(1, number)


class _Processes:
    def __init__(self, workers: int) -> None:
        from concurrent.futures.process import BrokenProcessPool

        self.crash_errors: tuple[type[Exception], ...] = (BrokenProcessPool,)
        self._workers = workers

    def results(self, function: Callable[[str], _R], paths: Iterable[str]) -> Iterator[_R]:
        from joblib import Parallel, delayed

        if self._workers == 1:  # joblib would compute in this process
            yield from _one_process(function, paths)
            return
        parallel = Parallel(
            n_jobs=self._workers,
            backend="loky",
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="2 * n_jobs",
            inner_max_num_threads=1,
            initializer=_start_worker,
        )
        yield from parallel(delayed(single_threaded)(function, path) for path in paths)

    def run_isolated(self, function: Callable[[str], _R], path: str) -> _R:
        (row,) = _one_process(function, [path])
        return row


def _one_process(function: Callable[[str], _R], paths: Iterable[str]) -> Iterator[_R]:
    from joblib.externals.loky import ProcessPoolExecutor

    with ProcessPoolExecutor(1, initializer=_start_worker) as executor:
        for path in paths:
            yield executor.submit(single_threaded, function, path).result()


@contextmanager
def processes(workers: int) -> Iterator[Pool]:
    """Worker processes on this machine, by loky; all have ended when the block is left."""
    from joblib.externals.loky import get_reusable_executor

    # loky warns when an interrupt or a crash ends a worker; map_files handles both
    for message in ("A worker stopped while some", r"\d+ tasks which were still being processed"):
        warnings.filterwarnings("ignore", message, UserWarning)
    try:
        yield _Processes(workers)
    finally:
        get_reusable_executor().shutdown(kill_workers=True)


class _Cluster:
    def __init__(self, client: Any) -> None:
        from distributed import KilledWorker

        self.crash_errors: tuple[type[Exception], ...] = (KilledWorker,)
        self._client = client

    def results(self, function: Callable[[str], _R], paths: Iterable[str]) -> Iterator[_R]:
        from joblib import Parallel, delayed, parallel_config

        with parallel_config(backend="dask", client=self._client):  # Parallel keeps it
            parallel = Parallel(
                n_jobs=-1,
                return_as="generator_unordered",
                batch_size=1,
                pre_dispatch="4 * n_jobs",
            )
        yield from parallel(delayed(single_threaded)(function, path) for path in paths)

    def run_isolated(self, function: Callable[[str], _R], path: str) -> _R:
        row: _R = self._client.submit(single_threaded, function, path, pure=False).result()
        return row


@contextmanager
def cluster(address: str) -> Iterator[Pool]:
    """The workers of a Dask cluster.

    Args:
        address: of its scheduler, such as ``tcp://host:8786``.

    Raises:
        DeepMusicError: it cannot be reached.
        MissingLibraryError: the ``distributed`` package is not installed.
    """
    need("cluster")
    from distributed import Client

    try:
        connect: Any = Client  # untyped
        client = connect(address, timeout=_CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DeepMusicError(f"No Dask scheduler answers at {address!r}: {reason}.") from error
    try:
        yield _Cluster(client)
    finally:
        client.close()


def map_files(
    function: Callable[[str], _FileR],
    paths: Iterable[str],
    on_crash: Callable[[str], _FileR],
    *,
    workers: int = 1,
    dask: str | None = None,
) -> Iterator[_FileR]:
    """Call a function on each file and yield the results as they complete.

    A worker that crashes costs only time: the files it was working on are tried again, each in
    a separate process. Processes start when there is a path, and no more than there are paths.

    Args:
        function: takes a path and returns a result that names it as its ``path``; must pickle.
        paths: each is processed once, and taken as workers become free, from another thread.
        on_crash: gives the result for a file that crashed its process twice.
        workers: processes on this machine, of which at most one per core is started; with 1
            everything runs in this process.
        dask: address of a Dask scheduler whose workers see the same files; they are used instead.

    Yields:
        One result per path, in any order.

    Raises:
        DeepMusicError: the cluster cannot be reached, or the connection was lost.
    """
    if workers == 1 and dask is None:
        with graceful_interrupt() as is_interrupted:
            for path in _Distinct(paths):
                yield single_threaded(function, path)
                if is_interrupted():
                    raise KeyboardInterrupt
        return
    if dask is None:
        paths = iter(paths)
        first = dict.fromkeys(islice(paths, min(workers, cores())))
        if not first:
            return
        paths, workers = chain(first, paths), len(first)
    remaining = _Distinct(paths)
    running = remaining.running
    with processes(workers) if dask is None else cluster(dask) as pool:
        while True:
            with suppress(*pool.crash_errors):
                for row in pool.results(function, remaining):
                    del running[row.path]
                    yield row
            if not running:
                return
            for path in list(running):  # a worker crashed on one of these
                del running[path]
                try:
                    yield pool.run_isolated(function, path)
                except pool.crash_errors:
                    yield on_crash(path)


def under_name(result: _NamedR, path: str) -> _NamedR:
    """The result for a file as that for another of its paths, in its message, too."""
    if path == result.path:
        return result
    error = result.error and result.error.replace(repr(result.path), repr(path))
    return replace(result, path=path, error=error)


class _Distinct:
    """Paths without repetitions, to be taken from several threads; ``running`` has those taken."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = iter(paths)
        self._taken: set[str] = set()
        self.running: dict[str, None] = {}
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        with self._lock:
            path = next(path for path in self._paths if path not in self._taken)
            self._taken.add(path)
            self.running[path] = None
            return path
