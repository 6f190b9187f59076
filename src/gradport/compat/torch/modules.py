"""Layers of `torch.nn`.

Private in torch, and used here: `torch.nn.modules.batchnorm._BatchNorm`, the class of all batch norms, whose `forward`
is replaced, and its `_check_input_dim`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["override_batch_norms"]

Forward = Callable[[Any, torch.Tensor], torch.Tensor]


@contextlib.contextmanager
def override_batch_norms(rule: Callable[[Any, torch.Tensor, Forward], torch.Tensor]) -> Iterator[None]:
    """While open, every batch norm checks its input, then runs `rule(layer, input, original forward)`."""
    own = _BatchNorm.forward

    def forward(self: Any, input: torch.Tensor) -> torch.Tensor:
        self._check_input_dim(input)
        return rule(self, input, own)

    _BatchNorm.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        _BatchNorm.forward = own  # type: ignore[method-assign]
