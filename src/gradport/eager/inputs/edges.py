"""Edge values: inputs at points where operators change their behavior.

Each set of inputs has a special value in one element of every floating-point input without a declared range, so that
the effect of one element is visible: zero of both signs, a subnormal, the largest number, infinities, nan. Ties are
separate sets: many equal elements, whose order torch does not define.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch

from gradport.eager.joint import Joint, Slot
from gradport.subject.ports import Role

__all__ = ["edges", "largest", "layouts", "set_one_element", "specials", "ties"]

Tensors = dict[Slot, torch.Tensor]
Change = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def specials(dtype: torch.dtype) -> dict[str, float]:
    """The special values of a floating-point dtype, by name."""
    limits = torch.finfo(dtype)
    return {
        "a zero": 0.0,
        "a negative zero": -0.0,
        "nan": float("nan"),
        "inf": float("inf"),
        "-inf": float("-inf"),
        "a subnormal": limits.smallest_normal / 4,
    }


def largest(dtype: torch.dtype) -> dict[str, float]:
    """The largest and smallest finite values of a floating-point dtype, by name."""
    limits = torch.finfo(dtype)
    return {"the largest number": limits.max, "the largest negative number": limits.min}


def edges(
    joint: Joint,
    plain: Mapping[Slot, torch.Tensor],
    generator: torch.Generator,
    values: Callable[[torch.dtype], Mapping[str, float]],
) -> Iterator[tuple[str, Tensors]]:
    """Yields sets of inputs with an edge value in one element, each with a description; none if the Subject's `inputs`
    is a callable.

    Args:
        joint: the function of the inputs.
        plain: inputs without edge values.
        generator: draws the elements.
        values: `specials` or `largest`.
    """
    yield from _change(joint, plain, generator, {name: _set_special(name, values) for name in values(torch.float32)})


def ties(joint: Joint, plain: Mapping[Slot, torch.Tensor], generator: torch.Generator) -> Iterator[tuple[str, Tensors]]:
    """Yields sets of inputs with many equal elements: zeros of both signs, multiples of 1/2, equal rows."""
    changes: dict[str, Change] = {
        "zeros": lambda t, g: _set_half(t, 0.0, g),
        "negative zeros": lambda t, g: _set_half(t, -0.0, g),
        "ties": lambda t, g: (2 * t).round() / 2,
        "equal rows": lambda t, g: t[..., :1].expand_as(t).clone() if t.dim() and t.shape[-1] else t,
    }
    yield from _change(joint, plain, generator, changes)


def _change(
    joint: Joint, plain: Mapping[Slot, torch.Tensor], generator: torch.Generator, changes: Mapping[str, Change]
) -> Iterator[tuple[str, Tensors]]:
    free = _undeclared(joint, plain)
    if not free:
        return
    for name, change in changes.items():
        yield (
            f"{name} in {', '.join(slot.name for slot in free)}",
            {slot: change(tensor, generator) if slot in free else tensor for slot, tensor in plain.items()},
        )


def layouts(plain: Mapping[Slot, torch.Tensor]) -> Iterator[tuple[str, Tensors]]:
    """Yields the same values with other strides: the last two axes transposed in memory."""
    wide = [slot for slot, tensor in plain.items() if slot.role in (Role.ARGUMENT, Role.TARGET) and _is_wide(tensor)]
    if wide:
        yield (
            f"{', '.join(slot.name for slot in wide)} transposed in memory",
            {slot: tensor.mT.contiguous().mT if slot in wide else tensor for slot, tensor in plain.items()},
        )


def set_one_element(tensor: torch.Tensor, value: float, generator: torch.Generator) -> torch.Tensor:
    """A copy with `value` in one random element."""
    changed = tensor.detach().clone()
    if changed.numel():
        changed.view(-1)[int(torch.randint(0, changed.numel(), (1,), generator=generator))] = value
    return changed


def _undeclared(joint: Joint, plain: Mapping[Slot, torch.Tensor]) -> list[Slot]:
    """The floating-point arguments and targets without an entry in the Subject's `inputs`."""
    ranges = joint.subject.inputs
    if callable(ranges):
        return []
    return [
        slot
        for slot, tensor in plain.items()
        if slot.role in (Role.ARGUMENT, Role.TARGET) and tensor.is_floating_point() and slot.name not in (ranges or {})
    ]


def _set_special(name: str, values: Callable[[torch.dtype], Mapping[str, float]]) -> Change:
    return lambda tensor, generator: set_one_element(tensor.contiguous(), values(tensor.dtype)[name], generator)


def _set_half(tensor: torch.Tensor, value: float, generator: torch.Generator) -> torch.Tensor:
    return torch.where(torch.rand(tensor.shape, generator=generator) < 0.5, value, tensor).to(tensor.dtype)


def _is_wide(tensor: torch.Tensor) -> bool:
    return tensor.dim() >= 2 and min(tensor.shape[-2:]) > 1
