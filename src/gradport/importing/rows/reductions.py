"""Sums, means, extremes and norms along axes; softmax; running sums; sorting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from gradport.importing.sizes import Sizes
from gradport.importing.table import translation

Tensor = torch.Tensor


def _product(x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    for axis in sorted((axis % max(x.dim(), 1) for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep).to(x.dtype)
    return x


def _total(x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    return torch.sum(x, list(axes), keepdim=keep, dtype=x.dtype) if axes else x


def _log_sum(x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    return torch.logsumexp(x, list(axes), keepdim=keep)


def _extreme(function: Callable[..., Tensor]) -> Callable[[Tensor, Sequence[int], bool], Tensor]:
    def reduce(x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
        if x.dtype == torch.bool:
            return reduce(x.to(torch.uint8), axes, keep).bool()
        limits = torch.finfo if x.is_floating_point() else torch.iinfo
        if 0 in [x.shape[axis] for axis in axes]:
            worst = limits(x.dtype).min if function is torch.amax else limits(x.dtype).max
            if x.is_floating_point():
                worst = float("-inf") if function is torch.amax else float("inf")
            shape = [1 if at in axes else size for at, size in enumerate(x.shape) if keep or at not in axes]
            return torch.full(shape, worst, dtype=x.dtype)
        return function(x, list(axes), keepdim=keep)

    return reduce


_REDUCTIONS: dict[str, Callable[[Tensor, Sequence[int], bool], Tensor]] = {
    "ReduceSum": _total,
    "ReduceMean": lambda x, axes, keep: torch.mean(x, list(axes), keepdim=keep),
    "ReduceMax": _extreme(torch.amax),
    "ReduceMin": _extreme(torch.amin),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: _total(x.abs(), axes, keep),
    "ReduceL2": lambda x, axes, keep: _total(x * x, axes, keep).sqrt(),
    "ReduceSumSquare": lambda x, axes, keep: _total(x * x, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: _total(x, axes, keep).log(),
    "ReduceLogSumExp": _log_sum,
}


def _register(op_type: str, reduce: Callable[[Tensor, Sequence[int], bool], Tensor]) -> None:
    def by_input(
        x: Tensor, axes: Sizes | None = None, /, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Tensor:
        chosen = [] if axes is None else axes.numbers()
        if not chosen and noop_with_empty_axes:
            return (
                reduce(x, (), True) if op_type not in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceLogSumExp") else x
            )
        return reduce(x, _places(x, chosen), bool(keepdims))

    def by_attribute(x: Tensor, /, *, axes: Sequence[int] = (), keepdims: int = 1) -> Tensor:
        return reduce(x, _places(x, axes), bool(keepdims))

    translation(op_type, since=13 if op_type == "ReduceSum" else 18)(by_input)
    translation(op_type)(by_attribute)


def _places(x: Tensor, axes: Sequence[int]) -> list[int]:
    return [axis % x.dim() for axis in axes] if axes else list(range(x.dim()))


for _op_type, _reduce in _REDUCTIONS.items():
    _register(_op_type, _reduce)


@translation("ArgMax")
def arg_max(x: Tensor, /, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    return _arg(torch.argmax, x, axis, bool(keepdims), bool(select_last_index))


@translation("ArgMin")
def arg_min(x: Tensor, /, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    return _arg(torch.argmin, x, axis, bool(keepdims), bool(select_last_index))


def _arg(function: Callable[..., Tensor], x: Tensor, axis: int, keep: bool, last: bool) -> Tensor:
    if not last:
        return function(x, axis, keepdim=keep)
    return x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keep)


@translation("Softmax", since=13)
def softmax(x: Tensor, /, *, axis: int = -1) -> Tensor:
    return torch.softmax(x, axis)


@translation("LogSoftmax", since=13)
def log_softmax(x: Tensor, /, *, axis: int = -1) -> Tensor:
    return torch.log_softmax(x, axis)


@translation("Hardmax", since=13)
def hardmax(x: Tensor, /, *, axis: int = -1) -> Tensor:
    """One at the first maximum."""
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)


def _over_rows(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def over_rows(x: Tensor, /, *, axis: int = 1) -> Tensor:
        """Before opset 13: over all axes from this one on together."""
        axis %= max(x.dim(), 1)
        return function(x.flatten(axis) if axis < x.dim() else x).reshape(x.shape)

    return over_rows


translation("Softmax")(_over_rows(lambda x: torch.softmax(x, -1)))
translation("LogSoftmax")(_over_rows(lambda x: torch.log_softmax(x, -1)))
translation("Hardmax")(_over_rows(lambda x: hardmax(x, axis=-1)))


@translation("CumSum")
def cum_sum(x: Tensor, axis: Sizes, /, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _running(torch.cumsum, x, axis.number(), exclusive, reverse, 0)


@translation("CumProd")
def cum_prod(x: Tensor, axis: Sizes, /, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _running(torch.cumprod, x, axis.number(), exclusive, reverse, 1)


def _running(
    function: Callable[..., Tensor], x: Tensor, axis: int, exclusive: int, reverse: int, neutral: int
) -> Tensor:
    x = x.flip(axis) if reverse else x
    result = function(x, axis, dtype=x.dtype)
    if exclusive:
        first = torch.full_like(x.narrow(axis, 0, 1), neutral)
        result = torch.cat([first, result.narrow(axis, 0, x.shape[axis] - 1)], axis)
    return result.flip(axis) if reverse else result


@translation("TopK", since=10)
def top_k(x: Tensor, k: Sizes, /, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, Tensor]:
    """Of equal elements the first comes first."""
    values, places = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, k.number()), places.narrow(axis, 0, k.number())


@translation("Unique")
def unique(x: Tensor, /, *, axis: int | None = None, sorted: int = 1) -> tuple[Tensor, ...]:
    """Values, their first places, for each element its value, and counts."""
    values, inverse, counts = torch.unique(x, sorted=True, return_inverse=True, return_counts=True, dim=axis)
    inverse = inverse.reshape(-1)
    size = counts.shape[0]
    place = torch.arange(inverse.shape[0])
    first = torch.full((size,), inverse.shape[0]).scatter_reduce(0, inverse, place, "amin")
    if sorted:
        return values, first, inverse, counts
    order = first.argsort()
    rank = torch.empty_like(order).scatter(0, order, torch.arange(size))
    return values.index_select(axis or 0, order), first[order], rank[inverse], counts[order]


@translation("NonZero")
def non_zero(x: Tensor, /) -> Tensor:
    return torch.nonzero(x).t() if x.dim() else torch.zeros(1, int(x != 0), dtype=torch.int64)


@translation("Einsum")
def einsum(*tensors: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation.lower() if equation.isupper() else equation, *tensors)
