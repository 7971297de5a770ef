"""What a file says about itself: read through FFmpeg, its genre written through mutagen.

Writing is careful with other people's libraries. A genre that is there stays there, unless it is
ours by the log or the caller insists. The tag is changed in a copy, the sound of the copy is held
against the original's packet by packet, the change is logged, and then the copy takes the name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

import av
from av.container import InputContainer

from deepmusic.audio.ffmpeg import open_container
from deepmusic.audio.sources import SteadyFile, open_source
from deepmusic.errors import AudioError, DataError, DeepMusicError
from deepmusic.files import sync_folder, write_atomically
from deepmusic.version import pip_install

_NO_SOUND = "it is no sound file that can be read to its end"

Genres = tuple[str, ...]
Status = Literal["written", "planned", "same", "kept", "restored", "failed"]


@dataclass(frozen=True)
class Tags:
    """What a file says about itself; None where it says nothing."""

    artist: str | None = None
    album: str | None = None
    title: str | None = None
    genre: str | None = None


def read_tags(path: str | os.PathLike[str]) -> Tags:
    """Read the tags of a sound file; junk and unreadable files have none, and nothing raises.

    Args:
        path: the file; pipes, devices and folders are not opened.

    Returns:
        The tags; the artist of the album stands in for a missing artist.
    """
    try:
        with open_source(path)[0] as file:
            found = _metadata(file)
    except Exception:  # FFmpeg meets anything here, and no tag is worth stopping for
        return Tags()
    return Tags(
        artist=found.get("artist") or found.get("album_artist"),
        album=found.get("album"),
        title=found.get("title"),
        genre=found.get("genre"),
    )


@dataclass(frozen=True)
class TagChange:
    """What became of the genre of one file.

    Args:
        path: the file, as the caller named it.
        before: the genres that were in its tags.
        after: the genres that are there now, or would be.
        status: ``written``; ``planned``, in a dry run; ``same``, it was there; ``kept``, somebody
            set another one; ``restored``, by :func:`undo`; ``failed``, nothing was changed.
        reason: why, in one sentence; None where the status says it all.
    """

    path: str
    before: Genres
    after: Genres
    status: Status
    reason: str | None = None


class TagLog:
    """The changes made to tags, one JSON line each, from which they can be undone.

    A line is on the disk before the file it speaks of is changed. A line cut short by a kill is
    passed over.

    Args:
        path: the log; it need not exist yet.

    Raises:
        DataError: the file cannot be read or is no such log.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._changes: dict[str, list[dict[str, Any]]] = {}  # by file, those not undone
        for line in self._lines():
            try:
                change = json.loads(line)
                self._take(
                    {
                        "path": str(change["path"]),
                        "before": [str(genre) for genre in change["before"]],
                        "after": [str(genre) for genre in change["after"]],
                        "had_tags": bool(change["had_tags"]),
                        "undone": bool(change["undone"]),
                    }
                )
            except (ValueError, KeyError, TypeError) as error:
                if line.endswith(b"\n"):
                    raise DataError(f"{self.path} is no log of tag changes.") from error

    def last(self, path: str | os.PathLike[str]) -> dict[str, Any] | None:
        """The latest change of a file that was not undone."""
        changes = self._changes.get(os.path.realpath(path))
        return changes[-1] if changes else None

    def files(self) -> list[str]:
        """Files with changes that were not undone, sorted."""
        return sorted(path for path, changes in self._changes.items() if changes)

    def append(
        self, path: Path, before: Genres, after: Genres, *, had_tags: bool, undone: bool = False
    ) -> None:
        """Bring one change to the disk.

        Raises:
            OSError: the log cannot be written.
        """
        change = {
            "path": os.path.realpath(path),
            "before": before,
            "after": after,
            "had_tags": had_tags,
            "undone": undone,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        is_new = not self.path.exists()
        with open(self.path, "ab+") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                file.truncate(file.tell() - len(self._lines()[-1]))
            file.write(json.dumps(change).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self.path.parent)
        self._take(change)

    def _take(self, change: dict[str, Any]) -> None:
        changes = self._changes.setdefault(change["path"], [])
        if not change["undone"]:
            changes.append(change)
        elif changes:
            changes.pop()

    def _lines(self) -> list[bytes]:
        try:
            return self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DataError(f"The log {self.path} cannot be read: {reason}.") from error


def write_genre(
    path: str | os.PathLike[str],
    genre: str,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    log: TagLog | None = None,
) -> TagChange:
    """Write the genre into a file's tags; its sound and its other tags stay as they are.

    A genre that is there is left alone, unless ``overwrite`` is asked for or the log says that it
    is ours. The file's permissions stay, its time of change becomes now, so that players and
    backups see the new tag.

    Args:
        path: the file; what mutagen can tag of mp3, flac, ogg, opus, m4a, wav, aiff, wma ...
        genre: one line of text.
        overwrite: whether to replace a genre that somebody else set.
        dry_run: whether to say only what would be done.
        log: where the change is written down first; without it there is no undoing.

    Returns:
        What became of it; trouble with the file is told there, not raised.

    Raises:
        DeepMusicError: mutagen is not installed, or the genre is empty or of several lines.
    """
    _need_mutagen()
    if not genre.strip() or not genre.isprintable():
        raise DeepMusicError(f"A genre is one line of text; got {genre!r}.")

    def change(tagged: Any) -> TagChange | Genres:
        before, after = _genres(tagged), (genre,)
        last = log.last(path) if log else None
        is_ours = last is not None and before == tuple(last["after"])
        # A genre may stand where mutagen does not look, such as in a WAV's INFO chunk.
        elsewhere = () if before else tuple(filter(None, [read_tags(path).genre]))
        if before == after:
            return TagChange(str(path), before, before, "same")
        if (before or elsewhere) and not (overwrite or is_ours):
            there = before or elsewhere
            reason = f"its genre is set to {', '.join(there)!r} already"
            return TagChange(str(path), there, there, "kept", reason)
        return after

    return _changed(Path(path), change, "written", dry_run=dry_run, log=log)


def undo(log: TagLog, *, dry_run: bool = False) -> list[TagChange]:
    """Give files back the genres that they had before the changes in a log.

    A file whose genre was changed by others since is left alone, and so told. What was undone is
    logged as well: undoing twice does nothing.

    Args:
        log: of the changes.
        dry_run: whether to say only what would be done.

    Returns:
        One entry a file, sorted by path.

    Raises:
        DeepMusicError: mutagen is not installed.
    """
    _need_mutagen()
    return [_undone(path, log, dry_run) for path in log.files()]


def _undone(path: str, log: TagLog, dry_run: bool) -> TagChange:
    result = TagChange(path, (), (), "same")
    while (last := log.last(path)) is not None:

        def change(tagged: Any, last: dict[str, Any] = last) -> TagChange | Genres:
            now, before = _genres(tagged), tuple(last["before"])
            if now == before:  # the change was logged, then killed before it was made
                return TagChange(path, now, now, "same")
            if now != tuple(last["after"]):
                reason = f"its genre was changed since, to {', '.join(now) or 'none'!r}"
                return TagChange(path, now, now, "kept", reason)
            return before

        step = _changed(Path(path), change, "restored", dry_run=dry_run, log=log)
        if step.status == "same" and not dry_run:
            log.append(Path(path), step.before, step.after, had_tags=True, undone=True)
        elif step.status != "same":
            first = result.before if result.status == "restored" else step.before
            result = TagChange(path, first, step.after, step.status, step.reason)
        if dry_run or step.status in ("kept", "failed"):
            break
    return result


def _changed(
    path: Path,
    change: Callable[[Any], TagChange | Genres],
    status: Status,
    *,
    dry_run: bool,
    log: TagLog | None,
) -> TagChange:
    """Change the genre of one file as ``change`` says after a look at its tags."""
    import mutagen

    try:
        with open_source(path)[0] as file:
            # What FFmpeg does not take for sound never reaches mutagen, which goes by the name
            # where files are named wrongly: so it is told the right one.
            with _opened(file, path.suffix) as container:
                if not container.streams.audio:
                    return _failed(path, "there is no sound track in it")
                name = f"sound.{container.format.name.split(',')[0]}"
            file.seek(0)
            tagged = mutagen.File(fileobj=file, filename=name)
            if tagged is None:
                return _failed(path, "tags of this format cannot be written")
            wanted = change(tagged)
            if isinstance(wanted, TagChange):
                return wanted
            before, had_tags = _genres(tagged), tagged.tags is not None
            if dry_run:
                return TagChange(str(path), before, wanted, "planned")
            with tempfile.TemporaryFile(dir=path.parent) as copy:
                file.seek(0)
                shutil.copyfileobj(file, copy)
                copy.seek(0)
                last = log.last(path) if log else None
                bare = status == "restored" and last is not None and not last["had_tags"]
                _set_genres(mutagen.File(fileobj=copy, filename=name), wanted, copy, bare=bare)
                if _sound(copy, path.suffix) != _sound(file, path.suffix):
                    return _failed(path, "its sound would not survive the tag")
                if log is not None:
                    undone = status == "restored"
                    log.append(path, before, wanted, had_tags=had_tags, undone=undone)
                copy.seek(0)
                with write_atomically(path, "wb") as out:
                    shutil.copyfileobj(copy, out)
    except AudioError as error:
        return _failed(path, _NO_SOUND if error.code == "not_audio" else str(error))
    except av.FFmpegError:
        return _failed(path, _NO_SOUND)
    except DeepMusicError as error:
        return _failed(path, str(error))
    except OSError as error:
        return _failed(path, (error.strerror or str(error)).lower())
    except Exception as error:  # mutagen lets many kinds through on damaged files
        return _failed(path, f"its tags cannot be changed: {str(error) or type(error).__name__}")
    return TagChange(str(path), before, wanted, status)


def _failed(path: Path, reason: str) -> TagChange:
    return TagChange(str(path), (), (), "failed", reason)


def _opened(file: BinaryIO, suffix: str) -> InputContainer:
    steady = SteadyFile(file)
    steady.name = "sound" + suffix  # a temporary copy has no extension of its own
    return open_container(steady)


def _metadata(file: BinaryIO) -> dict[str, str]:
    """Tags by lower-case name, without empty ones."""
    with open_container(file) as container:
        # Ogg keeps its tags with the stream, all others with the container.
        merged: dict[str, str] = {}
        for stream in container.streams.audio:
            merged |= stream.metadata
        merged |= container.metadata
    cleaned = {name.lower(): value.replace("\0", "; ").strip() for name, value in merged.items()}
    return {name: value for name, value in cleaned.items() if value}


def _sound(file: BinaryIO, suffix: str) -> str:
    """A hash of the coded sound, packet by packet, whatever tags are around it."""
    digest = hashlib.sha256()
    with _opened(file, suffix) as container:
        for packet in container.demux(audio=0):
            data = bytes(packet)
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _need_mutagen() -> None:
    try:
        import mutagen  # noqa: F401
    except ImportError as error:
        raise DeepMusicError(
            f"Writing tags needs mutagen, which is not installed; run: {pip_install('tags')}"
        ) from error


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
    if tagged.tags is None:
        return ()
    key = _genre_key(tagged.tags)
    if key not in tagged.tags:
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
