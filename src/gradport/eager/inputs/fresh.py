"""Fresh inputs: other values than the example's, at its sizes or at others.

Where a Subject says nothing about its inputs, every floating-point element moves, also where the example is constant
(ones, zeros) or whole: a gradient that is right at the example's values only must not look right. Values stay near what
the example shows: mixtures of two of its elements; constants and whole numbers moved by up to a tenth; symmetric
matrices stay symmetric. Integers and booleans are drawn from the example's range.

A subject may reject such values (a mask that must hold zeros and ones, a matrix that must be positive definite); for it
there is `fresh_within`, whose values are elements of the example wherever that is whole.
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

__all__ = ["by_callable", "fresh", "fresh_within", "move_state", "shape_at", "sizes_of"]

_HIGHEST = 2**63 - 1
"""Of int64."""

_REACH = 0.1
"""By how much of its magnitude an element moves at most."""

_SYMMETRIC_REACH = 0.02
"""By how much of the smallest diagonal element a symmetric matrix is disturbed, so that a definite one stays so."""

Draw = Callable[[torch.Tensor, list[int], torch.Generator], torch.Tensor]
"""From an example that is a floating-point tensor with finite elements to new values of a shape."""


def sizes_of(joint: Joint, dimensions: Dimensions) -> dict[str, int]:
    """The example's size of every dynamic dimension."""
    return {
        dimension.name: int(argument.value.shape[axis])
        for argument in (*joint.arguments, *joint.targets)
        for axis, dimension in dimensions.get(argument.name, {}).items()
    }


def fresh(
    joint: Joint, dimensions: Dimensions, sizes: Mapping[str, int], generator: torch.Generator
) -> dict[Slot, torch.Tensor]:
    """New arguments and targets at these sizes, every floating-point element moved; parameters and buffers stay.

    Raises:
        SpecError: the Subject's `inputs` names what is no input, or gives something that does not fit.
    """
    return _fresh(joint, dimensions, sizes, generator, _move)


def fresh_within(
    joint: Joint, dimensions: Dimensions, sizes: Mapping[str, int], generator: torch.Generator
) -> dict[Slot, torch.Tensor]:
    """The same with values that the example shows: its elements where it is whole or constant, mixtures elsewhere.

    Raises:
        SpecError: as `fresh`.
    """
    return _fresh(joint, dimensions, sizes, generator, _within)


def move_state(joint: Joint, generator: torch.Generator) -> dict[Slot, torch.Tensor]:
    """The floating-point parameters and buffers, every element moved; in the same dtype and shape."""
    slots = {Slot(Role.PARAMETER, name): tensor for name, tensor in joint.state.parameters.items()}
    slots |= {Slot(Role.BUFFER, name): tensor for name, tensor in joint.state.buffers.items()}
    return {slot: _nudge(tensor.detach(), generator) for slot, tensor in slots.items() if differentiable(tensor)}


def _fresh(
    joint: Joint, dimensions: Dimensions, sizes: Mapping[str, int], generator: torch.Generator, draw: Draw
) -> dict[Slot, torch.Tensor]:
    tensors = dict(joint.examples())
    said = joint.subject.inputs
    if callable(said):
        return tensors | by_callable(joint, said, generator, sizes)
    known = {argument.name for argument in (*joint.arguments, *joint.targets)}
    for name in said or {}:
        if name not in known:
            raise SpecError(f"inputs names {name!r}, which is not an input of {joint.subject.name}.")
    for kind, arguments in ((Role.ARGUMENT, joint.arguments), (Role.TARGET, joint.targets)):
        for argument in arguments:
            shape = shape_at(argument, dimensions, sizes)
            own = (said or {}).get(argument.name)
            tensors[Slot(kind, argument.name)] = _draw(argument, shape, own, generator, draw)
    return tensors


def shape_at(argument: Argument, dimensions: Dimensions, sizes: Mapping[str, int]) -> list[int]:
    """The shape of an argument where its dynamic dimensions have these sizes, or else the example's."""
    axes = dimensions.get(argument.name, {})
    return [sizes.get(axes[at].name, size) if at in axes else size for at, size in enumerate(argument.value.shape)]


def by_callable(
    joint: Joint, make: Any, generator: torch.Generator, sizes: Mapping[str, int]
) -> dict[Slot, torch.Tensor]:
    """What the callable `inputs` of a Subject gives, by slot.

    Raises:
        SpecError: it gives other tensors than the example has.
    """
    args, kwargs, targets = make(generator, dict(sizes))
    bound = bind(joint.subject.replace(args=args, kwargs=kwargs or {}, targets=targets or (), inputs=None))
    names = [a.name for a in (*bound.arguments, *bound.targets)]
    if names != [a.name for a in (*joint.arguments, *joint.targets)]:
        raise SpecError(f"inputs= of {joint.subject.name} gives the tensors {', '.join(names)}, not the example's.")
    return {Slot(Role.ARGUMENT, a.name): a.value for a in bound.arguments} | {
        Slot(Role.TARGET, a.name): a.value for a in bound.targets
    }


def _draw(argument: Argument, shape: list[int], said: Any, generator: torch.Generator, draw: Draw) -> torch.Tensor:
    example: torch.Tensor = argument.value.detach()
    count = math.prod(shape)
    if said is not None:
        return _in_domain(argument, said, count, generator).reshape(shape).to(example.dtype)
    if example.numel() == 0 or count == 0:
        return example.new_zeros(shape)
    if example.is_floating_point() and bool(example.isfinite().any()):
        return draw(example, shape, generator)
    flat = example.reshape(-1)
    if differentiable(example):
        return _nudge(_pick(flat, count, generator), generator).reshape(shape)
    return _whole(flat, count, generator).reshape(shape)


def _move(example: torch.Tensor, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    """Every element moves."""
    flat, count = example.reshape(-1), math.prod(shape)
    finite = flat[flat.isfinite()]
    if bool((finite == finite[0]).all()):
        return _nudge(finite[0].expand(shape), generator)
    if shape == list(example.shape) and _is_symmetric(example):
        return _symmetric(example, generator)
    if bool((finite == finite.round()).all()):
        return _nudge(_all_different(flat, count, generator), generator).reshape(shape)
    return _mix(flat, count, generator).reshape(shape)


def _within(example: torch.Tensor, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    """Elements of the example where it is whole, mixtures of them elsewhere."""
    flat, count = example.reshape(-1), math.prod(shape)
    finite = flat[flat.isfinite()]
    if bool((finite == finite[0]).all()):
        return finite[0].expand(shape).clone()
    if bool((finite == finite.round()).all()):
        return _all_different(flat, count, generator).reshape(shape)
    if shape == list(example.shape) and _is_symmetric(example):
        return _rescale(example.double(), generator).to(example.dtype)
    return _mix(flat, count, generator).reshape(shape)


def _pick(flat: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    return flat[torch.randint(0, flat.numel(), (count,), generator=generator)]


def _all_different(flat: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Elements of the example; all different where its own are, so that there are no ties where it has none."""
    if count <= flat.numel() == flat.unique().numel():
        return flat[torch.randperm(flat.numel(), generator=generator)[:count]]
    return _pick(flat, count, generator)


def _mix(flat: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    one, other = _pick(flat, count, generator).double(), _pick(flat, count, generator).double()
    weight = torch.rand(count, generator=generator, dtype=torch.float64)
    return (weight * one + (1 - weight) * other).to(flat.dtype)


def _nudge(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Every element moved by up to a tenth of its magnitude, a zero by up to a tenth."""
    size = values.abs()
    reach = _REACH * torch.where(size == 0, torch.ones_like(size), size).double()
    noise = 2 * torch.rand(values.shape, generator=generator, dtype=torch.float64) - 1
    wide = values.to(torch.promote_types(values.dtype, torch.float64))
    return torch.where(values.isfinite(), wide + (reach * noise).nan_to_num(), wide).to(values.dtype)


def _symmetric(example: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Symmetric as the example, and as definite as it is."""
    wide = example.double()
    least = wide.diagonal(0, -2, -1).abs().amin(-1)[..., None, None]
    noise = 2 * torch.rand(example.shape, generator=generator, dtype=torch.float64) - 1
    return _rescale(wide + _SYMMETRIC_REACH * least * (noise + noise.mT) / 2, generator).to(example.dtype)


def _rescale(matrix: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rows and columns scaled alike, which keeps symmetry and the signs of the eigenvalues."""
    scale = 0.5 + torch.rand(matrix.shape[:-1], generator=generator, dtype=torch.float64)
    return scale.unsqueeze(-1) * matrix * scale.unsqueeze(-2)


def _is_symmetric(example: torch.Tensor) -> bool:
    """Whether it is square and equal to its transpose."""
    return example.dim() >= 2 and 1 < example.shape[-1] == example.shape[-2] and torch.equal(example, example.mT)


def _whole(flat: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    if flat.dtype == torch.bool:
        return _pick(flat, count, generator)
    low, high = int(flat.min()), int(flat.max())
    return torch.randint(low, min(high + 1, _HIGHEST), (count,), generator=generator).to(flat.dtype)


def _in_domain(argument: Argument, said: Any, count: int, generator: torch.Generator) -> torch.Tensor:
    if isinstance(said, tuple) and len(said) == 2:
        low, high = said
        unit = torch.rand(count, generator=generator, dtype=torch.float64)
        if argument.value.is_floating_point():
            return low + (high - low) * unit
        return torch.randint(int(low), max(int(high), int(low) + 1), (count,), generator=generator)
    if isinstance(said, list) and said:
        values = torch.tensor(said)
        return values[torch.randint(0, len(said), (count,), generator=generator)]
    if hasattr(said, "example"):
        # a Hypothesis strategy for one element; drawn once per element from the seed that the generator gives
        return _from_strategy(said, count, generator)
    raise SpecError(f"inputs[{argument.name!r}] is {said!r}; give (low, high), a list of values or a strategy.")


def _from_strategy(strategy: Any, count: int, generator: torch.Generator) -> torch.Tensor:
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
