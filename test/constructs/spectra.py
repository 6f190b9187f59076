"""Complex numbers and Fourier transforms."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.fft import fft, ifft, irfft, rfft

from .listing import Listing, normal

SPECTRA = Listing()
WINDOW = torch.hann_window(8)


def inverted(x):
    spectrum = torch.stft(x, 8, 2, window=WINDOW, return_complex=True)
    return torch.istft(spectrum * 0.5, 8, 2, window=WINDOW, length=x.shape[-1])


class SpectralLoss(nn.Module):
    def forward(self, x, y):
        a, b = (
            torch.stft(signal, 16, 4, window=torch.hann_window(16), return_complex=True).abs().clamp(min=1e-5)
            for signal in (x, y)
        )
        return (a.log() - b.log()).abs().mean() + (a - b).norm() / b.norm()


def overwritten(x):
    found = fft(x)
    found[:, 0:2] = 0
    return found.real


for opset in (18, 20, 22):
    for name, function in {
        "fft": lambda x: fft(x).abs(),
        "ifft": lambda x: ifft(x).abs(),
        "rfft": lambda x: rfft(x).abs(),
        "irfft": lambda x: irfft(rfft(x) * 2),
        "stft": lambda x: torch.stft(x, 8, 4, window=WINDOW, return_complex=True).abs(),
        "istft": inverted,
    }.items():
        SPECTRA.of(f"{name} at opset {opset}", function, normal(2, 32), opset_version=opset)

SIGNALS = (normal(2, 64), normal(2, 64, seed=1))
LENGTHS = {"x": {0: "b", 1: "t"}}
SPECTRA.of("a loss of two stfts", SpectralLoss(), SIGNALS, loss="output")
SPECTRA.of(
    "stft at dynamic length",
    lambda x: torch.stft(x, 8, 4, window=WINDOW, return_complex=True).abs(),
    normal(2, 32),
    dynamic_shapes=LENGTHS,
)
SPECTRA.of("istft at dynamic length", inverted, normal(2, 32), dynamic_shapes=LENGTHS)
SPECTRA.of("rfft at dynamic length", lambda x: rfft(x).abs(), normal(2, 32), dynamic_shapes=LENGTHS)

for name, function in {
    "sgn": lambda x: fft(x).sgn().real,
    "angle": lambda x: fft(x).angle(),
    "new_zeros": lambda x: torch.cat([fft(x), fft(x).new_zeros(x.shape)], -1).real,
    "full_like": lambda x: (fft(x) + torch.full_like(fft(x), 1 + 2j)).real,
    "pad": lambda x: F.pad(fft(x), (1, 2)).real,
    "a slice written": overwritten,
    "a product with its conjugate": lambda x: (fft(x) * fft(x).conj()).real,
    "a quotient": lambda x: (fft(x) / (fft(x) + 3)).imag,
    "a product of matrices": lambda x: (fft(x) @ fft(x).mT).real,
    "einsum": lambda x: torch.einsum("bi,bo->io", fft(x), fft(x)).real,
    "exp(1j * x)": lambda x: torch.exp(1j * x).real,
    "polar": lambda x: torch.polar(x.abs(), x).imag,
    "torch.complex": lambda x: torch.complex(x, x * 2).pow(2).imag,
    "sqrt and log": lambda x: (torch.complex(x, x).sqrt() + (fft(x) + 9).log()).real,
    "tanh": lambda x: torch.tanh(fft(x) * 0.1).real,
    "where": lambda x: torch.where(x > 0, fft(x), torch.zeros((), dtype=torch.complex64)).real,
    "view_as_real": lambda x: torch.view_as_real(fft(x)).pow(2).sum(-1),
    "fft2, rfft2 and irfft2": lambda x: torch.fft.fft2(x).abs() + torch.fft.irfft2(torch.fft.rfft2(x)),
    "norm='ortho'": lambda x: rfft(x, norm="ortho").abs(),
    "fftshift": lambda x: torch.fft.fftshift(fft(x)).real,
    "hfft and ihfft": lambda x: torch.fft.hfft(rfft(x)) + torch.fft.ihfft(x).abs().sum(),
    "float64": lambda x: fft(x.double()).abs(),
}.items():
    SPECTRA.of(f"complex numbers: {name}", function, normal(4, 8))


class Turned(torch.autograd.Function):
    """Complex in, complex out."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z * z

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return g * 2 * z.conj()


for form in ("keep", "opaque", "inline"):
    SPECTRA.of(f"a Function of complex numbers, {form}", Turned, torch.complex(*SIGNALS), functions=form)
