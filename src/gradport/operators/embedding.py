"""Bags of embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gradport.operators.samples import integers, reals, sample
from gradport.operators.table import replacement

__all__: list[str] = []


@replacement(
    F.embedding_bag,
    samples=[
        sample(lambda table, words: F.embedding_bag(words, table, mode="sum"), reals(5, 3), integers("n", 4, high=4))
    ],
)
def embedding_bag(
    input: torch.Tensor,
    weight: torch.Tensor,
    offsets: torch.Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> torch.Tensor:
    """Sum, mean or maximum of the rows of each bag; padding is skipped, an empty bag is zero.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.EmbeddingBag.html
    """
    if max_norm is not None or scale_grad_by_freq or not weight.is_floating_point():
        options = (max_norm, norm_type, scale_grad_by_freq, mode, sparse, per_sample_weights)
        return F.embedding_bag(input, weight, offsets, *options, include_last_offset, padding_idx)
    words = input.reshape(-1).to(torch.int64)
    place = torch.arange(words.shape[0], device=words.device)
    if offsets is None:
        count, bag = input.shape[0], place // input.shape[1]
    else:
        starts = offsets[:-1] if include_last_offset else offsets
        count, bag = starts.shape[0], (place.unsqueeze(1) >= starts).to(torch.int64).sum(1) - 1
    counted = torch.ones_like(words, dtype=torch.bool)
    if padding_idx is not None:
        counted = words != (padding_idx if padding_idx >= 0 else padding_idx + weight.shape[0])
    rows = weight.index_select(0, words)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    if mode == "max":
        own = (bag == torch.arange(count, device=words.device).unsqueeze(1)) & counted
        candidates = torch.where(own.unsqueeze(-1), rows, torch.full_like(rows, float("-inf")))
        return torch.where(own.any(1, keepdim=True), candidates.max(1).values, torch.zeros_like(candidates[:, 0]))
    rows = torch.where(counted.unsqueeze(1), rows, torch.zeros_like(rows))
    total = rows.new_zeros((count, weight.shape[1])).index_add(0, bag, rows)
    if mode == "sum":
        return total
    sizes = rows.new_zeros((count,)).index_add(0, bag, counted.to(rows.dtype))
    return total / sizes.clamp(min=1).unsqueeze(1)
