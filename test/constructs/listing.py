"""Constructs of users' code that have been refused or wrong once, each with what happens now."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch


@dataclasses.dataclass(frozen=True)
class Construct:
    """One construct.

    Attributes:
        name: how the construct is written.
        make: gives the subject, its arguments and the options of `export`; with an `optimizer` among these, those of
            `export_step`.
        refused: what the refusal says, a regular expression; None where the construct is exported.
    """

    name: str
    make: Callable[[], tuple[Any, Any, dict[str, Any]]]
    refused: str | None = None


NOT_WITH = {(2, 11): ("y[2:, 0] = x[2:, 1]", "combinations", "pdist", "rfft at dynamic length")}
"""Constructs that a minor version of torch refuses: 2.11 compares the sizes of such slices with 1 and with each other,
which later versions leave open."""


class Listing:
    """The constructs of one file."""

    def __init__(self) -> None:
        self._found: list[Construct] = []

    def __iter__(self) -> Iterator[Construct]:
        return iter(self._found)

    def add(self, name: str, refused: str | None = None) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
        """Registers what makes a construct."""

        def register(make: Callable[[], Any]) -> Callable[[], Any]:
            self._found.append(Construct(name, make, refused))
            return make

        return register

    def of(self, name: str, subject: Any, args: Any, refused: str | None = None, **options: Any) -> None:
        """Registers a construct whose subject is at hand; gradients by the inputs unless `options` says otherwise."""
        self._found.append(Construct(name, lambda: (subject, args, {"wrt": "inputs", **options}), refused))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard-normal numbers, the same on each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
