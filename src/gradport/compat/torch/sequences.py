"""The operators behind `torch.nn.utils.rnn.pack_padded_sequence` and its inverse.

Private in torch, and used here: `torch._pack_padded_sequence`, `torch._pad_packed_sequence`.
"""

from __future__ import annotations

import torch

__all__ = ["pack_padded_sequence", "pad_packed_sequence"]

pack_padded_sequence = torch._pack_padded_sequence
pad_packed_sequence = torch._pad_packed_sequence
