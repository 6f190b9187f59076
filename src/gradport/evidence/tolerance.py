"""How far from eager torch is too far.

Values agree when they stand within a floor, a few dozen units in the last place (ULPs): of the value itself, and a few
of the tensor's scale, since sums cancel. Beyond the floor a float64 run of the same subject decides: the error against
it may be a small factor of the error that eager makes at the same dtype. Elements where float64 takes another discrete
branch (a rounding, a comparison) are judged against eager alone, and by how far eager goes from itself when its inputs
move by a few ULPs: in a deep network some comparison always tips over.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch

from gradport.evidence.distance import magnitude

__all__ = ["CRITERION", "FACTOR", "FLOOR_ULPS", "SCALE_ULPS", "UNDECIDED", "Comparison", "branch_share", "compare"]

FLOOR_ULPS = 64.0
"""Of each value. A correct Tanh of ONNX Runtime is 3.6 ULPs off, its Sigmoid 12.9; backwards chain several."""

SCALE_ULPS = 16.0
"""Of the largest magnitude in the tensor."""

FACTOR = 8.0
"""How much larger than eager's own error against float64 an error may be."""

_CANCELLED = 1e-3
"""Where float64 gives less than this share of what eager gives, nothing is left of eager's value but rounding."""


STANDARD = {torch.float16: (1e-3, 1e-5), torch.bfloat16: (1.6e-2, 1e-5), torch.float32: (1.3e-6, 1e-5)}
"""rtol and atol where a subject does not run in float64: those of torch.testing.assert_close."""

UNDECIDED = 0.01
"""Where float64 takes another discrete branch in a larger share of the elements, it judges nothing."""


CRITERION = {
    "factor": FACTOR,
    "floor": f"{FLOOR_ULPS:g} ULPs of the value and {SCALE_ULPS:g} of the tensor's largest",
    "undecided above": UNDECIDED,
}
"""What Evidence says of how it judged."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One tensor held against eager's.

    Attributes:
        ok: whether it agrees.
        ulps: the largest error, in ULPs of the tensor's scale (nan where dtype or shape differ).
        relative: the largest error over the tensor's scale.
        difference: what differs, with `{other}` where the tensor that it is held against is named; empty where it
            agrees.
        special: whether what differs is where nan and infinities stand.
        loud: whether there is then a nan or an infinity wherever eager has one, and where it differs besides: nothing
            is swallowed.
        worst: the element with the largest error, as a person would write it and with the same `{other}`; empty where
            all are equal.
        oracle: whether a float64 value was at hand; None where nobody asked.
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
        """What differs from eager; empty where it agrees."""
        return self.reason_beside("eager")

    @property
    def worst_element(self) -> str:
        """The element with the largest error beside eager's."""
        return self.worst.format(other="eager")

    def reason_beside(self, other: str) -> str:
        """What differs from a tensor of another name."""
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
    """Holds a tensor against eager's.

    Args:
        actual: what the runtime gave.
        eager: what eager torch gave.
        oracle: asked, when the floor is not enough, for the float64 value (None where there is none).
        spread: asked, when float64 takes other branches, for how far each element of eager's goes from itself when
            all inputs move by a few ULPs (None where that is not known).
        narrowest: the narrowest floating-point dtype that the value was computed from; None: its own.
        ambient: the largest magnitude among everything that the same call gave: sums that cancel to nothing (the
            gradient of a bias before a softmax) leave a rounding of it.
        squares: whether the tensor may hold squares of such a rounding, as an optimizer's second moments do.
        rtol, atol: take the place of the criterion where given.
    """
    eager = eager.detach()
    if actual.dtype != eager.dtype or actual.shape != eager.shape:
        return _unlike(f"it is {_said(actual)}, {{other}}'s is {_said(eager)}")
    if eager.numel() == 0:
        return Comparison(True, 0.0, 0.0)
    if not eager.is_floating_point():
        return _exact(actual, eager)
    given = None if rtol is None and atol is None else (rtol or 0.0, atol or 0.0)
    working = narrowest or eager.dtype
    dust = _dust(torch.finfo(working).eps, ambient) if squares else 0.0
    found = _floating(actual, eager, oracle, working, ambient, dust, given)
    if not found.ok and given is None and spread is not None and _is_within(actual, eager, spread()):
        return dataclasses.replace(found, ok=True, difference="")
    return found


def branch_share(eager: torch.Tensor, oracle: torch.Tensor, *, grain: float = 0.0, ambient: float = 0.0) -> float:
    """The share of elements where float64 took another discrete branch (a rounding, a comparison, a choice) than the
    working dtype: they stand further apart than rounding carries them. 0 for float64 and for what is no float.

    Args:
        eager: what eager gave at the working dtype.
        oracle: what it gave in float64.
        grain: the relative step of a half precision that stands inside, else 0.
        ambient: the largest magnitude among everything that the same call gave.
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


def _floating(
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
        found = _describe(got, want, special, "not finite alike", float("inf"), float("inf"))
        return dataclasses.replace(found, special=True, loud=not bool((special & got.isfinite()).any()))
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
    """How far, relative to the scale, rounding carries a value apart from float64 at most: half of its digits. What
    stands further apart took another discrete branch."""
    return math.sqrt(unit)


def _dust(rough: float, ambient: float) -> float:
    """The square of what rounding leaves of a sum that cancels."""
    rounding = SCALE_ULPS * rough * ambient
    return rounding * rounding


def _floor(want: torch.Tensor, scale: float, unit: float) -> torch.Tensor:
    return FLOOR_ULPS * unit * want.abs() + SCALE_ULPS * unit * scale


def _is_within(actual: torch.Tensor, eager: torch.Tensor, spread: torch.Tensor | None) -> bool:
    """Whether the error is one that eager makes itself: in the mean and at its worst, so that one element that a
    rounding tips over does not excuse the others."""
    if spread is None or spread.shape != eager.shape:
        return False
    error, usual = (actual.double() - eager.double()).abs(), spread.double().abs()
    if not error.isfinite().all() or not usual.isfinite().all():
        return False
    mean = float(error.square().mean().sqrt()) <= FACTOR * float(usual.square().mean().sqrt())
    return mean and float(error.max()) <= FACTOR * float(usual.max())


def _is_rounding(oracle: torch.Tensor, scale: float, unit: float, ambient: float) -> bool:
    """Whether eager's whole tensor is what rounding leaves of a sum that cancels."""
    largest = float(oracle.abs().nan_to_num(float("inf")).max())
    return largest <= _CANCELLED * scale and scale <= FLOOR_ULPS * unit * ambient


def _beyond_oracle(
    got: torch.Tensor, want: torch.Tensor, oracle: torch.Tensor, scale: float, unit: float, rough: float
) -> torch.Tensor:
    """Elements whose error against float64 is not explained by the error that eager makes."""
    eagers = (want - oracle).abs()
    other_branch = ~(eagers <= _branch(rough) * scale)
    explained = eagers[~other_branch]
    allowed = FACTOR * float(explained.max()) if explained.numel() else 0.0
    beyond = (got - oracle).abs() > allowed + _floor(oracle.nan_to_num(), scale, unit)
    return beyond | other_branch


def _exact(actual: torch.Tensor, eager: torch.Tensor) -> Comparison:
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
    return f"at {list(index)}, is {got[index].item():.9g} where {{other}} gives {want[index].item():.9g}"


def _unlike(difference: str) -> Comparison:
    return Comparison(False, float("nan"), float("nan"), difference)


def _said(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
