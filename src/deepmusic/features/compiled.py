"""Loops that NumPy has no name for, turned into machine code by Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba import njit

__all__ = ["compiled"]

_Function = TypeVar("_Function", bound=Callable[..., object])


def compiled(function: _Function) -> _Function:
    """Compile at the first call, and keep the code on disk for all processes to come."""
    result: _Function = njit(cache=True, nogil=True, error_model="numpy")(function)
    return result
