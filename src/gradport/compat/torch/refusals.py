"""Why a trace stopped, as the exceptions of torch's fake tensors tell it.

Private in torch, and used here: `DataDependentOutputException`, `DynamicOutputShapeException`,
`UnsupportedOperatorException` of `torch._subclasses.fake_tensor`, each with its operator in `func`, and
`GuardOnDataDependentSymNode` of `torch.fx.experimental.symbolic_shapes`.
"""

from __future__ import annotations

import re
from typing import Any

from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

__all__ = ["operator_of_unknown_size", "operator_without_fake", "reads_a_value"]

_READS = (DataDependentOutputException, GuardOnDataDependentSymNode)
_READS_TEXT = re.compile(r"data.dependent|value out of a tracing tensor|_local_scalar_dense", re.IGNORECASE)


def reads_a_value(error: Exception) -> bool:
    """Whether the code asked for a value that depends on an input."""
    return isinstance(error, _READS) or _READS_TEXT.search(str(error)) is not None


def operator_of_unknown_size(error: Exception) -> Any:
    """The operator whose result has a size that depends on values; None where that was not the reason."""
    return error.func if isinstance(error, DynamicOutputShapeException) else None


def operator_without_fake(error: Exception) -> Any:
    """The operator that has no fake kernel; None where that was not the reason."""
    return error.func if isinstance(error, UnsupportedOperatorException) else None
