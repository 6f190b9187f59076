"""The table of dynamic dimensions, from torch.export's `dynamic_shapes` or the same flat by input name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from gradport.compat.torch.sizes import is_dimension_hint
from gradport.eager.joint import Joint
from gradport.errors import SpecError
from gradport.subject.expressions import is_name
from gradport.subject.signature import Argument

__all__ = ["Dimension", "Dimensions", "by_name", "resolve_dimensions"]


@dataclasses.dataclass(frozen=True)
class Dimension:
    """A dynamic dimension: its name and its limits (maximum None: no limit)."""

    name: str
    minimum: int = 0
    maximum: int | None = None

    def admits(self, size: int) -> bool:
        """Whether the size is within the limits."""
        return size >= self.minimum and (self.maximum is None or size <= self.maximum)


Dimensions = dict[str, dict[int, Dimension]]
"""For each input (argument or target) by name: its dynamic dimensions by axis."""


def by_name(dimensions: Dimensions) -> dict[str, Dimension]:
    """Every dynamic dimension once, by its name."""
    return {dimension.name: dimension for axes in dimensions.values() for dimension in axes.values()}


def resolve_dimensions(joint: Joint, dynamic_shapes: Any) -> Dimensions:
    """The table of dynamic dimensions; equal names are one dimension, in any input.

    Raises:
        SpecError: a name is not an input, an axis does not exist, a dimension is of an unsupported kind, or two
            examples give one dimension different sizes.
    """
    table: Dimensions = {}
    leaves = [*joint.arguments, *joint.targets]
    if dynamic_shapes is not None:
        for argument, spec in _assign(joint, leaves, dynamic_shapes):
            axes = _axes(argument, spec)
            if axes:
                table[argument.name] = axes
    _require_one_size_each(leaves, table)
    return table


def _assign(joint: Joint, leaves: list[Argument], dynamic_shapes: Any) -> list[tuple[Argument, Any]]:
    """Each tensor leaf with its entry of `dynamic_shapes`."""
    if isinstance(dynamic_shapes, Mapping):
        by_name = dict(dynamic_shapes)
    elif isinstance(dynamic_shapes, (tuple, list)):
        roots = list(dict.fromkeys(a.of for a in [*joint.arguments, *joint.statics] if a.path[0] == "args"))
        order = sorted(roots, key=lambda root: _position(joint, root))
        if len(dynamic_shapes) != len(order):
            raise SpecError(
                f"dynamic_shapes has {len(dynamic_shapes)} entries for the {len(order)} positional arguments "
                f"of {joint.subject.name} ({', '.join(order)})."
            )
        by_name = dict(zip(order, dynamic_shapes, strict=True))
    else:
        raise SpecError(f"dynamic_shapes must be a dict or a tuple, not {type(dynamic_shapes).__name__}.")
    known = {leaf.name for leaf in leaves} | {leaf.of for leaf in [*leaves, *joint.statics]}
    for name in by_name:
        if name not in known:
            raise SpecError(
                f"dynamic_shapes names {name!r}, which is not an input of {joint.subject.name}; "
                f"its inputs are {', '.join(leaf.name for leaf in leaves)}."
            )
    return [(leaf, _spec_of(leaf, by_name)) for leaf in leaves]


def _position(joint: Joint, root: str) -> int:
    return next(int(a.path[1]) for a in [*joint.arguments, *joint.statics] if a.of == root and a.path[0] == "args")


def _spec_of(leaf: Argument, by_name: Mapping[str, Any]) -> Any:
    """The entry of a leaf: under its own name, or inside the entry of its root argument."""
    if leaf.name in by_name:
        return by_name[leaf.name]
    spec = by_name.get(leaf.of)
    keys = leaf.name.removeprefix(leaf.of).lstrip(".")
    for key in keys.split(".") if keys else []:
        if spec is None:
            return None
        try:
            spec = spec[key] if isinstance(spec, Mapping) else spec[int(key)]
        except (KeyError, IndexError, ValueError, TypeError):
            raise SpecError(f"dynamic_shapes has no entry that fits the input {leaf.name!r}.") from None
    return spec


def _axes(argument: Argument, spec: Any) -> dict[int, Dimension]:
    if spec is None:
        return {}
    rank = argument.value.dim()
    if isinstance(spec, Mapping):
        entries = list(spec.items())
    elif isinstance(spec, (tuple, list)):
        if len(spec) != rank:
            raise SpecError(f"dynamic_shapes gives {len(spec)} dimensions for {argument.name!r}, which has {rank}.")
        entries = list(enumerate(spec))
    else:
        raise SpecError(f"dynamic_shapes for {argument.name!r} must be a dict or a tuple of dimensions, not {spec!r}.")
    axes = {}
    for axis, dimension in entries:
        if not isinstance(axis, int) or not -rank <= axis < rank:
            raise SpecError(f"dynamic_shapes names dimension {axis!r} of {argument.name!r}, which has {rank}.")
        resolved = _dimension(argument, axis % rank, dimension)
        if resolved is not None:
            axes[axis % rank] = resolved
    return axes


def _dimension(argument: Argument, axis: int, dimension: Any) -> Dimension | None:
    if dimension is None:
        return None
    if is_dimension_hint(dimension):
        return None if "STATIC" in str(dimension) else Dimension(f"{argument.name}_dim_{axis}")
    if isinstance(dimension, bool):
        raise SpecError(f"dynamic_shapes gives {dimension} for dimension {axis} of {argument.name!r}; give a name.")
    if isinstance(dimension, int):
        if dimension != argument.value.shape[axis]:
            raise SpecError(
                f"dynamic_shapes fixes dimension {axis} of {argument.name!r} at {dimension}, "
                f"but its example has {argument.value.shape[axis]}."
            )
        return None
    if isinstance(dimension, str):
        if not is_name(dimension):
            raise SpecError(
                f"dynamic_shapes names dimension {axis} of {argument.name!r} {dimension!r}; a name is made of letters, "
                "digits, '_' and '.', does not begin with a digit, and is not max or min."
            )
        return Dimension(dimension)
    if isinstance(dimension, torch.export.Dim):
        if type(dimension) is not torch.export.Dim:
            raise SpecError(
                f"Dimension {axis} of {argument.name!r} is {dimension}, derived from another dimension; "
                "give it its own name."
            )
        maximum = dimension.max
        unlimited = not isinstance(maximum, int) or maximum >= 2**31 - 1
        return Dimension(dimension.__name__, int(dimension.min), None if unlimited else maximum)
    raise SpecError(
        f"dynamic_shapes gives {dimension!r} for dimension {axis} of {argument.name!r}; "
        "a dimension is None, an int, a name or a torch.export.Dim."
    )


def _require_one_size_each(leaves: list[Argument], table: Dimensions) -> None:
    sizes: dict[str, tuple[int, str]] = {}
    for leaf in leaves:
        for axis, dimension in table.get(leaf.name, {}).items():
            size = int(leaf.value.shape[axis])
            first, where = sizes.setdefault(dimension.name, (size, leaf.name))
            if size != first:
                raise SpecError(
                    f"The dimension {dimension.name!r} is {first} in {where!r} and {size} in {leaf.name!r}; "
                    "one name is one size."
                )
            if not dimension.admits(size):
                raise SpecError(f"The example size {size} of {dimension.name!r} in {leaf.name!r} is outside its range.")
