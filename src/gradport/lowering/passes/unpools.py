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
import math

import numpy as np
import onnx_ir as ir

from gradport.lowering.passes.pools import pool_nan, propagate_nan
from gradport.lowering.passes.replacing import Replacement

__all__ = ["UnpoolByMask"]

_DTYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""Without float16, because a sum in it overflows too early."""

_LARGEST = 9
"""Places of a window: each has a mask of its own."""


@dataclasses.dataclass(frozen=True)
class _Unpool:
    """A max pooling over disjoint windows of images, and the scatter that gives its gradient.

    Attributes:
        pool: the MaxPool, which gives values and indices.
        scatter: adds the cotangents at the indices; its result is one row for each image.
        images: the input of the pooling, (N, C, H, W).
        kernel: rows and columns of a window; the step from one window to the next.
        size: H and W.
    """

    pool: ir.Node
    scatter: ir.Node
    images: ir.Value
    kernel: tuple[int, int]
    size: tuple[int, int]

    @property
    def windows(self) -> list[int]:
        """Rows and columns of the result of the pooling."""
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
    if scatter.op_type != "ScatterElements" or scatter.domain or not _adds(scatter):
        return None
    flat = _only_producer(scatter.inputs[1], "Reshape")
    places = None if flat is None else _only_producer(flat.inputs[0], "Sub")
    pool = None if places is None else _only_producer(places.inputs[0], "MaxPool")
    images = None if pool is None else pool.inputs[0]
    shape = None if images is None else images.shape
    if pool is None or images is None or shape is None or len(shape) != 4 or images.dtype not in _DTYPES:
        return None
    height, width = shape[2], shape[3]
    rows, columns = pool.attributes["kernel_shape"].as_ints()
    if not isinstance(height, int) or not isinstance(width, int) or not _is_disjoint(pool, rows, columns):
        return None
    if height % rows or width % columns or not 1 < rows * columns <= _LARGEST or 0 in shape:
        return None
    return _Unpool(pool, scatter, images, (rows, columns), (height, width))


def _adds(scatter: ir.Node) -> bool:
    reduction = scatter.attributes.get("reduction")
    return reduction is not None and reduction.as_string() == "add" and scatter.inputs[2] is not None


def _only_producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node of this type that computes a value which has one reader."""
    node = None if value is None or value.is_graph_output() or len(value.uses()) != 1 else value.producer()
    return node if node is not None and node.op_type == op_type and not node.domain else None


def _is_disjoint(pool: ir.Node, *kernel: int) -> bool:
    """Whether windows touch, do not overlap, and cover no padding."""
    attributes = {name: list(pool.attributes[name].as_ints()) for name in ("strides", "pads", "dilations")}
    return attributes == {"strides": list(kernel), "pads": [0] * 4, "dilations": [1, 1]}


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
    rows, columns = found.kernel
    shape = [0, 0, *found.windows]
    cotangent = new.add("Reshape", [found.scatter.inputs[2], new.constant(np.array(shape))])
    taken: ir.Value | None = None
    lines = []
    for row in range(rows):
        line = []
        for column in range(columns):
            is_last = (row, column) == (rows - 1, columns - 1)
            mask, taken = _mask(new, found, (row, column), maxima, taken, is_last=is_last)
            factor = new.add("CastLike", [mask, maxima])
            product = new.add("Mul", [cotangent, factor])
            line.append(new.add("Unsqueeze", [product, new.constant(np.array([-1]))]))
        joined = new.add("Concat", line, axis=-1)
        whole = new.constant(np.array([0, 0, found.windows[0], 1, found.size[1]]))
        lines.append(new.add("Reshape", [joined, whole]))
    image = new.add("Concat", lines, axis=3) if rows > 1 else lines[0]
    flat = new.constant(np.array([0, 0, math.prod(found.size)]))
    return new.add("Reshape", [image, flat], like=found.scatter.outputs[0])


def _mask(
    new: Replacement,
    found: _Unpool,
    place: tuple[int, int],
    maxima: ir.Value,
    taken: ir.Value | None,
    *,
    is_last: bool,
) -> tuple[ir.Value, ir.Value | None]:
    """Whether the place of each window is the first that holds the maximum, and whether it or an earlier one does."""
    if is_last:
        assert taken is not None
        return new.add("Not", [taken]), None
    bounds = [new.constant(np.array(values)) for values in (place, found.size, (2, 3), found.kernel)]
    equal = new.add("Equal", [new.add("Slice", [found.images, *bounds]), maxima])
    if taken is None:
        return equal, equal
    return new.add("And", [equal, new.add("Not", [taken])]), new.add("Or", [equal, taken])


def _by_index(new: Replacement, found: _Unpool) -> ir.Value:
    """The gradient by indices, of which a window's last nan is the maximum."""
    _, places = pool_nan(new, found.pool, found.images)
    size = new.constant(np.array(math.prod(found.size)))
    within = new.add("Reshape", [new.add("Mod", [places, size]), new.constant(np.array([0, 0, -1]))])
    values = new.add("Reshape", [found.images, new.constant(np.array([0, 0, -1]))])
    empty = new.add("ConstantOfShape", [new.add("Shape", [values])], value=ir.tensor(_zero(found).reshape(1)))
    return new.copy(found.scatter, [empty, within, found.scatter.inputs[2]])[0]
