"""Large tensors as rows: a step that works row by row keeps what lies between in a cache."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch

__all__ = ["rows_of", "rows_of_large"]

_LARGE = 2**19
"""Elements of the smallest tensor that has rows: with gradient and state it does not fit into a cache."""

_COLUMNS = 2**17
"""Best size of a row in elements, measured: ONNX Runtime gives a row of 2^17 to two threads, shorter ones to one (the
update of ResNet-18 takes 15 ms in place of 23); with one thread 2^15 to 2^18 take the same time."""


def rows_of_large(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, int]]:
    """Rows and columns of each tensor that has them."""
    shapes = {name: rows_of(tensor.numel()) for name, tensor in tensors.items()}
    return {name: shape for name, shape in shapes.items() if shape is not None}


@functools.cache
def rows_of(elements: int) -> tuple[int, int] | None:
    """Rows and columns of a tensor; None for one that is small or whose size has no fitting divisor."""
    if elements < _LARGE:
        return None
    fitting = [columns for columns in range(_COLUMNS // 3, 2 * _COLUMNS) if elements % columns == 0]
    columns = min(fitting, key=lambda columns: abs(columns - _COLUMNS), default=0)
    return (elements // columns, columns) if columns else None
