"""Attention and rotary embeddings of ai.onnx."""

from __future__ import annotations

import functools
import math

import torch

from gradport.importing.table import translation

Tensor = torch.Tensor


@translation("Attention")
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
    /,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The result, key and value with their past, and the scores at the chosen stage.

    Scores are `scale q k`, capped, plus the mask; a causal query sees the keys up to its own place behind the past;
    `lengths` counts the keys of each sequence without padding. Stages: product, capped, masked, softmax.
    """
    flat = query.dim() == 3
    if flat:
        assert q_num_heads is not None and kv_num_heads is not None
        query = query.unflatten(2, (q_num_heads, -1)).transpose(1, 2)
        key, value = (one.unflatten(2, (kv_num_heads, -1)).transpose(1, 2) for one in (key, value))
    if past_key is not None and past_value is not None:
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    groups = query.shape[1] // key.shape[1]
    every_key, every_value = key, value
    if groups > 1:
        every_key, every_value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    root = math.sqrt(factor)
    scores = torch.matmul(query * root, (every_key * root).transpose(-1, -2))
    raw = scores
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    capped = scores
    windows = left_window_size, 0 if is_causal else right_window_size
    seen = _seen(scores, past_key, lengths, windows)
    if mask is not None:
        scores = _masked(scores, mask)
    if seen is not None:
        scores = scores.masked_fill(~seen, float("-inf"))
    weights = _weights(scores, softmax_precision)
    result = torch.matmul(weights, every_value)
    stage = (raw, capped, scores, weights)[qk_matmul_output_mode]
    return (result.transpose(1, 2).flatten(2) if flat else result), key, value, stage


def _weights(scores: Tensor, precision: int | None) -> Tensor:
    """Softmax of the scores; zero for a query that may read no key."""
    dtype = {1: torch.float32, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16}.get(precision or 0)
    weights = torch.softmax(scores.to(dtype or scores.dtype), -1).to(scores.dtype)
    return torch.where(torch.isneginf(scores).all(-1, keepdim=True), torch.zeros_like(weights), weights)


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores with a mask of truth values or of numbers; keys beyond the mask are hidden."""
    more = scores.shape[-1] - mask.shape[-1]
    hidden = float("-inf")
    if mask.dtype == torch.bool:
        whole = torch.nn.functional.pad(mask, (0, more), value=False) if more > 0 else mask
        return scores.masked_fill(~whole, hidden)
    return scores + (torch.nn.functional.pad(mask, (0, more), value=hidden) if more > 0 else mask)


def _seen(scores: Tensor, past_key: Tensor | None, lengths: Tensor | None, windows: tuple[int, int]) -> Tensor | None:
    """Which keys each query may read, by their distance from its own place behind the past; None: all."""
    rows, columns = torch.arange(scores.shape[-2]).unsqueeze(1), torch.arange(scores.shape[-1])
    first: Tensor | int = 0 if past_key is None else int(past_key.shape[2])
    conditions = []
    if lengths is not None:
        own = lengths.reshape(-1, 1, 1, 1)
        conditions.append(columns < own)
        first = own - scores.shape[-2]
    before, after = windows
    if before >= 0:
        conditions.append(rows + first - columns <= before)
    if after >= 0:
        conditions.append(columns - rows - first <= after)
    return functools.reduce(torch.logical_and, conditions) if conditions else None


@translation("RotaryEmbedding")
def rotary_embedding(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    places: Tensor | None = None,
    /,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    """Rotates pairs of features by an angle that follows the place."""
    flat = x.dim() == 3
    own = x.unflatten(2, (num_heads, -1)) if flat else x.transpose(1, 2)
    size = rotary_embedding_dim or own.shape[-1]
    turned, rest = own[..., :size], own[..., size:]
    if places is not None:
        cos, sin = cos[places], sin[places]
    cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
    one, other = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    real, imaginary = cos * one - sin * other, sin * one + cos * other
    joined = torch.stack([real, imaginary], -1).flatten(-2) if interleaved else torch.cat([real, imaginary], -1)
    result = torch.cat([joined, rest], -1)
    return result.flatten(2) if flat else result.transpose(1, 2)
