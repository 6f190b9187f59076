"""The second derivative: correct, refused with `once_differentiable`, or silently wrong.

Compares autograd of the gradient with finite differences of the gradient. A backward that detaches, or that reads an
intermediate of its forward, gives an incomplete second derivative.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from gradport.checking.probes.calls import call, cotangents_for, gradients, try_call
from gradport.checking.probes.judging import judge, skip
from gradport.checking.probes.samples import by_differences, is_piecewise_constant
from gradport.checking.probes.trial import Trial
from gradport.checking.probes.watch import Watched, watch_call
from gradport.checking.table import Topic, rule
from gradport.eager.joint import Slot
from gradport.errors import Error
from gradport.evidence.evidence import Finding

__all__ = ["second_order"]

_STEPS = (2.0**-8, 2.0**-11, 2.0**-14)
_NOT_FINITE = (
    "the formula of the backward is not differentiable at these values (a root or a quotient at 0); guard it with "
    "torch.where on both sides, or mark the backward once_differentiable"
)

_FAR = 1e-3
"""Relative tolerance: a missing part is larger, the error of finite differences is smaller."""


@rule(Topic.SECOND_ORDER, "second-order", "Is the gradient of the gradient correct, or refused?")
def second_order(trial: Trial) -> Iterator[Finding]:
    """Yields one Finding."""
    if trial.is_random:
        yield skip(trial, "second-order", "", "the subject draws random numbers")
        return
    tensors = trial.inputs[0]
    forward_call = call(trial, tensors)
    if not forward_call.outputs:
        yield skip(trial, "second-order", "", "no output takes a cotangent")
        return
    cotangents = cotangents_for(forward_call.outputs, trial.seed)
    for cotangent in cotangents.values():
        cotangent.requires_grad_()  # as in a chain of operators; otherwise once_differentiable does not raise
    first = gradients(trial, forward_call, cotangents, create_graph=True)
    present = {slot: gradient for slot, gradient in first.items() if gradient is not None}
    weights = {slot: _weight(gradient, 1) for slot, gradient in present.items()}
    direction = {slot: _weight(tensors[slot], 2) for slot in forward_call.leaves}
    expected, error = _by_differences(trial, tensors, cotangents, weights, direction)
    try:
        second = trial.run_guarded(tensors, lambda: _by_autograd(present, weights, forward_call.leaves, direction))
    except Error as refusal:
        once = "once_differentiable" in str(refusal)
        kind = "once_differentiable" if once else "raises"
        message = "The second derivative is refused: the backward is once_differentiable." if once else str(refusal)
        yield judge(trial, "second-order", "", once, message, kind=kind)
        return
    gap = abs(second - expected)
    held = math.isfinite(second) and gap <= _FAR * max(abs(expected), abs(second)) + 16 * error + 1e-9
    message = f"Along a random direction autograd gives {second:.6g} and differences of the gradient {expected:.6g}"
    if not held:
        message += f": {_cause(trial) if math.isfinite(second) else _NOT_FINITE}"
    if not held and _is_constant(trial):
        yield skip(trial, "second-order", "", "the forward is piecewise constant, so there is no reference")
        return
    kind = "correct" if held else "silently wrong"
    size = max(abs(expected), abs(second), 1e-300)
    yield judge(trial, "second-order", "", held, message + ".", kind=kind, figure=gap / size, unit="relative")


def _is_constant(trial: Trial) -> bool:
    calls = by_differences(trial)
    return all(is_piecewise_constant(calls, slot) for slot in calls)


def _weight(like: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)


def _by_autograd(
    first: dict[Slot, torch.Tensor],
    weights: dict[Slot, torch.Tensor],
    leaves: dict[Slot, torch.Tensor],
    direction: dict[Slot, torch.Tensor],
) -> float:
    """The derivative of <weights, gradient> along a direction of the arguments."""
    attached = {slot: gradient for slot, gradient in first.items() if gradient.requires_grad}
    if not attached:
        return 0.0
    total = torch.stack([(gradient * weights[slot]).sum() for slot, gradient in attached.items()]).sum()
    total.backward()  # `grad` would not reach the node that raises for once_differentiable
    parts = [(leaf.grad * direction[slot]).sum() for slot, leaf in leaves.items() if leaf.grad is not None]
    return float(torch.stack(parts).sum()) if parts else 0.0


def _by_differences(
    trial: Trial,
    tensors: dict[Slot, torch.Tensor],
    cotangents: dict[str, torch.Tensor],
    weights: dict[Slot, torch.Tensor],
    direction: dict[Slot, torch.Tensor],
) -> tuple[float, float]:
    """The same by central differences of the backward, with an error estimate; infinite if a step fails."""

    def gradient_at(step: float) -> float:
        moved = {slot: t + step * direction[slot] if slot in direction else t for slot, t in tensors.items()}
        forward_call = call(trial, moved)
        grads = gradients(trial, forward_call, {name: value.detach() for name, value in cotangents.items()})
        parts = [(gradient * weights[slot]).sum() for slot, gradient in grads.items() if gradient is not None]
        return float(torch.stack(parts).sum()) if parts else 0.0

    slopes = [
        try_call(lambda step=step: (gradient_at(step) - gradient_at(-step)) / (2 * step))  # type: ignore[misc]
        for step in _STEPS
    ]
    if any(slope is None for slope in slopes):
        return 0.0, float("inf")
    return slopes[-1], max(abs(slopes[-1] - slopes[-2]), abs(slopes[-2] - slopes[-3]) / 64)


def _cause(trial: Trial) -> str:
    """The likely reason why the graph of the backward is cut."""
    _, log = watch_call(trial, trial.inputs[0])
    for one in log:
        for name, value in _intermediates(one):
            if value.is_floating_point():
                return (
                    f"the backward of {one.name} reads {name}, an intermediate of its forward without a graph; "
                    "recompute it from saved inputs, return it as an output, or mark it once_differentiable"
                )
        if one.kept:
            name = next(iter(one.kept))
            return (
                f"the backward of {one.name} reads {name}, stored on ctx without a graph; use save_for_backward, or "
                "mark the backward once_differentiable"
            )
    return (
        "the backward leaves the graph (detach, .data, .item, no_grad or numpy); keep it in torch operators on saved "
        "tensors, or mark it once_differentiable"
    )


def _intermediates(one: Watched) -> Iterator[tuple[str, torch.Tensor]]:
    """Saved tensors that are neither arguments nor results."""
    known = {v.data_ptr() for v in (*one.args, *one.results) if isinstance(v, torch.Tensor) and v.numel()}
    for at, value in enumerate(one.saved):
        if isinstance(value, torch.Tensor) and value.numel() and value.data_ptr() not in known:
            yield f"saved_tensors[{at}]", value
