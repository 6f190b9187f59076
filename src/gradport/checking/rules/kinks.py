"""Kinks: if the one-sided derivatives differ, a correct gradient lies between them.

The rule searches for kinks along single elements, by halving the interval in which the slope changes; at round numbers,
which are common thresholds; and at ties between elements. A jump is not a kink: there is no derivative at a jump.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

from gradport.checking.probes.bends import ROUND, bends
from gradport.checking.probes.calls import call, cotangents_for, gradients, try_call
from gradport.checking.probes.differences import Slope, slope
from gradport.checking.probes.judging import judge, note, skip
from gradport.checking.probes.kinds import classify
from gradport.checking.probes.samples import by_differences, change_of, is_piecewise_constant
from gradport.checking.probes.trial import Trial
from gradport.checking.table import Topic, rule
from gradport.eager.joint import Slot
from gradport.evidence.evidence import Finding

__all__ = ["kinks"]


@rule(Topic.GRADIENT, "kinks", "Is the gradient between the one-sided derivatives where they differ?")
def kinks(trial: Trial) -> Iterator[Finding]:
    """Yields one Finding for each argument, and one for the jumps of an argument."""
    if trial.is_random:
        yield skip(trial, "kinks", "", "the subject draws random numbers")
        return
    calls = by_differences(trial)
    for slot in trial.joint.wanted:
        if not calls[slot] or not trial.inputs[0][slot].numel():
            continue
        if classify(calls[slot], is_piecewise_constant(calls, slot)).name != "derivative":
            yield skip(trial, "kinks", slot.name, "the gradient is intentionally not the derivative")
            continue
        yield from _check_argument(trial, slot)


def _check_argument(trial: Trial, slot: Slot) -> Iterator[Finding]:
    met: list[str] = []
    jumps: list[str] = []
    for flat, value in _candidates(trial, slot):
        measured = try_call(functools.partial(_measure_at, trial, slot, flat, value))
        if measured is None:
            continue
        one_sided, got = measured
        if one_sided.nature == "jump":
            jumps.append(f"{value:.6g}")
        if one_sided.nature != "kink":
            continue
        met.append(f"{value:.6g}")
        low, high = sorted((one_sided.left, one_sided.right))
        slack = 1e-4 * (high - low) + 16 * one_sided.error + 1e-9
        if not low - slack <= got <= high + slack:
            message = (
                f"At the kink {slot.name} = {value:.6g} the gradient is {got:.6g}, outside the one-sided derivatives "
                f"{one_sided.left:.6g} and {one_sided.right:.6g}; any value between them is correct."
            )
            where = f"{slot.name} = {value:.6g}"
            yield judge(trial, "kinks", slot.name, False, message, kind="kink", figure=got, input=where)
            return
    places = ", ".join(dict.fromkeys(met))
    message = f"No kink found along {slot.name}."
    if met:
        message = f"At the kinks {slot.name} = {places} the gradient is between the one-sided derivatives."
    yield judge(trial, "kinks", slot.name, True, message, kind="kink")
    if jumps:
        message = f"The forward jumps at {slot.name} = {', '.join(dict.fromkeys(jumps))}: it has no derivative there."
        yield note(trial, "kinks", f"{slot.name} jumps", message, kind="jump")


def _candidates(trial: Trial, slot: Slot) -> Iterator[tuple[int, float]]:
    """Yields the element to change and the value to set."""
    x = trial.inputs[0][slot].detach().reshape(-1)
    generator = torch.Generator().manual_seed(trial.seed)
    flat = int(torch.randint(0, x.numel(), (1,), generator=generator))
    for value in ROUND:
        yield flat, value
    for other in (flat + 1, flat - 1):
        if 0 <= other < x.numel():
            yield flat, float(x[other])
    yield from ((flat, value) for value in _scan_line(trial, slot, flat))


def _scan_line(trial: Trial, slot: Slot, flat: int) -> list[float]:
    """The values of one element where the slope changes abruptly, rounded because thresholds are round numbers."""
    x = trial.inputs[0]
    here = float(x[slot].detach().reshape(-1)[flat])
    start = trial.outputs(x)
    weights = {name: value for name, value in cotangents_for(start, trial.seed).items()}
    flat_weights = torch.cat([weights[name].reshape(-1).double() for name in start])
    change = functools.partial(change_of, trial, x, slot, flat, start)

    def height(value: float) -> float:
        return float(torch.dot(flat_weights, change(value - here)))

    return bends(height)


def _measure_at(trial: Trial, slot: Slot, flat: int, value: float) -> tuple[Slope, float]:
    """The one-sided slopes, and the gradient of the backward, with one element set to a value."""
    tensors = dict(trial.inputs[0])
    moved = tensors[slot].detach().clone().contiguous()
    moved.view(-1)[flat] = value
    tensors[slot] = moved
    forward_call = call(trial, tensors)
    cotangents = cotangents_for(forward_call.outputs, trial.seed)
    got = gradients(trial, forward_call, cotangents)[slot]
    start = {name: output.detach() for name, output in forward_call.outputs.items()}
    weights = torch.cat([cotangents[name].reshape(-1).double() for name in start])
    unit = max(torch.finfo(output.dtype).eps for output in start.values())
    one_sided = slope(functools.partial(change_of, trial, tensors, slot, flat, start), weights, 1.0, unit)
    return one_sided, 0.0 if got is None else float(got.reshape(-1)[flat])
