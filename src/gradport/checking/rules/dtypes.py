"""dtypes: how far float32, bfloat16 and float16 are from float64, held against the forward's own operators there.

A fixed tolerance cries wolf on sums and sleeps on products. What is allowed is a small factor of the error that the
same operators make under autograd at that dtype, above a floor in units in the last place (ULPs) of the largest value.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gradport.checking.probes.bypass import own_gradients
from gradport.checking.probes.calls import call, cotangents_for, gradients, runs
from gradport.checking.probes.judging import judge, skip
from gradport.checking.probes.trial import Trial
from gradport.checking.table import Topic, rule
from gradport.eager.branches import Branches, differing_share
from gradport.eager.joint import Slot, cast
from gradport.evidence.distance import magnitude
from gradport.evidence.evidence import Finding

__all__ = ["FACTOR", "cotangents_of_eighths", "dtypes", "excess"]

FLOOR = 64.0
"""ULPs of the largest value: a chain of a dozen correctly rounded operators stays below."""

FACTOR = 8.0
"""How much larger than the operators' own error the error may be."""

_BRANCH = 0.05
"""Relative: where float64 is this far from both, it took another discrete branch (a rounding, a comparison)."""

_NARROW = (torch.float32, torch.bfloat16, torch.float16)


@rule(
    Topic.VALUES,
    "dtypes",
    "Is the gradient as exact at narrow dtypes as the forward's own operators are?",
    alongside=True,
)
def dtypes(trial: Trial) -> Iterator[Finding]:
    """One Finding for each dtype."""
    if trial.is_random:
        yield skip(trial, "dtypes", "", "random numbers differ from dtype to dtype")
        return
    for dtype in _NARROW:
        yield _at(trial, dtype)


def _at(trial: Trial, dtype: torch.dtype) -> Finding:
    """On the first input that tells something: where the gradient is exact, or both dtypes decide alike."""
    for tensors in trial.inputs:
        found = _on(trial, tensors, dtype)
        if found is not None:
            return found
    name = str(dtype).removeprefix("torch.")
    return skip(trial, "dtypes", name, f"a comparison or a rounding tips over between {name} and float64")


def _on(trial: Trial, tensors: dict[Slot, torch.Tensor], dtype: torch.dtype) -> Finding | None:
    """The Finding on one input; None where its runs at the two dtypes decide otherwise, and it says nothing."""
    name = str(dtype).removeprefix("torch.")
    narrow = cast(tensors, dtype)
    wide = cast(narrow, torch.float64)
    got = runs(lambda: _gradient(trial, narrow))
    oracle = runs(lambda: _gradient(trial, wide))
    if got is None or oracle is None:
        return skip(trial, "dtypes", name, f"the subject does not run in {name if got is None else 'float64'}")
    own = runs(lambda: own_gradients(trial, narrow, cotangents_of_eighths(trial, narrow))) or {}
    worst, slot = 0.0, None
    for candidate, gradient in got.items():
        exact = oracle.get(candidate)
        if gradient is None or exact is None or not gradient.numel():
            continue
        ratio = excess(gradient, exact, own.get(candidate), dtype)
        if ratio > worst:
            worst, slot = ratio, candidate
    held = worst <= 1.0
    if not held and _tips_over(trial, narrow, wide):
        return None
    message = (
        f"In {name} the gradient is as exact as can be asked, {worst:.2g} of what is allowed."
        if held
        else f"In {name} the gradient of {slot.name if slot else ''} is {worst:.3g} times further from float64 than "
        "the forward's own operators account for: compute in a wider dtype inside, or in a form that does not cancel."
    )
    return judge(trial, "dtypes", name, held, message, kind=name, figure=worst, unit="of allowed")


def _tips_over(trial: Trial, narrow: dict[Slot, torch.Tensor], wide: dict[Slot, torch.Tensor]) -> bool:
    """Whether the two runs decide otherwise somewhere: a spike, a rounding, the larger of two. Their gradients are
    those of different functions then."""
    seen = []
    for tensors in (narrow, wide):
        branches = Branches()
        with branches:
            runs(lambda tensors=tensors: _gradient(trial, tensors))  # type: ignore[misc]
        seen.append(branches)
    return bool(differing_share(*seen))


def _gradient(trial: Trial, tensors: dict[Slot, torch.Tensor]) -> dict[Slot, torch.Tensor | None]:
    return gradients(trial, call(trial, tensors), cotangents_of_eighths(trial, tensors))


def cotangents_of_eighths(trial: Trial, tensors: dict[Slot, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cotangents that every dtype has exactly: multiples of 1/8."""
    drawn = cotangents_for(call(trial, tensors).outputs, trial.seed)
    return {name: (value * 8).round().clamp(-16, 16) / 8 for name, value in drawn.items()}


def excess(got: torch.Tensor, exact: torch.Tensor, own: torch.Tensor | None, dtype: torch.dtype) -> float:
    """The error over what is allowed; elements where float64 took another branch are left out."""
    exact = exact.double()
    scale = magnitude(exact)
    if scale == 0.0:
        return 0.0 if not bool(got.nan_to_num(0.0).any()) else float("inf")
    limit = torch.finfo(dtype).max
    usable = exact.isfinite() & (exact.abs() < limit)
    error = (got.double() - exact).abs()
    allowed = FLOOR * torch.finfo(dtype).eps * scale
    if own is not None:
        owns = (own.double() - exact).abs()
        branched = (owns > _BRANCH * scale) & ((own.double() - got.double()).abs() <= _BRANCH * scale)
        usable &= ~branched
        explained = owns[usable & (owns <= _BRANCH * scale)]
        allowed += FACTOR * float(explained.max()) if explained.numel() else 0.0
    considered = error[usable]
    return float(considered.nan_to_num(float("inf")).max()) / allowed if considered.numel() else 0.0
