"""Operators of ai.onnx on known numbers: what a graph computes with shapes before it reshapes a tensor."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from gradport.importing.sizes import Sizes
from gradport.importing.table import on_sizes

Array = np.ndarray[Any, Any]


def _make(array: Any, like: Sizes) -> Sizes:
    return Sizes.of(np.asarray(array, dtype=object), like.dtype)


def _binary(op_type: str, function: Callable[[Any, Any], Any], dtype: torch.dtype | None = None) -> None:
    def compute(x: Sizes, y: Sizes, /) -> Sizes:
        each = np.frompyfunc(function, 2, 1)(x.array, y.array)
        return Sizes.of(np.asarray(each, dtype=object), dtype or x.dtype)

    on_sizes(op_type)(compute)


def _divide(x: Any, y: Any) -> Any:
    if isinstance(x, float) or isinstance(y, float):
        return x / y
    return x // y if isinstance(x, torch.SymInt) or isinstance(y, torch.SymInt) or x * y >= 0 else -(-x // y)


_binary("Add", lambda x, y: x + y)
_binary("Sub", lambda x, y: x - y)
_binary("Mul", lambda x, y: x * y)
_binary("Div", _divide)
_binary("Pow", lambda x, y: x**y)
_binary("Max", lambda x, y: torch.sym_max(x, y))
_binary("Min", lambda x, y: torch.sym_min(x, y))
_binary("Equal", lambda x, y: bool(x == y), torch.bool)
_binary("Greater", lambda x, y: bool(x > y), torch.bool)
_binary("Less", lambda x, y: bool(x < y), torch.bool)
_binary("GreaterOrEqual", lambda x, y: bool(x >= y), torch.bool)
_binary("LessOrEqual", lambda x, y: bool(x <= y), torch.bool)
_binary("And", lambda x, y: x and y, torch.bool)
_binary("Or", lambda x, y: x or y, torch.bool)


@on_sizes("Mod")
def mod(x: Sizes, y: Sizes, /, *, fmod: int = 0) -> Sizes:
    remainder = math.fmod if fmod else lambda a, b: a % b
    return _make(np.frompyfunc(remainder, 2, 1)(x.array, y.array), x)


def _unary(op_type: str, function: Callable[[Any], Any]) -> None:
    def compute(x: Sizes, /) -> Sizes:
        return _make(np.frompyfunc(function, 1, 1)(x.array), x)

    on_sizes(op_type)(compute)


_unary("Neg", lambda x: -x)
_unary("Abs", abs)
_unary("Not", lambda x: not x)
_unary("Identity", lambda x: x)
_unary("Floor", lambda x: float(math.floor(x)))
_unary("Ceil", lambda x: float(math.ceil(x)))
_unary("Sqrt", lambda x: x**0.5)


@on_sizes("Cast")
def cast(x: Sizes, /, *, to: torch.dtype, **options: Any) -> Sizes:
    number: Callable[[Any], Any] = float if to.is_floating_point else bool if to == torch.bool else _whole
    return Sizes.of(np.asarray(np.frompyfunc(number, 1, 1)(x.array), dtype=object), to)


def _whole(value: Any) -> Any:
    return value if isinstance(value, torch.SymInt) else int(value)


@on_sizes("Gather")
def gather(x: Sizes, indices: Sizes, /, *, axis: int = 0) -> Sizes:
    return _make(np.take(x.array, indices.array.astype(np.int64), axis), x)


@on_sizes("Concat")
def concat(*parts: Sizes, axis: int) -> Sizes:
    return _make(np.concatenate([part.array for part in parts], axis), parts[0])


@on_sizes("Squeeze")
def squeeze(x: Sizes, given: Sizes | None = None, /, *, axes: Sequence[int] | None = None) -> Sizes:
    chosen = given.numbers() if given is not None else axes
    return _make(np.squeeze(x.array, None if chosen is None else tuple(chosen)), x)


@on_sizes("Unsqueeze")
def unsqueeze(x: Sizes, given: Sizes | None = None, /, *, axes: Sequence[int] = ()) -> Sizes:
    chosen = given.numbers() if given is not None else list(axes)
    return _make(np.expand_dims(x.array, tuple(chosen)), x)


@on_sizes("Reshape")
def reshape(x: Sizes, shape: Sizes, /, *, allowzero: int = 0) -> Sizes:
    return _make(x.array.reshape([int(size) for size in shape.numbers()]), x)


@on_sizes("Flatten")
def flatten(x: Sizes, /, *, axis: int = 1) -> Sizes:
    return _make(x.array.reshape(math.prod(x.array.shape[:axis]), -1), x)


@on_sizes("Slice")
def slice_of(
    x: Sizes,
    starts: Sizes | None = None,
    ends: Sizes | None = None,
    given: Sizes | None = None,
    steps: Sizes | None = None,
    /,
    **attributes: Sequence[int],
) -> Sizes:
    first = starts.numbers() if starts is not None else attributes["starts"]
    last = ends.numbers() if ends is not None else attributes["ends"]
    axes = given.numbers() if given is not None else attributes.get("axes", range(len(first)))
    by = steps.numbers() if steps is not None else [1] * len(first)
    array = x.array
    for start, end, axis, step in zip(first, last, axes, by, strict=True):
        stop = None if step < 0 and end < -array.shape[axis] else end
        array = array[(slice(None),) * (axis % array.ndim) + (slice(start, stop, step),)]
    return _make(array, x)


@on_sizes("Split")
def split(
    x: Sizes,
    given: Sizes | None = None,
    /,
    *,
    split: Sequence[int] | None = None,
    axis: int = 0,
    num_outputs: int | None = None,
) -> tuple[Sizes, ...]:
    sizes = given.numbers() if given is not None else split
    if sizes is None:
        assert num_outputs is not None
        each = -(-x.array.shape[axis] // num_outputs)
        sizes = [each] * (num_outputs - 1)
        sizes.append(x.array.shape[axis] - sum(sizes))
    return tuple(_make(part, x) for part in np.split(x.array, np.cumsum(sizes)[:-1], axis))


@on_sizes("Transpose")
def transpose(x: Sizes, /, *, perm: Sequence[int] | None = None) -> Sizes:
    return _make(np.transpose(x.array, perm), x)


@on_sizes("Expand")
def expand(x: Sizes, shape: Sizes, /) -> Sizes:
    return _make(x.array * np.ones([int(size) for size in shape.numbers()], dtype=object), x)


@on_sizes("Tile")
def tile(x: Sizes, repeats: Sizes, /) -> Sizes:
    return _make(np.tile(x.array, [int(size) for size in repeats.numbers()]), x)


@on_sizes("Where")
def where(condition: Sizes, x: Sizes, y: Sizes, /) -> Sizes:
    return _make(np.where(condition.array.astype(bool), x.array, y.array), x)


@on_sizes("ReduceProd")
def reduce_prod(
    x: Sizes, given: Sizes | None = None, /, *, axes: Any = None, keepdims: int = 1, **options: int
) -> Sizes:
    product = functools.reduce(lambda a, b: a * b, x.numbers(), 1)
    return Sizes.of([product] if keepdims else product, x.dtype)


@on_sizes("ReduceSum")
def reduce_sum(
    x: Sizes, given: Sizes | None = None, /, *, axes: Any = None, keepdims: int = 1, **options: int
) -> Sizes:
    return Sizes.of([sum(x.numbers())] if keepdims else sum(x.numbers()), x.dtype)


@on_sizes("Range")
def range_of(start: Sizes, limit: Sizes, delta: Sizes, /) -> Sizes:
    """Of ints; a symbolic limit gives a tensor."""
    if any(isinstance(one.number(), (torch.SymInt, float)) for one in (start, limit, delta)):
        return NotImplemented
    return Sizes.of(list(range(start.number(), limit.number(), delta.number())), start.dtype)


@on_sizes("ConstantOfShape")
def constant_of_shape(shape: Sizes, /, *, value: torch.Tensor | None = None) -> Sizes:
    sizes = shape.numbers()
    if any(isinstance(size, torch.SymInt) for size in sizes) or math.prod(sizes) > 64:
        return NotImplemented
    filled = torch.zeros(1) if value is None else value
    if filled.is_floating_point():
        return NotImplemented
    return Sizes.of(np.full(sizes, filled.item(), dtype=object), filled.dtype)
