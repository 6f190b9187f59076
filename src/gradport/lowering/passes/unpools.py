"""Writes the gradient of max pooling over disjoint windows as products with masks.

ONNX Runtime's MaxPool takes twenty times as long with indices as without, and ScatterElements reads the indices one by
one. Here each place of a window has a mask: whether its element equals the maximum and no earlier place does. torch,
too, takes the first of equal elements.

If the sum of the values is nan, so that one of them may be nan, or the sum of the cotangents is not finite, a branch
computes and reads the indices as before.

https://onnx.ai/onnx/operators/onnx__MaxPool.html, https://onnx.ai/onnx/operators/onnx__If.html
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from gradport.lowering.passes.pools import pool_nan, propagate_nan
from gradport.lowering.passes.replacing import Replacement, is_node, only_producer

__all__ = ["UnpoolByMask"]

_DTYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""Without float16, because a sum in it overflows too early."""

_LARGEST = 9
"""Places of a window: each has a mask of its own."""


@dataclasses.dataclass(frozen=True)
class _Unpool:
    """A max pooling over disjoint windows, and the scatter that gives its gradient.

    Attributes:
        pool: the MaxPool, which gives values and indices.
        scatter: adds the cotangents at the indices; its result is one row for each image.
        images: the input of the pooling, (N, C, *size).
        kernel: sizes of a window; the steps from one window to the next.
        size: of the spatial axes.
    """

    pool: ir.Node
    scatter: ir.Node
    images: ir.Value
    kernel: list[int]
    size: list[int]

    @property
    def windows(self) -> list[int]:
        """Sizes of the result of the pooling."""
        return [size // step for size, step in zip(self.size, self.kernel, strict=True)]


class UnpoolByMask(ir.passes.InPlacePass):
    """Rewrites each scatter whose indices come from a MaxPool over disjoint windows and are read by nothing else.

    Args:
        finite_math: ignore inf and nan.
    """

    def __init__(self, *, finite_math: bool) -> None:
        super().__init__()
        self._finite_math = finite_math

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether a gradient was rewritten."""
        modified = False
        for node in list(model.graph):
            unpool = _match(node)
            if unpool is not None:
                _rewrite(model.graph, unpool, finite_math=self._finite_math)
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def _match(scatter: ir.Node) -> _Unpool | None:
    """The pooling behind a scatter: the lowering of the operator subtracts each image's first place from the indices,
    and the decomposition of its gradient flattens them."""
    if not is_node(scatter, "ScatterElements") or not _adds(scatter):
        return None
    flat = only_producer(scatter.inputs[1], "Reshape")
    places = None if flat is None else only_producer(flat.inputs[0], "Sub")
    pool = None if places is None else only_producer(places.inputs[0], "MaxPool")
    images = None if pool is None else pool.inputs[0]
    shape = None if images is None else images.shape
    if pool is None or images is None or shape is None or images.dtype not in _DTYPES or 0 in shape:
        return None
    size = [length for length in list(shape)[2:] if isinstance(length, int)]
    kernel = list(pool.attributes["kernel_shape"].as_ints())
    if len(size) != len(kernel) or not _is_disjoint(pool, kernel) or not 1 < math.prod(kernel) <= _LARGEST:
        return None
    if any(length % step for length, step in zip(size, kernel, strict=True)):
        return None
    return _Unpool(pool, scatter, images, kernel, size)


def _adds(scatter: ir.Node) -> bool:
    reduction = scatter.attributes.get("reduction")
    return reduction is not None and reduction.as_string() == "add" and scatter.inputs[2] is not None


def _is_disjoint(pool: ir.Node, kernel: list[int]) -> bool:
    """Whether windows touch, do not overlap, and cover no padding."""
    attributes = {name: list(pool.attributes[name].as_ints()) for name in ("strides", "pads", "dilations")}
    axes = len(kernel)
    return attributes == {"strides": kernel, "pads": [0] * 2 * axes, "dilations": [1] * axes}


def _rewrite(graph: ir.Graph, found: _Unpool, *, finite_math: bool) -> None:
    if finite_math:
        new = Replacement(found.scatter)
        result = _by_mask(new, found, found.pool.outputs[0])
        new.replace_node(graph, result)
        return
    new = Replacement(found.scatter)
    plain, careful = Replacement(found.scatter), Replacement(found.scatter)
    plain.set_outputs(_by_mask(plain, found, plain.copy(found.pool, [found.images], outputs=1)[0]))
    careful.set_outputs(_by_index(careful, found))
    values = new.add("ReduceSum", [found.images], keepdims=0)
    cotangents = new.add("ReduceSum", [found.scatter.inputs[2]], keepdims=0)
    nothing = new.add("Mul", [cotangents, new.constant(_zero(found))])
    any_special = new.add("IsNaN", [new.add("Add", [values, nothing])])
    result = new.choose(any_special, careful.graph("special"), plain.graph("plain"), like=found.scatter.outputs[0])
    new.replace_node(graph, result)
    propagate_nan(graph, found.pool)


def _zero(found: _Unpool) -> np.ndarray:
    dtype = found.images.dtype
    assert dtype is not None
    return np.zeros((), dtype.numpy())


def _by_mask(new: Replacement, found: _Unpool, maxima: ir.Value) -> ir.Value:
    """The gradient, one row for each image."""
    cotangent = new.add("Reshape", [found.scatter.inputs[2], new.constant(np.array([0, 0, *found.windows]))])
    masks = _masks(new, found, maxima)

    def join_places(place: tuple[int, ...]) -> ir.Value:
        """The gradient at the places of all windows that begin with these numbers."""
        axis = len(place)
        if axis == len(found.kernel):
            return new.add("Mul", [cotangent, new.add("CastLike", [next(masks), maxima])])
        parts = [join_places((*place, step)) for step in range(found.kernel[axis])]
        windows, rest = found.windows[: axis + 1], found.size[axis + 1 :]
        apart = new.constant(np.array([0, 0, *windows, 1, *rest]))
        joined = new.add("Concat", [new.add("Reshape", [part, apart]) for part in parts], axis=axis + 3)
        return new.add("Reshape", [joined, new.constant(np.array([0, 0, *windows[:-1], *found.size[axis:]]))])

    flat = new.constant(np.array([0, 0, math.prod(found.size)]))
    return new.add("Reshape", [join_places(()), flat], like=found.scatter.outputs[0])


def _masks(new: Replacement, found: _Unpool, maxima: ir.Value) -> Iterator[ir.Value]:
    """For each place in order: whether it is the first of its window that holds the maximum."""
    axes = range(2, len(found.size) + 2)
    taken: ir.Value | None = None
    *places, _ = itertools.product(*map(range, found.kernel))
    for place in places:
        bounds = [new.constant(np.array(values)) for values in (place, found.size, axes, found.kernel)]
        equal = new.add("Equal", [new.add("Slice", [found.images, *bounds]), maxima])
        yield equal if taken is None else new.add("And", [equal, new.add("Not", [taken])])
        taken = equal if taken is None else new.add("Or", [equal, taken])
    assert taken is not None
    yield new.add("Not", [taken])


def _by_index(new: Replacement, found: _Unpool) -> ir.Value:
    """The gradient by indices, of which a window's last nan is the maximum."""
    _, places = pool_nan(new, found.pool, found.images)
    size = new.constant(np.array(math.prod(found.size)))
    within = new.add("Reshape", [new.add("Mod", [places, size]), new.constant(np.array([0, 0, -1]))])
    values = new.add("Reshape", [found.images, new.constant(np.array([0, 0, -1]))])
    empty = new.add("ConstantOfShape", [new.add("Shape", [values])], value=ir.tensor(_zero(found).reshape(1)))
    return new.copy(found.scatter, [empty, within, found.scatter.inputs[2]])[0]
