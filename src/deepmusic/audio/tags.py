"""Writes genres into the tags of sound files, by splicing them into a copy.

Writing is careful with other people's libraries. An existing genre stays, unless it says nothing
("Other"), the log says that we wrote it, or the caller insists. The genre is changed in a copy,
whose other fields must equal the original's byte for byte, and its coded sound packet by packet;
the change is logged, and then the copy replaces the file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal

import av

from deepmusic.audio.ffmpeg import open_container
from deepmusic.audio.find import find_audio
from deepmusic.audio.genre_names import is_placeholder
from deepmusic.audio.metadata import Metadata, metadata_of
from deepmusic.audio.sources import open_source
from deepmusic.audio.tag_formats.fields import Field, Tag, copy_spliced, genres_in
from deepmusic.audio.tag_formats.files import load_tags
from deepmusic.audio.tag_log import Genres, LogEntry, TagLog
from deepmusic.errors import AudioError, DeepMusicError, os_reason
from deepmusic.files import keep_attributes, remove_leftover, write_atomically

Status = Literal["written", "planned", "same", "kept", "restored", "failed"]


@dataclass(frozen=True)
class TagChange:
    """What happened to the genre of one file.

    ``status`` is ``written``; ``planned``, in a dry run; ``same``, it was there; ``kept``, somebody
    set another one; ``restored``, by `undo`; or ``failed``, nothing was changed.
    """

    path: str
    before: Genres
    after: Genres  # those that are there now, or would be
    status: Status
    reason: str | None = None  # one sentence; None where the status says it all


@dataclass(frozen=True)
class _Scan:
    """What a file holds, before its genre is changed or after."""

    metadata: Metadata  # read in another way
    tags: list[Tag]

    @property
    def naming(self) -> list[Tag]:
        """The tags that name a genre; ID3v1, which knows only some, if no other does."""
        naming = [tag for tag in self.tags if tag.genres]
        return [tag for tag in naming if tag.name != "ID3v1"] or naming

    @property
    def genres(self) -> Genres:
        """Those of the first tag with any."""
        return next((tag.genres for tag in self.naming), ())


@dataclass(frozen=True)
class _Plan:
    """The genres that a file is to have, and the fields of the tags that change for it."""

    genres: Genres
    fields: dict[str, list[Field] | None]  # by the tag's name; None removes the tag


def write_genre(
    path: str | os.PathLike[str],
    genres: str | Sequence[str],
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    log: TagLog | None = None,
) -> TagChange:
    """Write the genre into a file's tags; every other byte of them and the sound stay as they are.

    The genre goes into the first tag of the file, and into any other that names one, so that no two
    contradict each other; where there is no tag, one is made. An existing genre is left alone,
    unless it says nothing (`is_placeholder`), or the log says that we wrote it. Owner, permissions
    and extended attributes stay; the mtime becomes now, so that players and backups see the change.
    Trouble with the file is reported, not raised.

    Args:
        path: the file: mp3, flac, ogg, opus, m4a, mp4, wav, aiff, wma, ape, wv, mpc, tak, tta, dsf.
        genres: lines of text, the main genre first.
        overwrite: whether to replace a genre that somebody else set.
        dry_run: do all but replace the file, and report what would be done.
        log: where the change is logged first; without it there is no undo.

    Raises:
        DeepMusicError: a genre is empty or of several lines, or there is none.
    """
    after = (genres,) if isinstance(genres, str) else tuple(dict.fromkeys(genres))
    for genre in after or ("",):
        if not genre.strip() or not genre.isprintable():
            raise DeepMusicError(f"A genre is one line of text; got {genre!r}.")

    def decide(scan: _Scan, sound: Callable[[], str]) -> TagChange | _Plan:
        before = scan.genres or genres_in(scan.metadata.get("genre", ()))
        if scan.naming and all(tag.genres == after for tag in scan.naming):
            return TagChange(str(path), after, after, "same")
        named = [*before, *(genre for tag in scan.naming for genre in tag.genres)]
        if not (overwrite or all(map(is_placeholder, named))):
            entry = log.get(path, sound()) if log else None
            if entry is None or any(tag.genres not in entry.written for tag in scan.naming):
                reason = f"its genre is set to {', '.join(before)!r} already"
                return TagChange(str(path), before, before, "kept", reason)
        changed = [tag for index, tag in enumerate(scan.tags) if not index or tag.genres]
        return _Plan(after, {tag.name: tag.with_genres(after) for tag in changed})

    return _edit(Path(path), decide, "written", dry_run=dry_run, log=log)


def undo(
    log: TagLog, *, folders: Iterable[str | os.PathLike[str]] = (), dry_run: bool = False
) -> list[TagChange]:
    """Restore the genres that files had before the logged changes, latest change first.

    The fields of the genre become what they were, byte for byte, and tags that were made are
    removed. A file whose genre was changed by others since is left alone and reported. A file that
    was renamed or moved is found by its sound.

    Args:
        log: of the changes; an entry is removed once it is undone.
        folders: where moved files are searched, besides the folders they were in.
        dry_run: only report what would be done.
    """
    entries = log.entries()

    @cache
    def by_sound(folder: str) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name in find_audio([folder]) if os.path.isdir(folder) else ():
            if isinstance(name, str):
                names.setdefault(_sound_at(name), []).append(name)
        return names

    changes = []
    for entry in reversed(entries):
        names = [entry.path]
        if _sound_at(entry.path) != entry.sound:
            searched = [*(os.fspath(folder) for folder in folders), os.path.dirname(entry.path)]
            found = (n for f in searched for n in by_sound(f).get(entry.sound, ()))
            names = list(dict.fromkeys(found))
            if not names:
                reason = f"no file with its sound is there or in {', '.join(map(repr, searched))}"
                changes.append(TagChange(entry.path, (), (), "failed", reason))
        done = [_undo_file(name, entry, dry_run) for name in names]
        changes += done
        if done and not dry_run and all(change.status in ("same", "restored") for change in done):
            log.remove(entry)
    return changes


def _undo_file(path: str, entry: LogEntry, dry_run: bool) -> TagChange:
    def decide(scan: _Scan, sound: Callable[[], str]) -> TagChange | _Plan:
        fields: dict[str, list[Field] | None] = {}
        for tag in scan.tags:
            saved = entry.tags.get(tag.name)
            if tag.exists and saved:
                fields[tag.name] = saved.restored(tag)
            elif tag.genres in entry.written:  # the tag is of another kind now
                fields[tag.name] = tag.with_genres(entry.before)
        present = {tag.name: tag.fields for tag in scan.tags if tag.exists}
        now = scan.genres
        # killed between the log and the change, or the undo
        if now == entry.before and all(fields[name] == present.get(name) for name in fields):
            return TagChange(path, now, now, "same")
        if any(tag.genres not in entry.written for tag in scan.naming) or (
            entry.before and not now
        ):
            reason = f"its genre was changed since, to {', '.join(now) or 'none'!r}"
            return TagChange(path, now, now, "kept", reason)
        return _Plan(entry.before, fields)

    change = _edit(Path(path), decide, "restored", dry_run=dry_run)
    return change if path == entry.path else replace(change, reason=f"it was {entry.path}")


def _edit(
    path: Path,
    decide: Callable[[_Scan, Callable[[], str]], TagChange | _Plan],
    status: Status,
    *,
    dry_run: bool,
    log: TagLog | None = None,
) -> TagChange:
    """Change the tags of one file as ``decide`` plans; it can ask for the hash of the sound.

    The change goes into ``log`` before the file is touched.
    """
    final = Path(os.path.realpath(path))
    if not dry_run:
        remove_leftover(final)
    try:
        with open_source(path)[0] as file:
            opened = os.fstat(file.fileno())
            scan = _scan(file, path.suffix)
            sounds = cache(lambda: _sounds(file, path.suffix))
            plan = decide(scan, lambda: sounds()[0])
            if isinstance(plan, TagChange):
                return plan
            if opened.st_nlink > 1:
                raise DeepMusicError(
                    f"it has {opened.st_nlink} names (hard links), and only this one would be "
                    "changed; make it a file of its own first"
                )
            if not os.access(final, os.W_OK):
                raise DeepMusicError("it may not be written")
            changed = [tag for tag in scan.tags if tag.name in plan.fields]
            with tempfile.TemporaryFile(dir=final.parent) as copy:
                splices = [s for tag in changed for s in tag.splices(plan.fields[tag.name])]
                # the sizes around two tags that change stand in the splices of the last
                copy_spliced(file, list({s[:2]: s for s in splices}.values()), copy)
                keep_attributes(copy.fileno(), final)
                _check(_scan(copy, path.suffix), scan, plan, is_new=status == "written")
                if _sounds(copy, path.suffix) != sounds():
                    raise DeepMusicError("its sound would not survive the tag")
                if dry_run:
                    return TagChange(str(path), scan.genres, plan.genres, "planned")
                if log is not None:
                    log.add(path, sounds()[0], changed, plan.genres)
                copy.seek(0)
                with write_atomically(final, "wb") as out:
                    shutil.copyfileobj(copy, out)
                    keep_attributes(out.fileno(), final)
                    now = os.stat(final)
                    if (now.st_ino, now.st_mtime_ns) != (opened.st_ino, opened.st_mtime_ns):
                        raise DeepMusicError("another program changed it at the same time")
    except Exception as error:  # FFmpeg raises many kinds on damaged files
        return TagChange(str(path), (), (), "failed", _reason(error))
    return TagChange(str(path), scan.genres, plan.genres, status)


def _scan(file: BinaryIO, suffix: str) -> _Scan:
    with open_container(file, suffix) as container:
        if not container.streams.audio:
            raise AudioError("there is no sound track in it", code="no_sound_track")
        name = container.format.name
    return _Scan(metadata_of(file, suffix), load_tags(file, name))


def _check(copy: _Scan, original: _Scan, plan: _Plan, *, is_new: bool) -> None:
    """Check that a changed copy has the fields of the original, but for those that were planned.

    ``is_new`` says that its genre is not one that was there before.

    What reads tags for all other purposes must agree.

    Raises:
        DeepMusicError: something else would change.
    """
    expected = {tag.name: tag.fields for tag in original.tags if tag.exists} | plan.fields
    written = {tag.name: tag.fields for tag in copy.tags if tag.exists}
    if written != {name: fields for name, fields in expected.items() if fields is not None}:
        raise DeepMusicError("its other tags would not survive")
    if _others(copy.metadata) != _others(original.metadata):
        raise DeepMusicError("its other tags would be read differently")
    read = copy.metadata.get("genre", ("",))[0]  # of several, the first or the last at least
    if is_new and not read.startswith(plan.genres):
        raise DeepMusicError("its genre would be read differently")


def _others(metadata: Metadata) -> dict[str, list[str]]:
    # the letters of ID3v1 belong to no alphabet for certain
    return {
        name: [value.encode("ascii", "ignore").decode() for value in values]
        for name, values in metadata.items()
        if name != "genre"
    }


def _reason(error: Exception) -> str:
    if isinstance(error, av.FFmpegError) or getattr(error, "code", "") == "not_audio":
        return "it is not a sound file that can be read to its end"
    if isinstance(error, DeepMusicError):
        return str(error)
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, OSError):
        return os_reason(error)
    return f"its tags cannot be changed: {str(error) or type(error).__name__}"


def _sound_at(path: str) -> str:
    """The first of `_sounds` of a file; "" where it cannot be read."""
    try:
        with open_source(path)[0] as file:
            return _sounds(file, os.path.splitext(path)[1])[0]
    except Exception:  # FFmpeg raises many kinds on damaged files
        return ""


def _sounds(file: BinaryIO, suffix: str) -> list[str]:
    """Hashes of the coded tracks, packet by packet, whatever tags are around them; sound first."""
    with open_container(file, suffix) as container:
        streams = [*container.streams.audio, *container.streams.video]
        digests = {stream.index: hashlib.sha256() for stream in streams}
        for packet in container.demux(*streams):
            data = bytes(packet)
            digests[packet.stream.index].update(len(data).to_bytes(8, "big") + data)
    return [digest.hexdigest() for digest in digests.values()]
