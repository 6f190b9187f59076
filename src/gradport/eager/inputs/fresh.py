"""New inputs: other values than the example's, at its sizes or at others.

Without a declaration in the Subject's `inputs`, every floating-point element changes, even if the example is constant
(ones, zeros) or integral: a gradient that is right only at the example's values must not pass. Values stay near the
example: mixtures of two of its elements; constants and integers changed by up to a tenth; symmetric matrices stay
symmetric. Integers and booleans are drawn from the example's range.

A subject may reject such values (a mask of zeros and ones, a positive definite matrix). For these `draw_inputs_within`
draws elements of the example if it is integral.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradport.eager.dimensions import Dimensions
from gradport.eager.joint import Joint, Slot
from gradport.errors import SpecError
from gradport.subject.ports import Role
from gradport.subject.signature import Argument, bind
from gradport.subject.wrt import differentiable

__all__ = ["call_inputs", "draw_inputs", "draw_inputs_within", "move_state", "shape_at", "sizes_of"]

_HIGHEST = 2**63 - 1
"""The largest int64."""

_REACH = 0.1
"""Largest relative change of an element."""

_SYMMETRIC_REACH = 0.02
"""Largest change of a symmetric matrix, relative to its smallest diagonal element; a definite matrix stays definite."""

Draw = Callable[[torch.Tensor, list[int], torch.Generator], torch.Tensor]
"""Draws new values of a shape from a floating-point example with finite elements."""


def sizes_of(joint: Joint, dimensions: Dimensions) -> dict[str, int]:
    """The example's size of every dynamic dimension."""
    return {
        dimension.name: int(argument.value.shape[axis])
        for argument in (*joint.arguments, *joint.targets)
        for axis, dimension in dimensions.get(argument.name, {}).items()
    }


def draw_inputs(
    joint: Joint, dimensions: Dimensions, sizes: Mapping[str, int], generator: torch.Generator
) -> dict[Slot, torch.Tensor]:
    """Draws arguments and targets at these sizes; every floating-point element changes, parameters and buffers stay.

    Raises:
        SpecError: the Subject's `inputs` has a name that is not an input, or an entry that does not fit.
    """
    return _draw_inputs(joint, dimensions, sizes, generator, _move)


def draw_inputs_within(
    joint: Joint, dimensions: Dimensions, sizes: Mapping[str, int], generator: torch.Generator
) -> dict[Slot, torch.Tensor]:
    """As `draw_inputs`, within the example's values: its elements if it is integral or constant, otherwise mixtures.

    Raises:
        SpecError: as `fresh`.
    """
    return _draw_inputs(joint, dimensions, sizes, generator, _draw_within)


def move_state(joint: Joint, generator: torch.Generator) -> dict[Slot, torch.Tensor]:
    """The floating-point parameters and buffers with every element changed, in the same dtype and shape."""
    slots = {Slot(Role.PARAMETER, name): tensor for name, tensor in joint.state.parameters.items()}
    slots |= {Slot(Role.BUFFER, name): tensor for name, tensor in joint.state.buffers.items()}
    return {slot: _nudge(tensor.detach(), generator) for slot, tensor in slots.items() if differentiable(tensor)}


def _draw_inputs(
    joint: Joint, dimensions: Dimensions, sizes: Mapping[str, int], generator: torch.Generator, draw: Draw
) -> dict[Slot, torch.Tensor]:
    tensors = dict(joint.examples())
    declared = joint.subject.inputs
    if callable(declared):
        return tensors | call_inputs(joint, declared, generator, sizes)
    known = {argument.name for argument in (*joint.arguments, *joint.targets)}
    for name in declared or {}:
        if name not in known:
            raise SpecError(f"inputs names {name!r}, which is not an input of {joint.subject.name}.")
    for kind, arguments in ((Role.ARGUMENT, joint.arguments), (Role.TARGET, joint.targets)):
        for argument in arguments:
            shape = shape_at(argument, dimensions, sizes)
            own = (declared or {}).get(argument.name)
            tensors[Slot(kind, argument.name)] = _draw_argument(argument, shape, own, generator, draw)
    return tensors


def shape_at(argument: Argument, dimensions: Dimensions, sizes: Mapping[str, int]) -> list[int]:
    """The shape of an argument with these sizes of its dynamic dimensions; other sizes are the example's."""
    axes = dimensions.get(argument.name, {})
    return [sizes.get(axes[at].name, size) if at in axes else size for at, size in enumerate(argument.value.shape)]


def call_inputs(
    joint: Joint, make: Any, generator: torch.Generator, sizes: Mapping[str, int]
) -> dict[Slot, torch.Tensor]:
    """The tensors that the callable `inputs` of a Subject returns, by slot.

    Raises:
        SpecError: their names differ from the example's.
    """
    args, kwargs, targets = make(generator, dict(sizes))
    bound = bind(joint.subject.replace(args=args, kwargs=kwargs or {}, targets=targets or (), inputs=None))
    names = [a.name for a in (*bound.arguments, *bound.targets)]
    if names != [a.name for a in (*joint.arguments, *joint.targets)]:
        own = [a.name for a in (*joint.arguments, *joint.targets)]
        raise SpecError(
            f"inputs= of {joint.subject.name} returns the tensors {', '.join(names)}; the example has {', '.join(own)}."
        )
    return {Slot(Role.ARGUMENT, a.name): a.value for a in bound.arguments} | {
        Slot(Role.TARGET, a.name): a.value for a in bound.targets
    }


def _draw_argument(
    argument: Argument, shape: list[int], domain: Any, generator: torch.Generator, draw: Draw
) -> torch.Tensor:
    example: torch.Tensor = argument.value.detach()
    count = math.prod(shape)
    if domain is not None:
        return _draw_in_domain(argument, domain, count, generator).reshape(shape).to(example.dtype)
    if example.numel() == 0 or count == 0:
        return example.new_zeros(shape)
    if example.is_floating_point() and bool(example.isfinite().any()):
        return draw(example, shape, generator)
    flat = example.reshape(-1)
    if differentiable(example):
        return _nudge(_pick(flat, count, generator), generator).reshape(shape)
    return _draw_integers(flat, count, generator).reshape(shape)


def _move(example: torch.Tensor, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    """Changes every element."""
    flat, count = example.reshape(-1), math.prod(shape)
    finite = flat[flat.isfinite()]
    if bool((finite == finite[0]).all()):
        return _nudge(finite[0].expand(shape), generator)
    if shape == list(example.shape) and _is_symmetric(example):
        return _draw_symmetric(example, generator)
    if bool((finite == finite.round()).all()):
        return _nudge(_pick_distinct(flat, count, generator), generator).reshape(shape)
    return _mix(flat, count, generator).reshape(shape)


def _draw_within(example: torch.Tensor, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    """Elements of the example if it is integral, otherwise mixtures of them."""
    flat, count = example.reshape(-1), math.prod(shape)
    finite = flat[flat.isfinite()]
    if bool((finite == finite[0]).all()):
        return finite[0].expand(shape).clone()
    if bool((finite == finite.round()).all()):
        return _pick_distinct(flat, count, generator).reshape(shape)
    if shape == list(example.shape) and _is_symmetric(example):
        return _rescale(example.double(), generator).to(example.dtype)
    return _mix(flat, count, generator).reshape(shape)


def _pick(flat: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    return flat[torch.randint(0, flat.numel(), (count,), generator=generator)]


def _pick_distinct(flat: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Elements of the example; all different if the example's are, so that no ties are added."""
    if count <= flat.numel() == flat.unique().numel():
        return flat[torch.randperm(flat.numel(), generator=generator)[:count]]
    return _pick(flat, count, generator)


def _mix(flat: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    one, other = _pick(flat, count, generator).double(), _pick(flat, count, generator).double()
    weight = torch.rand(count, generator=generator, dtype=torch.float64)
    return (weight * one + (1 - weight) * other).to(flat.dtype)


def _nudge(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Changes every element by up to a tenth of its magnitude, a zero by up to 0.1."""
    size = values.abs()
    reach = _REACH * torch.where(size == 0, torch.ones_like(size), size).double()
    noise = 2 * torch.rand(values.shape, generator=generator, dtype=torch.float64) - 1
    wide = values.to(torch.promote_types(values.dtype, torch.float64))
    return torch.where(values.isfinite(), wide + (reach * noise).nan_to_num(), wide).to(values.dtype)


def _draw_symmetric(example: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A symmetric matrix near the example; definite if the example is."""
    wide = example.double()
    least = wide.diagonal(0, -2, -1).abs().amin(-1)[..., None, None]
    noise = 2 * torch.rand(example.shape, generator=generator, dtype=torch.float64) - 1
    return _rescale(wide + _SYMMETRIC_REACH * least * (noise + noise.mT) / 2, generator).to(example.dtype)


def _rescale(matrix: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Scales rows and columns equally, which keeps symmetry and the signs of the eigenvalues."""
    scale = 0.5 + torch.rand(matrix.shape[:-1], generator=generator, dtype=torch.float64)
    return scale.unsqueeze(-1) * matrix * scale.unsqueeze(-2)


def _is_symmetric(example: torch.Tensor) -> bool:
    """Whether the example is square and equal to its transpose."""
    return example.dim() >= 2 and 1 < example.shape[-1] == example.shape[-2] and torch.equal(example, example.mT)


def _draw_integers(flat: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    if flat.dtype == torch.bool:
        return _pick(flat, count, generator)
    low, high = int(flat.min()), int(flat.max())
    return torch.randint(low, min(high + 1, _HIGHEST), (count,), generator=generator).to(flat.dtype)


def _draw_in_domain(argument: Argument, domain: Any, count: int, generator: torch.Generator) -> torch.Tensor:
    if isinstance(domain, tuple) and len(domain) == 2:
        low, high = domain
        unit = torch.rand(count, generator=generator, dtype=torch.float64)
        if argument.value.is_floating_point():
            return low + (high - low) * unit
        return torch.randint(int(low), max(int(high), int(low) + 1), (count,), generator=generator)
    if isinstance(domain, list) and domain:
        values = torch.tensor(domain)
        return values[torch.randint(0, len(domain), (count,), generator=generator)]
    if hasattr(domain, "example"):
        # a Hypothesis strategy for one element, seeded by the generator
        return _draw_from_strategy(domain, count, generator)
    raise SpecError(f"inputs[{argument.name!r}] is {domain!r}; give (low, high), a list of values or a strategy.")


def _draw_from_strategy(strategy: Any, count: int, generator: torch.Generator) -> torch.Tensor:
    import random

    from hypothesis import HealthCheck, Phase, given, seed, settings

    drawn: list[Any] = []
    number = int(torch.randint(0, 2**31 - 1, (1,), generator=generator))

    @seed(number)
    @settings(
        max_examples=max(count, 1),
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        drawn.append(value)

    collect()
    picker = random.Random(number)
    return torch.tensor([picker.choice(drawn) for _ in range(count)])
