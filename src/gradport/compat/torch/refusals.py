"""The reasons why a trace stopped, read from the exceptions of torch's fake tensors.

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
    """Whether the code read a value that depends on an input."""
    return isinstance(error, _READS) or _READS_TEXT.search(str(error)) is not None


def operator_of_unknown_size(error: Exception) -> Any:
    """The operator whose result has a data-dependent size; None for other errors."""
    return error.func if isinstance(error, DynamicOutputShapeException) else None


def operator_without_fake(error: Exception) -> Any:
    """The operator without a fake kernel; None for other errors."""
    return error.func if isinstance(error, UnsupportedOperatorException) else None
