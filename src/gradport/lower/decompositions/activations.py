"""Gradients of activations, where a lowering or decomposition elsewhere differs from torch at a kink."""

from __future__ import annotations

import torch

from gradport.lower.table import decomposition

__all__: list[str] = []

_aten = torch.ops.aten


@decomposition(_aten.hardtanh_backward.default)
def hardtanh_backward(grad_output: torch.Tensor, self: torch.Tensor, min_val: float, max_val: float) -> torch.Tensor:
    """The cotangent strictly between the limits, zero on them and outside: the exporter's own lets it pass on them.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardtanh.html
    """
    return torch.where((self <= min_val) | (self >= max_val), torch.zeros_like(grad_output), grad_output)
