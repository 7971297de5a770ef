"""Whether the coding of files tells their genres apart: a model may learn it instead of the music.

Where one genre comes from another source than the rest, its files often have another codec, bit
rate, sample rate, bandwidth, number of channels or level. A small model that sees only these, on
tracks by artists it does not know, shows how much there is to learn (a Clever Hans, as Sturm called
it: A simple method to determine if a music information retrieval system is a "horse", 2014).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio.scan import VERSION, AudioScan, LevelMeter
from deepmusic.datasets.folder import FolderDataset, Track, map_threads
from deepmusic.datasets.groups import group_tracks
from deepmusic.errors import reason_of
from deepmusic.store import Store

NUMBERS = ("bit_rate", "sample_rate", "bandwidth_hz", "channels", "level_db")
"""Fields of `AudioScan` that describe the coding, besides ``codec``."""

_MAX_SHARE = 0.5  # of the way from chance to certainty: more is a reason to warn
_FOLDS, _ROUNDS = 5, 3
_WILSON_Z = 2.576  # an interval of 99 %


@dataclass(frozen=True)
class GenreCoding:
    """The coding of a genre's tracks."""

    genre: str
    tracks: int  # that can be decoded
    codecs: Mapping[str, int]  # tracks by codec, the most common first
    # smallest, median and largest; None where no track has a value
    bit_rate: tuple[float, float, float] | None  # bits per second
    sample_rate: tuple[float, float, float] | None  # Hz
    bandwidth_hz: tuple[float, float, float] | None  # as in `BandwidthMeter`
    channels: tuple[float, float, float] | None
    level_db: tuple[float, float, float] | None  # dBFS, silence left out


@dataclass(frozen=True)
class CodingReport:
    """The coding of a data set by genre, and how well it tells the genre."""

    genres: tuple[GenreCoding, ...]
    bandwidth_hz: int | None  # nine of ten tracks have this or more
    accuracy: float | None = None  # of a model of the coding alone; None where it is not measured
    at_least: float | None = None  # the lower end of a 99 % interval
    chance: float | None = None  # share of the largest genre

    @property
    def tells_genre(self) -> bool:
        """Whether the accuracy is high, and no luck."""
        if self.accuracy is None or self.at_least is None or self.chance is None:
            return False
        high = self.chance + _MAX_SHARE * (1 - self.chance)
        return self.accuracy >= high and self.at_least > self.chance

    @property
    def summary(self) -> str:
        """One sentence on the accuracy; a warning where it is high."""
        if self.accuracy is None:
            return (
                "Whether coding alone tells the genre was not measured: that needs scikit-learn, "
                "and at least two genres with five tracks by two artists each."
            )
        text = (
            f"Coding alone tells the genre of {self.accuracy:.0%} of the tracks, by artists "
            f"outside the training data (chance: {self.chance:.0%})"
        )
        if not self.tells_genre:
            return f"{text}."
        return (
            f"Warning: {text[0].lower()}{text[1:]}: a model may learn the coding instead of the "
            "music; take all genres from the same sources."
        )

    def rows(self) -> list[tuple[str, ...]]:
        """A table for people, with a heading."""
        heading = ("genre", "tracks", "codec", "kbit/s", "kHz", "bandwidth kHz", "channels", "dBFS")
        return [heading, *map(_row, self.genres)]

    def card(self, reliable_hz: int | None = None) -> dict[str, Any]:
        """What a model says about the coding of its training tracks.

        Verdicts on sound of less bandwidth than `reliable_hz`, or these tracks have, are *unsure*.
        """
        known = [hz for hz in (reliable_hz, self.bandwidth_hz) if hz is not None]
        return {"coding": self.to_dict(), "reliable_hz": min(known, default=None)}

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON types."""
        return {**asdict(self), "tells_genre": self.tells_genre, "summary": self.summary}


def scan_beginning(path: str | os.PathLike[str], *, seconds: float = 20.0) -> AudioScan:
    """Scan the first seconds of a file, without hash and fingerprint: some 25 ms.

    Like `scan_file` it raises nothing. The duration is that of the whole file if its header says
    so, and otherwise 0; faults are not looked for.
    """
    from deepmusic.audio import open_audio  # loads the decoders
    from deepmusic.audio.ffmpeg import read_header

    name, meter = os.fspath(path), LevelMeter()
    try:
        with open_audio(name, sample_rate=None, max_seconds=seconds, on_block=meter.add) as stream:
            for _ in stream:
                pass
        duration_s, bit_rate = read_header(name)
        facts = {name: getattr(stream, name) for name in ("channels", "container", "codec")}
        return AudioScan(
            name,
            duration_s=duration_s or 0.0,
            bit_rate=bit_rate,
            sample_rate=stream.source_rate,
            **facts,
            **meter.levels(),
        )
    except Exception as error:  # a bug that one file triggers must not stop the others
        code, message = reason_of(error, name, "was not scanned")
        return AudioScan(name, code=code, error=message)


def dataset_coding(
    dataset: FolderDataset,
    *,
    cache: str | os.PathLike[str] | None = None,
    workers: int | None = None,
) -> CodingReport:
    """Report the coding of a data set, from the header and the first seconds of each track.

    Args:
        dataset: the tracks.
        cache: a `Store` that keeps what was measured by content; None keeps nothing.
        workers: threads.

    Raises:
        DataError: the cache is something else, or cannot be written.
    """
    fields = ("code", "codec", *NUMBERS)
    with nullcontext() if cache is None else Store(cache, "codings", {"version": VERSION}) as store:

        def coding(track: Track) -> AudioScan:
            known = store.get(track.content_hash) if store is not None else None
            if known is not None:
                return AudioScan(track.path, **known)
            scan = scan_beginning(dataset.file(track))
            if store is not None and not scan.code:
                store.put(track.content_hash, {name: getattr(scan, name) for name in fields})
            return scan

        scans = list(map_threads(coding, dataset.tracks, workers=workers))
    return coding_report(dataset.tracks, scans)


def coding_report(tracks: Sequence[Track], scans: Sequence[AudioScan]) -> CodingReport:
    """Describe the coding of tracks by genre, and measure whether it tells the genre.

    Args:
        tracks: of a data set.
        scans: one per track; those with a code do not count.
    """
    pairs = [(track, scan) for track, scan in zip(tracks, scans, strict=True) if not scan.code]
    by_genre: dict[str, list[AudioScan]] = {}
    for track, scan in pairs:
        by_genre.setdefault(track.genre, []).append(scan)
    genres = tuple(_genre_coding(genre, some) for genre, some in sorted(by_genre.items()))
    bandwidths = [scan.bandwidth_hz for _, scan in pairs if scan.bandwidth_hz is not None]
    low = round(float(np.quantile(bandwidths, 0.1, method="lower"))) if bandwidths else None
    return CodingReport(genres, low, *_accuracy(pairs))


def _genre_coding(genre: str, scans: Sequence[AudioScan]) -> GenreCoding:
    ranges = {}
    for name in NUMBERS:
        values = [v for scan in scans if (v := getattr(scan, name)) is not None]
        ranges[name] = tuple(np.quantile(values, (0, 0.5, 1)).tolist()) if values else None
    codecs = dict(Counter(scan.codec for scan in scans).most_common())
    return GenreCoding(genre, len(scans), codecs, **ranges)


def _accuracy(
    pairs: Sequence[tuple[Track, AudioScan]],
) -> tuple[float | None, float | None, float | None]:
    """Accuracy on artists that a tree does not know, the lower end of its interval, and chance."""
    groups = np.array(group_tracks([track for track, _ in pairs]), np.int64)
    labels = np.array([track.genre for track, _ in pairs])
    usable = [
        genre
        for genre in dict.fromkeys(labels.tolist())
        if len(set(groups[labels == genre])) > 1 and (labels == genre).sum() >= _FOLDS
    ]
    if len(usable) < 2 or find_spec("sklearn") is None:
        return None, None, None
    kept = np.isin(labels, usable)
    labels, groups = labels[kept], groups[kept]
    facts = _matrix([scan for (_, scan), keep in zip(pairs, kept, strict=True) if keep])
    accuracy = _cross_validated(facts, labels, groups)
    count = len(set(groups.tolist()))  # tracks of a group are not independent
    z = _WILSON_Z
    spread = z * np.sqrt(accuracy * (1 - accuracy) / count + z**2 / (4 * count**2))
    at_least = (accuracy + z**2 / (2 * count) - spread) / (1 + z**2 / count)
    largest = max(Counter(labels.tolist()).values())
    return accuracy, float(at_least), largest / len(labels)


def _cross_validated(
    facts: NDArray[np.float64], labels: NDArray[np.str_], groups: NDArray[np.int64]
) -> float:
    """Mean accuracy over folds that divide no group."""
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.tree import DecisionTreeClassifier

    right = 0
    for seed in range(_ROUNDS):
        folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
        for train, test in folds.split(facts, labels, groups):
            tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=2, random_state=seed)
            tree.fit(facts[train], labels[train])
            right += int((tree.predict(facts[test]) == labels[test]).sum())
    return right / (_ROUNDS * len(labels))


def _matrix(scans: Sequence[AudioScan]) -> NDArray[np.float64]:
    """What the model sees, ``(tracks, facts)``: numbers, and one column per codec."""
    codecs = sorted({scan.codec for scan in scans})
    return np.array(
        [
            [
                *(-1000.0 if (v := getattr(scan, name)) is None else v for name in NUMBERS),
                *(scan.codec == codec for codec in codecs),
            ]
            for scan in scans
        ],
        np.float64,
    )


def _row(genre: GenreCoding) -> tuple[str, ...]:
    def text(values: tuple[float, float, float] | None, form: str, factor: float = 1) -> str:
        if values is None:
            return "-"
        low, middle, high = (format(value * factor, form) for value in values)
        return middle if low == high else f"{middle} ({low} to {high})"

    codecs = ", ".join(
        name if count == genre.tracks else f"{name} {count / genre.tracks:.0%}"
        for name, count in genre.codecs.items()
    )
    return (
        genre.genre,
        f"{genre.tracks:,}",
        codecs,
        text(genre.bit_rate, ".0f", 1e-3),
        text(genre.sample_rate, "g", 1e-3),
        text(genre.bandwidth_hz, ".1f", 1e-3),
        text(genre.channels, "g"),
        text(genre.level_db, ".0f"),
    )
