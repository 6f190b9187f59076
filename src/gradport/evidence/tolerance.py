"""Decides whether a tensor agrees with eager torch.

Values agree if the error is within a floor: some dozen units in the last place (ULPs) of the value, and a few of the
tensor's scale, because sums cancel. Above the floor a float64 run of the same subject decides: the error against it may
be a small factor of eager's own error at the same dtype. Elements where float64 takes another discrete branch (a
rounding, a comparison) are compared only with eager. They may also differ by about as much as eager changes if its
inputs move by a few ULPs, because in a deep network some comparison is always close to a tie.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch

from gradport.evidence.distance import magnitude

__all__ = ["CRITERION", "FACTOR", "FLOOR_ULPS", "SCALE_ULPS", "UNDECIDED", "Comparison", "branch_share", "compare"]

FLOOR_ULPS = 64.0
"""Floor in ULPs of each value. In ONNX Runtime a correct Tanh is 3.6 ULPs off, a Sigmoid 12.9; a backward has
several of them."""

SCALE_ULPS = 16.0
"""Floor in ULPs of the largest magnitude in the tensor."""

FACTOR = 8.0
"""Allowed ratio of the error to eager's own error, both against float64."""

_CANCELLED = 1e-3
"""Ratio of float64 to eager below which eager's value is only rounding."""


STANDARD = {torch.float16: (1e-3, 1e-5), torch.bfloat16: (1.6e-2, 1e-5), torch.float32: (1.3e-6, 1e-5)}
"""rtol and atol if a subject does not run in float64, from torch.testing.assert_close."""

UNDECIDED = 0.01
"""Share of elements with another discrete branch in float64 above which the result is undecided."""


CRITERION = {
    "factor": FACTOR,
    "floor": f"{FLOOR_ULPS:g} ULPs of the value and {SCALE_ULPS:g} of the tensor's largest",
    "undecided above": UNDECIDED,
}
"""The description of the criterion in Evidence."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The comparison of one tensor with eager's.

    Attributes:
        ok: whether it agrees.
        ulps: the largest error, in ULPs of the tensor's scale (nan if dtype or shape differ).
        relative: the largest error over the tensor's scale.
        difference: a description of the difference, with `{other}` for the name of the other tensor; empty if they
            agree.
        special: whether nan or infinities are at different elements.
        loud: whether all differing elements are nan or infinite in this tensor, so that no nan of eager is lost.
        worst: the element with the largest error, as text, with the same `{other}`; empty if all are equal.
        oracle: whether a float64 value was available; None if it was not needed.
    """

    ok: bool
    ulps: float
    relative: float
    difference: str = ""
    special: bool = False
    loud: bool = False
    worst: str = ""
    oracle: bool | None = None

    @property
    def reason(self) -> str:
        """The difference from eager; empty if it agrees."""
        return self.reason_beside("eager")

    @property
    def worst_element(self) -> str:
        """The element with the largest error, compared with eager."""
        return self.worst.format(other="eager")

    def reason_beside(self, other: str) -> str:
        """The difference, with another name for the other tensor."""
        return self.difference.format(other=other)


def compare(
    actual: torch.Tensor,
    eager: torch.Tensor,
    oracle: Callable[[], torch.Tensor | None],
    *,
    spread: Callable[[], torch.Tensor | None] | None = None,
    narrowest: torch.dtype | None = None,
    ambient: float = 0.0,
    squares: bool = False,
    rtol: float | None = None,
    atol: float | None = None,
) -> Comparison:
    """Compares a tensor with eager's.

    Args:
        actual: the result of the runtime.
        eager: the result of eager torch.
        oracle: returns the float64 value or None; called only if the error is above the floor.
        spread: returns the change of each element of eager's result if all inputs move by a few ULPs, or None; called
            only if the comparison fails otherwise.
        narrowest: the narrowest floating-point dtype of the inputs; None: the dtype of the value.
        ambient: the largest magnitude among all results of the same call: sums that cancel to zero (the gradient of a
            bias before a softmax) leave rounding of this size.
        squares: whether the tensor may contain squares of such rounding, like an optimizer's second moments.
        rtol, atol: replace the criterion if given.
    """
    eager = eager.detach()
    if actual.dtype != eager.dtype or actual.shape != eager.shape:
        return _different_kind(f"it is {_describe_tensor(actual)}, {{other}}'s is {_describe_tensor(eager)}")
    if eager.numel() == 0:
        return Comparison(True, 0.0, 0.0)
    if not eager.is_floating_point():
        return _compare_exact(actual, eager)
    given = None if rtol is None and atol is None else (rtol or 0.0, atol or 0.0)
    working = narrowest or eager.dtype
    dust = _dust(torch.finfo(working).eps, ambient) if squares else 0.0
    comparison = _compare_floating(actual, eager, oracle, working, ambient, dust, given)
    if not comparison.ok and given is None and spread is not None and _is_within(actual, eager, spread()):
        return dataclasses.replace(comparison, ok=True, difference="")
    return comparison


def branch_share(eager: torch.Tensor, oracle: torch.Tensor, *, grain: float = 0.0, ambient: float = 0.0) -> float:
    """The share of elements where float64 took another discrete branch (a rounding, a comparison, a choice) than the
    working dtype: they differ by more than rounding can explain. 0 for float64 and for other dtypes that are not in
    `STANDARD`.

    Args:
        eager: eager's result at the working dtype.
        oracle: eager's result in float64.
        grain: the relative step of a 16-bit dtype used internally, else 0.
        ambient: the largest magnitude among all results of the same call.
    """
    if eager.dtype not in STANDARD or eager.shape != oracle.shape or not eager.numel():
        return 0.0
    want, wide = eager.detach().double(), oracle.detach().double()
    finite = want.isfinite() & wide.isfinite()
    if not finite.any():
        return 0.0
    unit = max(torch.finfo(eager.dtype).eps, grain)
    scale = max(magnitude(want[finite]), torch.finfo(eager.dtype).tiny)
    beyond = (want - wide).abs() > max(FACTOR * _branch(unit) * scale, FLOOR_ULPS * unit * ambient)
    return int(beyond[finite].sum()) / eager.numel()


def _compare_floating(
    actual: torch.Tensor,
    eager: torch.Tensor,
    oracle: Callable[[], torch.Tensor | None],
    working: torch.dtype,
    ambient: float,
    dust: float,
    given: tuple[float, float] | None,
) -> Comparison:
    unit, tiny, rough = torch.finfo(eager.dtype).eps, torch.finfo(eager.dtype).tiny, torch.finfo(working).eps
    got, want = actual.double(), eager.double()
    finite = want.isfinite() & got.isfinite()
    same_special = (got.isnan() & want.isnan()) | (got == want)
    special = ~finite & ~same_special
    if special.any():
        comparison = _describe(got, want, special, "have a nan or infinity on only one side", math.inf, math.inf)
        return dataclasses.replace(comparison, special=True, loud=not bool((special & got.isfinite()).any()))
    scale = max(magnitude(want[finite]), tiny)
    error = torch.where(finite, (got - want).abs(), torch.zeros_like(want))
    relative = float(error.max()) / scale
    beyond = error > (_floor(want, scale, unit) + dust if given is None else given[0] * want.abs() + given[1])
    known: bool | None = None
    if given is None and beyond.any() and working in STANDARD:
        reference = oracle()
        known = reference is not None and reference.shape == want.shape
        if reference is None:
            rtol, atol = STANDARD[working]
            beyond &= error > rtol * want.abs() + atol
        elif known:
            wide = reference.double()
            if _is_rounding(wide, scale, unit, ambient):
                beyond &= (got - wide).abs() > FACTOR * scale
            else:
                beyond &= _beyond_oracle(got, want, wide, scale, unit, max(rough, unit))
    if beyond.any():
        return _describe(got, want, beyond, "differ", relative / unit, relative, oracle=known)
    return Comparison(True, relative / unit, relative, worst=_worst(got, want, error), oracle=known)


def _branch(unit: float) -> float:
    """The largest relative difference from float64 that rounding can explain: half of the digits. A larger difference
    means another discrete branch."""
    return math.sqrt(unit)


def _dust(rough: float, ambient: float) -> float:
    """The square of the rounding that remains of a sum that cancels."""
    rounding = SCALE_ULPS * rough * ambient
    return rounding * rounding


def _floor(want: torch.Tensor, scale: float, unit: float) -> torch.Tensor:
    return FLOOR_ULPS * unit * want.abs() + SCALE_ULPS * unit * scale


def _is_within(actual: torch.Tensor, eager: torch.Tensor, spread: torch.Tensor | None) -> bool:
    """Whether the error is not much larger than eager's own spread, in the mean and in the maximum, so that one element
    with another branch does not excuse all others."""
    if spread is None or spread.shape != eager.shape:
        return False
    error, usual = (actual.double() - eager.double()).abs(), spread.double().abs()
    if not error.isfinite().all() or not usual.isfinite().all():
        return False
    mean = float(error.square().mean().sqrt()) <= FACTOR * float(usual.square().mean().sqrt())
    return mean and float(error.max()) <= FACTOR * float(usual.max())


def _is_rounding(oracle: torch.Tensor, scale: float, unit: float, ambient: float) -> bool:
    """Whether eager's whole tensor is only the rounding of a sum that cancels."""
    largest = float(oracle.abs().nan_to_num(float("inf")).max())
    return largest <= _CANCELLED * scale and scale <= FLOOR_ULPS * unit * ambient


def _beyond_oracle(
    got: torch.Tensor, want: torch.Tensor, oracle: torch.Tensor, scale: float, unit: float, rough: float
) -> torch.Tensor:
    """Elements whose error against float64 is larger than eager's own error allows."""
    eagers = (want - oracle).abs()
    other_branch = ~(eagers <= _branch(rough) * scale)
    explained = eagers[~other_branch]
    allowed = FACTOR * float(explained.max()) if explained.numel() else 0.0
    beyond = (got - oracle).abs() > allowed + _floor(oracle.nan_to_num(), scale, unit)
    return beyond | other_branch


def _compare_exact(actual: torch.Tensor, eager: torch.Tensor) -> Comparison:
    differs = actual != eager
    if differs.any():
        return _describe(actual, eager, differs, "differ", float("inf"), float("inf"))
    return Comparison(True, 0.0, 0.0)


def _describe(
    got: torch.Tensor,
    want: torch.Tensor,
    where: torch.Tensor,
    verb: str,
    ulps: float,
    relative: float,
    *,
    oracle: bool | None = None,
) -> Comparison:
    distance = torch.where(where, (got.double() - want.double()).abs().nan_to_num(float("inf")), -1.0)
    worst = _worst(got, want, distance)
    difference = f"{int(where.sum())} of {got.numel()} elements {verb}; the worst, {worst}"
    return Comparison(False, ulps, relative, difference, worst=worst, oracle=oracle)


def _worst(got: torch.Tensor, want: torch.Tensor, distance: torch.Tensor) -> str:
    """The element with the largest distance."""
    index = tuple(int(i) for i in torch.unravel_index(distance.argmax(), got.shape)) if got.dim() else ()
    if distance[index] == 0:
        return ""
    return f"at {list(index)}, is {got[index].item():.9g} and {{other}} gives {want[index].item():.9g}"


def _different_kind(difference: str) -> Comparison:
    return Comparison(False, float("nan"), float("nan"), difference)


def _describe_tensor(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
