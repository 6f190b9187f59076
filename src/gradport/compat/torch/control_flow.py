"""torch.cond, scan and while_loop without the compilation that torch puts in front of them in eager.

Private in torch, and used here:
- `torch._higher_order_ops.utils._hop_compile_and_call`: where operators with bodies are compiled;
- `torch._ops.HigherOrderOperator`: the class of such operators.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch._higher_order_ops import utils as control_flow_utils

__all__ = ["called_directly"]


@contextlib.contextmanager
def called_directly() -> Iterator[None]:
    """torch.cond, scan and while_loop call their operator itself, where in eager they would compile it first."""
    compiles = control_flow_utils._hop_compile_and_call
    control_flow_utils._hop_compile_and_call = lambda fn, args, kwargs=None: fn(*args, **(kwargs or {}))
    try:
        yield
    finally:
        control_flow_utils._hop_compile_and_call = compiles
