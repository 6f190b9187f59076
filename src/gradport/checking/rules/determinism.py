"""Determinism: the same seed gives the same bits, and randomness is said apart from wrongness."""

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
    """One Finding for equal seeds, one where other seeds give other results."""
    first, second = _results(trial), _results(trial)
    gap = max((_gap(a, b) for a, b in zip(first, second, strict=True)), default=0.0)
    message = (
        "With the same seed the results are the same bits."
        if gap == 0
        else f"With the same seed the results differ by {gap:.2g}: there is randomness or state outside torch's "
        "generator; draw with torch, or pass the state in."
    )
    kind = "same bits" if gap == 0 else "hidden state"
    yield judge(trial, "determinism", "same seed", gap == 0, message, kind=kind, figure=gap)
    if gap == 0 and trial.is_random:
        message = "Another seed gives other results: the subject draws random numbers from torch's generator."
        yield note(trial, "determinism", "random", message, kind="random")


def _results(trial: Trial) -> list[torch.Tensor]:
    made = call(trial, trial.inputs[0])
    found = gradients(trial, made, cotangents_for(made.outputs, trial.seed))
    return [value.detach() for value in (*made.outputs.values(), *found.values()) if value is not None]


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    same = (a == b) | (a.isnan() & b.isnan())
    return 0.0 if bool(same.all()) else float((a - b).abs().nan_to_num(float("inf")).max())
