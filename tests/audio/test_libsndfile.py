"""The notes of C code are dropped, and nothing else."""

from __future__ import annotations

import ctypes
import os
import sys
import threading

import pytest

from deepmusic.audio.libsndfile import quiet_c_stderr

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="tests the GNU C library's variable"
)


def print_from_c(text: bytes) -> None:
    library = ctypes.CDLL(None)
    stream = ctypes.c_void_p.in_dll(library, "stderr")
    library.fputs(text, stream)
    library.fflush(stream)


def test_c_is_silent_inside_and_not_after(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_c_stderr():
        print_from_c(b"lost\n")
        os.write(2, b"python\n")
        with quiet_c_stderr():
            print_from_c(b"lost\n")
        print_from_c(b"lost too\n")
    print_from_c(b"printed\n")
    assert capfd.readouterr().err == "python\nprinted\n"


def test_the_last_thread_restores(capfd: pytest.CaptureFixture[str]) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with quiet_c_stderr():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    with quiet_c_stderr():
        thread.start()
        assert inside.wait(10)
    print_from_c(b"lost\n")  # the other thread is still inside
    leave.set()
    thread.join()
    print_from_c(b"printed\n")
    assert capfd.readouterr().err == "printed\n"
