"""Determinism: the same seed must give the same bits. Randomness itself is reported, but is not a failure."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gradport.checking.probes.calls import call, cotangents_for, gradients
from gradport.checking.probes.judging import judge, note
from gradport.checking.probes.trial import Trial
from gradport.checking.table import Topic, rule
from gradport.evidence.evidence import Finding

__all__ = ["determinism"]


@rule(Topic.CALLS, "determinism", "Does the same seed give the same bits?", alongside=True)
def determinism(trial: Trial) -> Iterator[Finding]:
    """Yields one Finding for equal seeds, and one if another seed gives other results."""
    first, second = _results(trial), _results(trial)
    gap = max((_gap(a, b) for a, b in zip(first, second, strict=True)), default=0.0)
    message = (
        "With the same seed the results are bitwise equal."
        if gap == 0
        else f"With the same seed the results differ by {gap:.2g}: there is randomness or state outside torch's "
        "generator; draw random numbers with torch, or pass the state as an argument."
    )
    kind = "same bits" if gap == 0 else "hidden state"
    yield judge(trial, "determinism", "same seed", gap == 0, message, kind=kind, figure=gap)
    if gap == 0 and trial.is_random:
        message = "Another seed gives other results: the subject draws random numbers from torch's generator."
        yield note(trial, "determinism", "random", message, kind="random")


def _results(trial: Trial) -> list[torch.Tensor]:
    forward_call = call(trial, trial.inputs[0])
    grads = gradients(trial, forward_call, cotangents_for(forward_call.outputs, trial.seed))
    return [value.detach() for value in (*forward_call.outputs.values(), *grads.values()) if value is not None]


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    same = (a == b) | (a.isnan() & b.isnan())
    return 0.0 if bool(same.all()) else float((a - b).abs().nan_to_num(float("inf")).max())
