"""Functions and products of complex numbers, as formulas of their real and imaginary parts.

Source of the elementary functions: Abramowitz and Stegun, "Handbook of Mathematical Functions", chapters 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradport.compat.torch.operators import aten, drop_absent
from gradport.tracing.complex_numbers.parts import Parts, as_parts, parts_rule, without_complex_dtype
from gradport.tracing.complex_numbers.places import conj, polar

__all__: list[str] = []


@parts_rule(*drop_absent(aten.mul.Tensor, aten.mul.Scalar))
def mul(self: Any, other: Any) -> Parts:
    a, b = self, other
    if not isinstance(a, Parts | complex):
        a, b = b, a
    a = as_parts(a)
    if not isinstance(b, Parts | complex):
        return Parts(a.real * b, a.imag * b)
    b = as_parts(b)
    return Parts(a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real)


@parts_rule(*drop_absent(aten.div.Tensor, aten.div.Scalar))
def div(self: Any, other: Any) -> Parts:
    a = as_parts(self)
    if not isinstance(other, Parts | complex):
        return Parts(a.real / other, a.imag / other)
    return mul(a, reciprocal(_tensors(as_parts(other), a.real)))


def _tensors(number: Parts, like: torch.Tensor) -> Parts:
    """The parts as tensors; numbers are expanded to the shape of `like`."""
    if isinstance(number.real, torch.Tensor):
        return number
    return Parts(torch.full_like(like, number.real), torch.full_like(like, number.imag))


@parts_rule(*drop_absent(aten.reciprocal.default))
def reciprocal(self: Parts) -> Parts:
    """Divides by the larger part (Smith, "Algorithm 116: Complex division"), so that no square overflows."""
    wide = self.real.abs() >= self.imag.abs()
    large, small = torch.where(wide, self.real, self.imag), torch.where(wide, self.imag, self.real)
    ratio = small / large
    over = (large + small * ratio).reciprocal()
    return Parts(torch.where(wide, over, ratio * over), -torch.where(wide, ratio * over, over))


@parts_rule(*drop_absent(aten.abs.default))
def absolute(self: Parts) -> torch.Tensor:
    return torch.hypot(self.real, self.imag)


@parts_rule(*drop_absent(aten.angle.default))
def angle(self: Parts) -> torch.Tensor:
    return torch.atan2(self.imag, self.real)


@parts_rule(*drop_absent(aten.sgn.default))
def sgn(self: Parts) -> Parts:
    length = absolute(self)
    still = length == 0
    length = torch.where(still, torch.ones_like(length), length)
    return Parts(self.real / length, self.imag / length)


@parts_rule(*drop_absent(aten.exp.default))
def exp(self: Parts) -> Parts:
    size = self.real.exp()
    return Parts(size * self.imag.cos(), size * self.imag.sin())


@parts_rule(*drop_absent(aten.log.default))
def log(self: Parts) -> Parts:
    return Parts(absolute(self).log(), angle(self))


@parts_rule(*drop_absent(aten.sqrt.default))
def sqrt(self: Parts) -> Parts:
    """The root with a nonnegative real part (formula 4.2.30, without cancellation)."""
    length = absolute(self)
    large = ((length + self.real.abs()) / 2).sqrt()
    small = self.imag.abs() / torch.where(large == 0, torch.ones_like(large), 2 * large)
    right = self.real >= 0
    sign = torch.where(self.imag < 0, -torch.ones_like(large), torch.ones_like(large))
    return Parts(torch.where(right, large, small), sign * torch.where(right, small, large))


@parts_rule(*drop_absent(aten.rsqrt.default))
def rsqrt(self: Parts) -> Parts:
    return reciprocal(sqrt(self))


@parts_rule(*drop_absent(aten.square.default))
def square(self: Parts) -> Parts:
    return mul(self, self)


@parts_rule(*drop_absent(aten.pow.Tensor_Scalar, aten.pow.Tensor_Tensor, aten.pow.Scalar))
def power(self: Any, exponent: Any) -> Parts:
    """Small integer exponents by products, others by the logarithm. Zero to a positive power is zero, to a negative
    power infinite."""
    if isinstance(exponent, int | float) and float(exponent).is_integer() and abs(exponent) <= 8:
        result = Parts(torch.ones_like(self.real), torch.zeros_like(self.real))
        for _ in range(abs(int(exponent))):
            result = mul(result, self)
        if exponent >= 0:
            return result
        result = reciprocal(result)
        zero = (self.real == 0) & (self.imag == 0)
        return Parts(torch.where(zero, torch.full_like(result.real, torch.inf), result.real), result.imag)
    like = next(part for number in (self, exponent) if isinstance(number, Parts) for part in number)
    base = _tensors(as_parts(self), like) if not isinstance(self, torch.Tensor) else as_parts(self)
    result = exp(mul(log(base), exponent))
    real = torch.as_tensor(as_parts(exponent).real, dtype=like.dtype)
    zero = (base.real == 0) & (base.imag == 0) & (real > 0)
    return Parts(*(torch.where(zero, torch.zeros_like(part), part) for part in result))


@parts_rule(*drop_absent(aten.sin.default))
def sin(self: Parts) -> Parts:
    return Parts(self.real.sin() * self.imag.cosh(), self.real.cos() * self.imag.sinh())


@parts_rule(*drop_absent(aten.cos.default))
def cos(self: Parts) -> Parts:
    return Parts(self.real.cos() * self.imag.cosh(), -self.real.sin() * self.imag.sinh())


@parts_rule(*drop_absent(aten.sinh.default))
def sinh(self: Parts) -> Parts:
    return Parts(self.real.sinh() * self.imag.cos(), self.real.cosh() * self.imag.sin())


@parts_rule(*drop_absent(aten.cosh.default))
def cosh(self: Parts) -> Parts:
    return Parts(self.real.cosh() * self.imag.cos(), self.real.sinh() * self.imag.sin())


@parts_rule(*drop_absent(aten.tanh.default))
def tanh(self: Parts) -> Parts:
    """(tanh a (1 + tan^2 b) + i tan b (1 - tanh^2 a)) / (1 + tanh^2 a tan^2 b): no term overflows."""
    size, turn = self.real.tanh(), self.imag.tan()
    over = (1 + size * size * turn * turn).reciprocal()
    return Parts(size * (1 + turn * turn) * over, turn * (1 - size * size) * over)


@parts_rule(*drop_absent(aten.sigmoid.default))
def sigmoid(self: Parts) -> Parts:
    half = tanh(Parts(self.real / 2, self.imag / 2))
    return Parts(half.real / 2 + 0.5, half.imag / 2)


@parts_rule(*drop_absent(aten.eq.Tensor, aten.eq.Scalar))
def eq(self: Any, other: Any) -> torch.Tensor:
    a, b = as_parts(self), as_parts(other)
    return (a.real == b.real) & (a.imag == b.imag)


@parts_rule(*drop_absent(aten.ne.Tensor, aten.ne.Scalar))
def ne(self: Any, other: Any) -> torch.Tensor:
    return ~eq(self, other)


@parts_rule(*drop_absent(aten.isnan.default))
def isnan(self: Parts) -> torch.Tensor:
    return self.real.isnan() | self.imag.isnan()


@parts_rule(*drop_absent(aten.isinf.default))
def isinf(self: Parts) -> torch.Tensor:
    return self.real.isinf() | self.imag.isinf()


@parts_rule(*drop_absent(aten.isfinite.default))
def isfinite(self: Parts) -> torch.Tensor:
    return self.real.isfinite() & self.imag.isfinite()


@parts_rule(*drop_absent(aten.linalg_vector_norm.default))
def linalg_vector_norm(self: Parts, *args: Any, **kwargs: Any) -> torch.Tensor:
    return torch.linalg.vector_norm(absolute(self), *args, **without_complex_dtype(kwargs))


@parts_rule(*drop_absent(aten.prod.default, aten.prod.dim_int))
def prod(self: Parts, dim: int | None = None, keepdim: bool = False, **options: Any) -> Parts:
    """The product of the magnitudes and the sum of the angles."""
    length, turn = absolute(self), angle(self)
    if dim is None:
        return polar(length.prod(), turn.sum())
    return polar(length.prod(dim, keepdim), turn.sum(dim, keepdim))


def _bilinear(product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], a: Any, b: Any) -> Parts:
    """A matrix product; a real factor halves the work."""
    if not isinstance(a, Parts):
        return Parts(product(a, b.real), product(a, b.imag))
    if not isinstance(b, Parts):
        return Parts(product(a.real, b), product(a.imag, b))
    return Parts(product(a.real, b.real) - product(a.imag, b.imag), product(a.real, b.imag) + product(a.imag, b.real))


@parts_rule(*drop_absent(aten.mm.default, aten.bmm.default, aten.mv.default, aten.dot.default, aten.matmul.default))
def matmul(self: Any, other: Any) -> Parts:
    return _bilinear(torch.matmul, self, other)


@parts_rule(*drop_absent(aten.vdot.default))
def vdot(self: Parts, other: Parts) -> Parts:
    return matmul(conj(self), other)


@parts_rule(*drop_absent(aten.addmm.default, aten.baddbmm.default, aten.addmv.default))
def addmm(self: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Parts:
    product, bias = mul(matmul(mat1, mat2), alpha), mul(as_parts(self), beta)
    return Parts(product.real + bias.real, product.imag + bias.imag)
