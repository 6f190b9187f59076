"""Replaces the input specs of a Subject by example tensors, so that it can run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gradport.eager.joint import every_gradient
from gradport.errors import SpecError
from gradport.subject.leaves import replace_leaves
from gradport.subject.ports import Role
from gradport.subject.signature import bind
from gradport.subject.spec import Dim, InputSpec
from gradport.subject.subject import Subject

__all__ = ["has_dynamic", "with_every_gradient", "with_example"]

_FIRST_SIZE = 4


def with_example(subject: Subject, seed: int = 0) -> Subject:
    """The Subject with a tensor for every spec; named dimensions become dynamic, ranges become its `inputs`.

    A named dimension without an example size gets a unique size (4, 5, ...), so that no two are equal by accident.

    Raises:
        SpecError: one dimension has two example sizes.
    """
    bound = bind(subject)
    specs = [
        (argument, kind)
        for kind, arguments in ((Role.ARGUMENT, bound.arguments), (Role.TARGET, bound.targets))
        for argument in arguments
        if isinstance(argument.value, InputSpec)
    ]
    if not specs:
        return subject
    sizes = _sizes([argument.value for argument, _ in specs])
    generator = torch.Generator().manual_seed(seed)
    arguments: dict[Any, Any] = {}
    targets: dict[Any, Any] = {}
    shapes: dict[str, Any] = {}
    ranges: dict[str, Any] = {}
    for argument, kind in specs:
        spec: InputSpec = argument.value
        tensor = draw(spec, sizes, generator)
        (arguments if kind == Role.ARGUMENT else targets)[argument.path] = tensor
        axes = {axis: dim.name for axis, dim in enumerate(spec.dims) if dim.name}
        if axes:
            shapes[argument.name] = axes
        if spec.range:
            ranges[argument.name] = spec.range
    structure = replace_leaves({"args": subject.args, "kwargs": subject.kwargs}, arguments)
    return subject.replace(
        args=structure["args"],
        kwargs=structure["kwargs"],
        targets=replace_leaves(subject.targets, targets),
        dynamic_shapes=_merge(subject.dynamic_shapes, shapes),
        inputs=subject.inputs if callable(subject.inputs) else {**ranges, **(subject.inputs or {})} or None,
    )


def with_every_gradient(subject: Subject) -> Subject:
    """The Subject with all available gradients as its `wrt`, unless it has one."""
    return subject if subject.wrt is not None else subject.replace(wrt=every_gradient(with_example(subject)))


def draw(spec: InputSpec, sizes: Mapping[str, int], generator: torch.Generator) -> torch.Tensor:
    """Draws a tensor for a spec: uniform in its range; without a range standard normal, or integers in 0..10.

    Raises:
        SpecError: the tensor does not fit into memory.
    """
    try:
        return _draw(spec, sizes, generator)
    except (RuntimeError, MemoryError) as error:
        raise SpecError(
            f"The input spec {spec.text!r} needs more memory than this machine has; give smaller sizes."
        ) from error


def _draw(spec: InputSpec, sizes: Mapping[str, int], generator: torch.Generator) -> torch.Tensor:
    shape = [sizes[dim.name] if dim.name else dim.size for dim in spec.dims]
    dtype = spec.dtype
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.5  # type: ignore[arg-type]
    if not (dtype.is_floating_point or dtype.is_complex):
        low, high = spec.range or (0, 10)
        return torch.randint(int(low), max(int(high), int(low) + 1), shape, generator=generator).to(dtype)  # type: ignore[arg-type]
    if spec.range:
        low, high = spec.range
        unit = torch.rand(shape, generator=generator, dtype=torch.float64)  # type: ignore[arg-type]
        return (low + (high - low) * unit).to(dtype)
    if dtype.is_complex:
        return torch.randn(shape, generator=generator, dtype=torch.complex128).to(dtype)  # type: ignore[arg-type]
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)  # type: ignore[arg-type]


def _sizes(specs: list[InputSpec]) -> dict[str, int]:
    named: dict[str, Dim] = {}
    for dim in (dim for spec in specs for dim in spec.dims if dim.name):
        assert dim.name is not None
        known = named.get(dim.name)
        if known and known.size and dim.size and known.size != dim.size:
            raise SpecError(f"The dimension {dim.name!r} has two example sizes, {known.size} and {dim.size}.")
        if known is None or known.size is None:
            named[dim.name] = dim
    used = {dim.size for dim in named.values() if dim.size}
    sizes: dict[str, int] = {}
    for name, dim in named.items():
        size = dim.size
        if size is None:
            size = next(candidate for candidate in range(_FIRST_SIZE, 10_000) if candidate not in used)
            used.add(size)
        sizes[name] = size
    return sizes


def _merge(declared: Any, shapes: dict[str, Any]) -> Any:
    if declared is None:
        return shapes or None
    if isinstance(declared, Mapping):
        return {**shapes, **declared}
    if shapes:
        raise SpecError("Give dynamic dimensions either in the input specs or as a tuple in dynamic_shapes, not both.")
    return declared


def has_dynamic(subject: Subject) -> bool:
    """Whether the Subject has a dynamic dimension."""
    return bool(with_example(subject).dynamic_shapes)
