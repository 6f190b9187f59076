"""Memory: inputs that failed once, kept in Hypothesis's example database and tried first the next time.

The database is that of the active settings profile: `.hypothesis/` in the current folder, none in CI. Hypothesis keeps
its draws there; gradport keeps the inputs themselves, which stay valid if the way of drawing changes. An entry belongs
to a target, its declaration and its declared ranges; other ranges do not find it.
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

__all__ = ["HOW_TO_FORGET", "Memory", "pack", "record_changes", "replay"]

HOW_TO_FORGET = "remembered in Hypothesis's example database, .hypothesis/ by default; delete that folder to forget it"

Tensors = dict[Slot, torch.Tensor]

Change = tuple[str, bytes, bytes]
"""`save` or `delete`, the key, and the entry."""

_records: list[list[Change]] = []


@contextlib.contextmanager
def record_changes() -> Iterator[list[Change]]:
    """Records every change of the memory while open, so that another process can repeat it."""
    changes: list[Change] = []
    _records.append(changes)
    try:
        yield changes
    finally:
        _records.remove(changes)


def replay(changes: Iterable[Change]) -> None:
    """Repeats the changes of another process's copy of an in-memory database."""
    database = settings().database
    if not isinstance(database, InMemoryExampleDatabase):
        return
    for change, key, entry in changes:
        (database.save if change == "save" else database.delete)(key, entry)


class Memory:
    """The failing inputs of one subject and one question, in Hypothesis's example database."""

    def __init__(self, joint: Joint, question: str) -> None:
        subject = joint.subject
        file, _ = source_of(subject.target)
        self._database = settings().database
        self._key = (
            f"gradport {file} {subject.name} {subject.expect!r} {_describe_inputs(subject.inputs)} {question}".encode()
        )
        self._slots = {slot.name: slot for slot in joint.examples() if slot.role in (Role.ARGUMENT, Role.TARGET)}

    def keep(self, tensors: Tensors) -> None:
        """Saves an input."""
        self._change("save", pack(tensors))

    def recall(self, condition: Callable[[Tensors], bool]) -> Tensors | None:
        """A saved input that still satisfies the condition, or None; inputs that no longer do are deleted."""
        if self._database is None:
            return None
        for entry in list(self._database.fetch(self._key)):
            tensors = self._unpack(entry)
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

    def _unpack(self, entry: bytes) -> Tensors | None:
        """The input of an entry; None if the subject's inputs have changed."""
        try:
            entries = json.loads(entry)
            return {
                self._slots[name]: torch.tensor(_numbers(values), dtype=getattr(torch, dtype)).reshape(shape)
                for name, dtype, shape, values in entries
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _describe_inputs(inputs: Any) -> str:
    """A Subject's `inputs` as text, equal in every process."""
    if callable(inputs):
        return getattr(inputs, "__qualname__", type(inputs).__qualname__)
    return repr(sorted((inputs or {}).items(), key=lambda item: str(item[0])))


def pack(tensors: Tensors) -> bytes:
    """Packs tensors by name as JSON; equal bytes are equal inputs."""
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
