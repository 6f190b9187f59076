"""Memory: inputs that failed once, kept in Hypothesis's example database and tried first the next time.

The database is the one of the active settings profile: `.hypothesis/` in the current folder, none in CI. Hypothesis
keeps draws there; these are the inputs themselves, so that they outlive a change of how inputs are drawn. An entry
belongs to a target, its declaration and its declared ranges: with other ranges it is not found.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from hypothesis import settings
from hypothesis.database import InMemoryExampleDatabase

from gradport.eager.joint import Joint, Slot
from gradport.subject.ports import Role
from gradport.subject.signature import source_of

__all__ = ["HOW_TO_FORGET", "Memory", "pack", "recorded", "replay"]

HOW_TO_FORGET = "remembered in Hypothesis's example database, .hypothesis/ by default; delete that folder to forget it"

Tensors = dict[Slot, torch.Tensor]

Change = tuple[str, bytes, bytes]
"""`save` or `delete`, the key, the entry."""

_records: list[list[Change]] = []


@contextlib.contextmanager
def recorded() -> Iterator[list[Change]]:
    """While open, every change of the memory is noted, so that another process can repeat it."""
    changes: list[Change] = []
    _records.append(changes)
    try:
        yield changes
    finally:
        _records.remove(changes)


def replay(changes: Iterable[Change]) -> None:
    """Repeats changes that another process made to its copy of a database that lives in memory."""
    database = settings().database
    if not isinstance(database, InMemoryExampleDatabase):
        return
    for change, key, entry in changes:
        (database.save if change == "save" else database.delete)(key, entry)


class Memory:
    """The inputs of one subject that failed one question, in Hypothesis's example database."""

    def __init__(self, joint: Joint, question: str) -> None:
        subject = joint.subject
        file, _ = source_of(subject.target)
        self._database = settings().database
        self._key = (
            f"gradport {file} {subject.name} {subject.expect!r} {_describe_inputs(subject.inputs)} {question}".encode()
        )
        self._slots = {slot.name: slot for slot in joint.examples() if slot.role in (Role.ARGUMENT, Role.TARGET)}

    def keep(self, tensors: Tensors) -> None:
        """Remembers an input."""
        self._change("save", pack(tensors))

    def recalled(self, condition: Callable[[Tensors], bool]) -> Tensors | None:
        """An input that fails again, or None; those that do not any more are forgotten."""
        if self._database is None:
            return None
        for entry in list(self._database.fetch(self._key)):
            tensors = self._unpacked(entry)
            if tensors is not None and condition(tensors):
                return tensors
            self._change("delete", entry)
        return None

    def _change(self, change: str, entry: bytes) -> None:
        if self._database is None:
            return
        (self._database.save if change == "save" else self._database.delete)(self._key, entry)
        for changes in _records:
            changes.append((change, self._key, entry))

    def _unpacked(self, entry: bytes) -> Tensors | None:
        """None where the subject has other inputs by now."""
        try:
            entries = json.loads(entry)
            return {
                self._slots[name]: torch.tensor(_numbers(values), dtype=getattr(torch, dtype)).reshape(shape)
                for name, dtype, shape, values in entries
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _describe_inputs(inputs: Any) -> str:
    """What a Subject says of its inputs, the same in every process."""
    if callable(inputs):
        return getattr(inputs, "__qualname__", type(inputs).__qualname__)
    return repr(sorted((inputs or {}).items(), key=lambda item: str(item[0])))


def pack(tensors: Tensors) -> bytes:
    """Tensors by name as JSON: equal bytes mean equal inputs."""
    return json.dumps(
        [
            (slot.name, _dtype(tensor), list(tensor.shape), _plain(tensor.detach().reshape(-1).tolist()))
            for slot, tensor in tensors.items()
        ]
    ).encode()


def _plain(values: list[Any]) -> list[Any]:
    return [[value.real, value.imag] if isinstance(value, complex) else value for value in values]


def _numbers(values: list[Any]) -> list[Any]:
    return [complex(*value) if isinstance(value, list) else value for value in values]


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
