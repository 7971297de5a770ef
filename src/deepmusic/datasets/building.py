"""Making a data set from full-length tracks: clips, a table, checksums, and an archive.

The recipe is that of FMA: a clip from the middle of each track, a table of what is known, SHA-1
checksums, a README. The same tracks, options and versions give the same bytes: no clock, no order
of a disk, no number of workers and no place shows in them.

What is done stays done. Each track's clips are in a journal as soon as they are written, every file
appears under its name when all of it is there, and a second call makes only what is missing.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from deepmusic.datasets.building_names import OWN_FILES, clip_names, source_name
from deepmusic.datasets.building_sources import Sources, SourceTrack
from deepmusic.datasets.building_track import (
    BuildConfig,
    BuiltClip,
    BuiltTrack,
    Job,
    died,
    make_track as _make_track,
)
from deepmusic.datasets.folder import Problem
from deepmusic.datasets.zip_writing import write_zip
from deepmusic.errors import DataError, DeepMusicError
from deepmusic.files import write_atomically
from deepmusic.journal import Journal
from deepmusic.version import __version__

COLUMNS = (
    "path",
    "genre",
    "artist",
    "album",
    "title",
    "date",
    "licence",
    "url",
    "source",
    "source_sha256",
    "start_s",
    "duration_s",
    "sample_rate",
    "channels",
    "loudness_lufs",
    "gain_db",
    "warning",
    "sha256",
)
"""Of tracks.csv; one row a clip."""

_JOURNAL = ".build.journal"
_TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.tmp")  # of write_atomically, left behind by a kill


def check_output(
    root: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: BuildConfig,
    *,
    archive: bool = False,
) -> None:
    """Refuse an output folder that is in the way of its input, or of something else.

    Args:
        root: the folder of tracks.
        output: the folder of the data set, new or begun with the same settings.
        config: how clips are made.
        archive: whether its archive is looked at, too: a foreign one is not written over.

    Raises:
        DataError: it cannot be used.
    """
    output = Path(output)
    if archive:
        _refuse_foreign(archive_of(output), _top(output))
    inner, outer = Path(os.path.realpath(output)), Path(os.path.realpath(root))
    if inner == outer or outer in inner.parents:
        raise DataError(
            f"{output} lies in the folder of tracks, and would be read as one of them; name a "
            "folder outside of it."
        )
    if inner in outer.parents:
        raise DataError(
            f"{output} holds the folder of tracks; name a folder of the data set's own."
        )
    if not os.path.lexists(output):
        return
    if not output.is_dir():
        raise DataError(f"{output} is not a folder; name a new one.")
    try:
        names = {name for name in os.listdir(output) if not _TEMPORARY.fullmatch(name)}
        if not names:
            return
        if "build.json" not in names:
            raise DataError(f"{output} holds other things than a data set; name a new folder.")
        found = json.loads((output / "build.json").read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{output} cannot be read: {reason}.") from error
    except ValueError as error:
        raise DataError(f"{output / 'build.json'} is damaged; name a new folder.") from error
    setting = _setting(config)
    if found != setting:
        differing = sorted(_differences(found, setting))
        raise DataError(
            f"{output} was built with other settings ({', '.join(differing) or 'build.json'}); "
            "name another folder, or delete it."
        )


def build_dataset(
    sources: Sources,
    output: str | os.PathLike[str],
    config: BuildConfig | None = None,
    *,
    workers: int = 1,
    archive: bool = False,
) -> Iterator[BuiltTrack]:
    """Make a data set of tracks, and give what became of each track as it is done.

    When the iterator is exhausted, the folder holds the clips as ``GENRE/track.ext``;
    ``tracks.csv``, a row a clip, which :func:`~deepmusic.datasets.scan_folder` reads;
    ``problems.csv`` where tracks could not be used; ``README.txt`` and ``build.json``, how it was
    made; and ``checksums``, SHA-1 of all else. Clips of tracks that are gone since an earlier
    build are removed.

    Args:
        sources: the tracks, of :func:`find_sources`.
        output: the folder; made if it is not there.
        config: how clips are made.
        workers: processes on this machine.
        archive: whether to write ``output.zip`` beside the folder.

    Yields:
        One result a track, in any order.

    Raises:
        DataError: the output folder cannot be used, or no track can be.
        DeepMusicError: something cannot be written, such as on a full disk.
    """
    from deepmusic.parallel import map_files

    config = config or BuildConfig()
    output = Path(output)
    check_output(sources.root, output, config, archive=archive)
    setting = _setting(config)
    try:
        output.mkdir(parents=True, exist_ok=True)
        _remove_temporary(output)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{output} cannot be used: {reason}.") from error
    _write(output / "build.json", json.dumps(setting, indent=2) + "\n")
    names = clip_names(
        [(track.path, track.genre) for track in sources.tracks], config.extension, config.clips
    )
    planned = {name for named in names for name in named}
    with Journal(output / _JOURNAL, "built tracks", {"setting": setting}) as journal:
        known, ours = _known(output, journal.records)
        if not planned <= ours:
            # on the disk before the first clip is: what is in a plan is ours to remove
            journal.add({"plan": sorted(planned - ours)})
        ours |= planned
        jobs = {
            track.path: Job(
                track.path,
                os.fspath(sources.root),
                os.fspath(output),
                named,
                asdict(config),
                known.get(source_name(track.path)),
            ).text()
            for track, named in zip(sources.tracks, names, strict=True)
        }
        paths = {text: path for path, text in jobs.items()}
        results: dict[str, BuiltTrack] = {}
        for built in map_files(_make_track, paths, died, workers=workers):
            track = replace(built, path=paths[built.path])
            results[track.path] = track
            if track.clips:
                journal.add({"source": source_name(track.path), **track.record()})
            yield track
        made = [(track, results[track.path]) for track in sources.tracks]
        if not any(track.clips for _, track in made):
            if not (output / "tracks.csv").exists():  # leave nothing behind of nothing
                (output / "build.json").unlink()
                journal.remove()
                with suppress(OSError):
                    output.rmdir()
            first = next((track.error for _, track in made), "")
            first = first or next((problem.message for problem in sources.problems), "")
            raise DataError(f"No track could be used, so {output} has no clips; first: {first}")
        _finish(output, sources.problems, made, ours, config, setting)
        if archive:
            write_zip(archive_of(output), output, _files(output), top=_top(output))
        journal.remove()


def archive_of(output: str | os.PathLike[str]) -> Path:
    """The archive that belongs to a folder: beside it, with ``.zip`` after its name."""
    folder = Path(output)
    if folder.name in ("", ".."):
        folder = Path(os.path.abspath(folder))
    return folder.with_name(folder.name + ".zip")


def _refuse_foreign(archive: Path, top: str) -> None:
    """Refuse to write over an archive that no build wrote."""
    import zipfile

    if not os.path.lexists(archive):
        return
    try:
        with zipfile.ZipFile(archive) as found:
            if f"{top}/build.json" in found.namelist():
                return
    except (OSError, zipfile.BadZipFile):
        pass
    raise DataError(f"{archive} is there and holds something else; move it away.")


def _top(output: Path) -> str:
    return Path(os.path.abspath(output)).name


def _setting(config: BuildConfig) -> dict[str, Any]:
    """All that decides on the bytes of a clip, as build.json keeps it."""
    import av
    import soundfile
    import soxr

    return {
        "deepmusic": __version__,
        "libsndfile": soundfile.__libsndfile_version__,
        "ffmpeg": av.ffmpeg_version_info,
        "soxr": soxr.__libsoxr_version__,
        "options": asdict(config),
    }


def _differences(found: Any, setting: dict[str, Any]) -> Iterator[str]:
    if not isinstance(found, dict):
        return
    for name, value in setting.items():
        before = found.get(name)
        if name == "options" and isinstance(before, dict):
            yield from (
                f"{option} {before.get(option)!r}, now {now!r}"
                for option, now in value.items()
                if before.get(option) != now
            )
        elif before != value:
            yield f"{name} {before!r}, now {value!r}"


def _known(
    output: Path, records: Sequence[dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """What was made of each track before, by its name in the table, and all clips that are ours."""
    known: dict[str, dict[str, Any]] = {}
    ours: set[str] = set()
    for row in _rows(output / "tracks.csv"):
        ours.add(row["path"])
        track = known.setdefault(
            row["source"],
            {
                "path": row["source"],
                "source_sha256": row["source_sha256"],
                "clips": [],
                "warning": row["warning"],
            },
        )
        clip = {name: row[name] for name in BuiltClip.__dataclass_fields__ if name in row}
        track["clips"].append(clip)
    for record in records:
        if "plan" in record:
            ours.update(record["plan"])
        elif "source" in record:
            source = record.pop("source")
            known[source] = record
            ours.update(clip["path"] for clip in record.get("clips", []))
    return known, ours


def _rows(table: Path) -> Iterator[dict[str, str]]:
    """The rows of a table that an earlier build wrote; none where it was changed."""
    try:
        with open(table, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) == COLUMNS:
                yield from (row for row in reader if None not in row.values())
    except (OSError, ValueError, csv.Error):
        return


def _finish(
    output: Path,
    problems: Sequence[Problem],
    made: Sequence[tuple[SourceTrack, BuiltTrack]],
    ours: set[str],
    config: BuildConfig,
    setting: dict[str, Any],
) -> None:
    """Write what belongs to all clips together, and remove what belongs to none."""
    clips = sorted(
        ((track, built, clip) for track, built in made for clip in built.clips),
        key=lambda entry: entry[2].path,
    )
    _write(output / "tracks.csv", _csv(COLUMNS, [_row(*entry) for entry in clips]))
    wrong = [(problem.path, problem.code, problem.message) for problem in problems]
    wrong += [(track.path, built.code, built.error) for track, built in made if built.code]
    rows = sorted(tuple(source_name(cell) for cell in row) for row in wrong)
    if rows:
        _write(output / "problems.csv", _csv(("path", "code", "message"), rows))
    else:
        (output / "problems.csv").unlink(missing_ok=True)
    text = _readme(
        Counter(track.genre for track, _, _ in clips),
        sum(bool(built.clips) for _, built in made),
        len(rows),
        config,
        setting,
    )
    _write(output / "README.txt", text)
    _remove_stale(output, ours, {clip.path for _, _, clip in clips})
    _remove_temporary(output)
    sha1 = {clip.path: clip.sha1 for _, _, clip in clips}
    for name in OWN_FILES:
        if name != "checksums" and (output / name).is_file():
            sha1[name] = _sha1(output / name)
    lines = (f"{sha1[name]}  {name}\n" for name in sorted(sha1))
    _write(output / "checksums", "".join(lines))


def _row(track: SourceTrack, built: BuiltTrack, clip: BuiltClip) -> tuple[str, ...]:
    cells = {
        **asdict(track),
        **asdict(clip),
        "source": source_name(track.path),
        "source_sha256": built.source_sha256,
        "warning": built.warning,
    }
    return tuple(cells[name] for name in COLUMNS)


def _readme(
    genres: Counter[str], tracks: int, problems: int, config: BuildConfig, setting: dict[str, Any]
) -> str:
    where = config.start if isinstance(config.start, str) else f"at {config.start:g} s"
    options = {
        "clips of a track": f"{config.clips}, {config.seconds:g} s each, start: {where}",
        "shorter tracks": "taken whole"
        + (f", dropped below {config.min_seconds:g} s" if config.min_seconds else ""),
        "format": "mp3 frames, copied" if config.format == "copy" else config.format,
        "channels": "mixed to mono" if config.mono else "as in the track",
        "samples per second": str(config.sample_rate or "as in the track"),
        "loudness": "as in the track"
        if config.loudness is None
        else f"{config.loudness:g} LUFS (ITU-R BS.1770-4), less where the true peak would "
        "exceed -1 dBTP",
    }
    versions = ", ".join(f"{name} {setting[name]}" for name in setting if name != "options")
    lines = [
        f"{sum(genres.values())} clips of {tracks} tracks, made by deepmusic data build.",
        "",
        f"Versions: {versions}.",
        *(f"{name[0].upper()}{name[1:]}: {value}." for name, value in options.items()),
        "The same tracks, options and versions give the same bytes.",
        "",
        "GENRE/*        the clips",
        "tracks.csv     one row a clip: path, genre, what the track's tags say, where it was cut;",
        "               clips of one source, artist or album belong into one part of a split",
        "build.json     versions and options, for programs",
        "checksums      SHA-1 of every file; to compare: sha1sum -c checksums",
    ]
    if problems:
        lines.append(f"problems.csv   {problems} things that were left out, and why")
    lines += ["", "Clips by genre:", *(f"  {genre}: {genres[genre]}" for genre in sorted(genres))]
    lines += ["", "The rights in the music are those of the tracks that it was cut from.", ""]
    return "\n".join(lines)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


def _write(path: Path, text: str) -> None:
    """Write a text where it is not there already."""
    content = text.encode()
    with suppress(OSError):
        if path.read_bytes() == content:
            return
    with write_atomically(path, "wb") as file:
        file.write(content)


def _files(output: Path) -> list[str]:
    """What belongs to a finished data set: the checksums tell."""
    lines = (output / "checksums").read_text(encoding="utf-8").split("\n")
    return ["checksums", *(line[42:] for line in lines if line)]


def _sha1(path: Path) -> str:
    import hashlib

    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


def _remove_stale(output: Path, ours: set[str], clips: set[str]) -> None:
    """Remove clips of an earlier build, and the folders that are empty then."""
    spelt = {name.casefold(): name for name in clips}
    for name in ours - clips:
        path = output / name
        if output not in path.parents or ".." in path.parts or name.split("/")[0] in OWN_FILES:
            continue  # the table was changed by other hands
        try:
            twin = spelt.get(name.casefold())
            if twin is not None and path.exists() and path.samefile(output / twin):
                continue  # where case makes no difference, it is a clip of this build
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            continue
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DeepMusicError(f"{path} cannot be removed: {reason}.") from error
        for folder in path.parents:
            if folder == output:
                break
            with suppress(OSError):
                folder.rmdir()


def _remove_temporary(output: Path) -> None:
    for folder, _, names in os.walk(output):
        for name in filter(_TEMPORARY.fullmatch, names):
            Path(folder, name).unlink(missing_ok=True)
