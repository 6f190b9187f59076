"""Batch normalization with the statistics of the batch, and its gradients, in few passes over the tensor.

The time of ONNX Runtime is that of reading and writing the tensor. BatchNormalization in its inference form computes
a factor and a summand for each channel in one pass; here it does so in the forward and in the input gradient. Both
work on x - mean, which they share, so that a large mean costs no digits.

Source: S. Ioffe, C. Szegedy, arXiv:1502.03167, section 3; https://onnx.ai/onnx/operators/onnx__BatchNormalization.html
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.precision import kind_of, narrow, scalar, shaped, widen
from gradport.operators.samples import reals, sample
from gradport.operators.table import lowering, op

__all__: list[str] = []

_TRAINED = sample(
    lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), reals("n", 3, 4, 4), reals(3), reals(3)
)


@lowering(
    _aten._native_batch_norm_legit_functional.default,
    samples=[
        sample(
            lambda x, w, b: F.batch_norm(x, w.detach() * 0, b.detach() * 0 + 1, w, b, training=True),
            reals("n", 3, 4, 4),
            reals(3),
            reals(3),
        )
    ],
)
def batch_norm_with_statistics(
    input: ir.Value,
    weight: ir.Value | None,
    bias: ir.Value | None,
    running_mean: ir.Value,
    running_var: ir.Value,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value, ir.Value]:
    """The result, mean and inverse deviation of the batch, and the new running statistics."""
    kind = kind_of(input)
    if not training:
        shifted = op.Add(widen(running_var), scalar(eps, kind))
        result = _apply(widen(input), weight, bias, widen(running_mean), shifted, kind)
        return narrow(result, input), running_mean, running_var, running_mean, running_var
    result, mean, deviation, variance = _normalize_batch(input, weight, bias, eps)
    count, share = _count(input, mean, kind), scalar(momentum, kind)
    unbiased = op.Div(op.Mul(count, share), op.Sub(count, scalar(1.0, kind)))  # the share of the unbiased variance
    new_mean, new_variance = (
        op.CastLike(op.Add(op.Mul(widen(old), scalar(1 - momentum, kind)), op.Mul(new, part)), old)
        for old, new, part in ((running_mean, mean, share), (running_var, variance, unbiased))
    )
    return result, narrow(mean, input), narrow(deviation, input), new_mean, new_variance


@lowering(_aten._native_batch_norm_legit.no_stats, samples=[_TRAINED])
def batch_norm_without_statistics(
    input: ir.Value, weight: ir.Value | None, bias: ir.Value | None, training: bool, momentum: float, eps: float
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The result, and mean and inverse deviation of the batch."""
    result, mean, deviation, _ = _normalize_batch(input, weight, bias, eps)
    return result, narrow(mean, input), narrow(deviation, input)


@lowering(_aten.native_batch_norm_backward.default, samples=[_TRAINED])
def native_batch_norm_backward(
    grad_out: ir.Value,
    input: ir.Value,
    weight: ir.Value | None,
    running_mean: ir.Value | None,
    running_var: ir.Value | None,
    save_mean: ir.Value | None,
    save_invstd: ir.Value | None,
    train: bool,
    eps: float,
    output_mask: Sequence[bool],
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The gradients of input, weight and bias.

    With d = x - mean, r the inverse deviation, w the weight and n elements in a channel: dw = r sum(g d), db = sum(g),
    dx = w r (g - d r^2 sum(g d) / n - sum(g) / n).
    """
    kind, axes = kind_of(input), _axes(input)
    mean = widen(save_mean if train else running_mean)
    deviation = widen(save_invstd) if train else op.Reciprocal(op.Sqrt(op.Add(widen(running_var), scalar(eps, kind))))
    g, x = widen(grad_out), widen(input)
    centered = shaped(op.Sub(x, _spread(mean, axes)), x)
    total = op.ReduceSum(g, op.Constant(value_ints=axes), keepdims=0)
    product = op.ReduceSum(shaped(op.Mul(g, centered), x), op.Constant(value_ints=axes), keepdims=0)
    by_weight = op.Mul(product, deviation)
    factor = deviation if weight is None else op.Mul(deviation, widen(weight))
    if train:
        count, nothing, one = _count(input, mean, kind), _filled(0.0, mean, kind), _filled(1.0, mean, kind)
        slope = op.Mul(by_weight, op.Div(deviation, count))
        without_slope = op.Sub(g, op.Mul(centered, _spread(slope, axes)))
        by_input = op.BatchNormalization(without_slope, factor, nothing, op.Div(total, count), one, epsilon=0.0)
    else:
        by_input = op.Mul(g, _spread(factor, axes))
    return narrow(by_input, input), narrow(by_weight, weight), narrow(total, weight)


def _normalize_batch(
    input: ir.Value, weight: ir.Value | None, bias: ir.Value | None, eps: float
) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
    """The result, and mean, inverse deviation and variance of the batch."""
    kind, axes = kind_of(input), _axes(input)
    x = widen(input)
    mean = op.ReduceMean(x, op.Constant(value_ints=axes), keepdims=0)
    centered = shaped(op.Sub(x, _spread(mean, axes)), x)
    variance = op.ReduceMean(shaped(op.Mul(centered, centered), x), op.Constant(value_ints=axes), keepdims=0)
    shifted = op.Add(variance, scalar(eps, kind))
    result = _apply(centered, weight, bias, _filled(0.0, mean, kind), shifted, kind)
    return narrow(result, input), mean, op.Reciprocal(op.Sqrt(shifted)), variance


def _apply(
    x: ir.Value,
    weight: ir.Value | None,
    bias: ir.Value | None,
    mean: ir.Value,
    shifted: ir.Value,
    kind: ir.DataType,
) -> ir.Value:
    """weight * (x - mean) / sqrt(shifted) + bias. The attribute epsilon holds float32 only, so it is 0."""
    factor = _filled(1.0, mean, kind) if weight is None else widen(weight)
    summand = _filled(0.0, mean, kind) if bias is None else widen(bias)
    return op.BatchNormalization(x, factor, summand, mean, shifted, epsilon=0.0)


def _axes(x: ir.Value) -> list[int]:
    """All axes but that of the channels."""
    assert x.shape is not None
    return [0, *range(2, len(x.shape))]


def _spread(statistic: ir.Value, axes: list[int]) -> ir.Value:
    """A value of each channel with the rank of the tensor."""
    return op.Unsqueeze(statistic, op.Constant(value_ints=axes))


def _count(x: ir.Value, statistic: ir.Value, kind: ir.DataType) -> ir.Value:
    """The number of elements in a channel."""
    whole, channels = (op.ReduceProd(op.Shape(value), keepdims=0) for value in (x, statistic))
    return op.Cast(op.Div(whole, channels), to=kind)


def _filled(value: float, like: ir.Value, kind: ir.DataType) -> ir.Value:
    return op.Expand(scalar(value, kind), op.Shape(like))
