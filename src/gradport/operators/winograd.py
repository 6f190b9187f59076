"""The weight gradient of a 3 x 3 convolution by Winograd's minimal filtering, for stride 1.

A tile of m x m cotangents reads (m + 2) x (m + 2) values of the signal. Both are transformed to (m + 2)^2 points; there
the gradient is one product of matrices for each point, over all tiles: (m + 2)^2 multiplications for each tile and pair
of channels, where the direct sum needs 9 m^2. With one axis, and matrices A, B and G of the points:

    dw = G^T ((A g) * (B^T x))

The transforms add and subtract values of one tile, so that one inf or nan makes the gradient nan in other places than
the direct sum does. If the result is not finite, a branch computes the direct sum.

Sources: S. Winograd, Arithmetic Complexity of Computations, SIAM 1980; A. Lavin, S. Gray, Fast algorithms for
convolutional neural networks, arXiv:1509.09308; the points are those of smallest error in B. Barabasz et al., Error
analysis and improving the accuracy of Winograd convolution for deep neural networks, arXiv:1803.10986.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.polynomial import polynomial

from gradport.operators.axes import numbers
from gradport.operators.finiteness import choose_if_finite
from gradport.operators.table import op

__all__ = ["differentiate_by_tiles", "minimal_filtering"]

_KERNEL = 3

_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)

_LONGEST_STRIP = 8
"""Tiles that one matrix transforms: with more, most of the matrix is zero."""

Array = np.ndarray[Any, np.dtype[np.floating[Any]]]


def differentiate_by_tiles(
    signal: ir.Value,
    cotangent: ir.Value,
    weight: ir.Value,
    pads: Sequence[int],
    tile: int,
    direct: Callable[[], ir.Value],
) -> ir.Value:
    """The gradient of a weight (O, I, 3, 3).

    Args:
        signal: (N, I, H, W), of a floating-point dtype; all sizes but N are known.
        cotangent: (N, O, H + 2 pad - 2, W + 2 pad - 2).
        weight: for its shape.
        pads: of both axes.
        tile: rows and columns of the cotangent in a tile: 2 or 4.
        direct: adds the nodes of the direct sum.
    """
    by_cotangent, by_signal, by_kernel = minimal_filtering(tile)
    positions = _sizes(cotangent)
    tiles = [-(-size // tile) for size in positions]
    read = zip(_sizes(signal), pads, tiles, strict=True)
    x = _transform(signal, [_Axis(by_signal, size, pad, tile, count) for size, pad, count in read])
    given = zip(positions, tiles, strict=True)
    g = _transform(cotangent, [_Axis(by_cotangent, size, 0, tile, count) for size, count in given])
    products = op.MatMul(op.Transpose(g, perm=[0, 2, 1]), x)
    flat = op.Reshape(products, numbers([len(by_kernel) ** 2, -1]))
    sums = op.MatMul(_constant(np.kron(by_kernel, by_kernel).T, signal), flat)
    return choose_if_finite(sums, lambda: op.Reshape(op.Transpose(sums, perm=[1, 0]), op.Shape(weight)), direct)


def minimal_filtering(tile: int) -> tuple[Array, Array, Array]:
    """The matrices A (tile + 2, tile), B^T (tile + 2, tile + 2) and G (tile + 2, 3) by the method of Toom and Cook.

    The points are the first tile + 1 of `_POINTS`, and infinity.
    """
    points = np.array(_POINTS[: tile + 1])
    others = [np.delete(points, index) for index in range(len(points))]
    scales = np.array([np.prod(point - rest) for point, rest in zip(points, others, strict=True)])
    by_cotangent = np.vstack([points[:, None] ** np.arange(tile), np.eye(tile)[-1:]])
    by_kernel = np.vstack([points[:, None] ** np.arange(_KERNEL) / scales[:, None], np.eye(_KERNEL)[-1:]])
    by_signal = np.zeros((tile + 2, tile + 2))
    for row, roots in zip(by_signal, [*others, points], strict=True):
        coefficients = polynomial.polyfromroots(roots)
        row[: len(coefficients)] = coefficients
    return by_cotangent, by_signal, by_kernel


@dataclasses.dataclass(frozen=True)
class _Axis:
    """A spatial axis in tiles.

    Attributes:
        matrix: (points, length); gives the points of one tile from the values that it reads.
        size: of the axis.
        pad: zeros before its first value.
        step: values from one tile to the next.
        tiles: their number.
    """

    matrix: Array
    size: int
    pad: int
    step: int
    tiles: int

    @property
    def points(self) -> int:
        """Of a tile."""
        return len(self.matrix)

    @property
    def transform(self) -> Array:
        """(tiles * points, size): gives the points of all tiles from the values of the axis; mostly zero."""
        whole = np.zeros((self.tiles, self.points, self.size))
        for tile in range(self.tiles):
            for at, column in enumerate(self.matrix.T, start=tile * self.step - self.pad):
                if 0 <= at < self.size:
                    whole[tile, :, at] = column
        return whole.reshape(-1, self.size)


def _transform(values: ir.Value, axes: Sequence[_Axis]) -> ir.Value:
    """(points^2, tiles * N, channels) of values (N, channels, H, W)."""
    down, across = axes
    channels = int(values.shape[1])  # type: ignore[index, arg-type]
    rows = op.Reshape(op.Transpose(values, perm=[2, 3, 0, 1]), numbers([down.size, -1]))
    by_row = _multiply(down.transform, rows, 0, values, down.points)
    columns = op.Reshape(by_row, numbers([down.tiles * down.points, across.size, -1]))
    both = _multiply(across.transform, columns, 1, values, across.points)
    split = [down.tiles, down.points, across.tiles, across.points, -1]
    points_first = op.Transpose(op.Reshape(both, numbers(split)), perm=[1, 3, 0, 2, 4])
    return op.Reshape(points_first, numbers([down.points * across.points, -1, channels]))


def _multiply(matrix: Array, values: ir.Value, at: int, like: ir.Value, unit: int) -> ir.Value:
    """The product of a banded matrix (rows, columns) with values (..., columns, rest), whose axis `at` are the columns.

    A large matrix is cut into pieces of at most `_LONGEST_STRIP` units of rows; each reads its own columns only.
    """
    rows, columns = matrix.shape
    units = -(-rows // unit)
    pieces = _pieces(units, _LONGEST_STRIP)
    if pieces == 1:
        return op.MatMul(_constant(matrix, like), values)
    length = -(-units // pieces) * unit
    whole = np.vstack([matrix, np.zeros((pieces * length - rows, columns))]).reshape(pieces, length, columns)
    used = [np.flatnonzero(piece.any(axis=0)) for piece in whole]
    width = max(1, *(int(np.ptp(places)) + 1 for places in used if len(places)))
    first = np.array([min(int(places[0]), columns - width) if len(places) else 0 for places in used])
    reads = first[:, None] + np.arange(width)
    read = np.stack([piece[:, places] for piece, places in zip(whole, reads, strict=True)])
    parts = op.MatMul(_constant(read, like), op.Gather(values, op.Constant(value=ir.tensor(reads)), axis=at))
    joined = op.Reshape(parts, numbers([0] * at + [pieces * length, -1]))
    return joined if pieces * length == rows else op.Slice(joined, numbers([0]), numbers([rows]), numbers([at]))


def _pieces(units: int, longest: int) -> int:
    """The number of pieces with at most `longest` units; a few more if all are of one size then."""
    least = -(-units // longest)
    return next((count for count in range(least, 2 * least) if units % count == 0), least)


def _sizes(value: ir.Value) -> list[int]:
    """The spatial sizes."""
    return [int(size) for size in list(value.shape or ())[2:]]  # type: ignore[arg-type]


def _constant(values: Array, like: ir.Value) -> ir.Value:
    assert like.dtype is not None
    return op.Constant(value=ir.tensor(values.astype(like.dtype.numpy())))
