"""Derivatives by central differences, with a step that adapts to each element and with an error estimate.

Each element gets a ladder of steps. Each pair of central differences is extrapolated (Richardson). The step whose
neighbours agree best gives the value; their difference is the error estimate. One-sided slopes distinguish kinks and
jumps from smooth points. Source: W. H. Press et al., Numerical Recipes, 3rd ed., section 5.7 (Ridders' method).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import torch

__all__ = ["Slope", "slope"]

_STEPS = tuple(2.0**-power for power in (6, 8, 10, 12, 14, 16, 18))
_RATIO = 4.0


@dataclasses.dataclass(frozen=True)
class Slope:
    """The derivative of a scalar function along one element.

    Attributes:
        nature: "smooth", "kink" (the one-sided slopes differ), "jump" (the function is discontinuous) or "edge" (a step
            leaves the domain, or a kink is very close).
        value: the derivative; at a kink the mean of the one-sided slopes.
        error: the estimated error.
        left, right: the one-sided slopes.
    """

    nature: str
    value: float
    error: float
    left: float
    right: float


def slope(change: Callable[[float], torch.Tensor], weights: torch.Tensor, scale: float, unit: float) -> Slope:
    """Differentiates `t -> <weights, f(t)>` at 0.

    Args:
        change: the function `t -> f(t) - f(0)`, flat float64.
        weights: the cotangent, flat float64.
        scale: the natural scale of steps for this element.
        unit: unit roundoff of the dtype in which f computes.
    """
    # if f computes in a narrower dtype, small steps measure only rounding: cut the ladder
    steps = [scale * step for step in _STEPS if step > unit**0.5 * 0.5]
    weights = weights.double()
    rights = [_dot(weights, change(step)) / step for step in steps]
    lefts = [-_dot(weights, change(-step)) / step for step in steps]
    if not all(map(math.isfinite, (*rights, *lefts))):
        return Slope("edge", math.nan, math.inf, math.nan, math.nan)
    central = [(right + left) / 2 for right, left in zip(rights, lefts, strict=True)]
    gaps = [abs(right - left) for right, left in zip(rights, lefts, strict=True)]
    value, error = _extrapolate(central)
    size = max(abs(value), *(abs(c) for c in central[-2:]))
    noise = 64 * unit * float(weights.abs().sum()) / steps[-1]
    if _is_kink(gaps, error + noise, size):
        if _grows(gaps):
            return Slope("jump", value, float("inf"), lefts[-1], rights[-1])
        return Slope("kink", value, error, _extrapolate(lefts)[0], _extrapolate(rights)[0])
    if _is_near_kink(gaps, noise, size):
        return Slope("edge", value, math.inf, lefts[-1], rights[-1])
    return Slope("smooth", value, error, value, value)


def _dot(weights: torch.Tensor, values: torch.Tensor) -> float:
    return float(torch.dot(weights, values.double()))


def _extrapolate(differences: Sequence[float]) -> tuple[float, float]:
    """The extrapolated value that agrees best with its two neighbours, and the larger difference.

    Two neighbours, because one may agree by accident if the function is not smooth.
    """
    square = _RATIO * _RATIO
    finer = [(square * b - a) / (square - 1) for a, b in itertools.pairwise(differences)]
    triples = zip(finer, finer[1:], finer[2:], strict=False)
    error, value = min(
        ((max(abs(a - b), abs(b - c)), b) for a, b, c in triples), default=(float("inf"), differences[-1])
    )
    return value, error


def _is_kink(gaps: Sequence[float], error: float, size: float) -> bool:
    """Whether the one-sided slopes stay apart as the step shrinks; at a smooth point the gap shrinks with the step."""
    last, earlier = gaps[-1], gaps[-3]
    return last > max(1e3 * error, 1e-4 * size, 1e-300) and last > 0.5 * earlier


def _is_near_kink(gaps: Sequence[float], noise: float, size: float) -> bool:
    """Whether a kink or a jump is very close, between the smallest steps, so that the derivative is undecided."""
    floor = max(1e3 * noise, 1e-4 * size, 1e-300)
    return any(gap > floor and gap > 0.5 * wider for wider, gap in itertools.pairwise(gaps[2:]))


def _grows(gaps: Sequence[float]) -> bool:
    return gaps[-1] > 2 * gaps[-2] > 4 * gaps[-3]
