"""Edge values: inputs that stand where operators change their minds.

Each set takes a plain one and puts a special value into one element of every floating-point input whose range is not
said, so that what it spreads to can be seen: zero of both signs, a subnormal, the largest number, infinities, nan. Ties
are sets of their own: equal elements in many places, whose order torch leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch

from gradport.eager.joint import Joint, Slot
from gradport.subject.ports import Role

__all__ = ["edges", "in_one_element", "largest", "layouts", "specials", "ties"]

Tensors = dict[Slot, torch.Tensor]
Change = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def specials(dtype: torch.dtype) -> dict[str, float]:
    """The special values of a floating-point dtype, by what they are called."""
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
    """The ends of the range of a floating-point dtype, by what they are called."""
    limits = torch.finfo(dtype)
    return {"the largest number": limits.max, "the largest negative number": limits.min}


def edges(
    joint: Joint,
    plain: Mapping[Slot, torch.Tensor],
    generator: torch.Generator,
    values: Callable[[torch.dtype], Mapping[str, float]],
) -> Iterator[tuple[str, Tensors]]:
    """Sets of inputs with an edge value in one element, and what each holds; none where the Subject's `inputs` is a
    callable.

    Args:
        joint: whose inputs they are.
        plain: a set without edge values.
        generator: draws the places.
        values: `specials` or `largest`.
    """
    yield from _change(joint, plain, generator, {name: _special(name, values) for name in values(torch.float32)})


def ties(joint: Joint, plain: Mapping[Slot, torch.Tensor], generator: torch.Generator) -> Iterator[tuple[str, Tensors]]:
    """Sets of inputs many of whose elements are equal: zeros of both signs, multiples of a half, equal rows."""
    changes: dict[str, Change] = {
        "zeros": lambda t, g: _in_half(t, 0.0, g),
        "negative zeros": lambda t, g: _in_half(t, -0.0, g),
        "ties": lambda t, g: (2 * t).round() / 2,
        "equal rows": lambda t, g: t[..., :1].expand_as(t).clone() if t.dim() and t.shape[-1] else t,
    }
    yield from _change(joint, plain, generator, changes)


def _change(
    joint: Joint, plain: Mapping[Slot, torch.Tensor], generator: torch.Generator, changes: Mapping[str, Change]
) -> Iterator[tuple[str, Tensors]]:
    free = _free(joint, plain)
    if not free:
        return
    for name, change in changes.items():
        yield (
            f"{name} in {', '.join(slot.name for slot in free)}",
            {slot: change(tensor, generator) if slot in free else tensor for slot, tensor in plain.items()},
        )


def layouts(plain: Mapping[Slot, torch.Tensor]) -> Iterator[tuple[str, Tensors]]:
    """The same values with other strides: the last two axes transposed in memory."""
    wide = [slot for slot, tensor in plain.items() if slot.role in (Role.ARGUMENT, Role.TARGET) and _is_wide(tensor)]
    if wide:
        yield (
            f"{', '.join(slot.name for slot in wide)} transposed in memory",
            {slot: tensor.mT.contiguous().mT if slot in wide else tensor for slot, tensor in plain.items()},
        )


def in_one_element(tensor: torch.Tensor, value: float, generator: torch.Generator) -> torch.Tensor:
    """A copy that holds `value` at a drawn place."""
    changed = tensor.detach().clone()
    if changed.numel():
        changed.view(-1)[int(torch.randint(0, changed.numel(), (1,), generator=generator))] = value
    return changed


def _free(joint: Joint, plain: Mapping[Slot, torch.Tensor]) -> list[Slot]:
    """The floating-point arguments and targets that nothing is said of."""
    said = joint.subject.inputs
    if callable(said):
        return []
    return [
        slot
        for slot, tensor in plain.items()
        if slot.role in (Role.ARGUMENT, Role.TARGET) and tensor.is_floating_point() and slot.name not in (said or {})
    ]


def _special(name: str, values: Callable[[torch.dtype], Mapping[str, float]]) -> Change:
    return lambda tensor, generator: in_one_element(tensor.contiguous(), values(tensor.dtype)[name], generator)


def _in_half(tensor: torch.Tensor, value: float, generator: torch.Generator) -> torch.Tensor:
    return torch.where(torch.rand(tensor.shape, generator=generator) < 0.5, value, tensor).to(tensor.dtype)


def _is_wide(tensor: torch.Tensor) -> bool:
    return tensor.dim() >= 2 and min(tensor.shape[-2:]) > 1
