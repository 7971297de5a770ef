"""Several numbers at a time in compiled loops: the vectors of the processor, for Numba.

A compiler turns a loop over arrays into vector instructions only where it can prove that no array
is another's neighbour, which fails in a Fourier transform. Here loops say it themselves: `load`
takes neighbouring numbers of an array into a vector, operators work on vectors number by number,
and `store` puts them back. LLVM cuts vectors to what the processor has.

Places are not checked: a loop must not load or store beyond its arrays.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.imputils import lower_builtin

__all__ = [
    "DOUBLES",
    "FLOATS",
    "greater",
    "lesser",
    "load_as_doubles",
    "load_doubles",
    "load_floats",
    "magnitude",
    "store",
]

DOUBLES = 8
"""Numbers of a vector in double precision."""
FLOATS = 16
"""Numbers of a vector in single precision."""

_intrinsic: Any = extending.intrinsic  # whose type hides what it makes of a function

_ROUNDED_ONCE = ("contract",)  # a product and a sum may be one operation


class _Lanes(types.Type):
    """The type of a vector: of which numbers, and how many."""

    def __init__(self, dtype: types.Float, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"{count} x {dtype}")


@extending.register_model(_Lanes)
class _LanesModel(extending.models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: _Lanes) -> None:
        super().__init__(manager, lanes, _vector(lanes.dtype, lanes.count))


def _vector(dtype: types.Float, count: int) -> ir.VectorType:
    return ir.VectorType(ir.DoubleType() if dtype == types.float64 else ir.FloatType(), count)


_DOUBLES, _FLOATS = _Lanes(types.float64, DOUBLES), _Lanes(types.float32, FLOATS)
_FEW_FLOATS = _Lanes(types.float32, DOUBLES)


def _address(context: Any, builder: Any, array_type: Any, array: Any, place: Any, to: Any) -> Any:
    """Where a vector begins in an array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), to.as_pointer())


def _loading(numbers: types.Float, lanes: _Lanes) -> Callable[..., Any]:
    """A function that takes an array of such numbers and a place, and gives such a vector."""

    @_intrinsic
    def load(typing: Any, array: Any, place: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            stored = _vector(numbers, lanes.count)
            address = _address(context, builder, array, values[0], values[1], stored)
            vector = builder.load(address, align=numbers.bitwidth // 8)
            if numbers != lanes.dtype:
                vector = builder.fpext(vector, _vector(lanes.dtype, lanes.count))
            return vector

        return lanes(array, types.intp), generate

    loading: Callable[..., Any] = load
    return loading


load_doubles = _loading(types.float64, _DOUBLES)
"""Takes a float64 array ``(n,)`` and a place; the 8 numbers from there on."""
load_as_doubles = _loading(types.float32, _DOUBLES)
"""Takes a float32 array ``(n,)`` and a place; the 8 numbers from there on, in double precision."""
load_floats = _loading(types.float32, _FLOATS)
"""Takes a float32 array ``(n,)`` and a place; the 16 numbers from there on."""


@_intrinsic
def store(typing: Any, array: Any, place: Any, vector: Any) -> Any:
    """Write a vector into an array ``(n,)`` of its numbers, from a place on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address = _address(context, builder, array, values[0], values[1], values[2].type)
        builder.store(values[2], address, align=vector.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@_intrinsic
def magnitude(typing: Any, real: Any, imaginary: Any) -> Any:
    """Absolute values of 8 complex numbers in double precision, as 8 of single precision."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        few = _vector(types.float32, DOUBLES)
        squares = [
            builder.fmul(part, part) for part in (builder.fptrunc(value, few) for value in values)
        ]
        root = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(few, [few]), f"llvm.sqrt.v{DOUBLES}f32"
        )
        return builder.call(root, [builder.fadd(*squares)])

    return _FEW_FLOATS(real, imaginary), generate


def _choosing(comparison: str) -> Callable[..., Any]:
    @_intrinsic
    def choose(typing: Any, first: Any, second: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.select(builder.fcmp_ordered(comparison, *values), *values)

        return first(first, second), generate

    choosing: Callable[..., Any] = choose
    return choosing


lesser = _choosing("<")
"""The lesser of two vectors, number by number."""
greater = _choosing(">")
"""The greater of two vectors, number by number."""


def _arithmetic(operation: Callable[..., Any], instruction: str) -> None:
    """Teach Numba what an operator does with two vectors, or a vector and a number."""

    @extending.type_callable(operation)
    def type_of(context: Any) -> Any:
        def result(left: Any, right: Any) -> Any:
            fits = right == left or isinstance(right, types.Float)
            return left if isinstance(left, _Lanes) and fits else None

        return result

    @lower_builtin(operation, _Lanes, _Lanes)
    def of_vectors(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return getattr(builder, instruction)(*values, flags=_ROUNDED_ONCE)

    @lower_builtin(operation, _Lanes, types.Float)
    def with_number(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector, number = values
        number = context.cast(builder, number, signature.args[1], signature.args[0].dtype)
        undefined = ir.Constant(vector.type, ir.Undefined)
        one = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), vector.type.count), None)
        number = builder.shuffle_vector(one, undefined, everywhere)
        return getattr(builder, instruction)(vector, number, flags=_ROUNDED_ONCE)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
