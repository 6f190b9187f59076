"""Warms up torch's compiler, whose first use in a process takes seconds.

A worker is a fork of this process, so it inherits a compiler that was used before the fork.
"""

from __future__ import annotations

import contextlib
import itertools

import torch

from gradport.compat.quiet import quiet
from gradport.compat.torch.tracing import restore_validation

__all__ = ["warm_up"]

_CHECKS = itertools.count()


def warm_up() -> None:
    """Compiles a small function at the second check of this process; a single check would gain nothing from it."""
    if next(_CHECKS) != 1:
        return
    with quiet(), restore_validation(), contextlib.suppress(Exception):  # a rule reports if torch cannot compile
        compiled = torch.compile(lambda x: x * 2, backend="aot_eager")
        compiled(torch.ones(2, requires_grad=True)).sum().backward()
        torch.compiler.reset()
