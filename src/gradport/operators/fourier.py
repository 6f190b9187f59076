"""The short-time Fourier transform and its inverse: frames by `unfold`; torch uses strides, which a graph lacks.

Source of both: https://docs.pytorch.org/docs/stable/generated/torch.stft.html, torch.istft.html
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gradport.operators.samples import reals, sample
from gradport.operators.table import replacement

__all__: list[str] = []


@replacement(
    torch.stft,
    torch.Tensor.stft,
    samples=[
        sample(
            lambda x, window: torch.view_as_real(torch.stft(x, 8, window=window, return_complex=True)),
            reals("n", 20),
            reals(8, low=0.1, high=1.0),
        )
    ],
)
def stft(
    input: torch.Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: torch.Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> torch.Tensor:
    """The transform [batch, frequencies, frames] of a signal [batch, time]; the batch is optional."""
    hop = n_fft // 4 if hop_length is None else hop_length
    signal = input if input.dim() == 2 else input.unsqueeze(0)
    if center:
        ends = (n_fft // 2, n_fft // 2)
        signal = F.pad(signal.unsqueeze(1), ends, mode=pad_mode).squeeze(1)
    frames = signal.unfold(1, n_fft, hop)
    weights = _window(window, win_length, n_fft)
    if weights is not None:
        frames = frames * weights
    half = not (input.is_complex() or (window is not None and window.is_complex())) if onesided is None else onesided
    norm = "ortho" if normalized else "backward"
    spectrum = (torch.fft.rfft if half else torch.fft.fft)(frames, norm=norm).transpose(1, 2)
    spectrum = spectrum if input.dim() == 2 else spectrum.squeeze(0)
    return spectrum if return_complex or input.is_complex() else torch.view_as_real(spectrum)


@replacement(
    torch.istft,
    torch.Tensor.istft,
    samples=[
        sample(
            lambda x, window: torch.istft(torch.view_as_complex(x), 8, window=window),
            reals("n", 5, 6, 2),
            reals(8, low=0.5, high=1.0),
        )
    ],
)
def istft(
    input: torch.Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: torch.Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> torch.Tensor:
    """The signal of least squared error (Griffin and Lim, "Signal estimation from modified short-time Fourier
    transform", 1984): the overlapping frames are summed and divided by the sum of their squared windows."""
    hop = n_fft // 4 if hop_length is None else hop_length
    spectrum = input if input.dim() == 3 else input.unsqueeze(0)
    spectrum = spectrum.transpose(1, 2)
    norm = "ortho" if normalized else "backward"
    half = spectrum.shape[2] != n_fft if onesided is None else onesided
    if return_complex:
        frames = torch.fft.ifft(spectrum, norm=norm)
    else:
        spectrum = spectrum if half else spectrum[..., : n_fft // 2 + 1]
        frames = torch.fft.irfft(spectrum, n=n_fft, norm=norm)
    weights = _window(window, win_length, n_fft)
    if weights is None:
        weights = torch.ones(n_fft, dtype=input.real.dtype, device=input.device)
    count = frames.shape[1]
    whole = n_fft + hop * (count - 1)
    signal = _overlap_add(frames * weights, whole, n_fft, hop)
    squares = _overlap_add((weights * weights).expand(1, count, n_fft), whole, n_fft, hop)
    first = n_fft // 2 if center else 0
    last = first + length if length is not None else whole - n_fft // 2 if center else whole
    signal, squares = signal[:, first:last], squares[:, first:last]
    quotient = signal / squares
    if length is not None:
        quotient = F.pad(quotient, (0, torch.sym_max(length - quotient.shape[1], 0)))
    return quotient if input.dim() == 3 else quotient.squeeze(0)


def _window(window: torch.Tensor | None, win_length: int | None, n_fft: int) -> torch.Tensor | None:
    """The weights of a frame, centered; None if all weights are one."""
    width = n_fft if win_length is None else win_length
    if window is None:
        if width == n_fft:
            return None
        window = torch.ones(width)
    left = (n_fft - width) // 2
    return F.pad(window, (left, n_fft - width - left)) if width < n_fft else window


def _overlap_add(frames: torch.Tensor, length: int, n_fft: int, hop: int) -> torch.Tensor:
    """The sum [batch, length] of overlapping frames [batch, count, n_fft]."""
    total: torch.Tensor = torch.ops.aten.unfold_backward(frames, [frames.shape[0], length], 1, n_fft, hop)
    return total
