"""Writes static arguments of a Function as attributes of its opaque nodes."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch

from gradport.errors import Refusal
from gradport.subject.signature import source_of
from gradport.tracing import Region

__all__ = ["static_attributes"]


def static_attributes(forward: Region, names: list[str]) -> list[ir.Attr]:
    """int and bool as INT, float as FLOAT, str, dtype and device as STRING, flat tuples as the plural; None is omitted.

    Raises:
        ExportError: an argument has another type.
    """
    attributes = []
    for position, value in forward.statics.items():
        if value is None:
            continue
        attribute = _attribute(names[position], value)
        if attribute is None:
            file, line = source_of(forward.function)
            subject = f"{forward.function.__qualname__} ({file}:{line})"
            about = {"argument": names[position], "value": f"{value!r:.60}", "type": type(value).__name__}
            raise Refusal.NO_ATTRIBUTE.error(subject, **about)
        attributes.append(attribute)
    return attributes


def _attribute(name: str, value: Any) -> ir.Attr | None:
    scalar = _scalar(value)
    if scalar is not None:
        kind, plain = scalar
        return ir.Attr(name, kind, plain)
    if not isinstance(value, (tuple, list)) or not value:
        return None
    scalars = [_scalar(item) for item in value]
    kinds = {item[0] for item in scalars if item is not None}
    if None in scalars or len(kinds) != 1:
        return None
    plural = {
        ir.AttributeType.INT: ir.AttributeType.INTS,
        ir.AttributeType.FLOAT: ir.AttributeType.FLOATS,
        ir.AttributeType.STRING: ir.AttributeType.STRINGS,
    }
    return ir.Attr(name, plural[kinds.pop()], [item[1] for item in scalars if item is not None])


def _scalar(value: Any) -> tuple[ir.AttributeType, Any] | None:
    if isinstance(value, (bool, int)):
        return ir.AttributeType.INT, int(value)
    if isinstance(value, float):
        return ir.AttributeType.FLOAT, value
    if isinstance(value, str):
        return ir.AttributeType.STRING, value
    if isinstance(value, (torch.dtype, torch.device)):
        return ir.AttributeType.STRING, str(value)
    return None
