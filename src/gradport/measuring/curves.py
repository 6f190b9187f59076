"""Curves of a Function along a line through its inputs: forward, derivative by differences, and its own backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradport.checking.probes.bends import ROUND, bends
from gradport.checking.probes.differences import Slope, slope
from gradport.eager.joint import CallResults, Joint, Slot, cast, copies
from gradport.eager.run import run_eager
from gradport.errors import Error
from gradport.subject.ports import Role

__all__ = ["curves"]

_POINTS = 121

_REACH = 3.0

_STEP = 1e-6

_UNIT = torch.finfo(torch.float64).eps


def curves(joint: Joint) -> dict[str, Any]:
    """Forward, derivative and custom backward along a line from -3 to 3 through each argument, in float64.

    On the line all elements of one argument have the same value, the other arguments keep their example, and all
    results are summed. If this curve is constant (a softmax of equal numbers), only the first element of the argument
    varies, and only the first element of the result counts. Derivatives are central differences with a step of 1e-6;
    kinks and jumps are searched at round numbers and at sudden changes of the slope.

    Args:
        joint: has the requested gradients.

    Returns:
        `t`, `forward`, `derivative`, `backward` (lists of numbers), `kinks` and `jumps` (places on the line) and
        `along`, a description of the line, for the first argument; in `others` the same for each further argument.
        Empty if the Subject does not run there.
    """
    slots = [slot for slot in joint.wanted if slot.role == Role.ARGUMENT]
    start = cast(copies(joint.examples()), torch.float64)
    lines = [_along(joint, start, slot) for slot in slots if start[slot].numel()]
    first, *others = [curve for curve in lines if curve] or [{}]
    return {**first, "others": others} if others else first


def _along(joint: Joint, start: Mapping[Slot, torch.Tensor], slot: Slot) -> dict[str, Any]:
    """The curve of one argument; empty if it is constant on both lines."""
    for line in (_line_of_all_elements(joint, start, slot), _line_of_first_element(joint, start, slot)):
        try:
            curve = line.sample()
        except Error:
            continue
        if len({round(value, 9) for value in curve["forward"]}) > 1 or any(curve["backward"]):
            return curve
    return {}


class _Line:
    """A line through the inputs: the inputs at each place, and the values to read."""

    def __init__(
        self,
        joint: Joint,
        along: str,
        at: Callable[[float], Mapping[Slot, torch.Tensor]],
        weigh: Callable[[torch.Tensor], torch.Tensor],
        read: Callable[[CallResults], float],
    ) -> None:
        self.joint, self.along, self.at, self.weigh, self.read = joint, along, at, weigh, read

    def run(self, t: float) -> CallResults:
        return run_eager(self.joint, self.at(t), lambda name, output: self.weigh(output))

    def height(self, t: float) -> float:
        results = self.run(t)
        values = [results.loss] if results.loss is not None else list(results.outputs.values())
        return sum(float((v.detach().double() * self.weigh(v)).sum()) for v in values if v.is_floating_point())

    def jumps(self, t: float) -> bool:
        """Whether the values on the two sides stay apart as the sides approach."""
        wide, near = (abs(self.height(t + step) - self.height(t - step)) for step in (1e-4, 1e-10))
        return near > 1e-6 * max(abs(self.height(t)), 1.0) and near > wide / 2

    def slope(self, t: float) -> Slope:
        here = self.height(t)

        def change(step: float) -> torch.Tensor:
            return torch.tensor([self.height(t + step) - here], dtype=torch.float64)

        return slope(change, torch.ones(1, dtype=torch.float64), 1.0, _UNIT)

    def sample(self) -> dict[str, Any]:
        line = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64).tolist()
        bent = {nature: [] for nature in ("kink", "jump")}  # type: dict[str, list[float]]
        for t in sorted({*(value for value in ROUND if abs(value) < _REACH), *bends(self.height)}):
            nature = "jump" if self.jumps(t) else self.slope(t).nature
            if nature in bent and not any(abs(t - other) < 0.02 for other in bent[nature]):
                bent[nature].append(t)
        derivative = [(self.height(t + _STEP) - self.height(t - _STEP)) / (2 * _STEP) for t in line]
        return {
            "along": self.along,
            "t": [_round(t) for t in line],
            "forward": [_round(self.height(t)) for t in line],
            # across a jump the difference quotient measures the jump, not the slope
            "derivative": [
                math.nan if any(abs(t - place) <= _STEP for place in bent["jump"]) else _round(value)
                for t, value in zip(line, derivative, strict=True)
            ],
            "backward": [_round(self.read(self.run(t))) for t in line],
            "kinks": bent["kink"],
            "jumps": bent["jump"],
        }


def _line_of_all_elements(joint: Joint, start: Mapping[Slot, torch.Tensor], slot: Slot) -> _Line:
    def at(t: float) -> Mapping[Slot, torch.Tensor]:
        return {**start, slot: torch.full_like(start[slot], t)}

    def read(results: CallResults) -> float:
        gradient = results.gradients[slot]
        return 0.0 if gradient is None else float(gradient.detach().sum())

    return _Line(joint, f"every element of {slot.name}, results summed", at, torch.ones_like, read)


def _line_of_first_element(joint: Joint, start: Mapping[Slot, torch.Tensor], slot: Slot) -> _Line:
    def at(t: float) -> Mapping[Slot, torch.Tensor]:
        moved = start[slot].clone()
        moved.view(-1)[0] = t
        return {**start, slot: moved}

    def first(output: torch.Tensor) -> torch.Tensor:
        weights = torch.zeros_like(output)
        if weights.numel():
            weights.view(-1)[0] = 1.0
        return weights

    def read(results: CallResults) -> float:
        gradient = results.gradients[slot]
        return 0.0 if gradient is None else float(gradient.reshape(-1)[0])

    return _Line(joint, f"the first element of {slot.name}, first element of the result", at, first, read)


def _round(value: float) -> float:
    """Rounds to six digits, enough for a plot."""
    return float(f"{value:.6g}")
