"""The relative distance of two tensors."""

from __future__ import annotations

import torch

__all__ = ["magnitude", "relative_distance"]


def magnitude(tensor: torch.Tensor) -> float:
    """The largest finite absolute value; 0 without a finite element."""
    finite = tensor.detach()[tensor.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0


def relative_distance(got: torch.Tensor, want: torch.Tensor) -> float:
    """The largest error over the magnitude of `want`.

    inf if the shapes differ, if nan or infinities are at different elements, or if `want` is zero and `got` is not.
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
