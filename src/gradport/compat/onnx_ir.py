"""onnx-ir: signatures of ONNX operators, which it works out anew at every node.

Replaced here: `onnx_ir.schemas.OpSignature.from_op_schema`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import onnx
import onnx_ir as ir

__all__ = ["remember_signatures"]


@contextlib.contextmanager
def remember_signatures() -> Iterator[None]:
    """The signature of an ONNX operator is worked out once, not at every node."""
    work_out = ir.schemas.OpSignature.from_op_schema

    @functools.cache
    def remembered(name: str, domain: str, since: int) -> Any:
        return work_out(onnx.defs.get_schema(name, since, domain))

    ir.schemas.OpSignature.from_op_schema = staticmethod(  # type: ignore[method-assign, assignment]
        lambda schema: remembered(schema.name, schema.domain, schema.since_version)
    )
    try:
        yield
    finally:
        ir.schemas.OpSignature.from_op_schema = work_out  # type: ignore[method-assign]
