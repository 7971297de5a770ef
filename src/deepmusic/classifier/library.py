"""Classifying a library: finding its sound files, and hearing each one that is new.

One file that cannot be read never stops the rest: it gets a reason in place of a verdict.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

from deepmusic.audio.find import find_audio
from deepmusic.classifier.results import ResultsFile, content_hash
from deepmusic.classifier.verdict import Verdict
from deepmusic.classifier.workers import Workers
from deepmusic.errors import AudioError, DeepMusicError

_AHEAD = 64  # tracks a thread may be ahead of the output, which keeps the order of the input


class TrackClassifier(Protocol):
    """What this module needs of a classifier; it must be safe to use from several threads.

    One with a true attribute ``is_picklable`` can be pickled, and jobs then run in processes.
    """

    @property
    def digest(self) -> str:
        """A hash of all that decides a verdict."""

    def classify(self, source: str, *, max_seconds: float) -> Verdict:
        """The verdict on one file.

        Raises:
            AudioError: no sound could be had from it.
        """


def walk_audio(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str | Verdict]:
    """Find the sound files that paths name, as :func:`deepmusic.audio.find_audio` does.

    Returns:
        Paths in order; a verdict with a reason stands for what can be no track.
    """
    for entry in find_audio(paths):
        yield entry if isinstance(entry, str) else _failed(entry.path, entry.error, entry.code)


def classify_library(
    entries: Iterable[str | Verdict],
    classifier: TrackClassifier,
    *,
    jobs: int = 1,
    results: ResultsFile | None = None,
    max_seconds: float = 6 * 3600.0,
    segments: bool = False,
    workers: Workers | None = None,
) -> Iterator[Verdict]:
    """Classify tracks, several at the same time, in the order of the input.

    Jobs run in processes of their own where the classifier is portable, as one on the CPU is, else
    in threads. A file that twice kills the process that hears it gets the reason ``worker_died``.

    Args:
        entries: paths, or verdicts to be passed on, as :func:`walk_audio` gives them.
        classifier: hears one track.
        jobs: how many tracks are heard at the same time.
        results: where verdicts are kept; what is found there is not heard again.
        max_seconds: no more than this is heard of a track.
        segments: whether verdicts over time are wanted; they are dropped otherwise.
        workers: processes to take, when some were started beforehand; the caller closes them.

    Returns:
        One verdict an entry, with a reason in it where there is none. Closing the iterator drops
        what was not begun yet.

    Raises:
        DataError: the results cannot be written.
        ValueError: ``jobs`` is below 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs is at least 1; got {jobs}")

    with ExitStack() as stack:
        hearing: TrackClassifier = classifier
        if jobs > 1 and getattr(classifier, "is_picklable", False):
            hearing = processes = workers or stack.enter_context(Workers(jobs))
            processes.give(classifier)

        def hear(entry: str | Verdict) -> Verdict:
            if isinstance(entry, Verdict):
                return entry
            verdict = _remembered(entry, hearing, results, max_seconds, segments)
            return verdict if segments else replace(verdict, segments=())

        if jobs == 1:
            yield from map(hear, entries)
            return
        executor = ThreadPoolExecutor(jobs, thread_name_prefix="classify")
        # before the processes end: what was not begun must not find them gone
        stack.callback(executor.shutdown, wait=False, cancel_futures=True)
        waiting: deque[Future[Verdict]] = deque()
        for entry in entries:
            waiting.append(executor.submit(hear, entry))
            if len(waiting) >= jobs * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _remembered(
    path: str,
    classifier: TrackClassifier,
    results: ResultsFile | None,
    max_seconds: float,
    segments: bool,
) -> Verdict:
    """The verdict on one file, from the results where it is known; failures are tried again."""
    if results is None:
        return hear_file(path, classifier, max_seconds)
    try:
        # a pipe has no content to hash, and opening it would wait for ever
        key = content_hash(path) if os.path.isfile(path) else ""
    except OSError:
        key = ""  # the classifier says why
    known = results.find(key, path=path, segments=segments) if key else None
    if known is not None:
        return known
    verdict = hear_file(path, classifier, max_seconds)
    results.add(key, verdict if segments else replace(verdict, segments=()))
    return verdict


def hear_file(path: str, classifier: TrackClassifier, max_seconds: float) -> Verdict:
    """The verdict on one file, with a reason in it where there is none; it raises nothing."""
    try:
        return replace(classifier.classify(path, max_seconds=max_seconds), path=path)
    except AudioError as error:
        return _failed(path, str(error), error.code)
    except DeepMusicError as error:
        return _failed(path, str(error), "failed")
    except MemoryError:
        return _failed(path, f"{path!r} needs more memory than there is.", "memory")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return _failed(path, f"{path!r} cannot be read: {reason}.", "unreadable")
    except Exception as error:  # a bug that one file uncovers must not cost the others
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return _failed(path, f"{path!r} could not be classified: unexpected {said}.", "unexpected")


def _failed(path: str, error: str, code: str) -> Verdict:
    return Verdict(path=path, error=error, code=code)
