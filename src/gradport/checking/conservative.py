"""conservative: are a model's forces minus the gradient of its energy?

Two measurements: the directional derivative of the energy against the forces, over a sweep of steps; and the asymmetry
of the Jacobian of the forces, which is symmetric for every gradient field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from gradport.checking.probes.trial import Trial
from gradport.eager.inputs import with_example
from gradport.eager.joint import Joint, Slot
from gradport.errors import Error, SpecError
from gradport.evidence.evidence import Evidence, Finding, Outcome, Severity, environment
from gradport.isolation.effort import Deadline, as_effort, as_seconds
from gradport.subject.given import Arguments, Inputs, Keywords, Target
from gradport.subject.ports import Role
from gradport.subject.signature import source_of
from gradport.subject.subject import as_subject

__all__ = ["conservative"]

_STEPS = tuple(2.0**-power for power in range(4, 20, 2))
_DIRECTIONS = 8
_ALLOWED = 1e-3
"""Relative tolerance: a tenth of one percent."""


def conservative(
    model: Target,
    args: Arguments = (),
    kwargs: Keywords = None,
    *,
    wrt: str | None = None,
    inputs: Inputs = None,
    budget: float = 1.0,
    time_limit: float | str | None = None,
    seed: int = 0,
) -> Evidence:
    """Checks that forces are minus the gradient of the energy, for a model that returns `(energy, forces)`.

    A dict or dataclass is read by its keys `energy` and `forces`. The check uses float64 if the model runs in it.

    Args:
        model: a Subject, callable or module.
        args, kwargs: example arguments.
        wrt: the positions' name; None: the argument that has the shape of the forces.
        inputs: how to draw random inputs: ranges, values or strategies by name, or a callable.
        budget: factor of the number of inputs.
        time_limit: seconds, or a text such as "30s", after which no further input is tried; the result is then
            undecided.
        seed: of directions and inputs.

    Returns:
        Evidence: the error of the directional derivative against the forces, and the asymmetry of their Jacobian, both
        relative.

    Raises:
        SpecError: the model returns no energy or no forces, or no argument has the shape of the forces.
        TargetError: the model rejects its own example.
    """
    subject = with_example(as_subject(model, args, kwargs, inputs=inputs))
    joint = Joint(subject.replace(wrt=None))
    trial = Trial(joint, seed=seed, effort=as_effort("default", budget))
    deadline = Deadline(as_seconds(time_limit))
    left = 0
    field = _Field(trial, wrt)
    along: list[float] = []
    asymmetry: list[float] = []
    for tensors in trial.inputs:
        if along and deadline.is_over:
            left += 1
            continue
        along.append(max(field.gap_along(tensors, u) for u in field.directions(tensors, seed)))
        pairs = field.directions(tensors, seed + 1)
        asymmetry.append(max(field.asymmetry(tensors, u, v) for u, v in zip(pairs[::2], pairs[1::2], strict=False)))
    file, line = source_of(subject.target)
    return Evidence(
        subject=subject.name,
        findings=(*_findings(along, asymmetry, f"{file}:{line}" if file else None), *_not_tried(left, deadline)),
        series={"energy along a line": along, "asymmetry of the Jacobian": asymmetry, "steps": list(_STEPS)},
        source={"file": file, "line": line},
        environment=environment(),
    )


class _Field:
    """Energy and forces as functions of the positions."""

    def __init__(self, trial: Trial, wrt: str | None) -> None:
        self._trial = trial
        self._wide = _runs_wide(trial)
        outputs = trial.outputs(self._tensors(trial.inputs[0]))
        self._energy, self._forces = _names(trial, outputs)
        self._slot = self._positions(wrt, outputs[self._forces].shape)

    def directions(self, tensors: Mapping[Slot, torch.Tensor], seed: int) -> list[torch.Tensor]:
        """Random unit directions of the positions."""
        generator = torch.Generator().manual_seed(seed)
        shape = tensors[self._slot].shape
        drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(_DIRECTIONS)]
        return [u / u.norm() for u in drawn]

    def gap_along(self, tensors: Mapping[Slot, torch.Tensor], u: torch.Tensor) -> float:
        """|-dE/dt - <forces, u>| along u, relative to the size of the forces; the minimum over a sweep of steps."""
        _, forces = self._at(tensors, u, 0.0)
        along_u = float((forces * u).sum())
        slopes = [(self._at(tensors, u, -h)[0] - self._at(tensors, u, h)[0]) / (2 * h) for h in _STEPS]
        size = float(forces.norm()) / forces.numel() ** 0.5 + 1e-12
        return min(abs(slope - along_u) for slope in slopes) / size

    def asymmetry(self, tensors: Mapping[Slot, torch.Tensor], u: torch.Tensor, v: torch.Tensor) -> float:
        """|u.Jv - v.Ju| over the size of J along them."""

        def pushed(direction: torch.Tensor, h: float) -> torch.Tensor:
            return (self._at(tensors, direction, h)[1] - self._at(tensors, direction, -h)[1]) / (2 * h)

        best = float("inf")
        for h in _STEPS[::2]:
            jv, ju = pushed(v, h), pushed(u, h)
            size = float(jv.norm() + ju.norm()) / 2 + 1e-12
            best = min(best, abs(float((u * jv).sum() - (v * ju).sum())) / size)
        return best

    def _at(self, tensors: Mapping[Slot, torch.Tensor], u: torch.Tensor, t: float) -> tuple[float, torch.Tensor]:
        place = tensors[self._slot]
        moved = {**tensors, self._slot: (place.double() + t * u).to(place.dtype)}
        outputs = self._trial.outputs(self._tensors(moved))
        return float(outputs[self._energy].double().sum()), outputs[self._forces].double()

    def _tensors(self, tensors: Mapping[Slot, torch.Tensor]) -> dict[Slot, torch.Tensor]:
        return dict(tensors) if self._wide else _like(tensors, self._trial.joint.examples())

    def _positions(self, wrt: str | None, shape: torch.Size) -> Slot:
        arguments = self._trial.joint.arguments
        fitting = [a.name for a in arguments if a.value.shape == shape and a.value.is_floating_point()]
        name = wrt if wrt is not None else next(iter(fitting), None)
        if name not in {a.name for a in arguments}:
            raise SpecError(
                f"{self._trial.joint.subject.name} returns forces of shape {tuple(shape)}, and "
                f"{'no argument has this shape' if wrt is None else f'{wrt!r} is not an argument'}; "
                "set wrt= to the name of the positions."
            )
        return Slot(Role.ARGUMENT, str(name))


def _runs_wide(trial: Trial) -> bool:
    try:
        trial.outputs(trial.inputs[0])
    except Error:
        return False
    return True


def _like(tensors: Mapping[Slot, torch.Tensor], examples: Mapping[Slot, torch.Tensor]) -> dict[Slot, torch.Tensor]:
    return {slot: tensor.to(examples[slot].dtype) for slot, tensor in tensors.items()}


def _names(trial: Trial, outputs: Mapping[str, torch.Tensor]) -> tuple[str, str]:
    names = list(outputs)
    if {"energy", "forces"} <= set(names):
        return "energy", "forces"
    if len(names) != 2:
        raise SpecError(f"{trial.joint.subject.name} returns {', '.join(names)}; it must return energy and forces.")
    return names[0], names[1]


def _not_tried(inputs: int, deadline: Deadline) -> Iterator[Finding]:
    if inputs:
        message = f"The time limit of {deadline.seconds:g} s was over before {inputs} more inputs were tried."
        yield Finding(
            "conservative/time-limit", "conservative", Outcome.UNDECIDED, severity=Severity.WARNING, message=message
        )


def _findings(along: list[float], asymmetry: list[float], where: str | None) -> Iterator[Finding]:
    for name, figures, good, bad in (
        (
            "energy",
            along,
            "The forces are minus the gradient of the energy",
            "The forces are not minus the gradient of the energy",
        ),
        (
            "symmetry",
            asymmetry,
            "The Jacobian of the forces is symmetric",
            "The Jacobian of the forces is not symmetric, so the forces are not the gradient of any energy",
        ),
    ):
        worst = max(figures)
        held = worst <= _ALLOWED
        yield Finding(
            key=f"conservative/{name}",
            rule="conservative",
            outcome=Outcome.OK if held else Outcome.FAILED,
            severity=Severity.INFO if held else Severity.ERROR,
            figure=worst,
            unit="relative",
            where=where,
            message=f"{good if held else bad}: off by {worst:.2g} relative at most over {len(figures)} inputs.",
        )
