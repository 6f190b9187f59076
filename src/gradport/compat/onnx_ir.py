"""onnx-ir: signatures of ONNX operators, which onnx-ir computes again for every node.

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
    """Caches the signature of each ONNX operator while open."""
    compute = ir.schemas.OpSignature.from_op_schema

    @functools.cache
    def cached(name: str, domain: str, since: int) -> Any:
        return compute(onnx.defs.get_schema(name, since, domain))

    ir.schemas.OpSignature.from_op_schema = staticmethod(  # type: ignore[method-assign, assignment]
        lambda schema: cached(schema.name, schema.domain, schema.since_version)
    )
    try:
        yield
    finally:
        ir.schemas.OpSignature.from_op_schema = compute  # type: ignore[method-assign]
