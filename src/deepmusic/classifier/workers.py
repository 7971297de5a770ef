"""Hearing in other processes: threads of one process wait for each other between their sums.

Each worker is a Python of its own that is given a classifier, then one file after another, over
its standard streams. It costs nobody anything when a worker dies: only the file that it was hearing
is in doubt, and that is tried once more while nothing else is heard.

The standard library's process pools run the main script again in every worker, so that a script
without ``if __name__ == "__main__"`` fails, and lose everything that is under way when one dies.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, Self

from deepmusic.classifier.verdict import Verdict
from deepmusic.errors import AudioError, DeepMusicError

if TYPE_CHECKING:
    from deepmusic.classifier.library import TrackClassifier

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
"""Environment that keeps the libraries under NumPy from taking all cores in every process."""

# GNU's C library hands large arrays back to the system after each use, and every page has to be
# asked for again: a tenth of the work. Other libraries do not look here.
_KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}

_CODE = """
import sys
sys.path[:] = {path}
from deepmusic.classifier.library import hear_file
from deepmusic.classifier.workers import serve
serve(hear_file)
"""


class Workers:
    """Processes that hear; as a classifier it may be asked from as many threads as there are.

    A process is started when it is first needed, or by :meth:`start`.

    Args:
        count: how many at most.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.digest = ""
        self._all = [_Worker() for _ in range(count)]
        # the last that was used comes first: few files start few processes
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for worker in self._all:
            self._idle.put(worker)
        self._alone = threading.Lock()
        self._classifier = b""

    def start(self) -> None:
        """Start all processes now, so that they get ready while this one does.

        Raises:
            DeepMusicError: the system allows no more processes.
        """
        for worker in self._all:
            worker.start()

    def give(self, classifier: TrackClassifier) -> None:
        """Say what to hear with, before the first file.

        Args:
            classifier: one that can be pickled.
        """
        self.digest = classifier.digest
        self._classifier = pickle.dumps(classifier, pickle.HIGHEST_PROTOCOL)

    def classify(self, source: str, *, max_seconds: float) -> Verdict:
        """The verdict on one file, or a verdict with a reason.

        Raises:
            AudioError: the process that heard it died, twice (code ``worker_died``).
            DeepMusicError: the system allows no more processes.
        """
        request = pickle.dumps((source, max_seconds))
        worker = self._idle.get()
        try:
            return worker.ask(self._classifier, request)
        except _DiedError:
            pass
        finally:
            self._idle.put(worker)
        # It may have died for want of memory: now nothing else is heard beside it.
        with self._alone:
            workers = [self._idle.get() for _ in range(self.count)]
            try:
                return workers[-1].ask(self._classifier, request)
            except _DiedError as error:
                raise AudioError(
                    f"{source!r} twice killed the process that heard it, by a want of memory or a "
                    "fault in a library; convert it to another format.",
                    code="worker_died",
                ) from error
            finally:
                for worker in workers:
                    self._idle.put(worker)

    def close(self) -> None:
        """End all processes at once, whatever they do."""
        for worker in self._all:
            worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _DiedError(Exception):
    """The process ended without an answer."""


class _Closed(BaseException):
    """The caller wants no more answers: nothing that could be said of a file, as an error is."""


class _Worker:
    """One process, or none yet; belongs to one thread at a time but for :meth:`close`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._knows_classifier = False
        self._is_closed = False
        self._lock = threading.Lock()  # no process may be started behind the back of close()

    def start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._is_closed:
                raise _Closed
            if self._process is None:
                self._process = _started()
                self._knows_classifier = False
            return self._process

    def ask(self, classifier: bytes, request: bytes) -> Verdict:
        process = self.start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if not self._knows_classifier:
                process.stdin.write(classifier)
                self._knows_classifier = True
            process.stdin.write(request)
            process.stdin.flush()
            verdict: Verdict = pickle.load(process.stdout)
        except Exception as error:  # the end of the stream, or half an answer before it
            self._end()
            raise _DiedError from error
        return verdict

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
        self._end()

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # held up by a disk or a network
            process.wait(timeout=1)
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(OSError):  # what was not sent yet cannot be
                stream.close()


def _started() -> subprocess.Popen[bytes]:
    # Ctrl-C is for the caller, who ends the workers: in a group of their own they do not get it
    apart: dict[str, Any] = {"process_group": 0}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    try:
        return subprocess.Popen(
            [sys.executable, "-c", _CODE.format(path=ascii(sys.path))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**_KEEP_MEMORY, **os.environ, **ONE_THREAD},
            **apart,
        )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DeepMusicError(
            f"No process could be started to hear in: {reason}; use fewer --jobs."
        ) from error


def serve(hear: Callable[..., Verdict]) -> NoReturn:
    """Be a worker: take a classifier, then answer each file with a verdict, until the caller ends.

    Args:
        hear: called with path, classifier and the most seconds to hear; it never raises.
    """
    # what libraries print must not get between the answers
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_take, args=(requests,), daemon=True).start()
    try:
        # while the caller reads the model
        import deepmusic.audio.decode
        import deepmusic.classifier.inference  # noqa: F401

        classifier = requests.get()
        while True:
            source, max_seconds = requests.get()
            pickle.dump(hear(source, classifier, max_seconds), answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except BaseException:
        if os.environ.get("DEEPMUSIC_DEBUG"):
            raise
        os._exit(1)  # the caller sees it, and says it of the file


def _take(requests: queue.SimpleQueue[Any]) -> None:
    """Read what is asked; when the caller is gone, whatever its end, go at once."""
    stream = sys.stdin.buffer
    try:
        while True:
            requests.put(pickle.load(stream))
    finally:
        os._exit(1)
