"""Classify many files: in several processes, and only those without a stored verdict.

A file that cannot be decoded never stops the others: its verdict carries the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Protocol

from deepmusic.audio import NotAudio
from deepmusic.classifier.verdict import Verdict
from deepmusic.errors import reason_of
from deepmusic.files import names_of_files
from deepmusic.parallel import map_files, under_name

if TYPE_CHECKING:
    from deepmusic.classifier.verdict_store import VerdictStore

MAX_SECONDS = 6 * 3600.0
"""Sound beyond this is not analysed, unless asked for."""


class TrackClassifier(Protocol):
    """What `classify_files` needs of a classifier.

    Without a true attribute ``is_picklable`` it runs in this process, one file after another.
    """

    def classify(self, source: str, *, max_seconds: float, segments: bool) -> Verdict:
        """The verdict on one file; any exception becomes its error."""


def classify_files(
    entries: Iterable[str | NotAudio],
    classifier: TrackClassifier,
    *,
    jobs: int = 1,
    store: VerdictStore | None = None,
    max_seconds: float = MAX_SECONDS,
    segments: bool = False,
) -> Iterator[Verdict]:
    """Classify files, in the order of the input.

    Args:
        entries: as `deepmusic.audio.find_audio` gives them; repetitions count once, and a file
            under several names (links) is classified once.
        classifier: the model.
        jobs: processes, at most one per core. Verdicts of a file that crashes its process twice
            have the code ``worker_died``.
        store: where verdicts are kept, and looked up first.
        max_seconds: seconds analysed of each file, at most.
        segments: whether verdicts carry the genres over time.

    Yields:
        One verdict per distinct entry, with an error where there is none.

    Raises:
        DataError: the store cannot be written.
    """
    waiting = deque(dict.fromkeys(entries))
    names = names_of_files(entry for entry in waiting if isinstance(entry, str))
    finished: dict[str, Verdict] = {}
    keys: dict[str, str | None] = {}

    def pending() -> Iterator[str]:
        for path in names:
            if store is not None:
                keys[path] = store.key(path)
                if stored := store.verdict(keys[path], path):
                    finish(stored)
                    continue
            yield path

    def finish(verdict: Verdict) -> None:
        finished.update((path, under_name(verdict, path)) for path in names[verdict.path])

    function = partial(_classify, classifier, max_seconds=max_seconds, segments=segments)
    workers = jobs if getattr(classifier, "is_picklable", False) else 1
    for verdict in map_files(function, pending(), _crashed, workers=workers):
        if store is not None:
            store.keep(keys[verdict.path], verdict)
        finish(verdict)
        yield from _next_ones(waiting, finished)
    yield from _next_ones(waiting, finished)


def _next_ones(waiting: deque[str | NotAudio], finished: dict[str, Verdict]) -> Iterator[Verdict]:
    """Take the verdicts out that are next in the order of the input."""
    while waiting:
        entry = waiting[0]
        if isinstance(entry, NotAudio):
            yield Verdict(entry.path, error=entry.error, code=entry.code)
        elif entry in finished:
            yield finished.pop(entry)
        else:
            return
        waiting.popleft()


def _classify(
    classifier: TrackClassifier, path: str, *, max_seconds: float, segments: bool
) -> Verdict:
    try:
        return classifier.classify(path, max_seconds=max_seconds, segments=segments)
    except Exception as error:  # a bug that one file triggers must not cost the others
        code, message = reason_of(error, path, "could not be classified")
        return Verdict(path, error=message, code=code)


@lru_cache(maxsize=2)
def loaded_once(kind: type[Any], path: str) -> Any:
    """A classifier read from its file, once per process: each file to classify names it anew."""
    return kind.load(path)


def _crashed(path: str) -> Verdict:
    message = (
        f"{path!r} crashed the process that decoded it twice, by lack of memory or a fault in a "
        "library; convert it to another format."
    )
    return Verdict(path, error=message, code="worker_died")
