"""The Jacobian of the custom backward compared with differences of the forward, entry by entry, if it is small."""

from __future__ import annotations

from typing import Any

import torch

from gradport.eager.joint import Joint, Slot, cast, copies
from gradport.eager.run import run_eager
from gradport.subject.ports import Role

__all__ = ["jacobian"]

_MOST = 96
"""Largest number of elements of an argument and of an output."""

_STEP = 1e-6


def jacobian(joint: Joint) -> dict[str, Any]:
    """The error of each entry, relative to the largest entry of both Jacobians, in float64 at the example, for the
    first argument with a gradient and the first output that takes a cotangent.

    The rows of the backward's Jacobian are gradients for cotangents with a single 1; the columns of the other are
    central differences with a step of 1e-6.

    Returns:
        `argument`, `output` and `errors` (a list for each element of the output); empty if too large.

    Raises:
        Error: the Subject does not run in float64.
    """
    start = cast(copies(joint.examples()), torch.float64)
    slot = next((s for s in joint.wanted if s.role == Role.ARGUMENT and s in start), None)
    if slot is None or not 0 < start[slot].numel() <= _MOST:
        return {}
    seeded = run_eager(joint, start, lambda name, output: torch.ones_like(output)).seeded
    if not seeded:
        return {}
    name = seeded[0]
    count = _output(joint, start, name).numel()
    if count > _MOST:
        return {}
    authored = torch.stack([_row(joint, start, slot, name, element) for element in range(count)])
    by_differences = torch.stack(
        [_column(joint, start, slot, name, element) for element in range(start[slot].numel())], dim=1
    )
    scale = max(float(one.abs().nan_to_num().max()) for one in (authored, by_differences)) or 1.0
    errors = [[float(f"{e:.3g}") for e in row] for row in ((authored - by_differences) / scale).tolist()]
    return {"argument": slot.name, "output": name, "errors": errors}


def _output(joint: Joint, at: dict[Slot, torch.Tensor], name: str) -> torch.Tensor:
    return run_eager(joint, at, lambda _, output: torch.zeros_like(output)).outputs[name].detach()


def _row(joint: Joint, at: dict[Slot, torch.Tensor], slot: Slot, name: str, element: int) -> torch.Tensor:
    def one(output_name: str, output: torch.Tensor) -> torch.Tensor:
        cotangent = torch.zeros_like(output)
        if output_name == name:
            cotangent.view(-1)[element] = 1.0
        return cotangent

    gradient = run_eager(joint, at, one).gradients[slot]
    return torch.zeros(at[slot].numel(), dtype=torch.float64) if gradient is None else gradient.reshape(-1).double()


def _column(joint: Joint, at: dict[Slot, torch.Tensor], slot: Slot, name: str, element: int) -> torch.Tensor:
    def moved(step: float) -> torch.Tensor:
        tensor = at[slot].clone()
        tensor.view(-1)[element] += step
        return _output(joint, {**at, slot: tensor}, name).double().reshape(-1)

    return (moved(_STEP) - moved(-_STEP)) / (2 * _STEP)
