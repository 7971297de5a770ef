"""Loops that NumPy has no name for, turned into machine code by Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., object])


def compiled(function: _Function) -> _Function:
    """Compile at the first call, and keep the code on disk for all processes to come."""
    compile_: Any = njit(cache=True, nogil=True, error_model="numpy")
    result: _Function = compile_(function)
    return result
