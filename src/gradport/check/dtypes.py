"""dtypes: how far float32, bfloat16 and float16 are from float64, held against the forward's own operators there.

A fixed tolerance cries wolf on sums and sleeps on products. What is allowed is a small factor of the error that the
same operators make under autograd at that dtype, above a floor in units in the last place (ULPs) of the largest value.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gradport.check.bypass import own_gradients
from gradport.check.calls import call, cotangents_for, gradients, runs
from gradport.check.findings import judged, noted, skipped, warned
from gradport.check.rules import rule
from gradport.check.trial import Trial
from gradport.errors import Error
from gradport.evidence import Finding
from gradport.joint import Slot, cast

__all__ = ["dtypes"]

FLOOR = 64.0
"""ULPs of the largest value: a chain of a dozen correctly rounded operators stays below."""

FACTOR = 8.0
"""How much larger than the operators' own error the error may be."""

_BRANCH = 0.05
"""Relative: where float64 is this far from both, it took another discrete branch (a rounding, a comparison)."""

_NARROW = (torch.float32, torch.bfloat16, torch.float16)


@rule("dtypes", "Is the gradient as exact at narrow dtypes as the forward's own operators are?", alongside=True)
def dtypes(trial: Trial) -> Iterator[Finding]:
    """One Finding for each dtype."""
    if trial.is_random:
        yield skipped(trial, "dtypes", "", "random numbers differ from dtype to dtype")
        return
    for dtype in _NARROW:
        yield _at(trial, dtype)
    yield from _under_autocast(trial)


def _at(trial: Trial, dtype: torch.dtype) -> Finding:
    name = str(dtype).removeprefix("torch.")
    narrow = cast(trial.inputs[0], dtype)
    wide = cast(narrow, torch.float64)
    got = runs(lambda: _gradient(trial, narrow))
    oracle = runs(lambda: _gradient(trial, wide))
    if got is None or oracle is None:
        return skipped(trial, "dtypes", name, f"the subject does not run in {name if got is None else 'float64'}")
    own = runs(lambda: own_gradients(trial, narrow, _drawn(trial, narrow))) or {}
    worst, slot = 0.0, None
    for candidate, gradient in got.items():
        exact = oracle.get(candidate)
        if gradient is None or exact is None or not gradient.numel():
            continue
        ratio = _excess(gradient, exact, own.get(candidate), dtype)
        if ratio > worst:
            worst, slot = ratio, candidate
    held = worst <= 1.0
    message = (
        f"In {name} the gradient is as exact as can be asked, {worst:.2g} of what is allowed."
        if held
        else f"In {name} the gradient of {slot.name if slot else ''} is {worst:.3g} times further from float64 than "
        "the forward's own operators account for: compute in a wider dtype inside, or in a form that does not cancel."
    )
    return judged(trial, "dtypes", name, held, message, kind=name, figure=worst, unit="of allowed")


def _under_autocast(trial: Trial) -> Iterator[Finding]:
    """The forward in a region of autocast, the backward behind it, as people train. Worth a warning where it does not
    fit: not everyone trains so. Source: https://docs.pytorch.org/docs/stable/notes/amp_examples.html, on
    custom autograd functions."""
    narrow = cast(trial.inputs[0], torch.float32)
    plain = runs(lambda: _gradient(trial, narrow))
    if plain is None:
        return
    advice = "decorate forward with torch.amp.custom_fwd and backward with torch.amp.custom_bwd"
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            made = call(trial, narrow)
        got = gradients(trial, made, {n: c.to(made.outputs[n].dtype) for n, c in _drawn(trial, narrow).items()})
    except Error as error:
        message = (
            f"Under autocast it fails, for forward and backward run in different dtypes: {error} To fix it, {advice}."
        )
        yield warned(trial, "dtypes", "autocast", message, kind="autocast")
        return
    worst = max((_excess(g, e, None, torch.bfloat16) for g, e in _both(got, plain)), default=0.0)
    if worst > FACTOR:
        message = f"Under autocast the gradient is {worst:.3g} times further off than bfloat16 accounts for; {advice}."
        yield warned(trial, "dtypes", "autocast", message, kind="autocast", figure=worst)
    else:
        message = "Under autocast to bfloat16 the gradient is as exact as bfloat16 allows."
        yield noted(trial, "dtypes", "autocast", message, kind="autocast", figure=worst)


def _both(
    got: dict[Slot, torch.Tensor | None], exact: dict[Slot, torch.Tensor | None]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for slot, gradient in got.items():
        other = exact.get(slot)
        if gradient is not None and other is not None and other.numel():
            yield gradient, other


def _gradient(trial: Trial, tensors: dict[Slot, torch.Tensor]) -> dict[Slot, torch.Tensor | None]:
    return gradients(trial, call(trial, tensors), _drawn(trial, tensors))


def _drawn(trial: Trial, tensors: dict[Slot, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cotangents that every dtype has exactly: multiples of 1/8."""
    drawn = cotangents_for(call(trial, tensors).outputs, trial.seed)
    return {name: (value * 8).round().clamp(-16, 16) / 8 for name, value in drawn.items()}


def _excess(got: torch.Tensor, exact: torch.Tensor, own: torch.Tensor | None, dtype: torch.dtype) -> float:
    """The error over what is allowed; elements where float64 took another branch are left out."""
    exact = exact.double()
    scale = float(exact.abs().nan_to_num(0.0, 0.0, 0.0).max())
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
