"""The gradient of replication padding: the cotangents of copies are summed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import reals, sample
from gradport.operators.table import decomposition

__all__: list[str] = []


@decomposition(
    _aten.replication_pad1d_backward.default,
    _aten.replication_pad2d_backward.default,
    _aten.replication_pad3d_backward.default,
    samples=[sample(lambda x: F.pad(x, (1, 2), mode="replicate"), reals("n", 2, 4))],
)
def replication_pad_backward(grad_output: torch.Tensor, self: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
    """Along each axis, sums the cotangents of all copies of an element.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.ReplicationPad2d.html
    """
    grad = grad_output
    for axis, before in enumerate(padding[::2], start=1):
        size, padded = self.shape[-axis], grad.shape[-axis]
        place = (torch.arange(padded, device=grad.device) - before).clamp(min=0)
        place = torch.minimum(place, torch.full_like(place, 1) * (size - 1))
        shape = [*grad.shape]
        shape[-axis] = size
        grad = grad.new_zeros(shape).index_add(grad.dim() - axis, place, grad)
    return grad
