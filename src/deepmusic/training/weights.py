"""Weights on disk: one safetensors file with its JSON in the header and a digest, no pickle.

Reading arrays does not import PyTorch. A file is written whole and then renamed into place.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepmusic.errors import CheckpointError, os_reason
from deepmusic.files import make_folder, write_atomically
from deepmusic.version import __version__

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

FORMAT = 1
# safetensors' names of types as PyTorch calls them: the digest in a file is over these
_TORCH_TYPES = {
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    "BF16": "bfloat16",
    "BOOL": "bool",
    "C64": "complex64",
}


def save_weights(
    path: str | os.PathLike[str], weights: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write tensors and their description to one safetensors file.

    Args:
        path: the file; missing folders are made.
        weights: tensors by name, on any device, such as ``model.state_dict()``.
        metadata: JSON types.

    Raises:
        DeepMusicError: the file cannot be written; an earlier one is intact.
    """
    import torch
    from safetensors.torch import save

    path = Path(path)
    # safetensors refuses tensors that share memory (tied weights), hence the clones
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    text = json.dumps(metadata, ensure_ascii=False)
    entries = (
        (name, str(t.dtype), tuple(t.shape), t.reshape(-1).view(torch.uint8).numpy().data)
        for name, t in tensors.items()
    )
    header = {
        "format": f"deepmusic {FORMAT}",
        "version": __version__,
        "metadata": text,
        "sha256": _digest(entries, text),
    }
    make_folder(path.parent)
    with write_atomically(path, "wb") as file:
        file.write(_ordered(save(tensors, header)))


def load_weights(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the metadata that `save_weights` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, not ours, or of a newer DeepMusic.
    """
    from safetensors.torch import load

    data, metadata = _read_checked(Path(path))
    return load(data), metadata


def load_model(
    path: str | os.PathLike[str], kind: str
) -> tuple[Path, dict[str, NDArray[Any]], dict[str, Any]]:
    """A finished model: its file, its weights as read-only arrays, and the metadata.

    Args:
        path: the file; a folder is taken for a run, which holds ``model.safetensors``.
        kind: what the metadata must call it, such as ``"composer"``.

    Raises:
        CheckpointError: as for `load_weights`, or the file is not a model of this kind.
    """
    import safetensors.numpy

    file = Path(path)
    if file.is_dir():
        file = file / "model.safetensors"
    data, metadata = _read_checked(file)
    if metadata.get("kind") != kind:
        raise CheckpointError(f"{file} is not a {kind}; train one, or name another.")
    try:
        return file, safetensors.numpy.load(data), metadata
    except (KeyError, TypeError) as error:  # such as bfloat16, in which no model is saved
        raise _damaged(file) from error


def model_kind(path: str | os.PathLike[str]) -> str:
    """What a finished model is, such as ``"composer"``; read from the header alone.

    Args:
        path: as for `load_model`.

    Raises:
        CheckpointError: the file is missing, damaged or not ours.
    """
    file = Path(path) / "model.safetensors" if Path(path).is_dir() else Path(path)
    try:
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, 1 << 24)))
        return str(json.loads(header["__metadata__"]["metadata"])["kind"])
    except FileNotFoundError as error:
        raise CheckpointError(f"There are no weights at {file}.") from error
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {os_reason(error)}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(file) from error


def fill_model(
    model: nn.Module,
    weights: Mapping[str, Tensor] | Mapping[str, NDArray[Any]],
    *,
    source: str | os.PathLike[str],
) -> None:
    """Put loaded weights, all of its tensors by name, into a model.

    Raises:
        CheckpointError: names or shapes are those of another model; it names ``source``.
    """
    import torch

    own = model.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    reshaped = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    for problem, names in (
        ("lacks", missing),
        ("also has", extra),
        ("has another size of", reshaped),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(f"{source} is of another model: it {problem} {names[0]}{more}.")
    model.load_state_dict(
        {name: w if isinstance(w, torch.Tensor) else torch.tensor(w) for name, w in weights.items()}
    )


def _ordered(data: bytes) -> bytes:
    """A safetensors file with its header in order, so that the same weights are the same bytes."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    text = json.dumps({"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header})
    aligned = text.encode() + b" " * (-len(text) % 8)  # ASCII, as json.dumps escapes the rest
    return len(aligned).to_bytes(8, "little") + aligned + data[end:]


def _digest(entries: Iterable[tuple[str, str, tuple[int, ...], Any]], text: str) -> str:
    """SHA-256 of names, types (as PyTorch calls them), shapes, bytes and metadata (as JSON)."""
    result = hashlib.sha256(text.encode())
    for name, kind, shape, content in sorted(entries, key=lambda entry: entry[0]):
        result.update(f"{name} {kind} {shape}".encode())
        result.update(content)
    return result.hexdigest()


def _read_checked(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The content of a whole safetensors file of ours, and its metadata."""
    from safetensors import SafetensorError, deserialize

    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"There are no weights at {path}.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {os_reason(error)}.") from error
    try:
        tensors = deserialize(data)  # type: ignore[no-untyped-call]
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise _damaged(path) from error
    kind, _, number = header.get("format", "").partition(" ")
    if kind != "deepmusic" or not number.isdecimal():
        raise _damaged(path)
    if int(number) > FORMAT:
        raise CheckpointError(
            f"{path} was written by DeepMusic {header.get('version')}, this is {__version__}; "
            "update DeepMusic to read it."
        )
    entries = (
        (name, f"torch.{_TORCH_TYPES.get(t['dtype'], t['dtype'])}", tuple(t["shape"]), t["data"])
        for name, t in tensors
    )
    if header.get("sha256") != _digest(entries, header.get("metadata", "")):
        raise _damaged(path)
    return data, json.loads(header["metadata"])


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged or not a DeepMusic model; use another copy or train again."
    )
