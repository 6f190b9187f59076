"""ONNX Runtime: values of dtypes that numpy does not have.

Private in ONNX Runtime, and used here: `OrtValue._ortvalue.to_dlpack`.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["tensor_by_dlpack"]


def tensor_by_dlpack(value: Any) -> torch.Tensor:
    """A torch tensor over the memory of an `OrtValue`."""
    return torch.utils.dlpack.from_dlpack(value._ortvalue.to_dlpack())
