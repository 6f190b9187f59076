"""Operators of com.microsoft that ONNX Runtime's optimizer and quantizers leave in files.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gradport.importing.rows.convolution import conv
from gradport.importing.rows.linear import gemm
from gradport.importing.table import MICROSOFT, translation

Tensor = torch.Tensor


@translation("Gelu", domain=MICROSOFT)
def gelu(x: Tensor, /) -> Tensor:
    return F.gelu(x)


@translation("QuickGelu", domain=MICROSOFT)
def quick_gelu(x: Tensor, /, *, alpha: float = 1.702) -> Tensor:
    return x * torch.sigmoid(alpha * x)


@translation("BiasGelu", domain=MICROSOFT)
def bias_gelu(x: Tensor, bias: Tensor, /) -> Tensor:
    return F.gelu(x + bias)


@translation("FastGelu", domain=MICROSOFT)
def fast_gelu(x: Tensor, bias: Tensor | None = None, /) -> Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@translation("FusedMatMul", domain=MICROSOFT)
def fused_matmul(
    a: Tensor,
    b: Tensor,
    /,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Tensor:
    """With transBatch the first axis moves behind the other batch axes."""
    a, b = _turned(a, transA, transBatchA), _turned(b, transB, transBatchB)
    return torch.matmul(a, b) * alpha if alpha != 1 else torch.matmul(a, b)


def _turned(x: Tensor, last: int, batch: int) -> Tensor:
    if batch:
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if last and x.dim() > 1 else x


@translation("FusedGemm", domain=MICROSOFT)
def fused_gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    /,
    *,
    activation: str = "",
    activation_alpha: float = 0.0,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    product = gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    return _activate(product, activation, [activation_alpha])


@translation("FusedConv", domain=MICROSOFT)
def fused_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    added: Tensor | None = None,
    /,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    **attributes: object,
) -> Tensor:
    result = conv(x, weight, bias, **attributes)  # type: ignore[arg-type]
    return _activate(result if added is None else result + added, activation, activation_params)


def _activate(x: Tensor, name: str, parameters: Sequence[float]) -> Tensor:
    if name == "LeakyRelu":
        return F.leaky_relu(x, parameters[0])
    if name == "Clip":
        return x.clamp(parameters[0], parameters[1])
    if name == "HardSigmoid":
        return (parameters[0] * x + parameters[1]).clamp(0, 1)
    known = {"": lambda x: x, "Relu": torch.relu, "Tanh": torch.tanh, "Sigmoid": torch.sigmoid}
    result: Tensor = known[name](x)
    return result


@translation("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
    /,
    *,
    epsilon: float = 1e-12,
) -> tuple[Tensor | None, ...]:
    """The normalized sum; mean and inverse deviation, which files do not read; the sum."""
    total = x + skip if bias is None else x + skip + bias
    return F.layer_norm(total, total.shape[-1:], gamma, beta, epsilon), None, None, total


@translation("SimplifiedLayerNormalization", domain="")
def simplified_layer_normalization(
    x: Tensor, scale: Tensor, /, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Tensor, Tensor]:
    """Root mean square normalization; ONNX Runtime writes it into ai.onnx."""
    axes = list(range(axis % x.dim(), x.dim()))
    inverse = torch.rsqrt((x * x).mean(axes, keepdim=True) + epsilon)
    return x * inverse * scale, inverse


@translation("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_simplified_layer_normalization(
    x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None, /, *, epsilon: float = 1e-12
) -> tuple[Tensor | None, ...]:
    total = x + skip if bias is None else x + skip + bias
    inverse = torch.rsqrt((total * total).mean(-1, keepdim=True) + epsilon)
    return total * inverse * gamma, None, None, total


@translation("EmbedLayerNormalization", domain=MICROSOFT)
def embed_layer_normalization(
    words: Tensor,
    segments: Tensor | None,
    word_table: Tensor,
    place_table: Tensor,
    segment_table: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    places: Tensor | None = None,
    /,
    *,
    epsilon: float = 1e-12,
    mask_index_type: int = 0,
) -> tuple[Tensor | None, ...]:
    """Sum of embeddings, normalized; the lengths that a mask gives; the sum."""
    at = torch.arange(words.shape[1]) if places is None else places
    total = F.embedding(words, word_table) + F.embedding(at, place_table)
    if segments is not None and segment_table is not None:
        total = total + F.embedding(segments, segment_table)
    lengths = torch.zeros(words.shape[0], dtype=torch.int32) if mask is None else mask.sum(1).to(torch.int32)
    return F.layer_norm(total, total.shape[-1:], gamma, beta, epsilon), lengths, total


@translation("MatMulNBits", domain=MICROSOFT)
def matmul_n_bits(
    x: Tensor,
    packed: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    group: Tensor | None = None,
    bias: Tensor | None = None,
    /,
    *,
    K: int,
    N: int,
    bits: int = 4,
    block_size: int,
    accuracy_level: int = 0,
    weight_prepacked: int = 0,
) -> Tensor:
    """The product with the transpose of a weight (N, K) in blocks along K; 2, 4 or 8 bits, the lowest bits first."""
    blocks = -(-K // block_size)
    values = _unpack(packed, bits).reshape(N, blocks, -1)[:, :, :block_size].to(x.dtype)
    if zero_points is None:
        zero = torch.full((), float(2 ** (bits - 1)), dtype=x.dtype)
    elif zero_points.is_floating_point():
        zero = zero_points.reshape(N, blocks, 1).to(x.dtype)
    else:
        own = _unpack(zero_points.reshape(N, -1), bits)
        zero = own[:, :blocks].reshape(N, blocks, 1).to(x.dtype)
    weight = ((values - zero) * scales.reshape(N, blocks, 1).to(x.dtype)).reshape(N, -1)[:, :K]
    product = torch.matmul(x, weight.t())
    return product if bias is None else product + bias


def _unpack(packed: Tensor, bits: int) -> Tensor:
    """The numbers in bytes, along the last axis."""
    wide = packed.to(torch.int32)
    parts = [(wide >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
    return torch.stack(parts, -1).flatten(-2)
