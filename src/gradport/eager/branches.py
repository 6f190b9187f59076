"""Discrete decisions: where a run in float64 rounds, compares or selects differently from a run in the working dtype.

Both runs are recorded operator by operator. The count has the elements of roundings, signs, comparisons and indices,
and the elements where the backward of a clamp decides. One different comparison may change every gradient of a deep
network; it still counts as one element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradport.compat.torch.modes import TorchDispatchMode
from gradport.compat.torch.operators import name_of

__all__ = ["Branches", "differing_share"]

_ROUNDING = {"round", "floor", "ceil", "trunc", "sign", "sgn", "heaviside"}
_COMPARING = {"gt", "ge", "lt", "le", "eq", "ne", "signbit"}
_CHOOSING = {"argmax", "argmin", "argsort", "max", "min", "sort", "topk", "kthvalue", "median", "mode"}
_CHOOSING |= {f"max_pool{n}d_with_indices" for n in (1, 2, 3)} | {"searchsorted", "bucketize"}


class Branches(TorchDispatchMode):
    """While open, records the result of every discrete operator.

    Attributes:
        seen: one tensor per operator, in order: rounded numbers, booleans or indices.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the operator and records its decision."""
        result = func(*args, **(kwargs or {}))
        decision = _decision_of(name_of(func).rstrip("_"), args, result)
        if decision is not None:
            self.seen.append(decision.detach().clone())
        return result


def differing_share(first: Branches, second: Branches) -> float | None:
    """The share of elements that differ between two runs; None if there are none, 1 if the runs called different
    operators."""
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
    """The decision of an operator as a tensor; None if it does not decide."""
    if name in _ROUNDING or name in _COMPARING:
        return result if isinstance(result, torch.Tensor) else None
    if name in _CHOOSING:
        results = result if isinstance(result, (tuple, list)) else (result,)
        return next((t for t in results if isinstance(t, torch.Tensor) and not t.is_floating_point()), None)
    rule = _DECIDED.get(name)
    return None if rule is None else rule(*args)


_DECIDED: dict[str, Callable[..., torch.Tensor]] = {
    "threshold_backward": lambda gradient, x, threshold: x > threshold,
    "hardtanh_backward": lambda gradient, x, low, high: (x > low) & (x < high),
    "leaky_relu_backward": lambda gradient, x, *rest: x > 0,
    "relu": lambda x: x > 0,
}
