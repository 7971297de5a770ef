"""Checking a data set: what each file really holds, which are copies, and what a split leaks.

Every file is decoded to its end. What is found has a code that programs can test for; codes of
:data:`FAULTS` mean that a file or a label cannot be relied on, those of :data:`NOTES` that somebody
should know.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepmusic.audio import AUDIO_EXTENSIONS, NotAudio
from deepmusic.audio.scan import MAX_SECONDS, AudioScan, scan_files
from deepmusic.datasets.folder import FolderDataset, Track
from deepmusic.datasets.groups import group_tracks
from deepmusic.datasets.near_duplicates import SoundMatch, grouped, sound_matches
from deepmusic.errors import DataError, RequestError
from deepmusic.files import write_atomically
from deepmusic.version import __version__

FAULTS = {
    "cut_off": "the end of the file is missing",
    "damaged": "parts cannot be decoded",
    "header_length": "the header promises more sound than there is",
    "not_finite_samples": "some samples are NaN, infinite or beyond all measure",
    "silent": "there is nothing to hear",
    "checksum": "the file is another one than its checksum says",
    "label_conflict": "the same sound lies in another genre as well",
    "artist_leak": "the same artist stands in another part of a split",
    "album_leak": "the same album stands in another part of a split",
    "duplicate_leak": "the same sound stands in another part of a split",
    "changed": "the splits do not name the file",
}
"""Codes of what makes a file or its label unreliable, besides those of files without sound."""

NOTES = {
    "exact_duplicate": "another file has the same bytes",
    "near_duplicate": "another file has the same sound in other bytes",
    "mostly_silent": "at least half of the time is below -60 dBFS",
    "clipped": "at least 0.5 % of the samples stand at full scale, three or more in a row",
    "dc_offset": "the mean of a channel is 0.02 or more away from 0",
    "channels_cancel": "next to nothing is left when the channels are mixed to mono",
    "low_rate": "less than 16,000 samples per second: what is above 8 kHz is missing",
    "short": "less than 5 s of sound",
    "longer_than_header": "there is more sound than the header promises",
    "too_long": "only the first part was heard",
    "unlisted": "the table of checksums does not name the file",
}
"""Codes of what somebody should know, and may be as it should."""

_HALF = 0.5
_CLIPPED = 0.005
_OFFSET = 0.02
_CANCELLED = 0.01  # of the energy: -20 dB
_LOW_RATE = 16_000
_SHORT_S = 5.0
_PADDING_S = 0.25  # a header that misses by less counts without the coder's padding
_DIGESTS = {32: "md5", 40: "sha1", 64: "sha256"}
_COLUMNS = (
    "path", "status", "codes", "messages", "duration_s", "header_s", "sample_rate", "channels",
    "container", "codec", "decoder", "peak", "offset", "silent_share", "zero_share",
    "clipped_share", "mono_share", "size", "sha256", "sound_group", "genre", "artist", "album",
    "parts",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """Something about a file.

    Args:
        code: why, such as ``"clipped"``; a key of :data:`FAULTS` or :data:`NOTES`, or the code of
            a file without sound.
        message: one sentence for a person.
    """

    code: str
    message: str

    @property
    def is_fault(self) -> bool:
        """Whether the file or its label cannot be relied on."""
        return self.code not in NOTES


@dataclass(frozen=True)
class CheckedFile:
    """A file and what was found.

    Args:
        path: as it was given or found.
        findings: in no order of weight; empty where all is well.
        heard: what was measured; without sound it is zero.
        sound_group: the same for files that sound alike; None where there is no other one.
        track: genre, artist and album where the file is one of a data set.
        parts: the part in each fold, where splits were given.
    """

    path: str
    findings: tuple[Finding, ...]
    heard: AudioScan
    sound_group: str | None = None
    track: Track | None = None
    parts: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """``"fault"``, ``"note"`` or ``"ok"``."""
        if any(finding.is_fault for finding in self.findings):
            return "fault"
        return "note" if self.findings else "ok"

    def to_dict(self) -> dict[str, Any]:
        """What a report holds of the file; codes and messages as lists."""
        heard, track = self.heard, self.track
        row = {name: getattr(heard, name) for name in _COLUMNS if hasattr(heard, name)}
        for name in ("peak", "offset", "silent_share", "zero_share", "clipped_share", "mono_share"):
            row[name] = round(row[name], 6)
        row |= {
            "path": self.path,
            "status": self.status,
            "codes": [finding.code for finding in self.findings],
            "messages": [finding.message for finding in self.findings],
            "sound_group": self.sound_group,
            "genre": track and track.genre,
            "artist": track and track.artist,
            "album": track and track.album,
            "parts": list(self.parts),
        }
        return {name: row[name] for name in _COLUMNS}


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Args:
        files: one a path, in the order they were given.
        notes: sentences about the whole.
    """

    files: tuple[CheckedFile, ...]
    notes: tuple[str, ...] = ()

    @property
    def has_faults(self) -> bool:
        """Whether anything is wrong with any file."""
        return any(file.status == "fault" for file in self.files)

    def summary(self) -> dict[str, Any]:
        """Files by status, files by code, and seconds of sound."""
        status = Counter(file.status for file in self.files)
        codes = Counter(
            code for file in self.files for code in {finding.code for finding in file.findings}
        )
        return {
            "files": len(self.files),
            **{name: status[name] for name in ("ok", "note", "fault")},
            "duration_s": round(sum(file.heard.duration_s for file in self.files), 3),
            "codes": dict(sorted(codes.items(), key=lambda item: (-item[1], item[0]))),
        }


def check_files(
    entries: Iterable[str | NotAudio],
    *,
    dataset: FolderDataset | None = None,
    splits: str | os.PathLike[str] | None = None,
    checksums: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    workers: int = 1,
    dask: str | None = None,
    max_seconds: float = MAX_SECONDS,
    on_heard: Callable[[AudioScan], object] | None = None,
) -> CheckReport:
    """Decode every file and report what is wrong, with the file and with the whole.

    Args:
        entries: paths, and what can be no track, as :func:`deepmusic.audio.find_audio` gives them.
        dataset: check its tracks instead, and its genres for the same sound in two of them; its
            problems are reported as well.
        splits: of the data set, by :func:`deepmusic.datasets.write_splits`: no artist, album or
            sound may stand in two parts of a fold.
        checksums: a table of lines ``CHECKSUM  PATH`` (MD5, SHA-1 or SHA-256; paths from the
            table's folder), such as FMA's ``checksums``.
        cache: a store of scans; a second run scans only new and changed files.
        workers: processes on this machine; one does all in this process.
        dask: address of the scheduler of a Dask cluster whose workers see the same files, instead.
        max_seconds: no more than this of a file is heard.
        on_heard: called in this thread with each result, in any order.

    Returns:
        The report; a file that cannot be decoded is in it with its reason.

    Raises:
        DataError: splits, checksums or the cache cannot be read, or are something else.
        RequestError: splits without a data set.
        DeepMusicError: the cluster cannot be reached.
    """
    tracks: dict[str, Track] = {}
    if dataset is not None:
        tracks = {str(dataset.file(track)): track for track in dataset.tracks}
        known: list[str | NotAudio] = [
            NotAudio(str(dataset.root / problem.path), problem.message, problem.code)
            for problem in dataset.problems
        ]
        entries = sorted([*known, *tracks], key=_place)
    elif splits is not None:
        raise RequestError("Splits are of a data set; name one folder DIR/GENRE/*.")
    order = list(dict.fromkeys(entries))
    sums = None if checksums is None else _read_checksums(Path(checksums))
    parts = {} if splits is None else _read_parts(Path(splits))
    heard = {
        entry.path: AudioScan(entry.path, code=entry.code, error=entry.error)
        for entry in order
        if isinstance(entry, NotAudio)
    }
    if on_heard is not None:
        for broken_one in heard.values():
            on_heard(broken_one)
    for found in scan_files(
        [entry for entry in order if isinstance(entry, str)],
        cache=cache,
        workers=workers,
        dask=dask,
        algorithm=sums.algorithm if sums is not None else None,
        max_seconds=max_seconds,
    ):
        heard[found.path] = found
        if on_heard is not None:
            on_heard(found)
    paths = list(dict.fromkeys(_place(entry) for entry in order))
    found_of: dict[str, list[Finding]] = {path: _alone(heard[path]) for path in paths}
    copies = _Copies([heard[path] for path in paths])
    for path, finding in copies.findings():
        found_of[path].append(finding)
    groups = copies.groups()
    if sums is not None:
        for path, finding in sums.findings([heard[path] for path in paths]):
            found_of.setdefault(path, []).append(finding)
            heard.setdefault(path, AudioScan(path))
    tracks = {path: replace(track, sound_group=groups.get(path)) for path, track in tracks.items()}
    for path, finding in _conflicts(tracks, groups):
        found_of[path].append(finding)
    part_of = {path: parts.get(track.path, ()) for path, track in tracks.items()}
    if splits is not None:
        for path, finding in _leaks(tracks, part_of):
            found_of[path].append(finding)
    return CheckReport(
        tuple(
            CheckedFile(
                path,
                tuple(found_of[path]),
                heard[path],
                groups.get(path),
                tracks.get(path),
                part_of.get(path, ()),
            )
            for path in found_of
        ),
        dataset.notes if dataset is not None else (),
    )


def write_report(path: str | os.PathLike[str], report: CheckReport) -> None:
    """Write a report for programs: JSON, or one row a file as CSV or Parquet, by the ending.

    In CSV and Parquet, codes are joined by ``;``, messages by spaces and parts by ``,``.

    Args:
        path: the file.
        report: what was found.

    Raises:
        RequestError: the name has another ending.
        DeepMusicError: the file cannot be written.
    """
    ending = report_ending(path)
    rows = [file.to_dict() for file in report.files]
    if ending == ".json":
        about = {
            "format": "deepmusic check",
            "version": 1,
            "deepmusic": __version__,
            "summary": report.summary(),
            "notes": list(report.notes),
        }
        with write_atomically(path) as file:  # one line a file, so that a person can read it
            file.write(json.dumps(about)[:-1] + ', "files": [\n')
            file.write(",\n".join(map(json.dumps, rows)))
            file.write("\n]}\n")
        return
    for row in rows:
        for name, mark in (("codes", ";"), ("messages", " "), ("parts", ",")):
            row[name] = mark.join(row[name])
        for name, value in row.items():
            if isinstance(value, str):
                row[name] = _written(value)
    if ending == ".csv":
        with write_atomically(path) as file:
            table = csv.DictWriter(file, _COLUMNS, lineterminator="\r\n")
            table.writeheader()
            table.writerows(rows)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = dict.fromkeys(("sample_rate", "channels", "size"), pa.int64())
    numbers |= dict.fromkeys((name for name in _COLUMNS if name.endswith("_s")), pa.float64())
    numbers |= dict.fromkeys(("peak", "offset"), pa.float64())
    numbers |= dict.fromkeys((n for n in _COLUMNS if n.endswith("_share")), pa.float64())
    schema = pa.schema([(name, numbers.get(name, pa.string())) for name in _COLUMNS])
    with write_atomically(path, "wb") as binary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), binary, compression="zstd")


def report_ending(path: str | os.PathLike[str]) -> str:
    """The ending of a report's name.

    Raises:
        RequestError: it is none of .json, .csv and .parquet.
    """
    ending = Path(path).suffix.lower()
    if ending not in (".json", ".csv", ".parquet"):
        raise RequestError(f"A report ends in .json, .csv or .parquet; got {os.fspath(path)!r}.")
    return ending


def _place(entry: str | NotAudio) -> str:
    return entry if isinstance(entry, str) else entry.path


def _alone(heard: AudioScan) -> list[Finding]:
    """What is to be said about a file whatever the others are."""
    if heard.code:
        return [Finding(heard.code, heard.error)]
    length = f"{heard.duration_s:.1f} s"
    found = [Finding(code, heard.warning) for code in heard.faults]
    if heard.header_s is not None and heard.duration_s - heard.header_s > _PADDING_S:
        said = f"The header promises {heard.header_s:.1f} s, and there are {length}."
        found.append(Finding("longer_than_header", said))
    if heard.silent_share == 1:
        zeros = "every sample is zero" if heard.peak == 0 else "all of it is below -60 dBFS"
        found.append(Finding("silent", f"There is nothing to hear in {length}: {zeros}."))
    elif heard.silent_share >= _HALF:
        said = f"{heard.silent_share:.0%} of {length} is below -60 dBFS."
        found.append(Finding("mostly_silent", said))
    if heard.clipped_share >= _CLIPPED:
        said = f"{heard.clipped_share:.1%} of the samples are clipped."
        found.append(Finding("clipped", said))
    if heard.offset >= _OFFSET:
        found.append(Finding("dc_offset", f"The mean is {heard.offset:.3f} away from zero."))
    if heard.mono_share < _CANCELLED:
        said = "The channels cancel each other: in mono next to nothing is left."
        found.append(Finding("channels_cancel", said))
    if heard.sample_rate < _LOW_RATE:
        found.append(Finding("low_rate", f"It has only {heard.sample_rate:,} samples per second."))
    if heard.duration_s < _SHORT_S:
        found.append(Finding("short", f"There are only {heard.duration_s:.2g} s of sound."))
    return found


class _Copies:
    """Which files sound alike.

    Args:
        heard: each file.
    """

    def __init__(self, heard: Sequence[AudioScan]) -> None:
        self._of_bytes: dict[str, list[str]] = {}
        for one in heard:
            if one.sha256:
                self._of_bytes.setdefault(one.sha256, []).append(one.path)
        prints = {one.sha256: one.fingerprint for one in heard if one.sha256 and not one.code}
        self._contents = sorted(prints)
        self._matches = sound_matches([prints[content] for content in self._contents])

    def findings(self) -> Iterator[tuple[str, Finding]]:
        """What is to be said of each file that has a copy."""
        for paths in self._of_bytes.values():
            for place, path in enumerate(paths if len(paths) > 1 else ()):
                other = paths[0] if place else paths[1]
                more = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
                yield path, Finding("exact_duplicate", f"It has the bytes of {other!r}{more}.")
        likest: dict[int, SoundMatch] = {}
        for match in sorted(self._matches, key=lambda match: -match.shared_s):
            likest.setdefault(match.first, match)
            likest.setdefault(match.second, match)
        for place, match in sorted(likest.items()):
            is_first = place == match.first
            partner = self._of_bytes[self._contents[match.second if is_first else match.first]][0]
            shift_s = match.shift_s if is_first else -match.shift_s
            begins = f"{abs(shift_s):.1f} s {'later' if shift_s > 0 else 'earlier'}"
            when = f", which begins {begins}" if abs(shift_s) >= 0.1 else ""
            said = f"It shares {match.shared_s:.0f} s of sound with {partner!r}{when}."
            for path in self._of_bytes[self._contents[place]]:
                yield path, Finding("near_duplicate", said)

    def groups(self) -> dict[str, str]:
        """A name of its group for each file that has a copy of any kind."""
        found: dict[str, str] = {}
        for content, paths in self._of_bytes.items():
            if len(paths) > 1:
                found |= dict.fromkeys(paths, content)
        for group in grouped(self._matches):
            for place in group:
                paths = self._of_bytes[self._contents[place]]
                found |= dict.fromkeys(paths, self._contents[group[0]])
        return found


def _conflicts(
    tracks: Mapping[str, Track], groups: Mapping[str, str]
) -> Iterator[tuple[str, Finding]]:
    """Files whose sound lies in two genres."""
    members: dict[str, list[str]] = {}
    for path in tracks:
        if path in groups:
            members.setdefault(groups[path], []).append(path)
    for paths in members.values():
        for path in paths:
            others = (p for p in paths if tracks[p].genre != tracks[path].genre)
            other = next(others, None)
            if other is not None:
                said = f"The same sound is {tracks[other].genre!r} as {tracks[other].path!r}."
                yield path, Finding("label_conflict", said)


def _leaks(
    tracks: Mapping[str, Track], parts: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, Finding]]:
    """Files of which an artist, an album or a sound stands in another part of a fold."""
    paths = list(tracks)
    for path in paths:
        if not parts[path]:
            yield path, Finding("changed", "The splits do not name it; make them anew.")
    whole = list(tracks.values())
    by_artist = [
        replace(track, album=None, content_hash="", sound_group=None, source=None)
        for track in whole
    ]
    by_album = [replace(track, content_hash="", sound_group=None, source=None) for track in whole]
    by_sound = [replace(track, artist=None, album=None) for track in whole]
    reported: set[str] = set()
    for code, noun, known in (
        ("artist_leak", "artist", by_artist),
        ("album_leak", "album", by_album),
        ("duplicate_leak", "sound", by_sound),
    ):
        members: dict[int, list[str]] = {}
        for path, group in zip(paths, group_tracks(known), strict=True):
            members.setdefault(group, []).append(path)
        for group_paths in members.values():
            for path in group_paths:
                leak = _torn(path, group_paths, parts)
                # what one artist joins, an album joins as well
                if leak is None or (code == "album_leak" and path in reported):
                    continue
                reported.add(path)
                fold, other = leak
                where = f" of fold {fold + 1}" if len(parts[path]) > 1 else ""
                yield (
                    path,
                    Finding(
                        code,
                        f"It is in {parts[path][fold]}{where}, and of the same {noun} is "
                        f"{tracks[other].path!r} in {parts[other][fold]}.",
                    ),
                )


def _torn(
    path: str, group: Sequence[str], parts: Mapping[str, tuple[str, ...]]
) -> tuple[int, str] | None:
    """A fold and a file of the group that stands in another part of it."""
    for fold, part in enumerate(parts[path]):
        for other in group:
            if part and fold < len(parts[other]) and parts[other][fold] not in ("", part):
                return fold, other
    return None


def _read_parts(path: Path) -> dict[str, tuple[str, ...]]:
    """The part of each track in each fold, as ``write_splits`` wrote them, whatever leaks."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != "deepmusic splits":
            raise ValueError("something else")
        parts = {str(entry["path"]): tuple(map(str, entry["parts"])) for entry in found["tracks"]}
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"The splits {path} cannot be read: {reason}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} holds no splits; give a file that 'data split' wrote.") from error
    return parts


@dataclass(frozen=True)
class _Checksums:
    """The checksums that files should have.

    Args:
        table: where they are written.
        algorithm: of all of them.
        of_path: by the absolute path of a file.
    """

    table: Path
    algorithm: str
    of_path: dict[str, str]

    def findings(self, heard: Sequence[AudioScan]) -> Iterator[tuple[str, Finding]]:
        """What is to be said of each file, and of those that are not there."""
        absolute = {os.path.abspath(one.path): one for one in heard}
        for place, one in absolute.items():
            wanted = self.of_path.get(place)
            if wanted is None:
                if not one.code:
                    yield one.path, Finding("unlisted", f"{self.table} does not name it.")
            elif one.checksum and one.checksum != wanted:
                said = f"Its {self.algorithm} is {one.checksum}, not {wanted} as {self.table} says."
                yield one.path, Finding("checksum", said)
        folders = {os.path.dirname(place) for place in absolute}
        for place in sorted(self.of_path.keys() - absolute.keys()):
            is_sound = os.path.splitext(place)[1].lower() in AUDIO_EXTENSIONS
            if is_sound and os.path.dirname(place) in folders and not os.path.exists(place):
                said = f"{place!r} is not there, and {self.table} names it."
                yield place, Finding("missing", said)


def _read_checksums(path: Path) -> _Checksums:
    """The lines ``CHECKSUM  PATH`` of a table."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"The checksums {path} cannot be read: {reason}.") from error
    found: dict[str, str] = {}
    lengths = set()
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = re.fullmatch(r"([0-9a-fA-F]+) [ *](.+)", line)
        if match is None or len(match[1]) not in _DIGESTS:
            raise DataError(
                f"Line {number} of {path} is no checksum; a line is an MD5, SHA-1 or SHA-256, two "
                "spaces and a path."
            )
        lengths.add(len(match[1]))
        found[os.path.abspath(path.parent / match[2])] = match[1].lower()
    if len(lengths) != 1:
        raise DataError(f"{path} holds {'no' if not lengths else 'several kinds of'} checksums.")
    return _Checksums(path, _DIGESTS[lengths.pop()], found)


def _written(text: str) -> str:
    r"""Text as a table can hold it: a byte of a name that is no UTF-8 becomes ``\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
