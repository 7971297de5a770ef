"""Requests to the web: http and https alone, through the environment's proxies.

What a server answers and what a network does wrong becomes either a :class:`DownloadError`, which
is one sentence for a person, or a :class:`LostError`, after which it is worth trying again.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    url2pathname,
)

from deepmusic.errors import ReasonError
from deepmusic.version import __version__

CHUNK = 1 << 20
"""Bytes that are asked for at a time."""
_LONGEST_WAIT_S = 60.0
_LONGEST_ASKED_WAIT_S = 300.0
"""A server that asks to be left alone for longer is not waited for."""
_WEB = ("http", "https")
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers that may be another one next time."""


class DownloadError(ReasonError):
    """A file could not be fetched, or is not the one that was meant.

    A code is such as ``"missing"``, ``"checksum"``, ``"unreachable"`` or ``"disk"``.
    """


class LostError(Exception):
    """A connection was lost, or not had; it may go better next time.

    Args:
        reason: a few words for a person.
        wait_s: how long the server asked to wait; None where it did not say.
        is_absent: whether there was nobody to talk to.
    """

    def __init__(
        self, reason: str, wait_s: float | None = None, *, is_absent: bool = False
    ) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.is_absent = is_absent


class Patience:
    """How often, and after which waits, something is tried again.

    Args:
        give_up: makes the error of the reason, when it is not tried again.
        tries: how many in a row may bring nothing.
        wait_s: seconds before the second try; each later wait is twice as long.
    """

    def __init__(
        self, give_up: Callable[[str], DownloadError], *, tries: int, wait_s: float
    ) -> None:
        self._give_up = give_up
        self._tries = tries
        self._wait_s = wait_s
        self._failures = 0
        self._furthest = 0
        self.is_answered = False
        """Whether there was somebody to talk to."""

    def after(self, lost: LostError, done: int) -> None:
        """Wait before the next try, or raise if there is none.

        Args:
            lost: why the last try ended.
            done: how far it came, in bytes.
        """
        # a server that starts anew each time and always breaks off brings nothing
        self._failures = 1 if done > self._furthest else self._failures + 1
        self._furthest = max(self._furthest, done)
        if self._failures >= self._tries or (lost.is_absent and not self.is_answered):
            raise self._give_up(str(lost)) from lost
        wait_s = lost.wait_s
        if wait_s is None:
            wait_s = min(self._wait_s * 2 ** (self._failures - 1), _LONGEST_WAIT_S)
        elif wait_s > _LONGEST_ASKED_WAIT_S:
            asked = f"the server asks to wait for {wait_s / 60:.0f} minutes"
            raise self._give_up(asked) from lost
        time.sleep(wait_s)


def local_path(source: str | os.PathLike[str]) -> Path | None:
    """The path that a source means; None if it is an address on the web.

    Raises:
        DownloadError: it is an address of another kind than http, https and file.
    """
    if not isinstance(source, str):
        return Path(source)
    scheme, colon, rest = source.partition("://")
    if not colon:
        return Path(source)
    if scheme.lower() == "file":
        host, slash, path = rest.partition("/")
        if host in ("", "localhost"):
            return Path(url2pathname(slash + path))
    elif scheme.lower() in _WEB:
        return None
    raise DownloadError(
        f"{shown(source)} is not fetched: only http and https addresses and files of this machine.",
        code="scheme",
    )


def shown(source: str | os.PathLike[str]) -> str:
    """A source as messages name it: an address without its query, which may hold a secret."""
    text = os.fspath(source)
    return text.partition("?")[0].partition("#")[0] if "://" in text else text


def byte_count(size: float) -> str:
    """A number of bytes in words, such as ``"96.1 kB"``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


class Site:
    """An address on the web, of which parts can be asked for.

    Args:
        url: an http or https address.
        timeout_s: how many seconds a server may say nothing.

    Attributes:
        origin: the address as messages name it.

    Raises:
        DownloadError: it is no plain address.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.origin = shown(url)
        self.url = _quoted(url)
        self._timeout_s = timeout_s
        self._opener = _web_opener()

    @contextmanager
    def ask(self, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        """Ask for the file, or what a ``Range`` among the headers says of it.

        Raises:
            DownloadError: the server refuses, or the answer is not the file itself.
            LostError: it may go better next time.
            HTTPError: 412 or 416; what that means is for who asked.
        """
        own = {"User-Agent": f"deepmusic/{__version__}", "Accept-Encoding": "identity"}
        request = Request(self.url, headers={**own, **headers})
        try:
            response = self._opener.open(request, timeout=self._timeout_s)
        except HTTPError as error:
            with error:
                if error.code in (412, 416):
                    raise
                raise self._refusal(error) from error
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise self.lost(error) from error
        with response:
            coding = response.headers.get("Content-Encoding", "identity")
            if coding != "identity" or response.status not in (200, 206):
                raise DownloadError(
                    f"{self.origin} answers with status {response.status} and coding {coding}, "
                    "which is not the file itself.",
                    code="answer",
                )
            yield response

    def read(self, response: http.client.HTTPResponse, size: int = CHUNK) -> bytes:
        """The next bytes of an answer, at most ``size``; none at its end.

        Raises:
            DownloadError, LostError: as in :meth:`ask`.
        """
        try:
            return bytes(response.read1(size))
        except (OSError, http.client.HTTPException) as error:
            raise self.lost(error) from error

    def _refusal(self, error: HTTPError) -> Exception:
        """What an answer means that is no success."""
        if error.code in _PASSING:
            return LostError(
                f"the server is busy or out of order (status {error.code})",
                _asked_wait_s(error.headers.get("Retry-After")),
            )
        if 300 <= error.code < 400:
            return DownloadError(
                f"{self.origin} redirects in a circle, or to what is neither http nor https; it is "
                "not followed.",
                code="scheme",
            )
        if error.code in (404, 410):
            return DownloadError(
                f"{self.origin} is not there (status {error.code}): give another source.",
                code="missing",
            )
        return DownloadError(
            f"{self.origin} is refused by the server: status {error.code} {error.reason}.",
            code="refused",
        )

    def lost(self, error: Exception) -> Exception:
        """What an error of the network means."""
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            return DownloadError(
                f"{self.origin} could not be fetched: its certificate is not trusted "
                f"({reason.verify_message}).",
                code="refused",
            )
        if isinstance(reason, http.client.InvalidURL | UnicodeError):
            return DownloadError(f"{self.origin} is no address that can be fetched.", code="scheme")
        if isinstance(reason, TimeoutError):
            return LostError(f"the server said nothing for {self._timeout_s:g} s")
        if isinstance(reason, socket.gaierror):
            return LostError("its host is not known, or there is no network", is_absent=True)
        if isinstance(reason, ConnectionRefusedError):
            return LostError("the server takes no connections", is_absent=True)
        if isinstance(reason, ConnectionError | http.client.HTTPException):
            return LostError("the connection was cut")
        said = getattr(reason, "strerror", None) or str(reason)
        return LostError(" ".join(said.lower().split()) or type(reason).__name__)


def content_range(headers: Message) -> tuple[int, int | None] | None:
    """Where a part starts and how long the whole file is, in bytes; None if it is not said."""
    span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    first = span.partition("-")[0].strip()
    if not first.isdecimal():
        return None
    return int(first), int(total) if total.isdecimal() else None


def strong_version(headers: Message) -> str | None:
    """What ``If-Range`` takes: a strong entity tag, else the date of the last change."""
    tag: str | None = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


class _WebRedirects(HTTPRedirectHandler):
    """Follows from the web to the web alone; the default goes to ftp as well."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> Request | None:
        if urlsplit(newurl).scheme.lower() not in _WEB:
            fp.close()
            raise DownloadError(
                f"{shown(req.full_url)} redirects to {shown(newurl)}, which is not fetched: only "
                "http and https.",
                code="scheme",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _web_opener() -> OpenerDirector:
    """An opener that knows http and https, through the environment's proxies, and nothing else."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        _WebRedirects(),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _quoted(url: str) -> str:
    """An address in the letters that may stand in one."""
    try:
        parts = urlsplit(url)
        is_plain = bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_plain = False
    if not is_plain:
        raise DownloadError(
            f"{shown(url.rpartition('@')[2])} names no host, or a user; give a plain address.",
            code="scheme",
        )
    path, query = (quote(text, safe="/%:=&?~+!$,;'()*[]@") for text in (parts.path, parts.query))
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _asked_wait_s(value: str | None) -> float | None:
    """Seconds that a ``Retry-After`` asks for, which is a number or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
