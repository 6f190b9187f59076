"""Edge values: 0, -0, subnormals, the largest number, infinities and nan, rows of zeros, equal values, empty tensors.

A non-finite gradient fails if the forward's own operators give a finite value. A zero gradient of a nan fails if they
give a nan. Everything else is ok.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from gradport.checking.probes.bypass import own_gradients
from gradport.checking.probes.calls import call, gradients, try_call
from gradport.checking.probes.judging import judge, note, skip
from gradport.checking.probes.samples import by_differences, is_piecewise_constant
from gradport.checking.probes.trial import Trial
from gradport.checking.table import Topic, rule
from gradport.eager.inputs import largest, specials
from gradport.eager.joint import Slot
from gradport.errors import TargetError
from gradport.evidence.evidence import Finding, Outcome
from gradport.subject.ports import Role

__all__ = ["EDGES", "edge_values"]

_SPECIAL, _LIMITS = specials(torch.float64), largest(torch.float64)

EDGES: dict[str, float] = {
    "0": _SPECIAL["a zero"],
    "-0": _SPECIAL["a negative zero"],
    "subnormal": _SPECIAL["a subnormal"],
    "large": 1e3,
    "largest": _LIMITS["the largest number"],
    "inf": _SPECIAL["inf"],
    "-inf": _SPECIAL["-inf"],
    "nan": _SPECIAL["nan"],
    "a row of zeros": 0.0,
    "all zeros": 0.0,
    "all equal": 0.5,
}

_EVERYWHERE = ("all zeros", "all equal")


@rule(Topic.VALUES, "edge-values", "Is it finite, and is nan nan, where the forward's own operators are?")
def edge_values(trial: Trial) -> Iterator[Finding]:
    """Yields one Finding for each argument and edge value that fails, or one for the argument if none fails."""
    ranges = trial.joint.subject.inputs
    if callable(ranges):
        yield skip(trial, "edge-values", "", "a callable makes the inputs, so their range is unknown")
        return
    for slot in trial.joint.wanted:
        if not trial.inputs[0][slot].numel():
            continue
        wrong = []
        edges = {name: value for name, value in EDGES.items() if _admits((ranges or {}).get(slot.name), value)}
        if not edges:
            yield skip(trial, "edge-values", slot.name, "no edge value lies in its range")
            continue
        for name, value in edges.items():
            finding = _check_edge(trial, slot, name, value)
            wrong += [finding] if finding is not None else []
        yield from wrong
        if all(finding.outcome == Outcome.OK for finding in wrong):
            message = f"At {', '.join(edges)} the gradient of {slot.name} is finite where that of its operators is."
            yield judge(trial, "edge-values", slot.name, True, message, kind="edges")
    yield _check_empty(trial)


def _admits(allowed: Any, value: float) -> bool:
    """Whether a range or list of values of an argument includes a value; None includes all."""
    if allowed is None:
        return True
    if isinstance(allowed, tuple) and len(allowed) == 2:
        return bool(allowed[0] <= value <= allowed[1])
    return value in allowed


def _check_edge(trial: Trial, slot: Slot, name: str, value: float) -> Finding | None:
    """The Finding for an argument with one element, one row or all elements at this value; None if it does not fail."""
    tensors = dict(trial.inputs[0])
    moved = tensors[slot].clone().contiguous()
    if name in _EVERYWHERE:
        moved.fill_(value)
    elif name == "a row of zeros":
        moved.view(-1, moved.shape[-1] if moved.dim() else 1)[0] = value
    else:
        moved.view(-1)[0] = value
    tensors[slot] = moved
    got = try_call(lambda: _gradient(trial, tensors))
    if got is None or got.get(slot) is None:
        return None
    outputs = call(trial, tensors).outputs
    ones = {n: torch.ones_like(v) for n, v in outputs.items()}
    own = own_gradients(trial, tensors, ones)
    if own is None or own.get(slot) is None or not _operators_are_sound(trial, slot):
        return None
    ours, theirs = got[slot], own[slot]
    assert ours is not None and theirs is not None
    sound = all(bool(value.isfinite().all()) for value in outputs.values())
    lost = theirs.isfinite() & ~ours.isfinite() & sound  # a forward that is not finite is not judged
    swallowed = torch.zeros_like(lost)
    if name == "nan":  # only the nan element is judged: the gradient of its neighbours depends on the formula
        swallowed.view(-1)[0] = bool(theirs.reshape(-1)[0].isnan()) and float(ours.reshape(-1)[0]) == 0.0
    if not (lost | swallowed).any():
        return None
    what = "is not finite" if lost.any() else "is zero although the operators give nan"
    index = [int(i) for i in (lost | swallowed).nonzero()[0]]
    message = (
        f"With {name} in {slot.name} the gradient {what}: at {index} the backward gives {float(ours[tuple(index)]):g}, "
        f"the forward's own operators {float(theirs[tuple(index)]):g}; use a formula that is safe at this value."
    )
    where = (
        f"{slot.name}{[0] * moved.dim()} = {value:g}"
        if name not in _EVERYWHERE
        else f"{slot.name} = {value:g} everywhere"
    )
    if name == "largest":  # its square overflows in any formula: reported as a note, not as a failure
        return note(trial, "edge-values", f"{slot.name} {name}", message, kind="edges")
    return judge(trial, "edge-values", f"{slot.name} {name}", False, message, kind="edges", input=where)


def _gradient(trial: Trial, tensors: dict[Slot, torch.Tensor]) -> dict[Slot, torch.Tensor | None]:
    forward_call = call(trial, tensors)
    return gradients(
        trial, forward_call, {name: torch.ones_like(value) for name, value in forward_call.outputs.items()}
    )


def _operators_are_sound(trial: Trial, slot: Slot) -> bool:
    """Whether autograd of the forward's operators is a usable reference: the forward is not piecewise constant."""
    return not is_piecewise_constant(by_differences(trial), slot)


def _check_empty(trial: Trial) -> Finding:
    """Checks an empty batch, if all arguments have the same first dimension."""
    firsts = {t.shape[0] for s, t in trial.inputs[0].items() if s.role == Role.ARGUMENT and t.dim()}
    if len(firsts) != 1:
        return skip(trial, "edge-values", "empty", "the arguments do not share their first dimension")
    empty = {s: t[:0] if s.role in (Role.ARGUMENT, Role.TARGET) and t.dim() else t for s, t in trial.inputs[0].items()}
    if try_call(lambda: trial.outputs(empty)) is None:
        return skip(trial, "edge-values", "empty", "the forward rejects an empty batch")
    try:
        grads = _gradient(trial, empty)
    except TargetError as error:
        message = f"The forward accepts an empty batch, but the backward fails: {error}"
        return judge(trial, "edge-values", "empty", False, message, kind="edges")
    right = all(g is None or s.role == Role.PARAMETER or g.shape == empty[s].shape for s, g in grads.items())
    return judge(trial, "edge-values", "empty", right, "An empty batch gives an empty gradient.", kind="edges")
