"""Samples: the gradient of an argument and a reference, element by element, over inputs and cotangents.

A vector-Jacobian product is linear in its cotangent. So every backward runs with three sizes of the same cotangent,
which reveals a clipped gradient.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping

import torch

from gradport.checking.probes.bypass import own_gradients
from gradport.checking.probes.differences import Slope, slope
from gradport.checking.probes.trial import Trial
from gradport.eager.joint import Slot
from gradport.errors import TargetError

__all__ = ["BackwardCall", "Sample", "by_differences", "by_operators", "change_of", "is_piecewise_constant"]

LARGE = 10_000
"""Number of elements above which only a few are checked one by one."""

COTANGENT_SIZES = (1.0, 0.01, 100.0)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One element of an argument.

    Attributes:
        index: its index in the argument.
        x: its value.
        got: the gradient from the backward.
        left, right: the one-sided reference derivatives; equal if the forward is smooth.
        error: the error of the reference.
        largest: the largest reference value of the call.
        cotangents: the cotangent at the same place of each output that has the argument's shape, by output.
    """

    index: tuple[int, ...]
    x: float
    got: float
    left: float
    right: float
    error: float
    largest: float
    cotangents: dict[str, float]

    @property
    def want(self) -> float:
        """The reference nearest to the gradient: at a kink any value between the one-sided slopes is correct."""
        low, high = min(self.left, self.right), max(self.left, self.right)
        return min(max(self.got, low), high)

    @property
    def tolerance(self) -> float:
        """The allowed distance from the reference: iterative forwards that converge to 1e-8 are correct to 1e-6."""
        return 16 * self.error + 1e-6 * max(abs(self.got), abs(self.want)) + 1e-5 * self.largest + 1e-12

    @property
    def agrees(self) -> bool:
        """Whether the gradient is the derivative here."""
        return abs(self.got - self.want) <= self.tolerance


@dataclasses.dataclass(frozen=True)
class BackwardCall:
    """One call of the backward.

    Attributes:
        input: number of the input; 0 is the example.
        size: of the cotangent.
        norm: of the whole gradient.
        samples: some of its elements.
        missing: whether the backward returned None.
    """

    input: int
    size: float
    norm: float
    samples: tuple[Sample, ...]
    missing: bool


Slopes = dict[int, Slope]
Reference = Callable[[dict[Slot, torch.Tensor], dict[str, torch.Tensor]], dict[Slot, Slopes] | None]


def by_differences(trial: Trial) -> dict[Slot, list[BackwardCall]]:
    """Compares every wanted argument with central differences.

    Raises:
        TargetError: the backward fails.
    """
    return trial.measure_once("differences", lambda: _collect(trial, functools.partial(_differences, trial)))


def by_operators(trial: Trial) -> dict[Slot, list[BackwardCall]] | None:
    """Compares every wanted argument with autograd of the forward's own operators; None if they do not run.

    Raises:
        TargetError: the backward fails.
    """

    def reference(tensors: dict[Slot, torch.Tensor], cotangents: dict[str, torch.Tensor]) -> dict[Slot, Slopes] | None:
        own = own_gradients(trial, tensors, cotangents)
        return None if own is None else {slot: _exact(tensors[slot], gradient) for slot, gradient in own.items()}

    collected = _collect(trial, reference)
    return collected if any(collected.values()) else None


def is_piecewise_constant(calls: Mapping[Slot, list[BackwardCall]], slot: Slot) -> bool:
    """Whether the forward is constant in this argument around every sample."""
    samples = [sample for call in calls[slot] for sample in call.samples]
    return bool(samples) and all(max(abs(s.left), abs(s.right)) <= 16 * s.error + 1e-12 for s in samples)


def _collect(trial: Trial, reference: Reference) -> dict[Slot, list[BackwardCall]]:
    calls: dict[Slot, list[BackwardCall]] = {slot: [] for slot in trial.joint.wanted}
    for number, tensors in enumerate(trial.inputs):
        try:
            seeded = trial.seeded_outputs(tensors)
        except TargetError:
            if number == 0:
                raise
            continue  # ignore a random input that the subject rejects
        generator = torch.Generator().manual_seed(trial.seed + number)
        drawn = {
            name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
            for name, value in seeded.items()
        }
        slopes = reference(tensors, drawn)
        if slopes is None:
            continue
        for size in COTANGENT_SIZES if drawn else (1.0,):
            cotangents = {name: cotangent * size for name, cotangent in drawn.items()}
            gradients = trial.gradients(tensors, cotangents)
            for slot in trial.joint.wanted:
                calls[slot].append(_call(number, size, tensors[slot], gradients[slot], slopes[slot], cotangents))
    return calls


def _call(
    number: int,
    size: float,
    x: torch.Tensor,
    gradient: torch.Tensor | None,
    slopes: Slopes,
    cotangents: Mapping[str, torch.Tensor],
) -> BackwardCall:
    alike = {name: value for name, value in cotangents.items() if value.shape == x.shape}
    full = torch.zeros_like(x) if gradient is None else gradient
    largest = size * max((abs(s.value) for s in slopes.values() if math.isfinite(s.value)), default=0.0)
    samples = []
    for flat, slope_here in slopes.items():
        if slope_here.nature in ("jump", "edge"):
            continue  # there is no derivative to compare with
        index = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), x.shape)) if x.dim() else ()
        samples.append(
            Sample(
                index=index,
                x=float(x[index]),
                got=float(full[index]),
                left=slope_here.left * size,
                right=slope_here.right * size,
                error=slope_here.error * size,
                largest=largest,
                cotangents={name: float(value[index]) for name, value in alike.items()},
            )
        )
    return BackwardCall(number, size, float(full.double().norm()), tuple(samples), gradient is None)


def _choose_places(trial: Trial, count: int) -> Iterable[int]:
    if count <= trial.elements:
        return range(count)
    generator = torch.Generator().manual_seed(trial.seed)
    few = trial.elements if count <= LARGE else max(2, trial.elements // 16)  # a random direction covers the others
    return sorted(torch.randperm(count, generator=generator)[:few].tolist())


def _exact(x: torch.Tensor, gradient: torch.Tensor | None) -> Slopes:
    flat = (torch.zeros_like(x) if gradient is None else gradient).detach().double().reshape(-1)
    largest = float(flat.abs().max()) if flat.numel() else 0.0
    return {
        index: Slope("smooth", value, 1e-10 * largest, value, value) for index, value in enumerate(flat[:4096].tolist())
    }


def _differences(
    trial: Trial, tensors: dict[Slot, torch.Tensor], cotangents: dict[str, torch.Tensor]
) -> dict[Slot, Slopes]:
    start = trial.outputs(tensors)
    moved = {name: start[name] for name in (cotangents or start)}
    seeds = [cotangents.get(name, torch.ones_like(value)) for name, value in moved.items()]
    weights = torch.cat([seed.reshape(-1).double() for seed in seeds])
    unit = max(torch.finfo(value.dtype).eps for value in moved.values())
    slopes: dict[Slot, Slopes] = {}
    for slot in trial.joint.wanted:
        x = tensors[slot].detach()
        slopes[slot] = {}
        for flat in _choose_places(trial, x.numel()):
            size = max(abs(float(x.reshape(-1)[flat])), 1.0)
            change = functools.partial(change_of, trial, tensors, slot, flat, moved)
            slopes[slot][flat] = slope(change, weights, size, unit)
    return slopes


def change_of(
    trial: Trial,
    tensors: dict[Slot, torch.Tensor],
    slot: Slot,
    flat: int,
    start: Mapping[str, torch.Tensor],
    step: float,
) -> torch.Tensor:
    """The change of the outputs `start` if one element of an argument moves by a step; nan outside the domain."""
    moved = tensors[slot].detach().clone().contiguous()
    moved.view(-1)[flat] += step
    try:
        results = trial.outputs({**tensors, slot: moved})
    except TargetError:  # the step leaves the domain
        return torch.full((sum(value.numel() for value in start.values()),), torch.nan, dtype=torch.float64)
    return torch.cat([(results[name].double() - value.double()).reshape(-1) for name, value in start.items()])
