"""Fourier transforms, windows and filters."""

from __future__ import annotations

import math

import torch

from gradport.importing.sizes import Sizes
from gradport.importing.table import translation

Tensor = torch.Tensor

_FLOAT = torch.float32


def _window(size: int, periodic: int, dtype: torch.dtype | None, weights: tuple[float, ...]) -> Tensor:
    """A sum of cosines: w0 - w1 cos(2 pi n / N) + w2 cos(4 pi n / N)."""
    places = torch.arange(size, dtype=torch.float64)
    turn = 2 * math.pi * places / (size if periodic else size - 1)
    total = sum((-1) ** at * weight * torch.cos(at * turn) for at, weight in enumerate(weights))
    assert isinstance(total, torch.Tensor)
    return total.to(dtype or _FLOAT)


@translation("HannWindow")
def hann_window(size: Sizes, /, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    return _window(size.number(), periodic, _dtype(output_datatype), (0.5, 0.5))


@translation("HammingWindow")
def hamming_window(size: Sizes, /, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    return _window(size.number(), periodic, _dtype(output_datatype), (25 / 46, 21 / 46))


@translation("BlackmanWindow")
def blackman_window(size: Sizes, /, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    return _window(size.number(), periodic, _dtype(output_datatype), (0.42, 0.5, 0.08))


def _dtype(number: int) -> torch.dtype:
    return {1: torch.float32, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16}[number]


@translation("DFT", since=20)
def dft(
    x: Tensor, length: Sizes | None = None, axis: Sizes | None = None, /, *, inverse: int = 0, onesided: int = 0
) -> Tensor:
    """Over an axis of signals whose last axis holds real and imaginary parts."""
    return _dft(x, length, -2 if axis is None else axis.number(), inverse, onesided)


@translation("DFT")
def dft_by_attribute(
    x: Tensor, length: Sizes | None = None, /, *, axis: int = 1, inverse: int = 0, onesided: int = 0
) -> Tensor:
    return _dft(x, length, axis, inverse, onesided)


def _dft(x: Tensor, length: Sizes | None, axis: int, inverse: int, onesided: int) -> Tensor:
    axis = axis % x.dim()
    whole = 2 * (int(x.shape[axis]) - 1) if inverse and onesided else int(x.shape[axis])
    count = whole if length is None else length.number()
    if inverse and onesided:
        return torch.fft.irfft(torch.view_as_complex(x.contiguous()), count, axis).unsqueeze(-1)
    signal = torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x.squeeze(-1)
    if onesided:
        return torch.view_as_real(torch.fft.rfft(signal.real if signal.is_complex() else signal, count, axis))
    return torch.view_as_real((torch.fft.ifft if inverse else torch.fft.fft)(signal, count, axis))


@translation("STFT")
def stft(
    signal: Tensor,
    step: Sizes,
    window: Tensor | None = None,
    length: Sizes | None = None,
    /,
    *,
    onesided: int = 1,
) -> Tensor:
    """(batch, frames, bins, real and imaginary part)."""
    real = signal.squeeze(-1) if signal.dim() == 3 and signal.shape[-1] == 1 else signal
    values = torch.view_as_complex(real.contiguous()) if real.dim() == 3 else real
    count = length.number() if length is not None else int(window.shape[0]) if window is not None else None
    assert count is not None
    frames = values.unfold(1, count, step.number())
    frames = frames if window is None else frames * window
    one_side = onesided and not frames.is_complex()
    return torch.view_as_real(torch.fft.rfft(frames) if one_side else torch.fft.fft(frames))


@translation("MelWeightMatrix")
def mel_weight_matrix(
    bins: Sizes, length: Sizes, rate: Sizes, low: Sizes, high: Sizes, /, *, output_datatype: int = 1
) -> Tensor:
    """Triangular filters on the mel scale: (spectrum bins, mel bins)."""
    count, size = bins.number(), length.number()
    mels = [2595 * math.log10(1 + float(edge) / 700) for edge in (low.number(), high.number())]
    step = (mels[1] - mels[0]) / (count + 2)
    edges = [700 * (10 ** ((mels[0] + at * step) / 2595) - 1) for at in range(count + 2)]
    places = [math.floor((size + 1) * edge / rate.number()) for edge in edges]
    matrix = torch.zeros(size // 2 + 1, count)
    for at in range(count):
        first, centre, last = places[at : at + 3]
        for row in range(first, centre + 1):
            matrix[row, at] = (row - first) / (centre - first) if centre > first else 1.0
        for row in range(centre, last):
            matrix[row, at] = (last - row) / (last - centre)
    return matrix.to(_dtype(output_datatype))
