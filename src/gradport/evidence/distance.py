"""How far two tensors are apart, relative to one of them."""

from __future__ import annotations

import torch

__all__ = ["magnitude", "relative_distance"]


def magnitude(tensor: torch.Tensor) -> float:
    """The largest finite absolute value; 0 where no element is finite."""
    finite = tensor.detach()[tensor.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0


def relative_distance(got: torch.Tensor, want: torch.Tensor) -> float:
    """The largest error over the magnitude of `want`.

    inf where the shapes differ, where nan or infinities stand at different places, and where `want` is zero and `got`
    is not.
    """
    if got.shape != want.shape:
        return float("inf")
    if not want.numel():
        return 0.0
    got, want = got.detach().double(), want.detach().double()
    same = (got == want) | (got.isnan() & want.isnan())
    if bool((~same & ~(got.isfinite() & want.isfinite())).any()):
        return float("inf")
    largest, scale = float(torch.where(same, 0.0, (got - want).abs()).max()), magnitude(want)
    return largest / scale if scale else float("inf") if largest else 0.0
