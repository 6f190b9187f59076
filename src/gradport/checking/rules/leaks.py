"""Leaks: inputs and outputs stored on ctx without `save_for_backward`.

An output on ctx references its own graph, which references ctx: a cycle that lives until Python's garbage collector
runs. An input on ctx is not protected by the version counter: if it changes after the forward, the backward computes
with wrong values.

Source: https://docs.pytorch.org/docs/stable/generated/torch.autograd.function.FunctionCtx.save_for_backward.html
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import torch

from gradport.checking.probes.calls import call
from gradport.checking.probes.judging import judge
from gradport.checking.probes.trial import Trial
from gradport.checking.probes.watch import Watched, watch_call
from gradport.checking.table import Topic, rule
from gradport.compat.torch.functions import is_custom_node
from gradport.evidence.evidence import Finding

__all__ = ["leaks"]


@rule(
    Topic.CONTRACT,
    "leaks",
    "Are inputs and outputs saved with save_for_backward, so that they are freed and protected?",
    alongside=True,
)
def leaks(trial: Trial) -> Iterator[Finding]:
    """Yields one Finding for outputs that outlive their graph, and one for each unprotected input."""
    _, log = watch_call(trial, trial.inputs[0])
    alive = _outlives(trial)
    kept = ", ".join(dict.fromkeys(name for one in log for name in one.kept))
    message = (
        f"An output is still alive after its graph was deleted: ctx keeps it ({kept or 'in a cycle'}); save it with "
        "ctx.save_for_backward."
        if alive
        else "Nothing outlives its graph."
    )
    yield judge(trial, "leaks", "outputs", not alive, message, kind="leak" if alive else "freed")
    for one in log:
        for name in _unprotected_tensors(one):
            message = (
                f"{one.name} keeps an input as {name}, where the version counter does not protect it: if it is changed "
                "before the backward, the gradient is silently wrong; save it with ctx.save_for_backward."
            )
            yield judge(trial, "leaks", name, False, message, kind="unprotected")


def _outlives(trial: Trial) -> bool:
    """Whether an output is still alive without references, before Python's garbage collector runs."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        forward_call = call(trial, trial.inputs[0])
        nodes = [value.grad_fn for value in forward_call.outputs.values()]
        references = [weakref.ref(node) for node in nodes if is_custom_node(node)]
        del nodes
        del forward_call
        return any(reference() is not None for reference in references)
    finally:
        if was_enabled:
            gc.enable()


def _unprotected_tensors(one: Watched) -> Iterator[str]:
    memory = {value.data_ptr() for value in one.args if isinstance(value, torch.Tensor) and value.numel()}
    for name, value in one.kept.items():
        if value.numel() and value.data_ptr() in memory and value.is_floating_point():
            yield name
