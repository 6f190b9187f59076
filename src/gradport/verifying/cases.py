"""The inputs on which a model is compared with eager, plain inputs first."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from gradport.eager.dimensions import Dimensions, by_name
from gradport.eager.inputs import (
    draw_inputs,
    draw_inputs_within,
    edges,
    largest,
    layouts,
    set_one_element,
    shape_at,
    sizes_of,
    specials,
    ties,
)
from gradport.eager.joint import Joint
from gradport.errors import SpecError
from gradport.proving.answers import InputKind, InputSet

__all__ = ["case_sizes", "cases"]

_SIZES = (1, 2, 7, 0)

_LARGE = 257
"""A prime larger than the block size of any kernel."""

_ELEMENTS = 1 << 22
"""Maximum number of elements of inputs at larger sizes."""


def case_sizes(
    joint: Joint, dimensions: Dimensions, wanted: Mapping[str, Sequence[int]] | None
) -> dict[str, tuple[int, ...]]:
    """The sizes to try for every dynamic dimension: those of `wanted`, or 1, 2, 7, 0 and 257.

    Raises:
        SpecError: `wanted` names something that is not a dynamic dimension.
    """
    limits = by_name(dimensions)
    for name in wanted or {}:
        if name not in limits:
            raise SpecError(
                f"sizes names {name!r}, which is not a dynamic dimension of {joint.subject.name}; "
                f"it has {', '.join(limits) or 'none'}."
            )
    own = sizes_of(joint, dimensions)
    given = sum(argument.value.numel() for argument in (*joint.arguments, *joint.targets))
    return {
        name: tuple(
            size
            for size in (wanted or {}).get(name, (*_SIZES, *([_LARGE] * _is_small(given, own[name]))))
            if limit.admits(size)
        )
        for name, limit in limits.items()
    }


def cases(
    joint: Joint,
    dimensions: Dimensions,
    wanted: Mapping[str, Sequence[int]],
    generator: torch.Generator,
    *,
    fresh_ones: int = 3,
    overflowing: bool = True,
) -> Iterator[InputSet]:
    """Yields the example, random values at its sizes, each size of each dynamic dimension (then all at once), other
    strides, ties, and edge values in inputs and cotangents.

    Args:
        joint: the Joint that takes the inputs.
        dimensions: its dynamic dimensions.
        wanted: the sizes of each dynamic dimension.
        generator: of the random values.
        fresh_ones: number of sets of random values.
        overflowing: whether edge values include the largest number, which makes a tolerance meaningless.
    """
    for seed, case in enumerate(_list_inputs(joint, dimensions, wanted, generator, fresh_ones, overflowing)):
        yield dataclasses.replace(case, seed=seed)


def _list_inputs(
    joint: Joint,
    dimensions: Dimensions,
    wanted: Mapping[str, Sequence[int]],
    generator: torch.Generator,
    fresh_ones: int,
    overflowing: bool,
) -> Iterator[InputSet]:
    yield InputSet.example(joint)
    at_example = sizes_of(joint, dimensions)

    def draw_case(what: str, sizes: dict[str, int], *, empty: bool = False) -> InputSet:
        within = functools.partial(draw_inputs_within, joint, dimensions, sizes, generator)
        kind = InputKind.EDGE if empty else InputKind.PLAIN  # runtimes differ on the mean of an empty tensor
        return InputSet(what, draw_inputs(joint, dimensions, sizes, generator), kind, otherwise=within)

    for count in range(fresh_ones):
        yield draw_case(f"fresh values {count + 1}", at_example)
    for name, sizes in wanted.items():
        for size in sizes:
            yield draw_case(f"{name}={size}", {**at_example, name: size}, empty=size == 0)
    if len(wanted) > 1:
        for sizes in zip(*wanted.values(), strict=False):
            at_once = dict(zip(wanted, sizes, strict=True))
            if _elements(joint, dimensions, at_once) > _ELEMENTS:
                continue
            what = ", ".join(f"{n}={s}" for n, s in at_once.items())
            yield draw_case(what, at_once, empty=0 in at_once.values())
    plain = draw_inputs_within(joint, dimensions, at_example, generator)
    for what, tensors in layouts(plain):
        yield InputSet(what, tensors)
    for what, tensors in ties(joint, plain, generator):
        yield InputSet(what, tensors, InputKind.TIES)
    for what, tensors in edges(joint, plain, generator, specials):
        yield InputSet(what, tensors, InputKind.EDGE)
    for what, tensors in edges(joint, plain, generator, largest) if overflowing else ():
        yield InputSet(what, tensors, InputKind.EDGE, overflows=True)
    if joint.wanted and joint.subject.loss is None:
        for special in ("nan", "inf"):
            yield InputSet(
                f"{special} in the cotangents", plain, InputKind.EDGE, cotangent=_set_element(float(special))
            )


def _set_element(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda drawn: set_one_element(drawn, value, torch.Generator().manual_seed(0))


def _elements(joint: Joint, dimensions: Dimensions, sizes: Mapping[str, int]) -> int:
    """The number of input elements at these sizes."""
    return sum(math.prod(shape_at(a, dimensions, sizes)) for a in (*joint.arguments, *joint.targets))


def _is_small(elements: int, size: int) -> bool:
    return elements * _LARGE <= _ELEMENTS * max(size, 1)
