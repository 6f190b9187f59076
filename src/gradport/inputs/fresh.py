"""Fresh inputs: other values than the example's, at its sizes or at others, in the domain that the example shows.

Where a Subject says nothing about its inputs, values stay within what the example spans: floats are mixtures of two
of its elements, whole numbers and booleans are drawn from its elements (without repeats where it has none), symmetric
matrices stay symmetric and as definite as they are, a lone number is moved by up to a tenth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gradport.dimensions import Dimensions
from gradport.errors import SpecError
from gradport.joint import Joint, Slot
from gradport.signature import Argument, bind

__all__ = ["by_callable", "fresh", "shape_at", "sizes_of"]


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
    """New arguments and targets at these sizes; parameters and buffers stay the example's.

    Raises:
        SpecError: the Subject's `inputs` names what is no input, or gives something that does not fit.
    """
    tensors = dict(joint.examples())
    said = joint.subject.inputs
    if callable(said):
        return tensors | by_callable(joint, said, generator, sizes)
    known = {argument.name for argument in (*joint.arguments, *joint.targets)}
    for name in said or {}:
        if name not in known:
            raise SpecError(f"inputs names {name!r}, which is no input of {joint.subject.name}.")
    for kind, arguments in (("argument", joint.arguments), ("target", joint.targets)):
        for argument in arguments:
            shape = shape_at(argument, dimensions, sizes)
            tensors[Slot(kind, argument.name)] = _drawn(argument, shape, (said or {}).get(argument.name), generator)
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
    return {Slot("argument", a.name): a.value for a in bound.arguments} | {
        Slot("target", a.name): a.value for a in bound.targets
    }


def _drawn(argument: Argument, shape: list[int], said: Any, generator: torch.Generator) -> torch.Tensor:
    example: torch.Tensor = argument.value.detach()
    count = 1
    for size in shape:
        count *= size
    if said is not None:
        return _in_domain(argument, said, count, generator).reshape(shape).to(example.dtype)
    if example.numel() == 0 or count == 0:
        return example.new_zeros(shape)
    flat = example.reshape(-1)
    pick = flat[torch.randint(0, flat.numel(), (count,), generator=generator)]
    if not (example.is_floating_point() or example.is_complex()):
        return _whole(flat, pick, count, generator).reshape(shape)
    if example.is_complex():
        return pick.reshape(shape)
    finite = flat[flat.isfinite()]
    if finite.numel() == 0:
        return pick.reshape(shape)
    if bool((finite == finite[0]).all()):
        moved = finite[0].double() * (1 + 0.1 * (2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1))
        return (
            moved.to(example.dtype).reshape(shape)
            if finite.numel() == 1 or example.requires_grad
            else pick.reshape(shape)
        )
    if bool((finite == finite.round()).all()):
        if count <= flat.numel() == flat.unique().numel():  # all different: no ties where the example has none
            pick = flat[torch.randperm(flat.numel(), generator=generator)[:count]]
        return pick.reshape(shape)
    if shape == list(example.shape) and _is_symmetric(example):
        scale = 0.5 + torch.rand(shape[:-1], generator=generator, dtype=torch.float64)
        return (scale.unsqueeze(-1) * example.double() * scale.unsqueeze(-2)).to(example.dtype)
    other = flat[torch.randint(0, flat.numel(), (count,), generator=generator)]
    weight = torch.rand(count, generator=generator, dtype=torch.float64)
    return (weight * pick.double() + (1 - weight) * other.double()).to(example.dtype).reshape(shape)


def _is_symmetric(example: torch.Tensor) -> bool:
    """Square and equal to its transpose: then rows and columns are scaled alike, which keeps that and the signs of the
    eigenvalues."""
    return example.dim() >= 2 and 1 < example.shape[-1] == example.shape[-2] and torch.equal(example, example.mT)


def _whole(flat: torch.Tensor, pick: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    if flat.dtype == torch.bool:
        return pick
    low, high = int(flat.min()), int(flat.max())
    return torch.randint(low, high + 1, (count,), generator=generator).to(flat.dtype)


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
