"""Inputs as Hypothesis strategies: the sizes and the values that a Subject's spec or example allows.

A failure found in them shrinks: to the smallest sizes and to the roundest numbers. Sizes that are equal in the example
stay equal, since nothing else is known of them; those of parameters stay as they are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from hypothesis import strategies as st

from gradport.eager.dimensions import Dimensions, by_name
from gradport.eager.inputs.fresh import by_callable, shape_at, sizes_of
from gradport.eager.joint import Joint, Slot
from gradport.subject.ports import Role
from gradport.subject.signature import Argument

__all__ = ["Space", "strategy", "strategy_at"]

Tensors = dict[Slot, torch.Tensor]

_ONE_BY_ONE = 12
"""Up to so many elements every value is drawn, and shrinks, on its own; a drawn value costs a thousand random ones."""

_POOL = 48
"""So many values are drawn where the elements of a large tensor have a strategy of their own."""


def strategy(joint: Joint, largest: int) -> st.SearchStrategy[Tensors]:
    """Arguments and targets by slot, in the example's dtypes, at its sizes or smaller ones.

    Args:
        joint: whose inputs they are.
        largest: the largest size that is drawn.
    """
    given = _by_callable(joint, {})
    return _smaller(joint, largest) if given is None else given


@dataclasses.dataclass(frozen=True)
class Space:
    """The sizes that inputs may have.

    Attributes:
        dimensions: which are dynamic; all others stay as they are.
        sizes: of those where only some are wanted.
    """

    dimensions: Dimensions
    sizes: Mapping[str, Sequence[int]]


def strategy_at(joint: Joint, space: Space, largest: int, special: Sequence[float] = ()) -> st.SearchStrategy[Tensors]:
    """Arguments and targets by slot, at any size of the dynamic dimensions.

    Args:
        joint: whose inputs they are.
        space: the sizes that they may have.
        largest: the largest size that is drawn.
        special: values that floating-point elements without a range may have besides.
    """
    given = _by_callable(joint, sizes_of(joint, space.dimensions))
    return _at(joint, space, largest, tuple(special)) if given is None else given


def _by_callable(joint: Joint, sizes: Mapping[str, int]) -> st.SearchStrategy[Tensors] | None:
    make = joint.subject.inputs
    if not callable(make):
        return None
    return st.integers(0, 2**31 - 1).map(
        lambda number: by_callable(joint, make, torch.Generator().manual_seed(number), sizes)
    )


@st.composite
def _smaller(draw: st.DrawFn, joint: Joint, largest: int) -> Tensors:
    fixed = {
        size for state in (joint.state.parameters, joint.state.buffers) for t in state.values() for size in t.shape
    }
    known = {size for _, argument in _arguments(joint) for size in argument.value.shape}
    sizes = {size: size for size in known if size in fixed or size == 0}
    for size in sorted(known - set(sizes)):
        sizes[size] = draw(st.integers(1, min(size, largest)))
    return _fill(draw, joint, lambda argument: [sizes[size] for size in argument.value.shape])


@st.composite
def _at(draw: st.DrawFn, joint: Joint, space: Space, largest: int, special: tuple[float, ...]) -> Tensors:
    sizes = {}
    for name, dimension in by_name(space.dimensions).items():
        if name in space.sizes:
            sizes[name] = draw(st.sampled_from(sorted(space.sizes[name])))
            continue
        low = max(dimension.minimum, 1)
        high = max(low, min(largest, dimension.maximum or largest))
        sizes[name] = draw(st.integers(low, high))

    return _fill(draw, joint, lambda argument: shape_at(argument, space.dimensions, sizes), special)


def _arguments(joint: Joint) -> list[tuple[Role, Argument]]:
    return [(Role.ARGUMENT, a) for a in joint.arguments] + [(Role.TARGET, a) for a in joint.targets]


def _fill(
    draw: st.DrawFn, joint: Joint, shape: Callable[[Argument], list[int]], special: tuple[float, ...] = ()
) -> Tensors:
    said = joint.subject.inputs or {}
    return {
        Slot(kind, argument.name): _tensor(draw, argument, shape(argument), said.get(argument.name), special)
        for kind, argument in _arguments(joint)
    }


def _tensor(
    draw: st.DrawFn, argument: Argument, shape: list[int], said: Any, special: tuple[float, ...]
) -> torch.Tensor:
    example: torch.Tensor = argument.value.detach()
    count = 1
    for size in shape:
        count *= size
    if not count:
        return example.new_zeros(shape)
    elements = _elements(example, said)
    if elements is not None and special and said is None and example.is_floating_point():
        elements = st.one_of(elements, st.sampled_from(special))
    if elements is None:
        return example.reshape(-1)[:1].expand(count).reshape(shape).clone()
    if count <= _ONE_BY_ONE:
        values = draw(st.lists(elements, min_size=count, max_size=count))
        return torch.tensor(values).to(example.dtype).reshape(shape)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    low, high = _limits(example, said)
    if low < high and not isinstance(said, (st.SearchStrategy, list)) and _is_continuous(example, said):
        found = torch.empty(count, dtype=torch.float64).uniform_(low, high, generator=generator)
        found[:_ONE_BY_ONE] = torch.tensor(draw(st.lists(elements, min_size=_ONE_BY_ONE, max_size=_ONE_BY_ONE)))
        return found.to(example.dtype).reshape(shape)
    pool = draw(st.lists(elements, min_size=_POOL, max_size=_POOL))
    return torch.tensor(pool)[torch.randint(0, _POOL, (count,), generator=generator)].to(example.dtype).reshape(shape)


def _elements(example: torch.Tensor, said: Any) -> st.SearchStrategy[Any] | None:
    """One element; None where the example shows no value."""
    if isinstance(said, st.SearchStrategy):
        return said
    if isinstance(said, list) and said:
        return st.sampled_from(said)
    if example.dtype == torch.bool:
        return st.booleans()
    if not example.numel():
        return None
    if example.is_complex():
        part = st.floats(-2.0, 2.0, allow_subnormal=False)
        return st.builds(complex, part, part)
    low, high = _limits(example, said)
    if low > high:
        return None
    if not example.is_floating_point():
        return st.integers(int(low), max(int(low), int(high)))
    if not _is_continuous(example, said):  # it may have to be whole
        return st.sampled_from(sorted(set(example[example.isfinite()].tolist()), key=abs)[:64])
    return _reals(float(low), float(high))


def _limits(example: torch.Tensor, said: Any) -> tuple[float, float]:
    """The smallest and the largest value that an element has; the first is larger where the example shows none."""
    if isinstance(said, tuple):
        return said[0], said[1]
    if example.is_complex() or example.dtype == torch.bool or not bool(example.isfinite().any()):
        return 1.0, 0.0
    finite = example[example.isfinite()]
    return finite.min().item(), finite.max().item()


def _is_continuous(example: torch.Tensor, said: Any) -> bool:
    """Whether an element may have any value of a range."""
    finite = example[example.isfinite()] if example.is_floating_point() else None
    return finite is not None and (said is not None or not bool((finite == finite.round()).all()))


def _reals(low: float, high: float) -> st.SearchStrategy[float]:
    """Whole numbers before eighths before all others: a failure shrinks towards the first of these."""
    finer = st.floats(low, high, allow_nan=False, allow_subnormal=False)
    if math.ceil(low) > math.floor(high):
        return finer
    whole = st.integers(math.ceil(low), math.floor(high)).map(float)
    eighths = st.integers(math.ceil(8 * low), math.floor(8 * high)).map(lambda count: count / 8)
    return st.one_of(whole, eighths, finer)
