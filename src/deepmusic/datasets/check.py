"""Checking a data set: what each file really holds, which are copies, and what a split leaks.

Every file is decoded once, to its end. Findings have a code that programs can test for; those of
`FAULTS` mean that a file or a label is unreliable, those of `NOTES` may be as intended.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepmusic.audio import NotAudio
from deepmusic.audio.bandwidth import nothing_above
from deepmusic.audio.scan import MAX_SECONDS, AudioScan, scan_files
from deepmusic.audio.silence import MOSTLY_SILENT
from deepmusic.datasets.checksums import ChecksumTable
from deepmusic.datasets.coding import CodingReport, coding_report
from deepmusic.datasets.folder import FolderDataset, Problem, Track
from deepmusic.datasets.groups import group_tracks
from deepmusic.datasets.near_duplicates import SoundMatch, sound_groups, sound_matches
from deepmusic.datasets.split_files import read_split_file
from deepmusic.datasets.table import table_text
from deepmusic.errors import RequestError
from deepmusic.extras import need
from deepmusic.files import names_of_files, write_atomically
from deepmusic.version import __version__

FAULTS = {
    "cut_off", "damaged", "header_length", "not_finite_samples", "silent", "checksum", "changed",
    "label_conflict", "artist_leak", "album_leak", "duplicate_leak",
}  # fmt: skip
"""Codes of what makes a file or its label unreliable, besides those of files without sound."""

NOTES = {
    "same_file", "exact_duplicate", "near_duplicate", "mostly_silent", "clipped", "dc_offset",
    "low_rate", "narrow_band", "channels_cancel", "short", "longer_than_header", "too_long",
    "unlisted",
}  # fmt: skip
"""Codes of what may be as intended; `docs/check.md` explains all codes."""

_CLIPPED = 0.005  # share of the samples
_DC_OFFSET = 0.02
_LOW_RATE_HZ = 16_000
_NARROW_HZ = 8_000
_SHORT_S = 5.0
_PADDING_S = 0.25  # headers may not count the padding of an encoder
COLUMNS = (
    "path", "status", "codes", "messages", "duration_s", "header_s", "sample_rate", "channels",
    "container", "codec", "decoder", "bit_rate", "bandwidth_hz", "level_db", "peak", "offset",
    "silent_share", "zero_share", "clipped_share", "mono_share", "size", "sha256", "sound_group",
    "genre", "artist", "album", "parts",
)  # fmt: skip
"""Of a report, which has one row per file."""
_SEPARATORS = {"codes": ";", "messages": " ", "parts": ","}
_ROUNDED = {"peak", "offset", "silent_share", "zero_share", "clipped_share", "mono_share"}


@dataclass(frozen=True)
class CheckedFile:
    """A file and its findings."""

    path: str
    findings: tuple[Problem, ...]
    scan: AudioScan
    sound_group: str | None = None  # the same for files that sound alike
    track: Track | None = None  # of a data set
    parts: tuple[str, ...] = ()  # in each fold of the splits

    @property
    def status(self) -> str:
        """`"fault"`, `"note"` or `"ok"`."""
        if any(finding.code not in NOTES for finding in self.findings):
            return "fault"
        return "note" if self.findings else "ok"

    def to_dict(self) -> dict[str, Any]:
        """The row of a report; codes, messages and parts are lists."""
        row: dict[str, Any] = {
            name: getattr(self.scan, name, getattr(self.track, name, None)) for name in COLUMNS
        }
        row |= {name: round(row[name], 6) for name in _ROUNDED}
        row |= {"path": self.path, "status": self.status, "sound_group": self.sound_group}
        row["codes"] = [finding.code for finding in self.findings]
        row["messages"] = [finding.message for finding in self.findings]
        row["parts"] = list(self.parts)
        return row


@dataclass(frozen=True)
class CheckReport:
    """The result of a check: files in the order they were given, and notes on the data set."""

    files: tuple[CheckedFile, ...]
    notes: tuple[str, ...] = ()
    coding: CodingReport | None = None  # of a data set

    @property
    def has_faults(self) -> bool:
        """Whether any file has a fault."""
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
            "duration_s": round(sum(file.scan.duration_s for file in self.files), 3),
            "codes": dict(sorted(codes.items(), key=lambda item: (-item[1], item[0]))),
        }

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON, or as CSV or Parquet with one row per file, by the extension.

        In CSV and Parquet, codes are joined by `;`, messages by spaces and parts by `,`.
        """
        extension = report_extension(path)
        rows = [file.to_dict() for file in self.files]
        if extension == ".json":
            about = {"format": "deepmusic check", "version": 1, "deepmusic": __version__}
            about |= {"summary": self.summary(), "notes": list(self.notes)}
            about |= {"coding": self.coding.to_dict()} if self.coding else {}
            with write_atomically(path) as file:  # one line per file, for people to read
                file.write(json.dumps(about)[:-1] + ', "files": [\n')
                file.write(",\n".join(map(json.dumps, rows)))
                file.write("\n]}\n")
            return
        for row in rows:
            row |= {name: separator.join(row[name]) for name, separator in _SEPARATORS.items()}
            row |= {name: table_text(cell) for name, cell in row.items() if isinstance(cell, str)}
        if extension == ".csv":
            with write_atomically(path) as file:
                table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                table.writeheader()
                table.writerows(rows)
            return
        import pandas as pd

        texts = ("sound_group", "genre", "artist", "album")
        numbers = ("header_s", "bandwidth_hz", "level_db")
        types = dict.fromkeys(numbers, "float") | dict.fromkeys(texts, "string")
        frame = pd.DataFrame(rows, columns=COLUMNS).astype(types)
        with write_atomically(path, "wb") as binary:
            frame.to_parquet(binary, index=False, compression="zstd")


def report_extension(path: str | os.PathLike[str]) -> str:
    """The extension of a report: .json, .csv or .parquet.

    Raises:
        RequestError: it is another one.
        MissingLibraryError: it is .parquet, and the extra ``data`` is not installed.
    """
    extension = Path(path).suffix.lower()
    if extension not in (".json", ".csv", ".parquet"):
        raise RequestError(f"A report ends in .json, .csv or .parquet; got {os.fspath(path)!r}.")
    if extension == ".parquet":
        need("data")
    return extension


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
    on_scan: Callable[[AudioScan], object] = lambda scan: None,
) -> CheckReport:
    """Decode every file and report what is wrong with it, and between files.

    Args:
        entries: paths, and what cannot be a track, as `find_audio` yields.
        dataset: check its tracks instead, and whether one sound has two genres; its problems are
            reported as well.
        splits: of the data set, by `write_splits`: no artist, album or sound may be in two parts
            of a fold.
        checksums: a table of lines `CHECKSUM  PATH` (MD5, SHA-1 or SHA-256; paths relative to the
            table), such as FMA's `checksums`.
        cache: a store of scans; None keeps nothing.
        workers: processes on this machine.
        dask: address of a Dask scheduler whose workers are used instead.
        max_seconds: longer files are decoded up to here.
        on_scan: called in this thread with each scan, in any order.

    Returns:
        The report; a file that cannot be decoded is in it with the reason.

    Raises:
        DataError: splits, checksums or the cache cannot be read, or are something else.
        DeepMusicError: splits without a data set, or the cluster cannot be reached.
    """
    if splits is not None and dataset is None:
        raise RequestError("Splits belong to a data set; name one folder DIR/GENRE/*.")
    if dataset is not None:
        entries = dataset.entries()
    table = None if checksums is None else ChecksumTable.read(checksums)
    parts = None if splits is None else read_split_file(splits)["tracks"]
    scans = {scan.path: scan for scan in map(_refused, entries)}
    for scan in scan_files(
        [path for path, scan in scans.items() if not scan.code],
        cache=cache,
        workers=workers,
        dask=dask,
        algorithm=None if table is None else table.algorithm,
        max_seconds=max_seconds,
    ):
        scans[scan.path] = scan
        on_scan(scan)
    return _report(scans, dataset, table, parts)


def _refused(entry: str | NotAudio) -> AudioScan:
    if isinstance(entry, str):
        return AudioScan(entry)  # until it is scanned
    return AudioScan(entry.path, code=entry.code, error=entry.error)


def _report(
    scans: dict[str, AudioScan],
    dataset: FolderDataset | None,
    table: ChecksumTable | None,
    parts: Mapping[str, tuple[str, ...]] | None,
) -> CheckReport:
    """All findings; scans are by path, parts by the path of a track in its data set."""
    groups, copies = _copies(scans.values())
    tracks = {str(dataset.file(track)): track for track in dataset.tracks} if dataset else {}
    tracks = {path: replace(track, sound_group=groups.get(path)) for path, track in tracks.items()}
    part_of = {path: (parts or {}).get(track.path, ()) for path, track in tracks.items()}
    findings: dict[str, list[Problem]] = {path: [] for path in scans}
    for finding in (
        *(finding for scan in scans.values() for finding in _file_findings(scan)),
        *copies,
        *((Problem(*row) for row in table.differences(scans)) if table else ()),
        *_conflicts(tracks),
        *(_leaks(tracks, part_of) if parts is not None else ()),
    ):
        findings.setdefault(finding.path, []).append(finding)
    files = (
        CheckedFile(
            path,
            tuple(of_file),
            scans.get(path, AudioScan(path)),
            groups.get(path),
            tracks.get(path),
            part_of.get(path, ()),
        )
        for path, of_file in findings.items()
    )
    if dataset is None:
        return CheckReport(tuple(files))
    coding = coding_report([*tracks.values()], [scans[path] for path in tracks])
    return CheckReport(tuple(files), dataset.notes, coding)


def _file_findings(scan: AudioScan) -> Iterator[Problem]:
    """The findings of a file whatever the others are."""
    if scan.code:
        yield Problem(scan.path, scan.code, scan.error)
        return
    messages = dict.fromkeys(scan.faults, scan.damage) | scan.notes
    duration = f"{scan.duration_s:.1f} s"
    if scan.header_s is not None and scan.duration_s - scan.header_s > _PADDING_S:
        messages["longer_than_header"] = (
            f"The header promises {scan.header_s:.1f} s, but there are {duration}."
        )
    if scan.silent_share == 1:
        messages["silent"] = f"All of its {duration} are below -60 dBFS."
    elif scan.silent_share >= MOSTLY_SILENT:
        messages["mostly_silent"] = f"{scan.silent_share:.0%} of {duration} are below -60 dBFS."
    if scan.clipped_share >= _CLIPPED:
        messages["clipped"] = f"{scan.clipped_share:.1%} of the samples are clipped."
    if scan.offset >= _DC_OFFSET:
        messages["dc_offset"] = f"The mean of a channel is {scan.offset:.3f} away from 0."
    if scan.sample_rate < _LOW_RATE_HZ:
        messages["low_rate"] = f"Its sample rate is only {scan.sample_rate:,} Hz."
    elif scan.bandwidth_hz is not None and scan.bandwidth_hz < _NARROW_HZ:
        messages["narrow_band"] = f"It has {nothing_above(scan.bandwidth_hz)}."
    if scan.duration_s < _SHORT_S:
        messages["short"] = f"It has only {scan.duration_s:.2g} s of sound."
    yield from (Problem(scan.path, code, message) for code, message in messages.items())


def _copies(scans: Iterable[AudioScan]) -> tuple[dict[str, str], list[Problem]]:
    """A name of its group for each file that has a copy of any kind, and the findings."""
    paths_of: dict[str, list[str]] = {}  # by content
    fingerprints = {}
    for scan in scans:
        if scan.sha256:
            paths_of.setdefault(scan.sha256, []).append(scan.path)
            if not scan.code:
                fingerprints[scan.sha256] = scan.fingerprint
    groups: dict[str, str] = {}
    findings: list[Problem] = []
    for content, paths in paths_of.items():
        groups |= dict.fromkeys(paths if len(paths) > 1 else (), content)
        files = names_of_files(paths)
        for names in files.values():
            findings += _copies_of(names, "same_file", "It is the same file as {}: {}.")
        findings += _copies_of(list(files), "exact_duplicate", "It has the bytes of {}.")
    contents = sorted(fingerprints)
    matches = sound_matches([fingerprints[content] for content in contents])
    for content, group in sound_groups(contents, matches).items():
        groups |= dict.fromkeys(paths_of[content], group)
    closest: dict[int, SoundMatch] = {}
    for match in sorted(matches, key=lambda match: -match.shared_s):
        closest.setdefault(match.first, match)
        closest.setdefault(match.second, match)
    for index, match in sorted(closest.items()):
        is_first = index == match.first
        partner = paths_of[contents[match.second if is_first else match.first]][0]
        when = ""
        if abs(match.shift_s) >= 0.1:
            order = "later" if is_first == (match.shift_s > 0) else "earlier"
            when = f", which starts {abs(match.shift_s):.1f} s {order}"
        message = f"It shares {match.shared_s:.0f} s of sound with {partner!r}{when}."
        findings += [Problem(path, "near_duplicate", message) for path in paths_of[contents[index]]]
    return groups, findings


def _copies_of(paths: Sequence[str], code: str, sentence: str) -> Iterator[Problem]:
    """A finding on each of several paths, which names another of them."""
    for index, path in enumerate(paths if len(paths) > 1 else ()):
        other = paths[0 if index else 1]
        more = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
        is_symbolic = os.path.realpath(path) == os.path.realpath(other)  # also by a folder
        is_symbolic |= os.path.islink(path) or os.path.islink(other)
        link = "one name is a symbolic link" if is_symbolic else "the names are hard links"
        yield Problem(path, code, sentence.format(f"{other!r}{more}", link))


def _conflicts(tracks: Mapping[str, Track]) -> Iterator[Problem]:
    """Files whose sound has two genres."""
    members: dict[str, list[Track]] = {}
    for track in tracks.values():
        members.setdefault(track.sound_group or "", []).append(track)
    for path, track in tracks.items():
        for other in members[track.sound_group] if track.sound_group else ():
            if other.genre != track.genre:
                message = f"The same sound is {other.genre!r} as {other.path!r}."
                yield Problem(path, "label_conflict", message)
                break


def _leaks(tracks: Mapping[str, Track], parts: Mapping[str, tuple[str, ...]]) -> Iterator[Problem]:
    """Files whose artist, album or sound is in another part of a fold as well."""
    for path in tracks:
        if not parts[path]:
            yield Problem(path, "changed", "The splits do not list it; make new ones.")
    reported = set()
    content: dict[str, Any] = {"content_hash": "", "sound_group": None, "source": None}
    for noun, code, hidden in (
        ("artist", "artist_leak", {**content, "album": None}),
        ("album", "album_leak", content),
        ("sound", "duplicate_leak", {"artist": None, "album": None}),
    ):
        groups = group_tracks([replace(track, **hidden) for track in tracks.values()])
        first: dict[tuple[int, int], dict[str, str]] = {}  # file by part, of each group and fold
        for path, group in zip(tracks, groups, strict=True):
            for fold, part in enumerate(parts[path]):
                first.setdefault((group, fold), {}).setdefault(part, path)
        for path, group in zip(tracks, groups, strict=True):
            # tracks that share an artist are in one group of albums, too
            if noun == "album" and path in reported:
                continue
            for fold, part in enumerate(parts[path]):
                others = [p for p in first[group, fold] if p not in ("", part)]
                if part and others:
                    reported.add(path)
                    where = f"{part} of fold {fold + 1}" if len(parts[path]) > 1 else part
                    other = tracks[first[group, fold][others[0]]].path
                    message = f"It is in {where}, and {other!r} of the same {noun} in {others[0]}."
                    yield Problem(path, code, message)
                    break
