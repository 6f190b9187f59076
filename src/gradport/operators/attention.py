"""Attention as two batched products, and its softmax, which is zero where all keys are masked.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
"""

from __future__ import annotations

import math

import onnx_ir as ir
import torch
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.compat.torch.sizes import surely_equal
from gradport.operators.axes import number
from gradport.operators.precision import scalar
from gradport.operators.samples import reals, sample
from gradport.operators.table import lowering, op, replacement

__all__: list[str] = []

_BATCH = (reals("n", 2, 3, 4), reals("n", 2, 3, 4), reals("n", 2, 3, 4))


@replacement(
    F.scaled_dot_product_attention,
    samples=[
        sample(F.scaled_dot_product_attention, *_BATCH),
        sample(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), *_BATCH),
        sample(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, scale=0.3), *_BATCH, reals(2, 3, 3)),
    ],
)
def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """`softmax(scale q k' + mask) v`, with all axes of the batch as one: torch's decomposition multiplies queries and
    keys by the root of the scale, and expands both. Dropout, half precision, groups of queries and batches that
    broadcast use that decomposition.
    """
    tensors = (query, key, value)
    if dropout_p or enable_gqa or (is_causal and attn_mask is not None) or not _fit_one_batch(*tensors):
        return F.scaled_dot_product_attention(
            *tensors, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    batch, (rows, columns) = query.shape[:-2], (query.shape[-2], key.shape[-2])
    queries, keys, values = (tensor.flatten(0, -3) for tensor in tensors)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = torch.bmm(queries * factor, keys.transpose(1, 2))
    mask = torch.ones(rows, columns, dtype=torch.bool, device=query.device).tril() if is_causal else attn_mask
    if mask is not None:
        bias = torch.where(mask, query.new_zeros(()), query.new_full((), -math.inf)) if _is_bool(mask) else mask
        whole = scores if bias.dim() < 3 else scores.view(*batch, rows, columns)
        scores = (whole + bias).view(scores.shape)
    return torch.bmm(_aten._safe_softmax.default(scores, -1), values).view(*batch, rows, value.shape[-1])


def _fit_one_batch(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether these are tensors of one dtype, single or double, with equal axes before the last two."""
    tensors = (query, key, value)
    return (
        all(tensor.dtype == query.dtype and tensor.dim() == query.dim() for tensor in tensors)
        and query.dtype in (torch.float32, torch.float64)
        and query.dim() > 2
        and all(
            surely_equal(tensor.shape[axis], query.shape[axis]) for tensor in tensors for axis in range(query.dim() - 2)
        )
    )


def _is_bool(mask: torch.Tensor) -> bool:
    return mask.dtype == torch.bool


@lowering(_aten._safe_softmax.default, samples=[sample(F.scaled_dot_product_attention, *_BATCH)])
def safe_softmax(self: ir.Value, dim: int, dtype: int | None = None) -> ir.Value:
    """The softmax; zero in rows whose values are all -inf."""
    result = self.dtype if dtype is None else ir.DataType(dtype)
    wide = ir.DataType.DOUBLE if result is ir.DataType.DOUBLE else ir.DataType.FLOAT
    scores = _cast(self, self.dtype, wide)
    lowest, zero = scalar(-math.inf, wide), scalar(0.0, wide)
    masked = op.Cast(op.Equal(scores, lowest), to=wide)
    whole = op.Cast(op.ReduceMin(masked, number(dim), keepdims=1), to=ir.DataType.BOOL)
    zeros = op.Expand(zero, op.Shape(scores))
    return _cast(op.Where(whole, zeros, op.Softmax(scores, axis=dim)), wide, result)


def _cast(value: ir.Value, given: ir.DataType | None, wanted: ir.DataType | None) -> ir.Value:
    return value if given is wanted else op.Cast(value, to=wanted)
