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


def _vector_of(lanes: _Lanes) -> ir.VectorType:
    return _vector(lanes.dtype, lanes.count)


_DOUBLES, _FLOATS = _Lanes(types.float64, DOUBLES), _Lanes(types.float32, FLOATS)


def _address(context: Any, builder: Any, array_type: Any, array: Any, place: Any, to: Any) -> Any:
    """Where a vector begins in an array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), to.as_pointer())


def _loaded(context: Any, builder: Any, array: Any, values: Any, lanes: _Lanes) -> Any:
    """The numbers of an array from a place on, as a vector."""
    stored = _vector(array.dtype, lanes.count)
    address = _address(context, builder, array, values[0], values[1], stored)
    vector = builder.load(address, align=array.dtype.bitwidth // 8)
    return vector if array.dtype == lanes.dtype else builder.fpext(vector, _vector_of(lanes))


@_intrinsic
def load(typing: Any, array: Any, place: Any) -> Any:
    """Take the numbers of an array ``(n,)`` from a place on: 8 of float64, 16 of float32."""
    lanes = _DOUBLES if array.dtype == types.float64 else _FLOATS

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _loaded(context, builder, array, values, lanes)

    return lanes(array, types.intp), generate


@_intrinsic
def load_like(typing: Any, array: Any, place: Any, like: Any) -> Any:
    """Take from a float32 array as many numbers, in the precision, as of another array."""
    lanes = _DOUBLES if like.dtype == types.float64 else _FLOATS

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _loaded(context, builder, array, values, lanes)

    return lanes(array, types.intp, like), generate


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
    """Absolute values of complex numbers, in single precision."""
    lanes = _Lanes(types.float32, real.count)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        few = _vector_of(lanes)
        if real.dtype != lanes.dtype:
            values = [builder.fptrunc(value, few) for value in values]
        squares = [builder.fmul(value, value) for value in values]
        kind, name = ir.FunctionType(few, [few]), f"llvm.sqrt.v{lanes.count}f32"
        root = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(root, [builder.fadd(*squares)])

    return lanes(real, imaginary), generate


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
