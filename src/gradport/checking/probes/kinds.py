"""Classifies a gradient: the derivative, a multiple of it, clipped, straight-through, a surrogate or wrong."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from gradport.checking.probes.samples import BackwardCall, Sample

__all__ = ["Kind", "classify", "is_straight_through"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """The kind of a gradient.

    Attributes:
        name: derivative, straight-through, scaled by <k>, clipped, surrogate or wrong.
        expect: the `expect=` that accepts it.
        worst: the element that differs most from the derivative, or None.
        figure: its distance, relative to the larger of derivative and gradient.
        factor: k of "scaled by k".
        masked: if a straight-through gradient is zero outside an interval, the smallest and largest value inside it.
    """

    name: str
    expect: str
    worst: Sample | None
    figure: float
    factor: float | None = None
    masked: tuple[float, float] | None = None


def classify(calls: Sequence[BackwardCall], constant: bool) -> Kind:
    """Classifies the gradient of one argument.

    Args:
        calls: calls of the backward, with samples.
        constant: whether the forward is piecewise constant in this argument.
    """
    samples = [sample for call in calls for sample in call.samples]
    worst, figure = _worst(samples)
    if all(sample.agrees for sample in samples):
        return Kind("derivative", "derivative", None, figure)
    if is_straight_through(samples):
        return Kind("straight-through", "straight-through", worst, figure, masked=_interval(samples))
    factor = _factor(samples)
    if factor is not None:
        return Kind(f"scaled by {factor:.6g}", f"scaled by {factor:.6g}", worst, figure, factor)
    if _is_clipped_by_value(samples) or _is_clipped_by_norm(calls):
        return Kind("clipped", "clipped", worst, figure)
    if constant:
        return Kind("surrogate", "surrogate", worst, figure)
    return Kind("wrong", "surrogate", worst, figure)


def is_straight_through(samples: Sequence[Sample]) -> bool:
    """Whether the gradient is the cotangent of one output everywhere, or zero outside an interval of the argument."""
    outputs = set(samples[0].cotangents) if samples else set()
    return any(_passes(samples, output) for output in outputs)


def _interval(samples: Sequence[Sample]) -> tuple[float, float] | None:
    """The smallest and the largest value where the gradient is the cotangent; None if it is so everywhere."""
    for output in samples[0].cotangents:
        split = _split_values(samples, output)
        if split is not None and split[0]:
            inside, outside = split
            return (min(inside), max(inside)) if outside else None
    return None


def _passes(samples: Sequence[Sample], output: str) -> bool:
    split = _split_values(samples, output)
    if split is None:
        return False
    inside, outside = split
    return bool(inside) and not any(min(inside) < x < max(inside) for x in outside)


def _split_values(samples: Sequence[Sample], output: str) -> tuple[list[float], list[float]] | None:
    """The values where the gradient is the cotangent of an output, and those where it is zero; None if any sample is
    neither."""
    inside, outside = [], []
    for sample in samples:
        cotangent = sample.cotangents[output]
        if abs(cotangent) <= 1e-12:
            continue
        if abs(sample.got - cotangent) <= 1e-9 * abs(cotangent):
            inside.append(sample.x)
        elif sample.got == 0.0:
            outside.append(sample.x)
        else:
            return None
    return inside, outside


def _worst(samples: Sequence[Sample]) -> tuple[Sample | None, float]:
    """The sample that differs most from the derivative, and its relative distance."""
    if not samples:
        return None, 0.0
    largest = max(max(abs(s.got), abs(s.want)) for s in samples)

    def distance(sample: Sample) -> float:
        gap = abs(sample.got - sample.want)
        return math.inf if math.isnan(gap) else gap / max(abs(sample.got), abs(sample.want), 1e-6 * largest, 1e-300)

    worst = max((s for s in samples if not s.agrees), key=distance, default=None)
    return worst, distance(worst) if worst is not None else max(map(distance, samples)) if largest else 0.0


def _factor(samples: Sequence[Sample]) -> float | None:
    """k if every gradient is k times the derivative, for a k that is not 0; else None."""
    smooth = [s for s in samples if s.left == s.right and abs(s.left) > 1e3 * s.error]
    if not smooth:
        return None
    pivot = max(smooth, key=lambda s: abs(s.left) / (s.error + 1e-12 * abs(s.left)))
    factor = pivot.got / pivot.left
    if not math.isfinite(factor) or abs(factor) < 1e-9:
        return None
    factor = _round(factor)
    for s in samples:
        low, high = sorted((factor * s.left, factor * s.right))
        slack = s.tolerance * max(1.0, abs(factor))
        if not low - slack <= s.got <= high + slack:
            return None
    return factor


def _round(factor: float) -> float:
    near = float(f"{factor:.6g}")
    return near if abs(near - factor) <= 1e-6 * abs(factor) else factor


def _is_clipped_by_value(samples: Sequence[Sample]) -> bool:
    low, high = min(s.got for s in samples), max(s.got for s in samples)
    limited = 0
    for s in samples:
        if s.agrees:
            continue
        at_high = abs(s.got - high) <= 1e-9 * abs(high) and s.want > high
        at_low = abs(s.got - low) <= 1e-9 * abs(low) and s.want < low
        if not (at_high or at_low):
            return False
        limited += 1
    return limited >= 2 and any(s.agrees and s.got not in (0.0, low, high) for s in samples)


def _is_clipped_by_norm(calls: Sequence[BackwardCall]) -> bool:
    """Whether each gradient is the derivative or a shrunk derivative, and all shrunk gradients have the same norm."""
    norms = []
    for call in calls:
        factor = _factor(call.samples)
        if all(s.agrees for s in call.samples):
            continue
        if factor is None or not 0 < factor < 1:
            return False
        norms.append(call.norm)
    agreeing = len(norms) < len(calls)
    return agreeing and len(norms) >= 2 and max(norms) - min(norms) <= 1e-6 * max(norms)
