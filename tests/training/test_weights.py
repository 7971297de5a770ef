"""Reading weights without PyTorch: the same arrays, the same refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deepmusic.errors import CheckpointError
from deepmusic.training import fill_model, load_weights, save_weights
from deepmusic.training.weights import load_arrays, refuse_other_shapes

TENSORS = {
    "matrix": torch.arange(12.0).reshape(3, 4).T,
    "count": torch.tensor(7),
    "half": torch.ones(3, dtype=torch.float16),
    "mask": torch.tensor([True, False]),
    "empty": torch.empty(0, 3),
}


def test_arrays_are_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, TENSORS, {"note": "Ópera"})
    arrays, metadata = load_arrays(path)
    tensors, same = load_weights(path)
    assert metadata == same == {"note": "Ópera"}
    assert arrays.keys() == tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert arrays[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(arrays[name], tensor.numpy())


def test_both_refuse_the_same_damage(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, TENSORS, {})
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 40):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        said = []
        for read in (load_arrays, load_weights):
            try:
                read(path)
                said.append("")  # a flip in the recorded version changes nothing
            except CheckpointError as error:
                said.append(str(error))
        assert said[0] == said[1]


def test_what_numpy_lacks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, {"w": torch.ones(2, dtype=torch.bfloat16)}, {})
    assert load_weights(path)[0]["w"].dtype == torch.bfloat16
    with pytest.raises(CheckpointError, match="damaged or not a DeepMusic model"):
        load_arrays(path)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"weight": (2, 3)}, "lacks bias"),
        ({"weight": (2, 3), "bias": (2,), "z": (), "y": ()}, "also has y and 1 more"),
        ({"weight": (3, 2), "bias": (2,)}, "has another size of weight"),
    ],
)
def test_what_does_not_fit_is_named(weights: dict[str, tuple[int, ...]], says: str) -> None:
    own = {"weight": (2, 3), "bias": (2,)}
    with pytest.raises(CheckpointError, match=rf"^x is of another model: it {says}\.$") as ours:
        refuse_other_shapes(own, weights, source="x")
    tensors = {name: torch.zeros(shape) for name, shape in weights.items()}
    with pytest.raises(CheckpointError) as theirs:
        fill_model(nn.Linear(3, 2), tensors, source="x")
    assert str(ours.value) == str(theirs.value)
    refuse_other_shapes(own, own, source="x")


def test_torch_is_not_needed(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", TENSORS, {})
    code = (
        "import sys\n"
        "from deepmusic.training.weights import load_arrays\n"
        "load_arrays(sys.argv[1])\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "w.safetensors"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
