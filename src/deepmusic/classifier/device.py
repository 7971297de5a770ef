"""Which device to hear on, found out without PyTorch where no GPU can be."""

from __future__ import annotations

import ctypes
import os
import sys

from deepmusic.errors import DeepMusicError


def find_device(name: str) -> str:
    """The device that a name means, as PyTorch calls it.

    Args:
        name: ``"auto"`` takes a GPU where there is one, else the CPU.

    Raises:
        DeepMusicError: the device is not there.
    """
    if name == "cpu" or (name == "auto" and not gpu_may_be_here()):
        return "cpu"
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeepMusicError(
            f"There is no device {name!r} here; use --device auto, or cpu."
        ) from error
    return str(device)


def gpu_may_be_here() -> bool:
    """Whether this machine has the driver of a GPU that PyTorch calls ``cuda``.

    Only then is it worth to import PyTorch and ask.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    if sys.platform == "win32":
        return _loads("nvcuda.dll")
    # the second is AMD's, which PyTorch for ROCm calls cuda as well
    return sys.platform == "linux" and (_loads("libcuda.so.1") or os.path.exists("/dev/kfd"))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
