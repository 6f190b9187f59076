"""Leaks: inputs and outputs kept on ctx instead of in `save_for_backward`.

An output on ctx holds its own graph, which holds ctx: a cycle that lives until Python's collector comes by. An input on
ctx is not protected by the version counter: changed after the forward, the backward computes with the wrong numbers.

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
    """One Finding for what outlives its graph, one for each unprotected input."""
    _, log = watch_call(trial, trial.inputs[0])
    alive = _outlives(trial)
    kept = ", ".join(dict.fromkeys(name for one in log for name in one.kept))
    message = (
        f"An output is alive after its graph is gone: ctx keeps it ({kept or 'in a cycle'}); save it with "
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
    """Whether an output is alive when nobody holds it any more, before Python's collector comes by."""
    gc.collect()
    standing = gc.isenabled()
    gc.disable()
    try:
        made = call(trial, trial.inputs[0])
        nodes = [value.grad_fn for value in made.outputs.values()]
        references = [weakref.ref(node) for node in nodes if is_custom_node(node)]
        del nodes
        del made
        return any(reference() is not None for reference in references)
    finally:
        if standing:
            gc.enable()


def _unprotected_tensors(one: Watched) -> Iterator[str]:
    memory = {value.data_ptr() for value in one.args if isinstance(value, torch.Tensor) and value.numel()}
    for name, value in one.kept.items():
        if value.numel() and value.data_ptr() in memory and value.is_floating_point():
            yield name
