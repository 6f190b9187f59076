"""A QuantizeLinear and the DequantizeLinear that reads it are fake quantization with a straight-through gradient.

The gradient is that of torch.fake_quantize: the cotangent where a value is inside the range of the dtype, else zero.
"""

from __future__ import annotations

from typing import Any

import torch

from gradport.importing.rows.quantization import spread

__all__ = ["FakeQuantize", "fake_quantize"]


class FakeQuantize(torch.autograd.Function):
    """Rounded values forward; the cotangent, masked by the range, backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, rounded: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Returns the rounded values, of which `x` is the source."""
        ctx.save_for_backward(inside)
        return rounded.clone()

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # type: ignore[override]
        """The straight-through gradient."""
        (inside,) = ctx.saved_tensors
        return torch.where(inside, cotangent, torch.zeros_like(cotangent)), None, None


def fake_quantize(
    x: torch.Tensor,
    quantized: torch.Tensor,
    rounded: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor | None,
    axis: int,
    block_size: int,
) -> torch.Tensor:
    """The rounded values with a straight-through gradient."""
    if quantized.dtype.is_floating_point:
        inside = torch.ones_like(x, dtype=torch.bool)
    else:
        limits = torch.iinfo(quantized.dtype)
        zero = 0 if zero_point is None else spread(zero_point.to(torch.int32), x, axis, block_size)
        place = torch.round(x / spread(scale, x, axis, block_size)) + zero
        inside = (place >= limits.min) & (place <= limits.max)
    result: torch.Tensor = FakeQuantize.apply(x, rounded.detach(), inside.detach())
    return result
