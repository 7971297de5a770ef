"""Where work on many files is done: this process, processes of this machine, or a Dask cluster.

joblib hands the files out. Each worker computes in one thread, so that as many workers as cores
neither wait for nor disturb one another.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from deepmusic.errors import DeepMusicError, RequestError

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_Row = TypeVar("_Row")


class _OfFile(Protocol):
    @property
    def path(self) -> str: ...


_FileRow = TypeVar("_FileRow", bound=_OfFile)

_ANSWER_S = 10.0
"""No scheduler is waited for longer."""


class Pool(Protocol):
    """Runs a function on many files."""

    deaths: tuple[type[Exception], ...]
    """What :meth:`rows` and :meth:`alone` raise when a worker died of a file."""

    def rows(self, function: Callable[[str], _Row], paths: Iterable[str]) -> Iterator[_Row]:
        """Results in any order; paths are taken as workers become free."""

    def alone(self, function: Callable[[str], _Row], path: str) -> _Row:
        """The result for one file, of a worker that does nothing else."""


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def single_threaded(function: Callable[[str], _Row], path: str) -> _Row:
    """Call a function while linear algebra keeps to one thread."""
    with _libraries().limit(limits=1):
        return function(path)


def _begin() -> None:
    """Make a worker ready: interrupts are its parent's, and it keeps the memory that it frees.

    glibc gives large blocks back to the system when they are freed, so that every block of sound
    comes in fresh pages, which costs as much as what is done with it. Once a larger block has been
    freed it no longer does (mallopt(3), M_MMAP_THRESHOLD); elsewhere this does nothing.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bytearray(31 << 20)


class _Processes:
    deaths: tuple[type[Exception], ...] = (BrokenProcessPool,)

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def rows(self, function: Callable[[str], _Row], paths: Iterable[str]) -> Iterator[_Row]:
        from joblib import Parallel, delayed

        parallel = Parallel(
            n_jobs=self._workers,
            backend="loky",
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="2 * n_jobs",
            inner_max_num_threads=1,
            initializer=_begin,
        )
        yield from parallel(delayed(single_threaded)(function, path) for path in paths)

    def alone(self, function: Callable[[str], _Row], path: str) -> _Row:
        from joblib.externals.loky import ProcessPoolExecutor

        with ProcessPoolExecutor(1, initializer=_begin) as executor:
            row: _Row = executor.submit(single_threaded, function, path).result()
        return row


@contextmanager
def processes(workers: int) -> Iterator[Pool]:
    """So many processes of this machine, by loky; those that are left end with the block."""
    from joblib.externals.loky import get_reusable_executor

    # said by a thread of loky, when an interrupt or a kill ends workers: what then is done is ours
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
    try:
        yield _Processes(workers)
    finally:
        get_reusable_executor().shutdown(kill_workers=True)


class _Cluster:
    def __init__(self, client: Any) -> None:
        from distributed import KilledWorker

        self.deaths: tuple[type[Exception], ...] = (KilledWorker,)
        self._client = client

    def rows(self, function: Callable[[str], _Row], paths: Iterable[str]) -> Iterator[_Row]:
        from joblib import Parallel, delayed, parallel_config

        with parallel_config(backend="dask", client=self._client):  # Parallel keeps it
            parallel = Parallel(
                n_jobs=-1,
                return_as="generator_unordered",
                batch_size=1,
                pre_dispatch="4 * n_jobs",
            )
        yield from parallel(delayed(single_threaded)(function, path) for path in paths)

    def alone(self, function: Callable[[str], _Row], path: str) -> _Row:
        row: _Row = self._client.submit(single_threaded, function, path, pure=False).result()
        return row


@contextmanager
def cluster(address: str) -> Iterator[Pool]:
    """The workers of a Dask cluster.

    Args:
        address: of its scheduler, such as ``tcp://host:8786``.

    Raises:
        DeepMusicError: it cannot be reached.
        RequestError: the ``distributed`` package is not installed.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise RequestError(
            "Dask is not installed; run: pip install 'deepmusic[cluster]'."
        ) from error
    try:
        connect: Any = Client  # which has no types, where it is installed
        client = connect(address, timeout=_ANSWER_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        said = " ".join(str(error).split())
        raise DeepMusicError(f"No Dask scheduler answers at {address!r}: {said}.") from error
    try:
        yield _Cluster(client)
    finally:
        client.close()


def each_file(
    function: Callable[[str], _FileRow],
    paths: Iterable[str],
    on_death: Callable[[str], _FileRow],
    *,
    workers: int = 1,
    dask: str | None = None,
) -> Iterator[_FileRow]:
    """Call a function on each file, and give the results as they are done.

    A worker that dies costs nothing but time: what it had in hand is done again, each file in a
    process of its own.

    Args:
        function: takes a path and gives a result that names it as its ``path``; it can be pickled.
        paths: each is done once.
        on_death: gives the result for a file that twice ended the process that worked on it.
        workers: processes on this machine; one does all in this process.
        dask: address of the scheduler of a Dask cluster whose workers see the same files; they do
            it then.

    Yields:
        A result for each path, in any order.

    Raises:
        DeepMusicError: the cluster cannot be reached, or was lost.
    """
    left = list(dict.fromkeys(paths))
    if workers == 1 and dask is None:
        for path in left:
            yield single_threaded(function, path)
        return
    with processes(workers) if dask is None else cluster(dask) as pool:
        while left:
            in_hand: dict[str, None] = {}
            try:
                for row in pool.rows(function, _noted(left, in_hand)):
                    in_hand.pop(row.path)
                    yield row
                return
            except pool.deaths:
                suspects = list(in_hand)
            # files are handed out in order: all before the last suspect are done, or suspects
            left = left[left.index(suspects[-1]) + 1 :] if suspects else left
            for path in suspects:
                try:
                    yield pool.alone(function, path)
                except pool.deaths:
                    yield on_death(path)


def _noted(paths: Sequence[str], in_hand: dict[str, None]) -> Iterator[str]:
    for path in paths:
        in_hand[path] = None
        yield path
