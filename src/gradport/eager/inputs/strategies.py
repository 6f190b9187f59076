"""Inputs as Hypothesis strategies: the sizes and values that a Subject's spec or example allows.

A failing input shrinks to the smallest sizes and the simplest numbers. Sizes that are equal in the example stay equal,
since nothing else is known about them; sizes of parameters do not change.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from hypothesis import strategies as st

from gradport.eager.dimensions import Dimensions, by_name
from gradport.eager.inputs.fresh import call_inputs, shape_at, sizes_of
from gradport.eager.joint import Joint, Slot
from gradport.subject.ports import Role
from gradport.subject.signature import Argument

__all__ = ["Space", "strategy", "strategy_at"]

Tensors = dict[Slot, torch.Tensor]

_ONE_BY_ONE = 12
"""Largest tensor whose elements are drawn, and shrink, separately; one draw costs as much as 1000 random numbers."""

_POOL = 48
"""Number of values drawn for a large tensor whose elements have a strategy."""


def strategy(joint: Joint, largest: int) -> st.SearchStrategy[Tensors]:
    """Arguments and targets by slot, in the example's dtypes, at its sizes or smaller sizes.

    Args:
        joint: the function of the inputs.
        largest: the largest size.
    """
    from_callable = _call_inputs(joint, {})
    return _draw_smaller(joint, largest) if from_callable is None else from_callable


@dataclasses.dataclass(frozen=True)
class Space:
    """The sizes that inputs may have.

    Attributes:
        dimensions: the dynamic dimensions; all other sizes are fixed.
        sizes: the allowed sizes of some dimensions; others have any size.
    """

    dimensions: Dimensions
    sizes: Mapping[str, Sequence[int]]


def strategy_at(joint: Joint, space: Space, largest: int, special: Sequence[float] = ()) -> st.SearchStrategy[Tensors]:
    """Arguments and targets by slot, at any size of the dynamic dimensions.

    Args:
        joint: the function of the inputs.
        space: the allowed sizes.
        largest: the largest size.
        special: extra values for floating-point elements without a range.
    """
    from_callable = _call_inputs(joint, sizes_of(joint, space.dimensions))
    return _draw_at(joint, space, largest, tuple(special)) if from_callable is None else from_callable


def _call_inputs(joint: Joint, sizes: Mapping[str, int]) -> st.SearchStrategy[Tensors] | None:
    make = joint.subject.inputs
    if not callable(make):
        return None
    return st.integers(0, 2**31 - 1).map(
        lambda number: call_inputs(joint, make, torch.Generator().manual_seed(number), sizes)
    )


@st.composite
def _draw_smaller(draw: st.DrawFn, joint: Joint, largest: int) -> Tensors:
    fixed = {
        size for state in (joint.state.parameters, joint.state.buffers) for t in state.values() for size in t.shape
    }
    known = {size for _, argument in _arguments(joint) for size in argument.value.shape}
    sizes = {size: size for size in known if size in fixed or size == 0}
    for size in sorted(known - set(sizes)):
        sizes[size] = draw(st.integers(1, min(size, largest)))
    return _fill(draw, joint, lambda argument: [sizes[size] for size in argument.value.shape])


@st.composite
def _draw_at(draw: st.DrawFn, joint: Joint, space: Space, largest: int, special: tuple[float, ...]) -> Tensors:
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
    declared = joint.subject.inputs or {}
    return {
        Slot(kind, argument.name): _tensor(draw, argument, shape(argument), declared.get(argument.name), special)
        for kind, argument in _arguments(joint)
    }


def _tensor(
    draw: st.DrawFn, argument: Argument, shape: list[int], domain: Any, special: tuple[float, ...]
) -> torch.Tensor:
    example: torch.Tensor = argument.value.detach()
    count = 1
    for size in shape:
        count *= size
    if not count:
        return example.new_zeros(shape)
    elements = _elements(example, domain)
    if elements is not None and special and domain is None and example.is_floating_point():
        elements = st.one_of(elements, st.sampled_from(special))
    if elements is None:
        return example.reshape(-1)[:1].expand(count).reshape(shape).clone()
    if count <= _ONE_BY_ONE:
        values = draw(st.lists(elements, min_size=count, max_size=count))
        return torch.tensor(values).to(example.dtype).reshape(shape)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    low, high = _limits(example, domain)
    if low < high and not isinstance(domain, (st.SearchStrategy, list)) and _is_continuous(example, domain):
        uniform = torch.empty(count, dtype=torch.float64).uniform_(low, high, generator=generator)
        uniform[:_ONE_BY_ONE] = torch.tensor(draw(st.lists(elements, min_size=_ONE_BY_ONE, max_size=_ONE_BY_ONE)))
        return uniform.to(example.dtype).reshape(shape)
    pool = draw(st.lists(elements, min_size=_POOL, max_size=_POOL))
    return torch.tensor(pool)[torch.randint(0, _POOL, (count,), generator=generator)].to(example.dtype).reshape(shape)


def _elements(example: torch.Tensor, domain: Any) -> st.SearchStrategy[Any] | None:
    """A strategy for one element; None if the example has no value."""
    if isinstance(domain, st.SearchStrategy):
        return domain
    if isinstance(domain, list) and domain:
        return st.sampled_from(domain)
    if example.dtype == torch.bool:
        return st.booleans()
    if not example.numel():
        return None
    if example.is_complex():
        part = st.floats(-2.0, 2.0, allow_subnormal=False)
        return st.builds(complex, part, part)
    low, high = _limits(example, domain)
    if low > high:
        return None
    if not example.is_floating_point():
        return st.integers(int(low), max(int(low), int(high)))
    if not _is_continuous(example, domain):  # the subject may require integers
        return st.sampled_from(sorted(set(example[example.isfinite()].tolist()), key=abs)[:64])
    return _reals(float(low), float(high))


def _limits(example: torch.Tensor, domain: Any) -> tuple[float, float]:
    """The smallest and largest value of an element; the first is larger if the example has no value."""
    if isinstance(domain, tuple):
        return domain[0], domain[1]
    if example.is_complex() or example.dtype == torch.bool or not bool(example.isfinite().any()):
        return 1.0, 0.0
    finite = example[example.isfinite()]
    return finite.min().item(), finite.max().item()


def _is_continuous(example: torch.Tensor, domain: Any) -> bool:
    """Whether an element may have any value in a range."""
    finite = example[example.isfinite()] if example.is_floating_point() else None
    return finite is not None and (domain is not None or not bool((finite == finite.round()).all()))


def _reals(low: float, high: float) -> st.SearchStrategy[float]:
    """Integers first, then eighths, then all other numbers: failures shrink to the first."""
    finer = st.floats(low, high, allow_nan=False, allow_subnormal=False)
    if math.ceil(low) > math.floor(high):
        return finer
    whole = st.integers(math.ceil(low), math.floor(high)).map(float)
    eighths = st.integers(math.ceil(8 * low), math.floor(8 * high)).map(lambda count: count / 8)
    return st.one_of(whole, eighths, finer)
