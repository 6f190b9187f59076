"""Discrete Fourier transforms as products with matrices of cosines and sines.

ONNX's DFT operator is not used: in ONNX Runtime it is inaccurate at lengths other than powers of two (relative error in
float32: 7e-5 at 400, 8e-3 at 24,000). A short transform is one product. A long transform is split into two shorter ones
(Cooley and Tukey, "An algorithm for the machine calculation of complex Fourier series", 1965). A transform of long
prime length is a convolution (Bluestein, "A linear filtering approach to the computation of discrete Fourier
transform", 1970). Tables are exact to the last digit of the dtype. The table of a dynamic length is computed when the
model runs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch

from gradport.compat.torch.operators import aten, drop_absent
from gradport.compat.torch.tracing import without_modes
from gradport.tracing.complex_numbers.parts import Parts, parts_rule

__all__: list[str] = []

_SHORT = 512
"""Up to this length one product is cheaper than splitting."""


@parts_rule(*drop_absent(aten._fft_r2c.default))
def fft_r2c(self: torch.Tensor, dim: Sequence[int], normalization: int, onesided: bool) -> Parts:
    """The transform of real numbers; if `onesided`, the last dimension has half of its frequencies."""
    *others, last = dim
    half = _real_to_complex(self.movedim(last, -1))
    spectrum = half if onesided else _whole(half, self.shape[last])
    spectrum = _move_axis(spectrum, -1, last)
    for axis in others:
        spectrum = _transform(spectrum, axis)
    return Parts(*(_normalize(part, self.shape, dim, normalization) for part in spectrum))


@parts_rule(*drop_absent(aten._fft_c2c.default))
def fft_c2c(self: Parts, dim: Sequence[int], normalization: int, forward: bool) -> Parts:
    """The transform, or its inverse: the transform with the parts exchanged."""
    spectrum = self if forward else Parts(self.imag, self.real)
    for axis in dim:
        spectrum = _transform(spectrum, axis)
    spectrum = spectrum if forward else Parts(spectrum.imag, spectrum.real)
    return Parts(*(_normalize(part, self.real.shape, dim, normalization) for part in spectrum))


@parts_rule(*drop_absent(aten._fft_c2r.default))
def fft_c2r(self: Parts, dim: Sequence[int], normalization: int, last_dim_size: Any) -> torch.Tensor:
    """The inverse transform to real numbers; the last dimension has half of its frequencies."""
    *others, last = dim
    half = fft_c2c(self, others, 0, False) if others else self
    signal = _complex_to_real(_move_axis(half, last, -1), last_dim_size).movedim(-1, last)
    return _normalize(signal, signal.shape, dim, normalization)


def _move_axis(self: Parts, source: int, destination: int) -> Parts:
    return Parts(self.real.movedim(source, destination), self.imag.movedim(source, destination))


def _transform(self: Parts, axis: int) -> Parts:
    length = self.real.shape[axis]
    if axis % self.real.dim() == self.real.dim() - 1 or not isinstance(length, int) or length > _SHORT:
        return _move_axis(_complex_to_complex(_move_axis(self, axis, -1)), -1, axis)
    return _product_from_left(self, axis, _table(length, length, self.real))


def _normalize(self: torch.Tensor, shape: Sequence[Any], dim: Sequence[int], normalization: int) -> torch.Tensor:
    """Divides by 1 (mode 0), by the root of the count (1) or by the count (2): torch's fft_norm_mode."""
    count: Any = 1
    for axis in dim:
        count = count * shape[axis]
    if normalization == 0:
        return self
    if normalization == 1:
        count = count**0.5 if isinstance(count, int) else torch.sym_sqrt(count)
    return self / count


def _complex_to_complex(self: Parts) -> Parts:
    """`sum_j self[j] exp(-2 pi i j k / n)` along the last dimension."""
    length = self.real.shape[-1]
    if not isinstance(length, int) or length <= _SHORT:
        return _product(self, _table(length, length, self.real))
    first = _divisor(length)
    return _by_convolution(self, length) if first == 1 else _split_transform(self, first, length // first)


def _real_to_complex(self: torch.Tensor) -> Parts:
    """The first `n // 2 + 1` values of `_complex_to_complex` for real numbers."""
    length = self.shape[-1]
    columns = length // 2 + 1
    if isinstance(length, int) and length > _SHORT:
        whole = _complex_to_complex(Parts(self, torch.zeros_like(self)))
        spectrum = Parts(whole.real[..., :columns], whole.imag[..., :columns])
    else:
        cosine, sine = _table(length, columns, self)
        spectrum = Parts(self @ cosine, -(self @ sine))
    number = torch.arange(columns, device=self.device)
    ends = (number == 0) | (2 * number == length)  # exactly real: the sign of an angle depends on it
    return Parts(spectrum.real, torch.where(ends, torch.zeros_like(spectrum.imag), spectrum.imag))


def _complex_to_real(self: Parts, length: Any) -> torch.Tensor:
    """`sum_k self[k] exp(2 pi i j k / n)` along the last dimension, from the first `n // 2 + 1` values; the other half
    is their conjugate."""
    if isinstance(length, int) and length > _SHORT:
        whole = _whole(self, length)
        return _complex_to_complex(Parts(whole.imag, whole.real)).imag
    columns = length // 2 + 1
    cosine, sine = (table.mT for table in _table(length, columns, self.real))
    number = torch.arange(columns, device=self.real.device)
    once = (number == 0) | (2 * number == length)
    twice = torch.where(once, 1, 2).to(self.real.dtype)
    return (self.real * twice) @ cosine - (self.imag * twice) @ sine


def _whole(half: Parts, length: Any) -> Parts:
    """All values of a real signal: the other half is the conjugate, in the opposite order."""
    columns = length // 2 + 1
    mirrored = [part[..., 1 : length - columns + 1].flip(-1) for part in half]
    return Parts(
        torch.cat([half.real[..., :columns], mirrored[0]], -1), torch.cat([half.imag[..., :columns], -mirrored[1]], -1)
    )


def _product(self: Parts, table: tuple[torch.Tensor, torch.Tensor]) -> Parts:
    cosine, sine = table
    return Parts(self.real @ cosine + self.imag @ sine, self.imag @ cosine - self.real @ sine)


def _product_from_left(self: Parts, axis: int, table: tuple[torch.Tensor, torch.Tensor]) -> Parts:
    """The product along another axis than the last, with symmetric tables, without a transposition: (..., n, rest)."""
    after = self.real.shape[axis % self.real.dim() + 1 :]
    real, imag = (part.flatten(axis % part.dim() + 1) for part in self)
    cosine, sine = (factor.expand(*real.shape[:-2], *factor.shape) for factor in table)
    result = cosine @ real + sine @ imag, cosine @ imag - sine @ real
    return Parts(*(part.unflatten(-1, after) for part in result))


def _split_transform(self: Parts, first: int, second: int) -> Parts:
    """With j = j1 second + j2 and k = k1 + first k2: transforms over j1, rotation by j2 k1, transforms over j2."""
    columns = Parts(*(part.unflatten(-1, (first, second)).mT for part in self))
    turned = _turn(_complex_to_complex(columns), _circle(first * second, second, first, self.real.dtype))
    spectrum = _complex_to_complex(Parts(turned.real.mT, turned.imag.mT))
    return Parts(spectrum.real.mT.flatten(-2), spectrum.imag.mT.flatten(-2))


def _by_convolution(self: Parts, length: int) -> Parts:
    """By j k = (j^2 + k^2 - (k - j)^2) / 2 the transform is a convolution, computed at a power of two."""
    padded = 1 << (2 * length - 2).bit_length()
    chirp, spectrum = _chirp(length, padded, self.real.dtype)
    start = _turn(self, chirp)
    wide = Parts(*(torch.nn.functional.pad(part, (0, padded - length)) for part in start))
    product = _turn(_complex_to_complex(wide), spectrum)
    back = _complex_to_complex(Parts(product.imag, product.real))
    return _turn(Parts(back.imag[..., :length] / padded, back.real[..., :length] / padded), chirp)


def _turn(self: Parts, by: tuple[torch.Tensor, torch.Tensor]) -> Parts:
    """Multiplies by `by[0] - i by[1]` elementwise."""
    cosine, sine = by
    return Parts(self.real * cosine + self.imag * sine, self.imag * cosine - self.real * sine)


def _divisor(length: int) -> int:
    """The largest divisor of `length` up to its square root; 1 for a prime."""
    return next(divisor for divisor in range(math.isqrt(length), 0, -1) if length % divisor == 0)


def _table(length: Any, columns: Any, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of `2 pi j k / length`, [length, columns]."""
    if isinstance(length, int):
        return _circle(length, length, columns, like.dtype)
    number = torch.arange(length, device=like.device)
    turn = torch.remainder(number.unsqueeze(1) * number[:columns], length)
    turn = torch.where(2 * turn > length, turn - length, turn)
    angle = turn.to(like.dtype) * (2 * math.pi / length)
    return angle.cos(), angle.sin()


@functools.lru_cache(maxsize=64)
def _circle(length: int, rows: int, columns: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of `2 pi j k / length`, [rows, columns]."""
    with without_modes():
        turn = torch.arange(rows).unsqueeze(1) * torch.arange(columns) % length
        angle = turn.double() * (2 * math.pi / length)
        return angle.cos().to(dtype), angle.sin().to(dtype)


@functools.lru_cache(maxsize=8)
def _chirp(
    length: int, padded: int, dtype: torch.dtype
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """`exp(-i pi j^2 / length)`, and the transform of its conjugate at both signs of j, as cosines and sines."""
    with without_modes():
        number = torch.arange(length)
        angle = (number * number % (2 * length)).double() * (math.pi / length)
        kernel = torch.zeros(padded, dtype=torch.complex128)
        kernel[:length] = torch.polar(torch.ones_like(angle), angle)
        kernel[padded - length + 1 :] = kernel[1:length].flip(0)
        spectrum = torch.fft.fft(kernel)
        return (angle.cos().to(dtype), angle.sin().to(dtype)), (spectrum.real.to(dtype), -spectrum.imag.to(dtype))
