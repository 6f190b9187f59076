"""Directions: compares the gradient of a whole argument with one finite difference along a random direction.

Checking a large argument element by element is too slow. Comparing <gradient, u> with the slope of
<cotangent, f(x + t u)> covers all elements at once. Source: the random projection of `torch.autograd.gradcheck`'s fast
mode, https://docs.pytorch.org/docs/stable/notes/gradcheck.html.
"""

from __future__ import annotations

import dataclasses

import torch

from gradport.checking.probes.differences import Slope, slope
from gradport.checking.probes.trial import Trial
from gradport.eager.joint import Slot
from gradport.errors import TargetError

__all__ = ["Along", "measure_along"]

_FAR = 1e-5
"""Relative to the gradient's norm: iterative forwards that converge to 1e-8 are correct to about 1e-6."""

_NOISE = 1e-8
"""Relative to the outputs: the error of iterative forwards."""


@dataclasses.dataclass(frozen=True)
class Along:
    """One argument along one direction.

    Attributes:
        slot: the argument.
        got: <gradient, u>.
        slope: of <cotangent, f(x + t u)> at t = 0.
        norm: of the gradient.
        height: <|cotangent|, |f(x)|>, which bounds the error of an iterative forward.
    """

    slot: Slot
    got: float
    slope: Slope
    norm: float
    height: float

    @property
    def departs(self) -> bool:
        """Whether the gradient is not the derivative; False if the forward is not smooth here."""
        if self.slope.nature != "smooth":
            return False
        largest = max(abs(self.got), abs(self.slope.value), self.norm)
        slack = _FAR * largest + 16 * self.slope.error + _NOISE * self.height + 1e-12
        return not abs(self.got - self.slope.value) <= slack


def measure_along(trial: Trial, tensors: dict[Slot, torch.Tensor]) -> list[Along]:
    """Measures every wanted argument along its own random direction, at these inputs.

    Raises:
        TargetError: the subject rejects them, or its backward fails.
    """
    seeded = trial.seeded_outputs(tensors)
    start = seeded or trial.outputs(tensors)  # a loss takes no cotangent
    generator = torch.Generator().manual_seed(trial.seed)
    cotangents = {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
        for name, value in seeded.items()
    }
    gradients = trial.gradients(tensors, cotangents)
    weights = torch.cat([cotangents.get(n, torch.ones_like(v)).reshape(-1).double() for n, v in start.items()])
    unit = max(torch.finfo(value.dtype).eps for value in start.values())
    return [
        _measure_slot(trial, tensors, slot, gradients[slot], start, weights, unit, generator)
        for slot in trial.joint.wanted
        if tensors[slot].numel()
    ]


def _measure_slot(
    trial: Trial,
    tensors: dict[Slot, torch.Tensor],
    slot: Slot,
    gradient: torch.Tensor | None,
    start: dict[str, torch.Tensor],
    weights: torch.Tensor,
    unit: float,
    generator: torch.Generator,
) -> Along:
    x = tensors[slot].detach()
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype)
    full = torch.zeros_like(x) if gradient is None else gradient

    def change(step: float) -> torch.Tensor:
        try:
            moved = trial.outputs({**tensors, slot: x + step * direction})
        except TargetError:  # the step leaves the domain
            return torch.full_like(weights, torch.nan)
        return torch.cat([(moved[name].double() - value.double()).reshape(-1) for name, value in start.items()])

    got = float((full.double() * direction.double()).sum())
    flat = torch.cat([value.reshape(-1).double() for value in start.values()])
    height = float((weights.abs() * flat.abs()).sum())
    return Along(slot, got, slope(change, weights, 1.0, unit), float(full.double().norm()), height)
