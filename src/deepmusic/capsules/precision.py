"""Where capsules need float32: lengths, softmax and losses of half-precision tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

Given = ParamSpec("Given")
Result = TypeVar("Result")


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half types as float32; float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def outside_autocast(
    function: Callable[Concatenate[Tensor, Given], Result],
) -> Callable[Concatenate[Tensor, Given], Result]:
    """Run a function without autocast: variances and densities need more than half precision."""

    @wraps(function)
    def run(first: Tensor, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        with torch.autocast(first.device.type, enabled=False):
            return function(first, *args, **kwargs)

    return run
