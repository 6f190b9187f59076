"""The inference model of a bundle: prediction with its weights as external data of one file at fixed offsets.

The name of that file in the model is a placeholder; a runtime writes the weights and puts a name of the same length in
its place, so that it needs no ONNX library. https://onnx.ai/onnx/repo-docs/ExternalData.html
"""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir
from gradport_runtime.exports import PLACEHOLDER

from gradport.model.program import Program
from gradport.subject.ports import Role

__all__ = ["as_inference"]

_ALIGNMENT = 64


def as_inference(predict: Program) -> tuple[ir.Model, dict[str, Any]]:
    """The model, and where each weight lies in the data file: `{"bytes": n, "tensors": [{"name", "offset"}]}`."""
    model = predict.model.clone()
    roles = {spec.name: spec for spec in predict.inputs}
    tensors, offset = [], 0
    for value in list(model.graph.inputs):
        spec = roles[str(value.name)]
        if spec.role is not Role.STATE:
            continue
        model.graph.inputs.remove(value)
        assert value.dtype is not None and value.shape is not None
        size = int(value.dtype.itemsize * math.prod(value.shape.numpy()))
        if not value.uses():
            continue
        value.const_value = ir.ExternalTensor(
            PLACEHOLDER.decode(), offset, size, value.dtype, shape=value.shape, name=str(value.name)
        )
        model.graph.initializers[str(value.name)] = value
        tensors.append({"name": spec.name, "offset": offset})
        offset += -(-size // _ALIGNMENT) * _ALIGNMENT
    return model, {"bytes": offset, "tensors": tensors}
