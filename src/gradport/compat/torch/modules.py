"""Layers of `torch.nn`, and modules whose tensors have any names.

Private in torch, and used here:
- `torch.nn.modules.batchnorm._BatchNorm`, the class of all batch norms, whose `forward` is replaced, and its
  `_check_input_dim`;
- `Module._modules`, `_parameters`, `_buffers`: `register_parameter` refuses names that an ONNX file may have, such as
  one that is a tensor's and a module's at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["get_tensor", "override_batch_norms", "set_tensor"]

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


def set_tensor(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Makes a tensor a parameter (if it is an `nn.Parameter`) or a buffer; a dot in its name leads into a submodule."""
    owner, leaf = _owner(module, name)
    if isinstance(tensor, torch.nn.Parameter):
        owner._parameters[leaf] = tensor
    else:
        owner._buffers[leaf] = tensor


def get_tensor(module: torch.nn.Module, name: str) -> torch.Tensor:
    """A tensor that `set_tensor` set, or the parametrization that took its place."""
    owner, leaf = _owner(module, name)
    for known in (owner._parameters, owner._buffers):
        tensor = known.get(leaf)
        if tensor is not None:
            return tensor
    computed: torch.Tensor = getattr(owner, leaf)
    return computed


def _owner(module: torch.nn.Module, name: str) -> tuple[torch.nn.Module, str]:
    *path, leaf = name.split(".") if all(name.split(".")) else [name]
    for part in path:
        if part not in module._modules:
            module._modules[part] = torch.nn.Module()
        inner = module._modules[part]
        assert inner is not None
        module = inner
    return module, leaf
