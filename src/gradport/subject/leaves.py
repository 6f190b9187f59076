"""Walks nested arguments and results: what their leaves are, where they stand, and how to put others in their place.

Containers are lists, tuples, mappings and dataclass instances; everything else is a leaf.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gradport.subject.spec import InputSpec

__all__ = ["Path", "children", "join_path", "leaves", "map_leaves", "replace_leaves"]

Path = tuple[str | int, ...]


def children(value: Any) -> list[tuple[str | int, Any]] | None:
    """The entries of a container with their keys, or None for a leaf."""
    if isinstance(value, Mapping):
        return [(key if isinstance(key, int) else str(key), item) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if _is_record(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return None


def leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every leaf with its path, depth first, in the container's own order."""
    entries = children(value)
    if entries is None:
        yield path, value
        return
    for key, item in entries:
        yield from leaves(item, (*path, key))


def replace_leaves(value: Any, by_path: Mapping[Path, object], path: Path = ()) -> Any:
    """A copy of `value` in which the leaves at the paths of `by_path` are replaced; the original is untouched."""
    if path in by_path:
        return by_path[path]
    if isinstance(value, Mapping):
        items = {
            key: replace_leaves(item, by_path, (*path, key if isinstance(key, int) else str(key)))
            for key, item in value.items()
        }
        if type(value) is dict:
            return items
        twin: Any = copy.copy(value)
        for key, item in items.items():
            twin[key] = item
        return twin
    if isinstance(value, (list, tuple)):
        items_ = [replace_leaves(item, by_path, (*path, index)) for index, item in enumerate(value)]
        return type(value)(*items_) if hasattr(value, "_fields") else type(value)(items_)
    if _is_record(value):
        fields = {
            field.name: replace_leaves(getattr(value, field.name), by_path, (*path, field.name))
            for field in dataclasses.fields(value)
            if field.init
        }
        return dataclasses.replace(value, **fields)
    return value


def map_leaves(change: Callable[[Any], Any], value: Any) -> Any:
    """A copy of `value` with every leaf changed; the original is untouched."""
    return replace_leaves(value, {path: change(leaf) for path, leaf in leaves(value)})


def _is_record(value: Any) -> bool:
    """A dataclass instance; an input spec is one too, but stands for a tensor."""
    return dataclasses.is_dataclass(value) and not isinstance(value, (type, InputSpec))


def join_path(root: str, path: Path) -> str:
    """`x` and `(0, "key")` give `x.0.key`."""
    return ".".join([root, *map(str, path)])
