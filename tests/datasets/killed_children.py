"""Children that work, are killed at some moment, and cost no start: they fork from one process."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

needs_kill = pytest.mark.skipif(
    not (hasattr(signal, "SIGKILL") and hasattr(os, "fork")), reason="no SIGKILL or fork here"
)

_PARENT = """
import os, sys, traceback
{code}
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            work(*line.rstrip("\\n").split("\\t"))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Children:
    """Starts children that call ``work`` with some words, and kills them."""

    def __init__(self, process: subprocess.Popen[str], rng: random.Random) -> None:
        self._process = process
        self._rng = rng
        self._longest_s = 0.1

    def kill_sometime(self, *words: object) -> int:
        """Kill a child at a random moment of its work; its exit code, 0 if it was done before.

        How long the work takes differs from machine to machine, so the moment is drawn from a span
        that shrinks when a child was done before it, and grows when it was not: about one in five
        is done.
        """
        code = self._kill_after(self._rng.random() * self._longest_s, *words)
        assert code in (0, -9)
        self._longest_s *= 0.8 if code == 0 else 1.05
        return code

    def _kill_after(self, seconds: float, *words: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        child = int(self._process.stdout.readline())
        time.sleep(seconds)
        with suppress(ProcessLookupError):  # it has ended
            os.kill(child, signal.SIGKILL)
        return int(self._process.stdout.readline())


@contextmanager
def children(code: str, rng: random.Random) -> Iterator[Children]:
    """Run ``code``, which defines ``work``, in a process that forks for each child."""
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT.format(code=code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Children(process, rng)
