"""Discrete branches: where a run in float64 rounds, compares or chooses otherwise than a run at the working dtype.

Both runs are watched operator by operator; what is counted are the elements of roundings, signs, comparisons and
indices, and the elements on which the backward of a clamp decides. One comparison that tips over may move every
gradient of a deep network; it is one element all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradport.compat.torch.modes import TorchDispatchMode
from gradport.compat.torch.operators import name_of

__all__ = ["Branches", "differing"]

_ROUNDING = {"round", "floor", "ceil", "trunc", "sign", "sgn", "heaviside"}
_COMPARING = {"gt", "ge", "lt", "le", "eq", "ne", "signbit"}
_CHOOSING = {"argmax", "argmin", "argsort", "max", "min", "sort", "topk", "kthvalue", "median", "mode"}
_CHOOSING |= {f"max_pool{n}d_with_indices" for n in (1, 2, 3)} | {"searchsorted", "bucketize"}


class Branches(TorchDispatchMode):
    """While open, keeps what every discrete operator gives.

    Attributes:
        seen: in order, one tensor for each: whole numbers, booleans or indices.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the operator."""
        result = func(*args, **(kwargs or {}))
        taken = _decision_of(name_of(func).rstrip("_"), args, result)
        if taken is not None:
            self.seen.append(taken.detach().clone())
        return result


def differing(first: Branches, second: Branches) -> float | None:
    """The share of the elements of discrete operators that differ; None where there are none, 1 where the runs did not
    even call the same ones."""
    if len(first.seen) != len(second.seen) or any(
        a.shape != b.shape for a, b in zip(first.seen, second.seen, strict=False)
    ):
        return 1.0
    total = sum(tensor.numel() for tensor in first.seen)
    if not total:
        return None
    pairs = zip(first.seen, second.seen, strict=True)
    return sum(int((a.double().nan_to_num() != b.double().nan_to_num()).sum()) for a, b in pairs) / total


def _decision_of(name: str, args: tuple[Any, ...], result: Any) -> torch.Tensor | None:
    """What an operator decided, or None where it decides nothing."""
    if name in _ROUNDING or name in _COMPARING:
        return result if isinstance(result, torch.Tensor) else None
    if name in _CHOOSING:
        found = result if isinstance(result, (tuple, list)) else (result,)
        return next((t for t in found if isinstance(t, torch.Tensor) and not t.is_floating_point()), None)
    decided = _DECIDED.get(name)
    return None if decided is None else decided(*args)


_DECIDED: dict[str, Callable[..., torch.Tensor]] = {
    "threshold_backward": lambda gradient, x, threshold: x > threshold,
    "hardtanh_backward": lambda gradient, x, low, high: (x > low) & (x < high),
    "leaky_relu_backward": lambda gradient, x, *rest: x > 0,
    "relu": lambda x: x > 0,
}
