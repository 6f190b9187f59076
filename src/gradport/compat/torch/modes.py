"""Modes that see every operator: documented by torch, in a module with an underscore.

Private in torch, and used here: `torch.utils._python_dispatch.TorchDispatchMode`.
"""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["TorchDispatchMode"]
