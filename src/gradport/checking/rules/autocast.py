"""Autocast: the forward inside an autocast region, the backward after it, as in mixed-precision training.

A Function needs two decorators for it, and not all training uses it; so only the thorough profile or
`only=["autocast"]` runs this rule.
Source: https://docs.pytorch.org/docs/stable/notes/amp_examples.html, on custom autograd functions.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gradport.checking.probes.calls import call, gradients, try_call
from gradport.checking.probes.judging import judge, skip
from gradport.checking.probes.trial import Trial
from gradport.checking.rules.dtypes import FACTOR, cotangents_of_eighths, excess
from gradport.checking.table import Topic, rule
from gradport.eager.joint import cast
from gradport.errors import Error
from gradport.evidence.evidence import Finding
from gradport.isolation.effort import Profile

__all__ = ["autocast"]

_ADVICE = "decorate forward with torch.amp.custom_fwd and backward with torch.amp.custom_bwd"


@rule(
    Topic.VALUES,
    "autocast",
    "Does it run under autocast to bfloat16, with the accuracy of bfloat16?",
    least=Profile.THOROUGH,
)
def autocast(trial: Trial) -> Iterator[Finding]:
    """One Finding."""
    if trial.is_random:
        yield skip(trial, "autocast", "", "random numbers differ between dtypes")
        return
    narrow = cast(trial.inputs[0], torch.float32)
    drawn = try_call(lambda: cotangents_of_eighths(trial, narrow))
    exact = None if drawn is None else try_call(lambda: gradients(trial, call(trial, narrow), drawn))
    if drawn is None or exact is None:
        yield skip(trial, "autocast", "", "the subject does not run in float32")
        return
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            forward_call = call(trial, narrow)
        got = gradients(
            trial, forward_call, {name: value.to(forward_call.outputs[name].dtype) for name, value in drawn.items()}
        )
    except Error as error:
        what = "forward and backward run in different dtypes"
        message = f"It fails under autocast, because {what}: {error} To fix it, {_ADVICE}."
        yield judge(trial, "autocast", "", False, message, kind="crash")
        return
    pairs = [(got[slot], exact.get(slot)) for slot in got]
    worst = max(
        (excess(a, b, None, torch.bfloat16) for a, b in pairs if a is not None and b is not None and b.numel()),
        default=0.0,
    )
    message = "Under autocast to bfloat16 the gradient is as accurate as bfloat16 allows."
    if worst > FACTOR:
        message = f"Under autocast the error of the gradient is {worst:.3g} times the error of bfloat16; {_ADVICE}."
    yield judge(trial, "autocast", "", worst <= FACTOR, message, kind="autocast", figure=worst, unit="of allowed")
