"""torch's compiler takes seconds for its first use in a process. A worker is a copy of this process, so it is used here
once where several checks are made, and each worker begins with a warm one."""

from __future__ import annotations

import contextlib
import itertools

import torch

from gradport.compat.quiet import quiet
from gradport.compat.torch.tracing import restore_validation

__all__ = ["warm_up"]

_CHECKS = itertools.count()


def warm_up() -> None:
    """Compiles something small at the second check of this process: one check alone would only wait for it."""
    if next(_CHECKS) != 1:
        return
    with quiet(), restore_validation(), contextlib.suppress(Exception):  # where torch cannot compile, a rule says so
        compiled = torch.compile(lambda x: x * 2, backend="aot_eager")
        compiled(torch.ones(2, requires_grad=True)).sum().backward()
        torch.compiler.reset()
