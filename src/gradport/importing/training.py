"""Layers that an exporter wrote for inference, as they train: after `module.train()`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from gradport.importing.sizes import Sizes

__all__ = ["training_form"]

_RATIO = 0.5
"""Of a Dropout that does not say its ratio: https://onnx.ai/onnx/operators/onnx__Dropout.html."""


def training_form(op_type: str) -> Callable[[Sequence[Any], Mapping[str, Any]], Any] | None:
    """The function of an operator in training, of its inputs and attributes; None: it does not depend on the mode."""
    return _FORMS.get(op_type)


def _batch_normalization(inputs: Sequence[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    """With the statistics of the batch; running statistics that are buffers are updated in place, as in torch."""
    x, scale, bias, mean, variance = inputs[:5]
    momentum, epsilon = attributes.get("momentum", 0.9), attributes.get("epsilon", 1e-5)
    return F.batch_norm(x, mean, variance, scale, bias, True, 1 - momentum, epsilon)


def _dropout(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Drops elements and scales the others; the mask says which stay."""
    x, *options = inputs
    ratio = options[0].number() if options and isinstance(options[0], Sizes) else attributes.get("ratio", _RATIO)
    kept = F.dropout(torch.ones_like(x), ratio, True)
    return x * kept, kept != 0


_FORMS: dict[str, Callable[[Sequence[Any], Mapping[str, Any]], Any]] = {
    "BatchNormalization": _batch_normalization,
    "Dropout": _dropout,
}
