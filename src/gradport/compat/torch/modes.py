"""Modes that intercept every operator: documented by torch, but in a private module.

Private in torch, and used here: `torch.utils._python_dispatch.TorchDispatchMode`.
"""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["TorchDispatchMode"]
