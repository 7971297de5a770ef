"""An HTTP server on this machine that cuts connections, lies about lengths, hangs and refuses."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = random.Random(0).randbytes(300_000)


@dataclass
class Remote:
    """What the server does; entries of lists are used up, one per request.

    Args:
        content: what every address gives, except those of ``files``.
        files: contents by path.
        statuses: answers in place of the content, with headers.
        cuts: bytes of the body after which the connection is closed.
    """

    content: bytes = CONTENT
    etag: str | None = '"1"'
    modified: str | None = None
    has_ranges: bool = True
    heeds_if_range: bool = True
    has_length: bool = True
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    claimed_length: int | None = None
    hang_s: float = 0.0
    pause_s: float = 0.0
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
        time.sleep(remote.hang_s)
        if remote.statuses:
            status, headers = remote.statuses.pop(0)
            self.answer(status, {"Content-Length": "0", **headers})
            return
        content = remote.files.get(self.path, remote.content)
        start, end = self.extent(len(content))
        if start and start >= len(content):
            self.answer(416, {"Content-Length": "0"})
            return
        is_part = (start, end) != (0, len(content))
        headers = {"ETag": remote.etag, "Last-Modified": remote.modified}
        if remote.has_length:
            headers["Content-Length"] = str(remote.claimed_length or end - start)
        if is_part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        # before the answer: whoever has read it may mean the next cut for the next request
        cut = remote.cuts.pop(0) if remote.cuts else None
        self.answer(206 if is_part else 200, headers)
        self.send(content[start:end][:cut])

    def extent(self, size: int) -> tuple[int, int]:
        """Start and end of the part that is asked for."""
        wanted, remote = self.headers.get("Range"), self.remote
        condition = self.headers.get("If-Range")
        is_another = condition not in (None, remote.etag, remote.modified)
        if wanted is None or not remote.has_ranges or (remote.heeds_if_range and is_another):
            return 0, size
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        if not first:
            return max(0, size - int(last)), size
        return int(first), min(int(last) + 1, size) if last else size

    def answer(self, status: int, headers: dict[str, str | None]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def send(self, body: bytes) -> None:
        step = 20_000 if self.remote.pause_s else max(1, len(body))
        with suppress(OSError):  # the client has gone
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                self.remote.sent += len(body[start : start + step])
                time.sleep(self.remote.pause_s)


@contextmanager
def serving(remote: Remote) -> Iterator[Remote]:
    """Serve on a port of this machine; ``remote.url`` is the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"remote": remote}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    remote.url = f"http://127.0.0.1:{server.server_port}/set/file.bin"
    try:
        yield remote
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
