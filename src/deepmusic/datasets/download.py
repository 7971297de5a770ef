"""Download one file over HTTP(S), resuming where an earlier call was cut off, and check it.

Until a file is complete and has the right checksum it is called ``TARGET.part``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
TIMEOUT_S = 30.0  # how long a server may be silent
TRIES = 5  # requests in a row that may bring nothing
WAIT_S = 1.0  # before the second try; doubled after each, up to a minute


class DownloadError(ReasonError):
    """A file could not be downloaded, copied or put where it belongs.

    Codes: ``"missing"``, ``"refused"`` (by the server, or the address is not http or https),
    ``"unreachable"``, ``"mismatch"`` (another size or checksum), ``"exists"`` (another file has the
    name), ``"disk"``.
    """


def download_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    checksum: str | None = None,
    size: int | None = None,
    on_progress: Progress | None = None,
) -> bool:
    """Download or copy a file, resuming where an earlier call was cut off.

    Busy servers and cut connections are tried again with growing waits, if the remote file is still
    the same. The part that an earlier call left is only continued if the checksum will tell
    whether the rest belongs to it. Proxies are those of the environment.

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
            open_regular(source, name=str(source), noun="file", error=DownloadError).close()
            shutil.copyfile(source, part)
        if fault := file_fault(part, checksum, size):
            part.unlink()
            message = f"{display_source(source)} is not the expected file: {fault}; "
            raise DownloadError(message + "the download was deleted.", code="mismatch")
        os.replace(part, target)
        sync_folder(target.parent)
    return True


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


def open_session() -> requests.Session:
    """A session that tries busy servers and lost requests again."""
    retries = Retry(
        total=TRIES - 1,
        connect=1,
        status_forcelist=(408, 425, 429, 500, 502, 503, 504),
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


def network_reason(error: BaseException | None) -> str:
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
    status = response.status_code
    if status in (404, 410):
        message = f"{origin} does not exist (status {status}): give another source."
        raise DownloadError(message, code="missing")
    if status not in (200, 206):
        message = f"{origin} is refused by the server: status {status} {response.reason}."
        raise DownloadError(message, code="refused")


def _fill(url: str, part: Path, size: int | None, has_checksum: bool, tell: Progress) -> None:
    """Download what a part lacks, over as many requests as it takes."""
    origin, version = display_source(url), None
    failures, furthest = 0, 0
    with open_session() as session:
        while True:
            done = size_of(part) if version or has_checksum else 0  # otherwise nothing would tell
            if done and done == size:
                return
            headers = {"Range": f"bytes={done}-"} if done else {}
            if done and version:
                headers["If-Range"] = version
            reason: BaseException | None = None
            try:
                with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
                    etag = response.headers.get("ETag", "W/")  # a weak one does not tell
                    modified = response.headers.get("Last-Modified")
                    before, version = version, modified if etag.startswith("W/") else etag
                    has_changed = None not in (before, version) and before != version
                    if _receive(response, origin, part, size, has_changed, tell):
                        return
            except (requests.RequestException, UnicodeError) as error:
                reason = error  # the session has tried again
            done = size_of(part)
            failures = 1 if done > furthest else failures + 1
            furthest = max(furthest, done)
            if failures >= TRIES or reason is not None:
                kept = f"{format_bytes(done)} are kept, run again to resume"
                raise DownloadError(
                    f"{origin} could not be downloaded: {network_reason(reason)}; "
                    f"{kept if done else 'try again later'}.",
                    code="unreachable",
                ) from reason
            time.sleep(min(WAIT_S * 2 ** (failures - 1), 60))


def _receive(
    response: requests.Response,
    origin: str,
    part: Path,
    size: int | None,
    has_changed: bool,
    tell: Progress,
) -> bool:
    """Add a response to a part, or begin the part anew; returns whether it is complete."""
    done, start = size_of(part), 0
    if response.status_code == 206:
        content_range = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        start = int(content_range[1]) if content_range else 0
    if (start and (start != done or has_changed)) or (done and response.status_code == 416):
        part.unlink()  # of another version of the file
        return False
    refuse_status(response, origin)
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    if None not in (total, size) and total != size:
        message = f"{origin} has {total:,} bytes, not {size:,}: it is not the expected file."
        raise DownloadError(message, code="mismatch")
    # the connection may be lost
    with suppress(HTTPError), open(part, "ab" if start else "wb", buffering=0) as file:
        # raw: a content coding that the server adds is left as it is
        for chunk in response.raw.stream(_NETWORK_CHUNK, decode_content=False):
            file.write(chunk)
            tell(file.tell(), total)
            if size is not None and file.tell() > size:
                return True  # it will be refused for its size
        os.fsync(file.fileno())
        return file.tell() >= (size or total or 0)
    return False
