"""Writes genres into the tags of sound files, through mutagen.

Writing is careful with other people's libraries. An existing genre stays, unless the log says that
we wrote it or the caller insists. The tag is changed in a copy, whose coded sound must equal the
original's packet by packet; the change is logged, and then the copy replaces the file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import av

from deepmusic.audio.ffmpeg import open_container
from deepmusic.audio.metadata import read_tags
from deepmusic.audio.sources import open_source
from deepmusic.errors import AudioError, DeepMusicError, os_reason
from deepmusic.extras import need
from deepmusic.files import write_atomically
from deepmusic.store import Store

Genres = tuple[str, ...]
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


class LogEntry(NamedTuple):
    """What was done to the genres of a file, for `undo`."""

    before: Genres
    written: list[Genres]  # by us since, oldest first
    had_tags: bool  # before


class TagLog:
    """The changes made to tags that were not undone, in a SQLite store made by the first change.

    Raises:
        DataError: the file is something else, or cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.files()

    def files(self) -> list[str]:
        """The files that were changed, sorted."""
        if not self.path.exists():
            return []
        with self._open() as store:
            return sorted(record["path"] for _, record in store.items())

    def get(self, path: str | os.PathLike[str]) -> LogEntry | None:
        """The entry of a file."""
        if not self.path.exists():
            return None
        with self._open() as store:
            record = store.get(_key(path))
        if record is None:
            return None
        written = [tuple(genres) for genres in record["written"]]
        return LogEntry(tuple(record["before"]), written, record["had_tags"])

    def add(
        self, path: str | os.PathLike[str], before: Genres, after: Genres, *, had_tags: bool
    ) -> None:
        """Log a change; it is on disk when this returns."""
        entry = self.get(path)
        if entry is None or before not in entry.written:
            entry = LogEntry(before, [], had_tags)
        entry.written.append(after)
        with self._open() as store:
            store.put(_key(path), {"path": os.path.realpath(path), **entry._asdict()})

    def remove(self, path: str | os.PathLike[str]) -> None:
        """Remove the entry of a file."""
        with self._open() as store:
            store.delete(_key(path))

    def _open(self) -> Store:
        return Store(self.path, "tag changes")


def _key(path: str | os.PathLike[str]) -> str:
    return os.fsencode(os.path.realpath(path)).hex()  # a path need not be valid text


def write_genre(
    path: str | os.PathLike[str],
    genre: str,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    log: TagLog | None = None,
) -> TagChange:
    """Write the genre into a file's tags; its sound and its other tags stay as they are.

    An existing genre is left alone, unless the log says that we wrote it. Permissions stay, the
    mtime becomes now, so that players and backups see the change. Trouble with the file is
    reported, not raised.

    Args:
        path: the file; what mutagen can tag of mp3, flac, ogg, opus, m4a, wav, aiff, wma ...
        genre: one line of text.
        overwrite: whether to replace a genre that somebody else set.
        dry_run: only report what would be done.
        log: where the change is logged first; without it there is no undo.

    Raises:
        MissingLibraryError: mutagen is not installed.
        DeepMusicError: the genre is empty or of several lines.
    """
    need("tags")
    if not genre.strip() or not genre.isprintable():
        raise DeepMusicError(f"A genre is one line of text; got {genre!r}.")

    def decide(tagged: Any) -> TagChange | Genres:
        before, after = _genres(tagged), (genre,)
        entry = log.get(path) if log else None
        is_ours = entry is not None and before in entry.written
        if before == after:
            return TagChange(str(path), before, before, "same")
        # A genre may stand where mutagen does not look, such as in a WAV's INFO chunk.
        present = before or read_tags(path).genres
        if present and not (overwrite or is_ours):
            reason = f"its genre is set to {', '.join(present)!r} already"
            return TagChange(str(path), present, present, "kept", reason)
        return after

    return _edit(Path(path), decide, "written", dry_run=dry_run, log=log)


def undo(log: TagLog, *, dry_run: bool = False) -> list[TagChange]:
    """Restore the genres that files had before the logged changes.

    A file whose genre was changed by others since is left alone and reported. ``dry_run`` only
    reports what would be done.

    Raises:
        MissingLibraryError: mutagen is not installed.
    """
    need("tags")
    return [_undo_file(path, log, dry_run) for path in log.files()]


def _undo_file(path: str, log: TagLog, dry_run: bool) -> TagChange:
    entry = log.get(path) or LogEntry((), [], had_tags=True)

    def decide(tagged: Any) -> TagChange | Genres:
        now = _genres(tagged)
        if now == entry.before:  # killed between the log and the change, or the undo
            return TagChange(path, now, now, "same")
        if now not in entry.written:
            reason = f"its genre was changed since, to {', '.join(now) or 'none'!r}"
            return TagChange(path, now, now, "kept", reason)
        return entry.before

    change = _edit(Path(path), decide, "restored", dry_run=dry_run, bare=not entry.had_tags)
    if not dry_run and change.status in ("same", "restored"):
        log.remove(path)
    return change


def _edit(
    path: Path,
    decide: Callable[[Any], TagChange | Genres],
    status: Status,
    *,
    dry_run: bool,
    bare: bool = False,
    log: TagLog | None = None,
) -> TagChange:
    """Set the genres of one file to what ``decide`` returns for its tags.

    The change goes into ``log`` before the file is touched; ``bare`` removes tags left empty.
    """
    import mutagen

    try:
        with open_source(path)[0] as file:
            # Only what FFmpeg takes for sound reaches mutagen, which relies on the name where
            # files are misnamed: so it gets the right one.
            with open_container(file) as container:
                if not container.streams.audio:
                    raise AudioError("there is no sound track in it", code="no_sound_track")
                name = f"sound.{container.format.name.split(',')[0]}"
            file.seek(0)
            tagged = mutagen.File(fileobj=file, filename=name)
            if tagged is None:
                raise DeepMusicError("tags of this format cannot be written")
            after = decide(tagged)
            if isinstance(after, TagChange):
                return after
            before = _genres(tagged)
            if dry_run:
                return TagChange(str(path), before, after, "planned")
            with tempfile.TemporaryFile(dir=path.parent) as copy:
                file.seek(0)
                shutil.copyfileobj(file, copy)
                copy.seek(0)
                _set_genres(mutagen.File(fileobj=copy, filename=name), after, copy, bare=bare)
                if _sound_digest(copy, path.suffix) != _sound_digest(file, path.suffix):
                    raise DeepMusicError("its sound would not survive the tag")
                if log is not None:
                    log.add(path, before, after, had_tags=tagged.tags is not None)
                copy.seek(0)
                with write_atomically(path, "wb") as out:
                    shutil.copyfileobj(copy, out)
    except Exception as error:  # mutagen and FFmpeg raise many kinds on damaged files
        return TagChange(str(path), (), (), "failed", _reason(error))
    return TagChange(str(path), before, after, status)


def _reason(error: Exception) -> str:
    if isinstance(error, av.FFmpegError) or getattr(error, "code", "") == "not_audio":
        return "it is not a sound file that can be read to its end"
    if isinstance(error, DeepMusicError):
        return str(error)
    if isinstance(error, OSError):
        return os_reason(error)
    return f"its tags cannot be changed: {str(error) or type(error).__name__}"


def _sound_digest(file: BinaryIO, suffix: str) -> str:
    """A hash of the coded sound, packet by packet, whatever tags are around it."""
    digest = hashlib.sha256()
    with open_container(file, suffix) as container:
        for packet in container.demux(audio=0):
            data = bytes(packet)
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _genre_key(tags: Any) -> str:
    """What the field of the genre is called in tags of this kind."""
    from mutagen.apev2 import APEv2
    from mutagen.asf import ASFTags
    from mutagen.id3 import ID3
    from mutagen.mp4 import MP4Tags

    for kind, key in ((ID3, "TCON"), (MP4Tags, "\xa9gen"), (ASFTags, "WM/Genre"), (APEv2, "Genre")):
        if isinstance(tags, kind):
            return key
    return "genre"  # Vorbis comments


def _genres(tagged: Any) -> Genres:
    key = _genre_key(tagged.tags)
    if tagged.tags is None or key not in tagged.tags:
        return ()
    value = tagged.tags[key]
    values = [value] if isinstance(value, str) else list(getattr(value, "text", value))
    return tuple(text for text in map(str, values) if text.strip())


def _set_genres(tagged: Any, genres: Genres, file: BinaryIO, *, bare: bool) -> None:
    """Set the genre in an open file; ``bare`` drops tags that are empty without it."""
    import mutagen.id3

    if tagged.tags is None:
        tagged.add_tags()
    tags = tagged.tags
    key = _genre_key(tags)
    is_id3 = isinstance(tags, mutagen.id3.ID3)
    if not genres:
        if key in tags:
            del tags[key]
        if bare and not len(tags):
            file.seek(0)
            tagged.delete(file)
            return
    elif is_id3:
        frame: Any = mutagen.id3.TCON
        tags[key] = frame(encoding=3, text=list(genres))
    else:
        tags[key] = list(genres)
    file.seek(0)
    if is_id3 and tags.version < (2, 4, 0):  # as old as they were, for old players
        tags.update_to_v23()
        tagged.save(file, v2_version=3, v23_sep=None)
    else:
        tagged.save(file)
