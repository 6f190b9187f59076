"""Curves: a Function along a line through its inputs - forward, its derivative by differences, and its own backward."""

from __future__ import annotations

from typing import Any

import torch

from gradport.eager import ones, run_eager
from gradport.errors import Error
from gradport.joint import Joint, Slot

__all__ = ["curves"]

_POINTS = 201

_STEP = 1e-6


def curves(joint: Joint) -> dict[str, Any]:
    """Sums of all results along a line, in float64; empty where the Subject does not run there.

    Every element of every argument that a gradient is wanted of is the same number, from -3 to 3. The derivative is a
    central difference with a step of 1e-6; where the two one-sided ones differ by more
    than a hundredth there is a kink.

    Args:
        joint: with the gradients that are wanted.

    Returns:
        `t`, `forward`, `derivative`, `backward` (lists of numbers) and `kinks` (places on the line).
    """
    slots = [slot for slot in joint.wanted if slot.kind == "argument"]
    if not slots:
        return {}
    start = {s: t.detach().double() if t.is_floating_point() else t for s, t in joint.examples().items()}

    def at(t: float) -> dict[Slot, torch.Tensor]:
        return start | {slot: torch.full_like(start[slot], t) for slot in slots}

    def total(t: float) -> float:
        outcome = run_eager(joint, at(t), ones)
        found = [outcome.loss] if outcome.loss is not None else list(outcome.outputs.values())
        return float(sum(value.detach().double().sum() for value in found if value.is_floating_point()))

    line = torch.linspace(-3, 3, _POINTS, dtype=torch.float64).tolist()
    found: dict[str, Any] = {"t": line, "forward": [], "derivative": [], "backward": [], "kinks": []}
    try:
        for t in line:
            here, above, below = total(t), total(t + _STEP), total(t - _STEP)
            right, left = (above - here) / _STEP, (here - below) / _STEP
            outcome = run_eager(joint, at(t), ones)
            gradients = [outcome.gradients[slot] for slot in slots]
            found["forward"].append(here)
            found["derivative"].append((above - below) / (2 * _STEP))
            found["backward"].append(float(sum(g.sum() for g in gradients if g is not None)))
            if abs(right - left) > 1e-2 * max(abs(right), abs(left), 1.0):
                found["kinks"].append(t)
    except Error:
        return {}
    return found
