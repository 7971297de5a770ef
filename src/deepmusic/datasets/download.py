"""Download one file over HTTP(S), resuming where an earlier call was cut off, and check it.

Until a file is complete and has the right checksum it is called ``TARGET.part``;
``TARGET.part.json`` notes the address and the version (ETag or Last-Modified) the part is of.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from rich.filesize import decimal as format_bytes
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from deepmusic.errors import ReasonError, os_reason
from deepmusic.files import open_regular, sync_folder
from deepmusic.version import __version__

Progress = Callable[[int, int | None], object]
"""Takes the bytes done and the total, if known."""

CHUNK = 1 << 20
_NETWORK_CHUNK = 1 << 16  # what is lost at most when a connection is cut
TIMEOUT_S = 30.0
"""How long a server may be silent."""
TRIES = 5
"""Requests in a row that may bring nothing."""
WAIT_S = 1.0
"""How long to wait before the second try; doubled after each, up to a minute."""
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class DownloadError(ReasonError):
    """A file could not be downloaded, copied or put where it belongs.

    Codes: ``"missing"``, ``"refused"`` (by the server, or the address is not http or https),
    ``"unreachable"``, ``"mismatch"`` (another size or checksum), ``"exists"`` (another file has the
    name), ``"disk"``.
    """


class _CutError(Exception):
    """A transfer ended before the file was complete; another request may bring the rest."""


def download_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    checksum: str | None = None,
    size: int | None = None,
    on_progress: Progress | None = None,
) -> bool:
    """Download or copy a file, resuming where an earlier call was cut off.

    Busy servers and cut connections are tried again with growing waits. Proxies are those of the
    environment. A part is only continued if it is of the same version of the remote file, or if
    the checksum will tell.

    Args:
        source: an http(s) address or a local path.
        target: the file to write; its folder is made. An existing file is checked, and neither
            downloaded again nor overwritten.
        checksum: ``"ALGORITHM:HEX"``, such as ``"sha256:..."``.
        size: bytes, if known.
        on_progress: takes the bytes done and the total, if known.

    Returns:
        Whether it was transferred; False where it already existed.

    Raises:
        DownloadError: it is not available or not the expected file. What was downloaded is kept
            for the next call, unless it is complete and wrong.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> size = (folder / "a.mid").write_bytes(b"MThd")
        >>> download_file(folder / "a.mid", folder / "copy.mid", size=4)
        True
    """
    target, tell = Path(target), on_progress or (lambda done, total: None)
    part = part_path(target)
    with disk_errors(target):
        if target.exists():
            if fault := file_fault(target, checksum, size):
                message = f"{target} already exists, but {fault}: move or delete it and run again."
                raise DownloadError(message, code="exists")
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_url(source):
            _fill(str(source), part, size, checksum is not None, tell)
        else:
            open_regular(source, shown=str(source), noun="file", error=DownloadError).close()
            shutil.copyfile(source, part)
        finish_part(part, target, display_source(source), checksum, size)
        _note_path(part).unlink(missing_ok=True)
    return True


def finish_part(
    part: Path, target: Path, origin: str, checksum: str | None, size: int | None
) -> None:
    """Give a complete part its final name, or delete it and raise if it is not the right file."""
    if fault := file_fault(part, checksum, size):
        part.unlink()
        _note_path(part).unlink(missing_ok=True)
        message = f"{origin} is not the expected file: {fault}; the download was deleted."
        raise DownloadError(message, code="mismatch")
    os.replace(part, target)
    sync_folder(target.parent)


def file_fault(
    path: Path, checksum: str | None, size: int | None, on_progress: Progress | None = None
) -> str | None:
    """What is wrong with a file, such as ``"it has 5 bytes, not 7"``; None if nothing."""
    actual_size = path.stat().st_size
    if size is not None and actual_size != size:
        return f"it has {actual_size:,} bytes, not {size:,}"
    if checksum is not None:
        algorithm, _, expected = checksum.lower().partition(":")
        digest = hashlib.new(algorithm, usedforsecurity=False)
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                if on_progress is not None:
                    on_progress(file.tell(), actual_size)
        if digest.hexdigest() != expected:
            return f"its {algorithm} is {digest.hexdigest()}, not {expected}"
    return None


def part_path(target: Path) -> Path:
    """What a file is called until it is complete."""
    return target.with_name(target.name + ".part")


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


def is_url(source: str | os.PathLike[str]) -> bool:
    """Whether a source is an http(s) address; False for a path. Raises for other addresses."""
    scheme, separator, _ = os.fspath(source).partition("://")
    if not separator or scheme.lower() in ("http", "https"):
        return bool(separator) and isinstance(source, str)
    message = f"{display_source(source)} is not supported: give an http(s) address or a local path."
    raise DownloadError(message, code="refused")


def display_source(source: str | os.PathLike[str]) -> str:
    """A source as messages name it: an address without user, password and query."""
    text = os.fspath(source)
    match = re.match(r"(\w+://)(?:[^/]*@)?([^?#]*)", text)
    return match[1] + match[2] if match else text


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Raise operating system errors as a DownloadError that names the target."""
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"{target} could not be written: {os_reason(error)}; make room or choose another "
            "folder, and run again.",
            code="disk",
        ) from error


def refuse_full_disk(folder: Path, size: int) -> None:
    """Raise if a disk has fewer than ``size`` bytes free; the folder need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DownloadError(
            f"{folder} has {format_bytes(free)} free, but {format_bytes(size)} are needed: free "
            "some space and run again.",
            code="disk",
        )


def open_session() -> requests.Session:
    """A session that tries busy servers and lost requests again."""
    retries = Retry(
        total=TRIES - 1,
        connect=1,
        status_forcelist=_BUSY,
        backoff_factor=WAIT_S,
        backoff_max=60,
        retry_after_max=300,
        raise_on_status=False,
    )
    session = requests.Session()
    session.headers.update(
        {"User-Agent": f"deepmusic/{__version__}", "Accept-Encoding": "identity"}
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    return session


def network_reason(error: BaseException) -> str:
    """Why a request failed, in a few words."""
    if isinstance(error, ValueError):
        return "it is not a valid http(s) address, or redirects to one that is not"
    reasons = {
        "redirects": "it redirects in a circle",
        "CERTIFICATE": "its certificate is not trusted",
        "timed out": "the server does not answer",
        "resolve": "its host is unknown, or there is no network",
        "refused": "the server accepts no connections",
    }
    return next((r for part, r in reasons.items() if part in str(error)), "the connection was lost")


def refuse_status(response: requests.Response, origin: str) -> None:
    """Raise for an HTTP status other than success."""
    if response.status_code in (404, 410):
        message = f"{origin} does not exist (status {response.status_code}): give another source."
        raise DownloadError(message, code="missing")
    if response.status_code not in (200, 206):
        raise DownloadError(
            f"{origin} is refused by the server: status {response.status_code} {response.reason}.",
            code="refused",
        )


def _fill(url: str, part: Path, size: int | None, has_checksum: bool, tell: Progress) -> None:
    """Download a part until it is complete, over as many requests as it takes."""
    failures, furthest = 0, 0
    with open_session() as session:
        while True:
            try:
                return _request(session, url, part, size, has_checksum, tell)
            except (requests.RequestException, UnicodeError, _CutError) as error:
                done, is_cut = size_of(part), isinstance(error, _CutError)
                failures = 1 if done > furthest else failures + 1
                furthest = max(furthest, done)
                if failures >= TRIES or not is_cut:  # the session has tried requests again
                    kept = f"{format_bytes(done)} are kept, run again to resume"
                    raise DownloadError(
                        f"{display_source(url)} could not be downloaded: {network_reason(error)}; "
                        f"{kept if done else 'try again later'}.",
                        code="unreachable",
                    ) from error
            time.sleep(min(WAIT_S * 2 ** (failures - 1), 60))


def _request(
    session: requests.Session,
    url: str,
    part: Path,
    size: int | None,
    has_checksum: bool,
    tell: Progress,
) -> None:
    """Download what a part lacks by one request."""
    origin = display_source(url)
    version = _noted_version(part, origin)
    done = size_of(part) if version or has_checksum else 0  # otherwise nothing would tell
    if done and done == size:
        return
    headers = {"Range": f"bytes={done}-"} if done else {}
    if done and version:
        headers["If-Range"] = version
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        content_range = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        start = int(content_range[1]) if content_range and response.status_code == 206 else 0
        etag = response.headers.get("ETag", "W/")
        current = response.headers.get("Last-Modified") if etag.startswith("W/") else etag
        has_changed = None not in (version, current) and version != current
        if (start and (start != done or has_changed)) or (done and response.status_code == 416):
            part.unlink(missing_ok=True)
            raise _CutError("the file changed during the download")
        refuse_status(response, origin)
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        if None not in (total, size) and total != size:
            message = f"{origin} has {total:,} bytes, not {size:,}: it is not the expected file."
            raise DownloadError(message, code="mismatch")
        note = json.dumps({"url": origin, "version": current})
        with open(part, "ab" if start else "wb", buffering=0) as file:
            # after the old part is gone: a kill must not leave it with the new version
            _note_path(part).write_text(note, encoding="utf-8")
            try:
                # raw: a content coding that the server adds is left as it is
                for chunk in response.raw.stream(_NETWORK_CHUNK, decode_content=False):
                    file.write(chunk)
                    tell(file.tell(), total)
                    if size is not None and file.tell() > size:
                        return  # it will be refused for its size
            except HTTPError as error:
                raise _CutError(str(error)) from error
            if file.tell() < (size or total or 0):
                raise _CutError("the end is missing")
            os.fsync(file.fileno())


def _noted_version(part: Path, origin: str) -> str | None:
    """The version of the remote file that a part is of, if it is from this address."""
    try:
        note = json.loads(_note_path(part).read_text(encoding="utf-8"))
        is_valid = note["url"] == origin and note["version"].isprintable()
        return str(note["version"]) if is_valid else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _note_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")
