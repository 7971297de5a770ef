"""Downloads beside curl, requests for one remote track, and unpacking beside Python's zipfile.

    python benchmarks/download.py
    python benchmarks/download.py --sections rate --rounds 15

A server on this machine gives a file to ``curl``, which only writes it, and to us, who also check
its SHA-1 and bring it to the disk; each round has one of both, in turn. The figures go to
``docs/measured/download.json`` and into ``docs/download.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepmusic.datasets.archives import unpack
from deepmusic.datasets.download import download
from deepmusic.datasets.remote_zip import RemoteZip
from deepmusic.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs" / "measured" / "download.json"
PAGE = ROOT / "docs" / "download.md"
MIB = 1 << 20

SERVER = """
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(os.path.getsize(sys.argv[1])))
        self.send_header("ETag", '"1"')
        self.end_headers()
        with open(sys.argv[1], "rb") as file:
            self.connection.sendfile(file)

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """Serve a file from a process of its own."""
    command = [sys.executable, "-c", SERVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/file"
        finally:
            server.kill()


def seconds(work: Callable[[], object]) -> float:
    os.sync()  # what others wrote must not wait for us
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rate(rounds: int) -> dict[str, Any]:
    """MiB a second of both, and the ratio of ours to curl's."""
    size = 512 * MIB
    curls, ours = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = random.Random(0).randbytes(size // 16) * 16
        (folder / "file").write_bytes(content)
        sha1 = hashlib.sha1(content).hexdigest()
        del content
        target = folder / "target"
        with serving(folder / "file") as url:
            for number in range(rounds + 1):  # the first warms up
                command = ["curl", "--silent", "--fail", "--output", str(target), url]
                curl_s = seconds(lambda c=command: subprocess.run(c, check=True))
                target.unlink()
                our_s = seconds(lambda u=url: download(u, target, sha1=sha1, size=size))
                target.unlink()
                if number:
                    curls.append(size / MIB / curl_s)
                    ours.append(size / MIB / our_s)
    ratios = [our / curl for our, curl in zip(ours, curls, strict=True)]
    version = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True)
    return {
        "curl": " ".join(version.stdout.split()[:2]),
        "size MiB": size // MIB,
        "rounds": rounds,
        "curl MiB/s": round(statistics.median(curls)),
        "our MiB/s": round(statistics.median(ours)),
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


def requests(rounds: int) -> dict[str, Any]:
    """How many requests and bytes the index costs, and then a track; of 20,000 clips."""
    sys.path.insert(0, str(ROOT / "tests" / "datasets"))
    from http_server import Remote, serving as serving_parts

    rng, buffer = random.Random(0), io.BytesIO()
    sound = rng.randbytes(20_000)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2) as archive:
        for track in range(20_000):
            name = f"fma_large/{track // 1000:03d}/{track:06d}.mp3"
            archive.writestr(name, sound if track % 1000 == 2 else sound[:500])
    with (
        tempfile.TemporaryDirectory() as cache,
        serving_parts(Remote(buffer.getvalue())) as remote,
    ):
        RemoteZip(remote.url, cache=cache)
        index = {"requests": len(remote.requests), "bytes": remote.sent}
        remote.requests.clear()
        remote.sent = 0
        archive = RemoteZip(remote.url, cache=cache)
        tracks = [1000 * number + 2 for number in range(20)]
        for track in tracks:
            assert archive.read(f"fma_large/{track // 1000:03d}/{track:06d}.mp3") == sound
        kept = sum(path.stat().st_size for path in Path(cache).iterdir())
        packed = archive.members["fma_large/000/000002.mp3"].packed_size
        return {
            "members": len(archive.members),
            "index requests": index["requests"],
            "index bytes": index["bytes"],
            "index bytes kept": kept,
            "requests a track": len(remote.requests) / len(tracks),
            "bytes a track": round(remote.sent / len(tracks)),
            "packed bytes of a track": packed,
        }


def unpacking(rounds: int) -> dict[str, Any]:
    """Seconds for an archive as FMA's, bzip2 and all, by us on two threads and by zipfile."""
    rng, ours, theirs = random.Random(0), [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(folder / "set.zip", "w", zipfile.ZIP_BZIP2) as archive:
            for track in range(60):
                archive.writestr(f"set/{track:06d}.mp3", rng.randbytes(960_000))

        def extract() -> None:
            with zipfile.ZipFile(folder / "set.zip") as archive:
                archive.extractall(folder / "theirs")

        for number in range(min(rounds, 5)):
            ours.append(
                seconds(lambda n=number: unpack(folder / "set.zip", folder / f"ours{n}", workers=2))
            )
            theirs.append(seconds(extract))
    ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
    return {
        "MB": 57.6,
        "our s": round(statistics.median(ours), 2),
        "zipfile s": round(statistics.median(theirs), 2),
        "times faster": round(statistics.median(ratios), 2),
    }


SECTIONS = {"rate": rate, "requests": requests, "unpacking": unpacking}


def text(measured: dict[str, Any]) -> str:
    speed, asked, packed = (measured[name] for name in SECTIONS)
    return f"""\
| | measured |
| --- | --- |
| {speed["size MiB"]} MiB from a server on this machine, {speed["curl"]} | \
{speed["curl MiB/s"]} MiB/s |
| the same by `deepmusic`, SHA-1 checked and brought to the disk | {speed["our MiB/s"]} MiB/s |
| ratio, median of {speed["rounds"]} pairs | {speed["ratio"]:.2f} |
| list of contents of {asked["members"]:,} clips: requests, bytes fetched, bytes kept | \
{asked["index requests"]}, {asked["index bytes"]:,}, {asked["index bytes kept"]:,} |
| then one clip of {asked["packed bytes of a track"]:,} packed bytes: requests, bytes fetched | \
{asked["requests a track"]:g}, {asked["bytes a track"]:,} |
| unpacking {packed["MB"]} MB of bzip2 on two threads, beside Python's `zipfile` | \
{packed["our s"]:.1f} s, {packed["zipfile s"]:.1f} s |
"""


def write_page(measured: dict[str, Any]) -> None:
    """Put the table between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    start, end = "<!-- measured by benchmarks/download.py -->", "<!-- end of measured -->"
    before, found, rest = page.partition(start)
    if found:
        after = rest.partition(end)[2]
        with write_atomically(PAGE) as file:
            file.write(f"{before}{start}\n{text(measured)}{end}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    os.environ["no_proxy"] = "127.0.0.1"
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    for name in options.sections.split(","):
        load = os.getloadavg()[0]
        measured[name] = {**SECTIONS[name](options.rounds), "load before": round(load, 1)}
        print(name, json.dumps(measured[name], indent=1))
        with write_atomically(MEASURED) as file:
            json.dump(measured, file, indent=1)
            file.write("\n")
    if set(SECTIONS) <= set(measured):
        write_page(measured)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
