"""Inputs as Hypothesis strategies: the sizes and the values that a Subject's spec or example allows.

A failure found in them shrinks: to the smallest sizes and to the roundest numbers. Sizes that are equal in the example
stay equal, since nothing else is known of them; those of parameters stay as they are.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from hypothesis import strategies as st

from gradport.inputs.fresh import by_callable
from gradport.joint import Joint, Slot
from gradport.signature import Argument

__all__ = ["strategy"]

_ONE_BY_ONE = 48
"""Up to so many elements every value is drawn, and shrinks, on its own."""


def strategy(joint: Joint, largest: int) -> st.SearchStrategy[dict[Slot, torch.Tensor]]:
    """Arguments and targets by slot, in the example's dtypes, at its sizes or smaller ones.

    Args:
        joint: whose inputs they are.
        largest: the largest size that is drawn.
    """
    if callable(joint.subject.inputs):
        make = joint.subject.inputs
        return st.integers(0, 2**31 - 1).map(
            lambda number: by_callable(joint, make, torch.Generator().manual_seed(number), {})
        )
    return _tensors(joint, largest)


@st.composite
def _tensors(draw: st.DrawFn, joint: Joint, largest: int) -> dict[Slot, torch.Tensor]:
    said = joint.subject.inputs or {}
    arguments = [("argument", a) for a in joint.arguments] + [("target", a) for a in joint.targets]
    fixed = {
        size for state in (joint.state.parameters, joint.state.buffers) for t in state.values() for size in t.shape
    }
    known = {size for _, argument in arguments for size in argument.value.shape}
    sizes = {size: size for size in known if size in fixed or size == 0}
    for size in sorted(known - set(sizes)):
        sizes[size] = draw(st.integers(1, min(size, largest)))
    tensors: dict[Slot, torch.Tensor] = {}
    for kind, argument in arguments:
        shape = [sizes[size] for size in argument.value.shape]
        tensors[Slot(kind, argument.name)] = _tensor(draw, argument, shape, said.get(argument.name))
    return tensors


def _tensor(draw: st.DrawFn, argument: Argument, shape: list[int], said: Any) -> torch.Tensor:
    example: torch.Tensor = argument.value.detach()
    count = 1
    for size in shape:
        count *= size
    if not count:
        return example.new_zeros(shape)
    elements = _elements(example, said)
    if elements is None:
        return example.reshape(-1)[:1].expand(count).reshape(shape).clone()
    if count <= _ONE_BY_ONE:
        values = draw(st.lists(elements, min_size=count, max_size=count))
    else:
        pool = draw(st.lists(elements, min_size=_ONE_BY_ONE, max_size=_ONE_BY_ONE))
        generator = torch.Generator().manual_seed(count)
        values = [pool[at] for at in torch.randint(0, _ONE_BY_ONE, (count,), generator=generator).tolist()]
    return torch.tensor(values).to(example.dtype).reshape(shape)


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
    finite = example.reshape(-1)[example.reshape(-1).isfinite()]
    if not finite.numel():
        return None
    low, high = said if said is not None else (finite.min().item(), finite.max().item())
    if not example.is_floating_point():
        return st.integers(int(low), max(int(low), int(high)))
    if said is None and bool((finite == finite.round()).all()):
        return st.sampled_from(sorted(set(finite.tolist()), key=abs)[:64])  # it may have to be whole
    return _reals(float(low), float(high))


def _reals(low: float, high: float) -> st.SearchStrategy[float]:
    """Whole numbers before eighths before all others: a failure shrinks towards the first of these."""
    finer = st.floats(low, high, allow_nan=False, allow_subnormal=False)
    if math.ceil(low) > math.floor(high):
        return finer
    whole = st.integers(math.ceil(low), math.floor(high)).map(float)
    eighths = st.integers(math.ceil(8 * low), math.floor(8 * high)).map(lambda count: count / 8)
    return st.one_of(whole, eighths, finer)
