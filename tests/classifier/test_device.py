"""Which device is meant, and that PyTorch is asked only where a GPU may be."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from deepmusic.classifier import device
from deepmusic.classifier.device import find_device, gpu_may_be_here
from deepmusic.errors import DeepMusicError


def test_without_a_driver_torch_is_not_asked() -> None:
    code = (
        "import sys\n"
        "from deepmusic.classifier import device\n"
        "device.gpu_may_be_here = lambda: False\n"
        "assert device.find_device('cpu') == device.find_device('auto') == 'cpu'\n"
        "assert 'torch' not in sys.modules\n"
        "device.gpu_may_be_here = lambda: True\n"
        "device.find_device('auto')\n"
        "assert 'torch' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("there", [False, True])
def test_with_a_driver_torch_decides(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(device, "gpu_may_be_here", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert find_device("auto") == ("cuda" if there else "cpu")


def test_torch_finds_no_gpu_where_we_see_no_driver() -> None:
    if not gpu_may_be_here():
        assert not torch.cuda.is_available()


@pytest.mark.parametrize(
    ("visible", "may"), [("", False), ("-1", False), (" ", False), ("0", True)]
)
def test_hidden_gpus_are_none(monkeypatch: pytest.MonkeyPatch, visible: str, may: bool) -> None:
    monkeypatch.setattr(device.sys, "platform", "linux")
    monkeypatch.setattr(device, "_loads", lambda library: library == "libcuda.so.1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_may_be_here() == may


def test_a_mac_has_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.sys, "platform", "darwin")
    assert not gpu_may_be_here()


@pytest.mark.parametrize("name", ["cuda:77", "abacus", ""])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(DeepMusicError, match=rf"no device {name!r}.*\.$"):
        find_device(name)
