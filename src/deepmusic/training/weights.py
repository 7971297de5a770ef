"""Reading files of weights without PyTorch: is it ours, is it whole, does it fit the model?

The format is that of :mod:`deepmusic.training.checkpoints`, which writes them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from deepmusic.errors import CheckpointError
from deepmusic.version import __version__

FORMAT = 1
# as PyTorch calls the types of safetensors: the digest in a file is over these names
_TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "BOOL": "bool",
    "C64": "complex64",
}


def read_checked(path: str | os.PathLike[str]) -> tuple[bytes, dict[str, Any]]:
    """The content of a whole safetensors file of ours, and its metadata.

    Raises:
        CheckpointError: the file is missing, damaged, not ours, or of a newer DeepMusic.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"There are no weights at {path}.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        entries = deserialize(data)  # type: ignore[no-untyped-call]
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
    found = (
        (name, f"torch.{_TORCH_NAMES.get(e['dtype'], e['dtype'])}", tuple(e["shape"]), e["data"])
        for name, e in entries
    )
    if header.get("sha256") != digest(found, header.get("metadata", "")):
        raise _damaged(path)
    return data, json.loads(header["metadata"])


def load_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The weights as arrays that may not be written to, and the metadata.

    Raises:
        CheckpointError: as for :func:`read_checked`, or of a type that NumPy lacks.
    """
    data, metadata = read_checked(path)
    try:
        return safetensors.numpy.load(data), metadata
    except (KeyError, TypeError) as error:  # such as bfloat16, in which no model is saved
        raise _damaged(Path(path)) from error


def refuse_other_shapes(
    own: Mapping[str, tuple[int, ...]],
    given: Mapping[str, tuple[int, ...]],
    *,
    source: str | os.PathLike[str],
) -> None:
    """Refuse weights of which names or shapes are not those of the model.

    Args:
        own: shapes by name, of the model.
        given: likewise, of the weights.
        source: where these came from, for the message.

    Raises:
        CheckpointError: names the first that differs.
    """
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    reshaped = [n for n in own if n in given and tuple(own[n]) != tuple(given[n])]
    for what, names in (("lacks", missing), ("also has", extra), ("has another size of", reshaped)):
        if names:
            raise CheckpointError(
                f"{source} is of another model: it {what} {names[0]}"
                + (f" and {len(names) - 1} more." if len(names) > 1 else ".")
            )


def digest(entries: Iterable[tuple[str, str, tuple[int, ...], Any]], text: str) -> str:
    """Of names, types, shapes, values and metadata, so that one flipped bit is noticed.

    Args:
        entries: name, type as PyTorch calls it, shape, and the bytes of each tensor.
        text: the metadata as JSON.
    """
    result = hashlib.sha256(text.encode())
    for name, kind, shape, content in sorted(entries, key=lambda entry: entry[0]):
        result.update(f"{name} {kind} {shape}".encode())
        result.update(content)
    return result.hexdigest()


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged or not a DeepMusic model; use another copy or train again."
    )
