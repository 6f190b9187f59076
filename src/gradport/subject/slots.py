"""Slots: the tensors that go into a Subject, each by what it is for and its name."""

from __future__ import annotations

import dataclasses

__all__ = ["Slot"]


@dataclasses.dataclass(frozen=True)
class Slot:
    """One tensor that goes in, by what it is for and its name: kind is argument, target, parameter or buffer; of what
    is differentiated by, also activation; in a training step, also state and lr."""

    kind: str
    name: str
