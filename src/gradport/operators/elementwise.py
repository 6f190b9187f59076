"""Elementwise operators that torch implements as kernels, or that ONNX has only with less accuracy."""

from __future__ import annotations

import math
from typing import Any

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.compat.torch.operators import prims as _prims
from gradport.operators.samples import Values, booleans, integers, reals, sample
from gradport.operators.table import decomposition

__all__ = ["is_negative", "log1p"]


@decomposition(
    _prims.signbit.default,
    _aten.signbit.default,
    samples=[sample(lambda x: torch.where(torch.signbit(x), -2 * x, x), reals("n", 4))],
)
def is_negative(x: torch.Tensor) -> torch.Tensor:
    """True below zero and for -0, whose reciprocal is -inf. nan counts as positive: its sign bit is not read.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.signbit.html
    """
    if not x.is_floating_point():
        return x < 0
    return (x < 0) | ((x == 0) & (x.reciprocal() < 0))


@decomposition(_aten._neg_view.default, samples=[sample(lambda x: torch.view_as_complex(x).conj().imag, reals("n", 2))])
def negate(self: torch.Tensor) -> torch.Tensor:
    """The imaginary part of a conjugate view: torch negates it on read.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.conj.html
    """
    return -self


def _with_a_size(overload: Any, by_tensor: Any, *inputs: Values) -> None:
    """Registers the tensor overload of an operator for a dynamic size as its number. Static numbers stay."""

    def by_size(self: torch.Tensor, other: Any) -> Any:
        symbolic: Any = other
        if not isinstance(other, (torch.SymInt, torch.SymFloat)):
            return NotImplemented
        return by_tensor(self, torch.full((), symbolic, dtype=self.dtype, device=self.device))

    by_size.__name__ = f"{by_tensor.__name__}_by_size"
    decomposition(overload, samples=[sample(lambda x, y: x * by_tensor(y, y.shape[0]), reals("n", 4), *inputs)])(
        by_size
    )


_with_a_size(_aten.fmod.Scalar, torch.fmod, reals("n", 4))
_with_a_size(_aten.bitwise_and.Scalar, torch.bitwise_and, integers("n", 4))
_with_a_size(_aten.bitwise_or.Scalar, torch.bitwise_or, integers("n", 4))
_with_a_size(_aten.bitwise_xor.Scalar, torch.bitwise_xor, integers("n", 4))


@decomposition(_prims.fmax.default, _aten.fmax.default, samples=[sample(torch.fmax, reals("n", 4), reals("n", 4))])
def fmax(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The larger of the two, or the value that is not nan.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.fmax.html
    """
    return torch.where(x.isnan(), y, torch.where(y.isnan(), x, torch.maximum(x, y)))


@decomposition(_prims.fmin.default, _aten.fmin.default, samples=[sample(torch.fmin, reals("n", 4), reals("n", 4))])
def fmin(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The smaller of the two, or the value that is not nan.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.fmin.html
    """
    return torch.where(x.isnan(), y, torch.where(y.isnan(), x, torch.minimum(x, y)))


@decomposition(_prims.hypot.default, _aten.hypot.default, samples=[sample(torch.hypot, reals("n", 4), reals("n", 4))])
def hypot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`sqrt(x^2 + y^2)` without overflow: the larger magnitude is factored out. inf if either argument is infinite.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.hypot.html, IEEE 754-2019, 9.2.1
    """
    large, small = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    ratio = torch.where(large == 0, torch.zeros_like(large), small / large)
    infinite = x.isinf() | y.isinf()
    return torch.where(infinite, torch.full_like(large, float("inf")), large * (1 + ratio * ratio).sqrt())


@decomposition(_aten.atan2.default, _prims.atan2.default, samples=[sample(torch.atan2, reals("n", 4), reals("n", 4))])
def atan2(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The angle of the point (x, y), in (-pi, pi]: the arctangent of the smaller magnitude over the larger, moved to
    its octant. Signs of zeros count; the angle of two infinities lies on a diagonal.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.atan2.html, IEEE 754-2019, 9.2.1
    """
    dtype = torch.result_type(y, x)
    y, x = y.to(dtype), x.to(dtype)
    across, along = y.abs(), x.abs()
    large, small = torch.maximum(along, across), torch.minimum(along, across)
    ratio = torch.where(large == 0, torch.zeros_like(large), small / large)
    ratio = torch.where(across.isinf() & along.isinf(), torch.ones_like(ratio), ratio)
    angle = ratio.atan()
    angle = torch.where(across > along, math.pi / 2 - angle, angle)
    angle = torch.where(is_negative(x), math.pi - angle, angle)
    angle = torch.where(is_negative(y), -angle, angle)
    return torch.where(x.isnan() | y.isnan(), torch.full_like(angle, math.nan), angle)


@decomposition(
    _prims.frexp.default, _aten.frexp.Tensor, samples=[sample(lambda x: torch.frexp(x).mantissa, reals("n", 4))]
)
def frexp(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mantissa in [0.5, 1) and exponent, `x = mantissa * 2**exponent`.

    The logarithm may round across a power of two, so the mantissa is corrected once.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.frexp.html
    """
    plain = (x == 0) | ~x.isfinite()
    exponent = torch.where(plain, torch.zeros_like(x), x.abs().log2().floor() + 1)
    half = (exponent / 2).floor()
    mantissa = x / torch.exp2(half) / torch.exp2(exponent - half)
    high, low = mantissa.abs() >= 1, (mantissa.abs() < 0.5) & ~plain
    mantissa = torch.where(high & ~plain, mantissa / 2, torch.where(low, mantissa * 2, mantissa))
    exponent = exponent + (high & ~plain).to(x.dtype) - low.to(x.dtype)
    return torch.where(plain, x, mantissa), exponent.to(torch.int32)


@decomposition(_aten.log1p.default, samples=[sample(torch.log1p, reals("n", 4, low=-0.9))])
def log1p(x: torch.Tensor) -> torch.Tensor:
    """`log(1 + x)`, exact where x is small: log(u) x / (u - 1) with u = 1 + x rounded.

    Source: Goldberg, "What every computer scientist should know about floating-point arithmetic" (1991), theorem 4
    """
    x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    u = 1 + x
    small = u == 1
    off = torch.where(small, torch.ones_like(u), u - 1)
    return torch.where(small, x, torch.where(u == math.inf, u, u.log() * (x / off)))


@decomposition(_aten.expm1.default, samples=[sample(torch.expm1, reals("n", 4))])
def expm1(x: torch.Tensor) -> torch.Tensor:
    """`exp(x) - 1`, exact where x is small: (u - 1) x / log(u) with u = exp(x) rounded.

    Source: Higham, "Accuracy and Stability of Numerical Algorithms" (2002), section 1.14.1
    """
    x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    u = x.exp()
    small, far = u == 1, (x.abs() > 1) | x.isnan()
    log = torch.where(small | far, torch.ones_like(u), u.log())
    return torch.where(small, x, torch.where(far, u - 1, (u - 1) * (x / log)))


@decomposition(
    _aten.masked_fill.Scalar,
    samples=[sample(lambda x, mask: x.masked_fill(mask, 0.1), reals("n", 4), booleans("n", 4))],
)
def masked_fill(self: torch.Tensor, mask: torch.Tensor, value: float) -> torch.Tensor:
    """Replaces the masked elements by a number.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.masked_fill_.html
    """
    return torch.where(mask, torch.scalar_tensor(value, dtype=self.dtype, device=self.device), self)


@decomposition(_aten.clamp.default, samples=[sample(lambda x: x.clamp(-1, 2), reals("n", 4))])
def clamp(self: torch.Tensor, min: float | None = None, max: float | None = None) -> torch.Tensor:
    """Converts integer limits of a floating tensor to floats: the exporter would promote only one of them to a tensor.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.clamp.html
    """
    limits = (min, max)
    if not self.is_floating_point() or not any(isinstance(limit, int) for limit in limits):
        return NotImplemented
    low, high = (None if limit is None else float(limit) for limit in limits)
    return torch.clamp(self, low, high)


@decomposition(_aten.logaddexp.default, samples=[sample(torch.logaddexp, reals("n", 4), reals("n", 4))])
def logaddexp(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`log(exp(x) + exp(y))`, the larger argument factored out; two infinities of one sign give that infinity.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.logaddexp.html
    """
    x, y = torch.broadcast_tensors(x, y)
    same = (x == y) & x.isinf()
    apart = torch.where(same, torch.zeros_like(x), (x - y).abs())
    return torch.where(same, x, torch.maximum(x, y) + log1p((-apart).exp()))


@decomposition(_aten.logaddexp2.default, samples=[sample(torch.logaddexp2, reals("n", 4), reals("n", 4))])
def logaddexp2(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The same with powers of two.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.logaddexp2.html
    """
    x, y = torch.broadcast_tensors(x, y)
    same = (x == y) & x.isinf()
    apart = torch.where(same, torch.zeros_like(x), (x - y).abs())
    return torch.where(same, x, torch.maximum(x, y) + log1p(torch.exp2(-apart)) / math.log(2))


@decomposition(
    _aten._efficientzerotensor.default,
    samples=[sample(lambda x: x + _aten._efficientzerotensor.default((4,)), reals("n", 4))],
)
def efficientzerotensor(size: Any, **options: Any) -> torch.Tensor:
    """Zeros.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.zeros.html
    """
    return torch.zeros(size, **options)


@decomposition(
    _aten.addcmul.default,
    samples=[sample(lambda x, y, z: torch.addcmul(x, y, z, value=0.1), reals("n", 4), reals("n", 4), reals("n", 4))],
)
def addcmul(self: torch.Tensor, tensor1: torch.Tensor, tensor2: torch.Tensor, *, value: float = 1) -> torch.Tensor:
    """`self + value tensor1 tensor2`; the exporter rounds the value to float32.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.addcmul.html
    """
    return self + (tensor1 if value == 1 else value * tensor1) * tensor2


@decomposition(
    _aten.addcdiv.default,
    samples=[
        sample(lambda x, y, z: torch.addcdiv(x, y, z, value=0.1), reals("n", 4), reals("n", 4), reals("n", 4, low=1.0))
    ],
)
def addcdiv(self: torch.Tensor, tensor1: torch.Tensor, tensor2: torch.Tensor, *, value: float = 1) -> torch.Tensor:
    """`self + value tensor1 / tensor2`, as above.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.addcdiv.html
    """
    return self + (tensor1 if value == 1 else value * tensor1) / tensor2


@decomposition(_aten.lerp.Scalar, samples=[sample(lambda x, y: torch.lerp(x, y, 0.3), reals("n", 4), reals("n", 4))])
def lerp(self: torch.Tensor, end: torch.Tensor, weight: float) -> torch.Tensor:
    """Interpolates from the nearer of `self` and `end`, as torch does: a weight of 1 gives `end` exactly.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.lerp.html
    """
    if abs(weight) < 0.5:
        return self + weight * (end - self)
    return end - (1 - weight) * (end - self)


@decomposition(
    _aten.lerp.Tensor, samples=[sample(torch.lerp, reals("n", 4), reals("n", 4), reals("n", 4, low=0.0, high=1.0))]
)
def lerp_tensor(self: torch.Tensor, end: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """As above, with one weight per element.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.lerp.html
    """
    way = end - self
    return torch.where(weight.abs() < 0.5, self + weight * way, end - (1 - weight) * way)
