"""Walks nested arguments and results: lists their leaves with paths, and replaces leaves.

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
    """All leaves with their paths, depth first, in the order of the container."""
    entries = children(value)
    if entries is None:
        yield path, value
        return
    for key, item in entries:
        yield from leaves(item, (*path, key))


def replace_leaves(value: Any, by_path: Mapping[Path, object], path: Path = ()) -> Any:
    """A copy of `value` in which the leaves at the paths of `by_path` are replaced; the original does not change."""
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
    """A copy of `value` with `change` applied to every leaf; the original does not change."""
    return replace_leaves(value, {path: change(leaf) for path, leaf in leaves(value)})


def _is_record(value: Any) -> bool:
    """Whether a value is a dataclass instance, except an input spec, which stands for a tensor."""
    return dataclasses.is_dataclass(value) and not isinstance(value, (type, InputSpec))


def join_path(root: str, path: Path) -> str:
    """Joins a root and a path: `x` and `(0, "key")` give `x.0.key`."""
    return ".".join([root, *map(str, path)])
