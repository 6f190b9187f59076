"""Memory: inputs that failed once, kept in Hypothesis's example database and tried first the next time.

The database is the one of the active settings profile: `.hypothesis/` in the current folder, none in CI. Hypothesis
keeps draws there; these are the inputs themselves, so that they outlive a change of how inputs are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import settings

from gradport.joint import Joint, Slot
from gradport.signature import source_of

__all__ = ["Memory", "packed"]

Tensors = dict[Slot, torch.Tensor]


class Memory:
    """The inputs of one subject that failed one question, in Hypothesis's example database."""

    def __init__(self, joint: Joint, question: str) -> None:
        subject = joint.subject
        file, _ = source_of(subject.target)
        self._database = settings().database
        self._key = f"gradport {file} {subject.name} {subject.expect!r} {question}".encode()
        self._slots = {slot.name: slot for slot in joint.examples() if slot.kind in ("argument", "target")}

    def keep(self, tensors: Tensors) -> None:
        """Remembers an input."""
        if self._database is not None:
            self._database.save(self._key, packed(tensors))

    def recalled(self, condition: Callable[[Tensors], bool]) -> Tensors | None:
        """An input that fails again, or None; those that do not any more are forgotten."""
        if self._database is None:
            return None
        for entry in list(self._database.fetch(self._key)):
            tensors = self._unpacked(entry)
            if tensors is not None and condition(tensors):
                return tensors
            self._database.delete(self._key, entry)
        return None

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


def packed(tensors: Tensors) -> bytes:
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
