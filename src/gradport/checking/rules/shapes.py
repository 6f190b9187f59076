"""Shapes: sizes other than the example's, a batch of one, arguments that broadcast, one tensor given twice.

The gradient must be correct at every size that the forward accepts; sizes that the forward rejects are ignored.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch

from gradport.checking.probes.calls import call, cotangents_for, gradients
from gradport.checking.probes.directions import Along, measure_along
from gradport.checking.probes.judging import judge, note, skip, warn
from gradport.checking.probes.kinds import classify
from gradport.checking.probes.samples import by_differences, is_piecewise_constant
from gradport.checking.probes.trial import Trial
from gradport.checking.search import find_input
from gradport.checking.table import Topic, rule
from gradport.eager.dimensions import Dimension, Dimensions, by_name, resolve_dimensions
from gradport.eager.inputs import draw_inputs, sizes_of
from gradport.eager.inputs.search import write_tensors
from gradport.eager.joint import Slot, cast
from gradport.errors import Error, TargetError
from gradport.evidence.distance import relative_distance
from gradport.evidence.evidence import Finding
from gradport.isolation.effort import Profile
from gradport.subject.ports import Role

__all__ = ["shapes"]

_SLACK = 1e-9

_MOST = 20_000
"""Maximum number of elements of an argument at a larger size."""

Tensors = dict[Slot, torch.Tensor]


@rule(
    Topic.INPUTS,
    "shapes",
    "Is the gradient correct at other sizes, in a batch of one, broadcast, and for one tensor given twice?",
    shrinks=False,  # the rule has its own search
    least=Profile.DEFAULT,
)
def shapes(trial: Trial) -> Iterator[Finding]:
    """Yields one Finding for other sizes, and one for each broadcast argument and each pair of equal shapes."""
    if trial.is_random:
        yield skip(trial, "shapes", "", "the subject draws random numbers")
        return
    yield from _check_shared(trial)
    calls = by_differences(trial)
    kinds = {slot: classify(each, is_piecewise_constant(calls, slot)).name for slot, each in calls.items() if each}
    other = [slot.name for slot, kind in kinds.items() if kind != "derivative"]
    if other:
        yield skip(trial, "shapes", "sizes", f"the gradient of {', '.join(other)} is intentionally not the derivative")
        return
    yield _check_sizes(trial)
    yield from _check_broadcast(trial)


def _check_sizes(trial: Trial) -> Finding:
    seen: list[str] = []

    def departs(tensors: Tensors) -> bool:
        try:
            smaller = trial.at(tensors)
            wrong = any(one.departs for one in measure_along(smaller, smaller.inputs[0]))
            # a point very close to a kink looks smooth; an error due to the size also shows at other values
            wrong = wrong and any(one.departs for one in measure_along(smaller, _nudge(smaller)))
        except Error:
            return False
        seen.append(_sizes(tensors))
        return wrong

    shown = find_input(trial, departs, key="shapes", examples=trial.effort.count(3, 6, 100))
    if shown is None:
        shown = next((tensors for tensors in _larger_inputs(trial) if departs(tensors)), None)
    if shown is None:
        looked = ", ".join(dict.fromkeys(seen)) or "none that the forward accepts"
        return judge(trial, "shapes", "sizes", True, f"At other sizes the gradient is the derivative ({looked}).")
    smaller = trial.at(shown)
    worst = next(one for one in measure_along(smaller, smaller.inputs[0]) if one.departs)
    message = f"At sizes other than the example's, {_describe(worst)}: a size or a count may be hard-coded."
    return judge(
        trial,
        "shapes",
        "sizes",
        False,
        message,
        kind="sizes",
        figure=_relative_gap(worst),
        unit="relative",
        input=write_tensors(shown),
    )


def _larger_inputs(trial: Trial) -> Iterator[Tensors]:
    """Arguments with each variable dimension at n + 1, 2n + 1, a prime and 4n + 3, which a hard-coded block size or
    count does not divide."""
    joint = trial.joint
    generator = torch.Generator().manual_seed(trial.seed)
    for dimensions in _vary_dimensions(trial):
        (own,) = set(sizes_of(joint, dimensions).values())
        (dimension,) = by_name(dimensions).values()
        for size in dict.fromkeys((own + 1, 2 * own + 1, _prime_above(own + 2), 4 * own + 3)):
            if not dimension.admits(size):
                continue
            try:
                tensors = draw_inputs(joint, dimensions, {dimension.name: size}, generator)
            except Error:
                continue
            if all(tensor.numel() <= _MOST for tensor in tensors.values()):
                yield cast(tensors, torch.float64)


def _vary_dimensions(trial: Trial) -> Iterator[Dimensions]:
    """One table for each variable dimension: each declared dynamic dimension, or without a declaration all axes of
    equal size together."""
    joint = trial.joint
    declared = resolve_dimensions(joint, joint.subject.dynamic_shapes)
    if declared:
        for name in by_name(declared):
            yield {a: {at: d for at, d in axes.items() if d.name == name} for a, axes in declared.items()}
        return
    sizes = {size for argument in joint.arguments for size in argument.value.shape}
    for size in sorted(sizes - {0}):
        one = Dimension(f"size {size}", 1)
        yield {
            argument.name: {axis: one for axis, own in enumerate(argument.value.shape) if own == size}
            for argument in (*joint.arguments, *joint.targets)
        }


def _prime_above(least: int) -> int:
    return next(n for n in itertools.count(least) if all(n % d for d in range(2, math.isqrt(n) + 1)))


def _check_broadcast(trial: Trial) -> Iterator[Finding]:
    """Cuts one dimension of each argument to 1 while another argument keeps the full size. If the forward accepts it
    and the gradient is wrong, that is a warning: the author may not intend broadcasting."""
    tensors = trial.inputs[0]
    wanted = [slot for slot in trial.joint.wanted if slot.role == Role.ARGUMENT]
    for slot in wanted:
        x = tensors[slot]
        alike = [other for other in wanted if other != slot and tensors[other].shape == x.shape]
        axis = next((axis for axis, size in enumerate(x.shape) if size > 1), None)
        if axis is None or not alike:
            continue
        cut = {**tensors, slot: x.narrow(axis, 0, 1).clone()}
        about, what = f"{slot.name} broadcast", f"With {slot.name} broadcast from {list(cut[slot].shape)}"
        try:
            start = trial.outputs(cut)
        except TargetError:
            continue  # it does not broadcast
        if not start:
            continue
        try:
            measured = measure_along(trial, cut)
        except TargetError as error:
            yield note(trial, "shapes", about, f"{what} the backward fails: {error}", kind="raises")
            continue
        worst = next((one for one in measured if one.departs), None)
        if worst is None:
            yield judge(trial, "shapes", about, True, f"{what} the gradient is the derivative.", kind="broadcast")
        else:
            message = f"{what} {_describe(worst)}; reject such arguments, or sum their gradients."
            yield warn(trial, "shapes", about, message, kind="broadcast", figure=_relative_gap(worst))


def _check_shared(trial: Trial) -> Iterator[Finding]:
    """Passes one tensor as two arguments: its gradient must be the sum of both."""
    tensors = trial.inputs[0]
    wanted = [slot for slot in trial.joint.wanted if slot.role == Role.ARGUMENT]
    for one, other in itertools.combinations(wanted, 2):
        if tensors[one].shape != tensors[other].shape:
            continue
        about = f"{one.name} is {other.name}"
        both = {**tensors, other: tensors[one].clone()}
        try:
            forward_call = call(trial, both)
        except TargetError:
            continue
        try:
            cotangents = cotangents_for(forward_call.outputs, trial.seed)
            apart = gradients(trial, forward_call, cotangents)
            at_once = _shared_gradient(trial, both, one, other, cotangents)
        except TargetError as error:
            message = f"With one tensor as {one.name} and {other.name} it fails: {error}"
            yield judge(trial, "shapes", about, False, message, kind="raises")
            continue
        total = sum((g for g in (apart[one], apart[other]) if g is not None), torch.zeros_like(tensors[one]))
        figure = relative_distance(at_once, total)
        held = figure <= _SLACK
        message = f"With one tensor as {one.name} and {other.name} its gradient is the sum of both."
        if not held:
            message = (
                f"With one tensor as {one.name} and {other.name} its gradient differs by {figure:.2g} relative from "
                "the sum of both: the code compares its arguments by identity, or writes into one."
            )
        yield judge(trial, "shapes", about, held, message, kind="given twice", figure=figure, unit="relative")


def _shared_gradient(
    trial: Trial, tensors: Tensors, one: Slot, other: Slot, cotangents: dict[str, torch.Tensor]
) -> torch.Tensor:
    leaf = tensors[one].detach().clone().requires_grad_()
    same = leaf * 1  # so that a subject may write into it
    rest = {slot: value.detach().clone() for slot, value in tensors.items() if slot not in (one, other)}

    def run() -> torch.Tensor | None:
        outputs, loss = trial.joint.forward({**rest, one: same, other: same})
        results = {"loss": loss} if loss is not None else outputs
        attached = [(results[name], cotangents[name]) for name in cotangents if results[name].requires_grad]
        if not attached:
            return None
        outs, seeds = zip(*attached, strict=True)
        return torch.autograd.grad(outs, [leaf], seeds, allow_unused=True)[0]

    gradient = trial.run_guarded(tensors, run)
    return torch.zeros_like(leaf) if gradient is None else gradient


def _nudge(trial: Trial) -> Tensors:
    """The arguments with each element moved by 0.01 to 0.02 in a random direction."""
    generator = torch.Generator().manual_seed(trial.seed)
    moved = dict(trial.inputs[0])
    for slot in trial.joint.wanted:
        noise = 1 + torch.rand(moved[slot].shape, generator=generator, dtype=torch.float64)
        sign = torch.rand(moved[slot].shape, generator=generator).round() * 2 - 1
        moved[slot] = moved[slot] + (0.01 * sign * noise).to(moved[slot].dtype)
    return moved


def _describe(one: Along) -> str:
    return (
        f"the gradient of {one.slot.name} is not the derivative: along a random direction the backward gives "
        f"{one.got:.6g}, differences give {one.slope.value:.6g}"
    )


def _relative_gap(one: Along) -> float:
    return abs(one.got - one.slope.value) / max(abs(one.got), abs(one.slope.value), 1e-300)


def _sizes(tensors: Tensors) -> str:
    return " with ".join(f"{slot.name}{list(value.shape)}" for slot, value in tensors.items())
