"""Samples: an argument's gradient beside a reference, element by element, over inputs and cotangents.

A vector-Jacobian product is linear in its cotangent, so every backward is asked at three sizes of the same cotangent:
a gradient that is clipped shows itself there, and nowhere else.
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
"""Elements above which few are looked at one by one."""

COTANGENT_SIZES = (1.0, 0.01, 100.0)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One element.

    Attributes:
        index: where it stands in the argument.
        x: the argument's value there.
        got: the backward's gradient.
        left, right: the reference derivative from below and above; equal where the forward is smooth.
        error: how far off the reference may be.
        largest: the largest reference of the call.
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
        """The reference that stands nearest to what was given: at a kink anything between the one-sided slopes."""
        low, high = min(self.left, self.right), max(self.left, self.right)
        return min(max(self.got, low), high)

    @property
    def tolerance(self) -> float:
        """How far the gradient may stand from the reference: forwards that iterate to 1e-8 are right to 1e-6 or so."""
        return 16 * self.error + 1e-6 * max(abs(self.got), abs(self.want)) + 1e-5 * self.largest + 1e-12

    @property
    def agrees(self) -> bool:
        """Whether the gradient is the derivative here."""
        return abs(self.got - self.want) <= self.tolerance


@dataclasses.dataclass(frozen=True)
class BackwardCall:
    """One call of the backward.

    Attributes:
        input: which input, 0 being the example.
        size: of the cotangent.
        norm: of the whole gradient.
        samples: some of its elements.
        missing: whether the backward gave None.
    """

    input: int
    size: float
    norm: float
    samples: tuple[Sample, ...]
    missing: bool


Slopes = dict[int, Slope]
Reference = Callable[[dict[Slot, torch.Tensor], dict[str, torch.Tensor]], dict[Slot, Slopes] | None]


def by_differences(trial: Trial) -> dict[Slot, list[BackwardCall]]:
    """Every wanted argument against central differences.

    Raises:
        TargetError: the backward fails.
    """
    return trial.once("differences", lambda: _collect(trial, functools.partial(_differences, trial)))


def by_operators(trial: Trial) -> dict[Slot, list[BackwardCall]] | None:
    """Every wanted argument against autograd of the forward's own operators; None where that does not run.

    Raises:
        TargetError: the backward fails.
    """

    def reference(tensors: dict[Slot, torch.Tensor], cotangents: dict[str, torch.Tensor]) -> dict[Slot, Slopes] | None:
        own = own_gradients(trial, tensors, cotangents)
        return None if own is None else {slot: _exact(tensors[slot], gradient) for slot, gradient in own.items()}

    collected = _collect(trial, reference)
    return collected if any(collected.values()) else None


def is_piecewise_constant(calls: Mapping[Slot, list[BackwardCall]], slot: Slot) -> bool:
    """Whether the forward does not move with this argument anywhere that was looked at."""
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
            continue  # a fresh input that the subject rejects says nothing
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
    for flat, found in slopes.items():
        if found.nature in ("jump", "edge"):
            continue  # no derivative is right or wrong there
        index = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), x.shape)) if x.dim() else ()
        samples.append(
            Sample(
                index=index,
                x=float(x[index]),
                got=float(full[index]),
                left=found.left * size,
                right=found.right * size,
                error=found.error * size,
                largest=largest,
                cotangents={name: float(value[index]) for name, value in alike.items()},
            )
        )
    return BackwardCall(number, size, float(full.double().norm()), tuple(samples), gradient is None)


def _choose_places(trial: Trial, count: int) -> Iterable[int]:
    if count <= trial.elements:
        return range(count)
    generator = torch.Generator().manual_seed(trial.seed)
    few = trial.elements if count <= LARGE else max(2, trial.elements // 16)  # a direction sees the others
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
    found: dict[Slot, Slopes] = {}
    for slot in trial.joint.wanted:
        x = tensors[slot].detach()
        found[slot] = {}
        for flat in _choose_places(trial, x.numel()):
            size = max(abs(float(x.reshape(-1)[flat])), 1.0)
            change = functools.partial(change_of, trial, tensors, slot, flat, moved)
            found[slot][flat] = slope(change, weights, size, unit)
    return found


def change_of(
    trial: Trial,
    tensors: dict[Slot, torch.Tensor],
    slot: Slot,
    flat: int,
    start: Mapping[str, torch.Tensor],
    step: float,
) -> torch.Tensor:
    """How the outputs `start` change when one element of an argument moves by a step; nan outside the domain."""
    moved = tensors[slot].detach().clone().contiguous()
    moved.view(-1)[flat] += step
    try:
        results = trial.outputs({**tensors, slot: moved})
    except TargetError:  # the step leaves the domain
        return torch.full((sum(value.numel() for value in start.values()),), torch.nan, dtype=torch.float64)
    return torch.cat([(results[name].double() - value.double()).reshape(-1) for name, value in start.items()])
