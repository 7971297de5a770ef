"""Building a data set of clips from full-length tracks: clips, a table, checksums, an archive.

The recipe is that of FMA: a clip from the middle of each track, a table with its tags, checksums
and a README. Finished tracks are recorded in a store in the data set's folder, so a build that was
stopped continues, and a second build makes only what has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from deepmusic.datasets.clips import BuildConfig, BuiltTrack, build_track, crashed_track
from deepmusic.datasets.folder import FolderDataset, Track
from deepmusic.datasets.table import table_text
from deepmusic.errors import DataError, DeepMusicError, os_reason
from deepmusic.files import make_folder, reading, write_atomically
from deepmusic.parallel import map_files
from deepmusic.store import Store, content_digest
from deepmusic.version import __version__

COLUMNS = (
    "path", "genre", "artist", "album", "title", "date", "licence", "url", "source",
    "source_sha256", "start_s", "duration_s", "sample_rate", "channels", "loudness_lufs", "gain_db",
    "silent_share", "warning", "sha256",
)  # fmt: skip
"""Of tracks.csv, which has one row per clip."""

_TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.tmp")  # of write_atomically, left by a kill
_MAX_NAME_BYTES = 200  # of 255, so that a digest, a number and an extension fit
_RESERVED = re.compile(  # by Windows, or for what lies beside the clips
    r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?"
    r"|__macosx|checksums|readme\.txt|build\.json|problems\.csv|tracks\.csv",
    re.IGNORECASE,
)
_README = """\
{clips} clips of {tracks} tracks, made by deepmusic data build {version}.

GENRE/*        the clips
tracks.csv     one row per clip: genre, the tags of its track, where it was cut, its loudness;
               clips of one source, artist or album belong in one part of a split
problems.csv   tracks that could not be used, and why; only if there are any
build.json     versions and options
checksums      SHA-256 of every file; to compare: sha256sum -c checksums

The rights in the music are those of the tracks that it was cut from.
"""


def archive_path(output: str | os.PathLike[str]) -> Path:
    """The archive of a data set: beside its folder, with `.zip` after the name."""
    return Path(os.path.abspath(output) + ".zip")


def check_output(
    root: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: BuildConfig,
    *,
    archive: bool = False,
) -> None:
    """Raise DataError for an output that overlaps the tracks in ``root``, or holds something else.

    It may have been begun with the same settings. Another archive is not overwritten.
    """
    output, zip_path = Path(output), archive_path(output)
    inner, outer = Path(os.path.realpath(output)), Path(os.path.realpath(root))
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise DataError(f"{output} overlaps the folder of tracks; name a folder outside of it.")
    if archive and os.path.lexists(zip_path):
        names: list[str] = []
        with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(zip_path) as existing:
            names = existing.namelist()
        if f"{zip_path.stem}/build.json" not in names:
            raise DataError(f"{zip_path} exists and is not such a data set; move it away.")
    before: dict[str, Any] = {}
    try:
        names = os.listdir(output) if os.path.lexists(output) else []
        if "build.json" in names:
            before = dict(json.loads((output / "build.json").read_text(encoding="utf-8")))
        elif any(not name.startswith(".") for name in names):
            raise DataError(f"{output} holds other things than a data set; name a new folder.")
    except OSError as error:
        raise DataError(f"{output} cannot be used: {os_reason(error)}.") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{output / 'build.json'} is damaged; name a new folder.") from error
    settings = {**before, **_settings(config)} if before else {}
    differing = [
        f"{k} {before.get(k)!r}, now {v!r}" for k, v in settings.items() if before.get(k) != v
    ]
    if differing:
        raise DataError(
            f"{output} was built with other settings ({', '.join(differing)}); name another "
            "folder, or delete it."
        )


def build_dataset(
    dataset: FolderDataset,
    output: str | os.PathLike[str],
    config: BuildConfig | None = None,
    *,
    workers: int = 1,
    archive: bool = False,
) -> Iterator[BuiltTrack]:
    """Build a data set of clips and yield the result for each track as it is done.

    When the iterator is exhausted, the folder holds the clips as `GENRE/track.ext`; `tracks.csv`,
    one row per clip, which `scan_folder` reads; `problems.csv` if tracks could not be used;
    `README.txt` and `build.json`, how it was made; and `checksums`, the SHA-256 of all these. Clips
    of tracks that are no longer in the data set are removed.

    Args:
        dataset: the full-length tracks.
        output: the folder; created if it does not exist.
        config: how clips are made.
        workers: processes on this machine.
        archive: whether to write `output.zip` beside the folder.

    Yields:
        One result per track, in any order.

    Raises:
        DataError: the output folder cannot be used, or no track can be.
        DeepMusicError: something cannot be written, such as on a full disk.
    """
    config, output = config or BuildConfig(), Path(output)
    check_output(dataset.root, output, config, archive=archive)
    names = clip_names(dataset.tracks, config.extension, config.clips)
    make_folder(output)
    with write_atomically(output / "build.json") as file:
        file.write(json.dumps(_settings(config), indent=2) + "\n")
    sources = {track.path: track for track in dataset.tracks}
    with Store(output / ".build.db", "built tracks") as store:
        built = _resumed(store, output, sources, names)
        yield from list(built.values())
        pending = [path for path in sources if path not in built]
        function = partial(build_track, dataset.root, config)
        for track in map_files(function, pending, crashed_track, workers=workers):
            built[track.path] = _keep(store, output, sources[track.path], track, names[track.path])
            yield built[track.path]
        has_clips = any(track.clips for track in built.values())
        if not has_clips:
            store.remove()
    listed = _write_tables(dataset, output, built) if has_clips else []
    _remove_others(output, listed)
    if not has_clips:
        first = next(iter(built.values())).error
        raise DataError(f"No track could be used, so {output} has no clips; first: {first}")
    if archive:
        _write_archive(output, listed)


def clip_names(tracks: Sequence[Track], extension: str, clips: int) -> dict[str, tuple[str, ...]]:
    """Names for the clips of tracks: `GENRE/track.ext`, or `GENRE/track-1.ext` and so on.

    Folders between genre and track are kept. Tracks whose names differ only in case, Unicode form
    or the original extension all get a digest of their path, such as `track~1b4f0e98.flac`.

    Returns:
        The names of each track's clips, by the path of the track.
    """
    stems: dict[str, str] = {}
    for track in tracks:
        parts = os.path.splitext(track.path)[0].split("/")
        if len(parts) > 1 and parts[0].casefold() == track.genre.casefold():
            del parts[0]
        stems[track.path] = "/".join(map(plain_name, [track.genre, *parts]))
    # what a file system may take for the same: also a file and a folder of one name
    keys = {
        path: unicodedata.normalize("NFC", f"{stem}{extension}".casefold())
        for path, stem in stems.items()
    }
    used = Counter(keys.values())
    used.update({str(parent) for key in keys.values() for parent in PurePosixPath(key).parents})
    for path, key in keys.items():
        if used[key] > 1:
            stems[path] += "~" + hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    digits = len(str(clips))
    numbers = [f"-{n:0{digits}d}" if clips > 1 else "" for n in range(1, clips + 1)]
    return {
        path: tuple(f"{stem}{number}{extension}" for number in numbers)
        for path, stem in stems.items()
    }


def plain_name(name: str) -> str:
    """One part of a path that Windows, macOS and Linux accept.

    Reserved characters, control characters and bytes that are not UTF-8 become `_`; the Unicode
    form is NFC, of at most 200 bytes.
    """
    name = "".join(" " if sign.isspace() else sign for sign in unicodedata.normalize("NFC", name))
    name = "".join(c if c.isprintable() and c not in '<>:"/\\|?*' else "_" for c in name)
    name = name.encode()[:_MAX_NAME_BYTES].decode(errors="ignore").strip(" ").rstrip(". ")
    if name.startswith("."):  # readers of the data set skip hidden files
        name = "_" + name[1:]
    return "_" + name if _RESERVED.fullmatch(name) or not name else name


def _settings(config: BuildConfig) -> dict[str, Any]:
    """Versions and options, as in build.json."""
    import av
    import soundfile
    import soxr

    return {
        "deepmusic": __version__,
        "libsndfile": soundfile.__libsndfile_version__,
        "ffmpeg": av.ffmpeg_version_info,
        "soxr": soxr.__libsoxr_version__,
        **asdict(config),
    }


def _resumed(
    store: Store, output: Path, sources: Mapping[str, Track], names: Mapping[str, Sequence[str]]
) -> dict[str, BuiltTrack]:
    """The tracks of an earlier build that are unchanged, with all clips; others are removed."""
    paths = {table_text(path): path for path in sources}
    resumed = {}
    for key, record in store.items():
        path = paths.get(key, "")
        clips = record["clips"]
        expected = [
            (name, sources[path].content_hash) for name in names.get(path, ())[: len(clips)]
        ]
        is_same = clips and expected == [(row["path"], row["source_sha256"]) for row in clips]
        with suppress(OSError):
            if is_same and all(
                store.file_digest(output / row["path"]) == row["sha256"] for row in clips
            ):
                resumed[path] = BuiltTrack(path, tuple(clips), record["warning"])
                continue
        for row in clips:
            _remove(output / row["path"])
        store.delete(key)
    return {path: resumed[path] for path in sources if path in resumed}


def _keep(
    store: Store, output: Path, source: Track, track: BuiltTrack, names: Sequence[str]
) -> BuiltTrack:
    """Record a track, then write its clips: on resuming they are compared with the record."""
    clips = tuple(
        {**row, "path": name, "source_sha256": source.content_hash}
        for row, name in zip(track.clips, names, strict=False)
    )
    if clips:
        store.put(table_text(track.path), {"clips": clips, "warning": track.warning})
    for row, content in zip(clips, track.contents, strict=True):
        target = output / row["path"]
        make_folder(target.parent)
        with write_atomically(target, "wb") as file:
            file.write(content)
    return replace(track, clips=clips, contents=())


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DeepMusicError(f"{path} cannot be removed: {os_reason(error)}.") from error


def _remove_others(output: Path, listed: Sequence[str]) -> None:
    """Remove what an earlier build wrote beside the clips, leftovers of kills, empty folders."""
    for name in {"README.txt", "build.json", "tracks.csv", "problems.csv", "checksums"} - {*listed}:
        _remove(output / name)
    for folder, _, names in os.walk(output, topdown=False):
        for name in filter(_TEMPORARY.fullmatch, names):
            _remove(Path(folder, name))
        with suppress(OSError):  # it is not empty
            os.rmdir(folder)


def _write_tables(
    dataset: FolderDataset, output: Path, built: Mapping[str, BuiltTrack]
) -> list[str]:
    """Write everything beside the clips, and return the names of all files."""
    rows = [
        {
            "genre": table_text(track.genre),
            "artist": table_text(track.artist or ""),
            "album": table_text(track.album or ""),
            "source": table_text(track.path),
            **row,
        }
        for track in dataset.tracks
        for row in built[track.path].clips
    ]
    problems = [(problem.path, problem.code, problem.message) for problem in dataset.problems]
    problems += [(track.path, track.code, track.error) for track in built.values() if track.code]
    tables = {"tracks.csv": pd.DataFrame(rows, columns=COLUMNS)}
    if problems:
        table = pd.DataFrame(problems, columns=["path", "code", "message"])
        tables["problems.csv"] = table.map(table_text)
    for name, table in tables.items():
        with write_atomically(output / name) as file:
            table.sort_values("path").to_csv(file, index=False, lineterminator="\n")
    with write_atomically(output / "README.txt") as file:
        tracks = sum(bool(track.clips) for track in built.values())
        file.write(_README.format(clips=len(rows), tracks=tracks, version=__version__))
    checksums = {}
    for name in ("README.txt", "build.json", *tables):
        with reading(output / name):
            checksums[name] = content_digest(output / name)
    checksums |= {row["path"]: row["sha256"] for row in rows}
    with write_atomically(output / "checksums") as file:
        file.writelines(f"{checksums[name]}  {name}\n" for name in sorted(checksums))
    return sorted(["checksums", *checksums])


def _write_archive(output: Path, names: Sequence[str]) -> None:
    """Pack a data set; the same files give the same bytes, whatever their times and modes."""
    path = archive_path(output)
    with write_atomically(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo(f"{path.stem}/{name}", (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # Unix
            with reading(output / name), open(output / name, "rb") as source:
                entry.file_size = os.fstat(source.fileno()).st_size  # the header may have 64 bits
                with archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target)
