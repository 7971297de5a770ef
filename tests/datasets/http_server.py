"""A server on this machine that breaks off, lies, hangs, redirects and says no; and a proxy."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

CONTENT = random.Random(0).randbytes(300_000)


@dataclass
class Remote:
    """What the server does; lists are used up, one entry a request.

    Args:
        content: what every address gives, but those of ``files``.
        files: contents by the path of their address.
    """

    content: bytes = CONTENT
    etag: str | None = '"1"'
    modified: str | None = None
    has_ranges: bool = True
    heeds_if_range: bool = True
    heeds_if_match: bool = True
    has_length: bool = True
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    claimed_length: int | None = None
    claimed_range: str | None = None
    hangs: bool = False
    pause_s: float = 0.0
    coding: str | None = None
    requests: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    sent: int = 0
    url: str = ""

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.requests]


class Handler(BaseHTTPRequestHandler):
    remote: Remote

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        remote = self.remote
        remote.requests.append(dict(self.headers))
        remote.paths.append(self.path)
        if remote.hangs:
            time.sleep(1)
            return
        if remote.statuses:
            status, headers = remote.statuses.pop(0)
            if status != 200:
                self.answer(status, {"Content-Length": "0", **headers})
                return
        content = remote.files.get(self.path, remote.content)
        if remote.heeds_if_match and self.is_another():
            self.answer(412, {"Content-Length": "0"})
            return
        start, end = self.extent(len(content))
        is_part = (start, end) != (0, len(content))
        body = content[start:end] if is_part else content
        headers = {}
        if remote.has_length:
            headers["Content-Length"] = str(remote.claimed_length or len(body))
        for name, value in (
            ("ETag", remote.etag),
            ("Last-Modified", remote.modified),
            ("Content-Encoding", remote.coding),
        ):
            if value is not None:
                headers[name] = value
        if start and start >= len(content):
            headers |= {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"}
            self.answer(416, headers)
            return
        if is_part:
            said = f"bytes {start}-{end - 1}/{len(content)}"
            headers["Content-Range"] = remote.claimed_range or said
        # before the answer: whoever has read it may mean the next cut for the next request
        cut = remote.cuts.pop(0) if remote.cuts else None
        self.answer(206 if is_part else 200, headers)
        self.send(body[:cut])

    def is_another(self) -> bool:
        """Whether a condition says that another version is wanted."""
        remote = self.remote
        wanted, since = self.headers.get("If-Match"), self.headers.get("If-Unmodified-Since")
        return wanted not in (None, remote.etag) or since not in (None, remote.modified)

    def extent(self, size: int) -> tuple[int, int]:
        """From where to where the wanted part goes; all if there is no such wish."""
        wanted, remote = self.headers.get("Range"), self.remote
        if wanted is None or not remote.has_ranges:
            return 0, size
        condition = self.headers.get("If-Range")
        if remote.heeds_if_range and condition not in (None, remote.etag, remote.modified):
            return 0, size
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        if not first:
            return max(0, size - int(last)), size
        return int(first), min(int(last) + 1, size) if last else size

    def answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, body: bytes) -> None:
        try:
            if not self.remote.pause_s:
                self.wfile.write(body)
                self.remote.sent += len(body)
                return
            for at in range(0, len(body), 20_000):
                self.wfile.write(body[at : at + 20_000])
                self.remote.sent += len(body[at : at + 20_000])
                time.sleep(self.remote.pause_s)
        except OSError:
            pass  # the client has gone


class ProxyRequests(BaseHTTPRequestHandler):
    """Passes whole addresses on, and keeps them."""

    passed: list[str]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.passed.append(self.path)
        headers = {n: v for n, v in self.headers.items() if n not in ("Host", "Connection")}
        direct = build_opener(ProxyHandler({}))
        with direct.open(Request(self.path, headers=headers)) as answer:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name not in ("Server", "Date"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.read())


@contextmanager
def _running(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(remote: Remote) -> Iterator[Remote]:
    """Serve on a port of this machine, which ``url`` then names."""
    with _running(type("Bound", (Handler,), {"remote": remote})) as port:
        remote.url = f"http://127.0.0.1:{port}/set/file.bin"
        yield remote


@contextmanager
def proxying() -> Iterator[tuple[str, list[str]]]:
    """A proxy: its address, and the addresses that go through it."""
    passed: list[str] = []
    with _running(type("Bound", (ProxyRequests,), {"passed": passed})) as port:
        yield f"http://127.0.0.1:{port}", passed


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
