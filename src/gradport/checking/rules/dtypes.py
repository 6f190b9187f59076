"""dtypes: the error of float32, bfloat16 and float16 against float64, compared with the forward's own operators.

A fixed tolerance is too strict for sums and too loose for products. The allowed error is a small factor of the error
that the same operators have under autograd at that dtype, above a floor in ULPs of the largest value.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gradport.checking.probes.bypass import own_gradients
from gradport.checking.probes.calls import call, cotangents_for, gradients, try_call
from gradport.checking.probes.judging import judge, skip
from gradport.checking.probes.trial import Trial
from gradport.checking.table import Topic, rule
from gradport.eager.branches import Branches, differing_share
from gradport.eager.joint import Slot, cast
from gradport.evidence.distance import magnitude
from gradport.evidence.evidence import Finding

__all__ = ["FACTOR", "cotangents_of_eighths", "dtypes", "excess"]

FLOOR = 64.0
"""Floor in ULPs of the largest value: a chain of a dozen correctly rounded operators stays below it."""

FACTOR = 8.0
"""Allowed ratio of the error to the error of the operators."""

_BRANCH = 0.05
"""Relative distance of float64 from both narrow results above which it took another discrete branch (a rounding, a
comparison)."""

_NARROW = (torch.float32, torch.bfloat16, torch.float16)


@rule(
    Topic.VALUES,
    "dtypes",
    "Is the gradient at narrow dtypes as accurate as the forward's own operators?",
    alongside=True,
)
def dtypes(trial: Trial) -> Iterator[Finding]:
    """Yields one Finding for each dtype."""
    if trial.is_random:
        yield skip(trial, "dtypes", "", "random numbers differ between dtypes")
        return
    for dtype in _NARROW:
        yield _check_dtype(trial, dtype)


def _check_dtype(trial: Trial, dtype: torch.dtype) -> Finding:
    """The Finding for the first usable input: the gradient is accurate, or both dtypes take the same branches."""
    for tensors in trial.inputs:
        finding = _check_input(trial, tensors, dtype)
        if finding is not None:
            return finding
    name = str(dtype).removeprefix("torch.")
    return skip(trial, "dtypes", name, f"{name} and float64 take different branches at a comparison or a rounding")


def _check_input(trial: Trial, tensors: dict[Slot, torch.Tensor], dtype: torch.dtype) -> Finding | None:
    """The Finding for one input; None if the two dtypes take different branches, so that they cannot be compared."""
    name = str(dtype).removeprefix("torch.")
    narrow = cast(tensors, dtype)
    wide = cast(narrow, torch.float64)
    got = try_call(lambda: _gradient(trial, narrow))
    oracle = try_call(lambda: _gradient(trial, wide))
    if got is None or oracle is None:
        return skip(trial, "dtypes", name, f"the subject does not run in {name if got is None else 'float64'}")
    own = try_call(lambda: own_gradients(trial, narrow, cotangents_of_eighths(trial, narrow))) or {}
    worst, slot = 0.0, None
    for candidate, gradient in got.items():
        exact = oracle.get(candidate)
        if gradient is None or exact is None or not gradient.numel():
            continue
        ratio = excess(gradient, exact, own.get(candidate), dtype)
        if ratio > worst:
            worst, slot = ratio, candidate
    held = worst <= 1.0
    if not held and _branches_differ(trial, narrow, wide):
        return None
    message = (
        f"In {name} the gradient is accurate: its error is {worst:.2g} of the allowed error."
        if held
        else f"In {name} the error of the gradient of {slot.name if slot else ''} is {worst:.3g} times the error "
        "allowed by the forward's own operators: compute in a wider dtype inside, or in a form without cancellation."
    )
    return judge(trial, "dtypes", name, held, message, kind=name, figure=worst, unit="of allowed")


def _branches_differ(trial: Trial, narrow: dict[Slot, torch.Tensor], wide: dict[Slot, torch.Tensor]) -> bool:
    """Whether the two runs take different branches (a spike, a rounding, a maximum), so that their gradients belong to
    different functions."""
    seen = []
    for tensors in (narrow, wide):
        branches = Branches()
        with branches:
            try_call(lambda tensors=tensors: _gradient(trial, tensors))  # type: ignore[misc]
        seen.append(branches)
    return bool(differing_share(*seen))


def _gradient(trial: Trial, tensors: dict[Slot, torch.Tensor]) -> dict[Slot, torch.Tensor | None]:
    return gradients(trial, call(trial, tensors), cotangents_of_eighths(trial, tensors))


def cotangents_of_eighths(trial: Trial, tensors: dict[Slot, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cotangents that are exact in every dtype: multiples of 1/8."""
    drawn = cotangents_for(call(trial, tensors).outputs, trial.seed)
    return {name: (value * 8).round().clamp(-16, 16) / 8 for name, value in drawn.items()}


def excess(got: torch.Tensor, exact: torch.Tensor, own: torch.Tensor | None, dtype: torch.dtype) -> float:
    """The error divided by the allowed error, without elements where float64 took another branch."""
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
