"""Networks whose operators those of `networks.py` do not have: gradients and AdamW steps over eager torch, one thread.

    python bench/more_networks.py [--only NAME ...] [--rounds 10] [--write FILE]

Nothing was tuned for these networks as a whole: a ratio far above 1 names an operator or a form that is missing.
Figures are the medians of the ratios of all rounds; export is that of the training bundle, without its proof.
"""

from __future__ import annotations

import argparse
import functools
import logging
import pathlib
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from gradport_runtime import Trainer
from networks import Network, export, images, input_names, loss_of
from step import ratio, timed
from tables import write_table
from torch import nn

CLASSES = 100


class WideKernels(nn.Module):
    """A block with a depthwise 7 x 7 convolution and channels last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.mix(x).permute(0, 2, 3, 1))
        return x + self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)


def wide_kernels() -> nn.Module:
    """Depthwise 7 x 7 convolutions and layer normalization."""
    layers: list[nn.Module] = [nn.Conv2d(3, 48, 4, 4), WideKernels(48), WideKernels(48), nn.Conv2d(48, 96, 2, 2)]
    return nn.Sequential(*layers, WideKernels(96), WideKernels(96), *_head(96))


class Excited(nn.Module):
    """An inverted residual with a gate for each channel."""

    def __init__(self, before: int, inside: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(before, inside, 1, bias=False), nn.BatchNorm2d(inside), nn.Hardswish())
        depthwise = nn.Conv2d(inside, inside, kernel, stride, kernel // 2, groups=inside, bias=False)
        self.depth = nn.Sequential(depthwise, nn.BatchNorm2d(inside), nn.Hardswish())
        self.gate = nn.Sequential(nn.Conv2d(inside, inside // 4, 1), nn.ReLU(), nn.Conv2d(inside // 4, inside, 1))
        self.narrow = nn.Sequential(nn.Conv2d(inside, after, 1, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depth(self.wide(x))
        return self.narrow(y * F.hardsigmoid(self.gate(F.adaptive_avg_pool2d(y, 1))))


def excited() -> nn.Module:
    """Inverted residuals with gates and 5 x 5 kernels."""
    stem = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()]
    blocks = [
        Excited(16, 64, 24, 3, 2),
        Excited(24, 96, 40, 5, 2),
        Excited(40, 120, 40, 5, 1),
        Excited(40, 240, 80, 3, 2),
    ]
    return nn.Sequential(*stem, *blocks, *_head(80))


def grouped() -> nn.Module:
    """Grouped convolutions and pooling over windows that overlap."""

    def block(before: int, inside: int, stride: int) -> list[nn.Module]:
        conv = nn.Conv2d(inside, inside, 3, stride, 1, groups=8, bias=False)
        return [nn.Conv2d(before, inside, 1), nn.ReLU(), conv, nn.BatchNorm2d(inside), nn.ReLU()]

    stem = [nn.Conv2d(3, 32, 3, 2, 1), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, *block(32, 64, 1), *block(64, 128, 2), *_head(128))


class Dense(nn.Module):
    """Layers that read the results of all layers before."""

    def __init__(self, before: int, count: int = 6, growth: int = 16) -> None:
        super().__init__()
        widths = [before + index * growth for index in range(count)]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, growth, 3, padding=1, bias=False))
            for width in widths
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


def dense() -> nn.Module:
    """Densely connected layers."""
    narrow = [nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, 64, 1, bias=False), nn.AvgPool2d(2)]
    return nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), Dense(32), *narrow, Dense(64), *_head(160))


class Volumes(nn.Module):
    """Convolutions, normalization and pooling of volumes."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv3d(*widths, 3, padding=1) for widths in ((1, 16), (16, 32), (32, 32)))
        self.norms = nn.ModuleList(nn.BatchNorm3d(width) for width in (16, 32, 32))
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool3d(F.relu(norm(conv(x))), 2)
        return self.head(x.mean((2, 3, 4)))


def series() -> nn.Module:
    """Convolutions of lines with groups, ELU and PReLU."""
    first = [
        nn.Conv1d(8, 64, 9, 2, 4),
        nn.BatchNorm1d(64),
        nn.ELU(),
        nn.Conv1d(64, 64, 9, padding=4, groups=4),
        nn.ELU(),
    ]
    second = [nn.MaxPool1d(3, 2), nn.Conv1d(64, 128, 5, padding=2), nn.InstanceNorm1d(128, affine=True), nn.PReLU()]
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, CLASSES))


class Denoiser(nn.Module):
    """Group normalization, attention over pixels, and resizing."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.first, self.down = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, 2, 1)
        self.norm, self.heads, self.back = nn.GroupNorm(8, 64), nn.Conv2d(64, 192, 1), nn.Conv2d(64, 64, 1)
        self.last = nn.Sequential(nn.Conv2d(96, 32, 3, padding=1), nn.GroupNorm(8, 32), nn.SiLU(), *_head(32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole = F.silu(self.first(x))
        half = self.down(whole)
        count, width, high, wide = half.shape
        query, key, value = self.heads(self.norm(half)).view(count, 3, 4, width // 4, high * wide).mT.unbind(1)
        seen = F.scaled_dot_product_attention(query, key, value).mT.reshape(count, width, high, wide)
        up = F.interpolate(half + self.back(seen), scale_factor=2, mode=self.mode)
        return self.last(torch.cat([whole, up], 1))


def autoencoder() -> nn.Module:
    """Strided and transposed convolutions with leaky rectifiers."""
    down = [
        nn.Conv2d(3, 32, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1),
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.2),
    ]
    up = [
        nn.ConvTranspose2d(64, 32, 4, 2, 1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 8, 4, 2, 1),
        nn.Sigmoid(),
    ]
    return nn.Sequential(*down, *up, *_head(8))


class Warped(nn.Module):
    """A spatial transformer."""

    def __init__(self) -> None:
        super().__init__()
        conv = [nn.Conv2d(3, 8, 7), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(8, 10, 5), nn.MaxPool2d(2), nn.ReLU()]
        self.place = nn.Sequential(*conv, nn.Flatten(), nn.Linear(160, 32), nn.ReLU(), nn.Linear(32, 6))
        self.read = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), *_head(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = F.affine_grid(self.place(x).view(-1, 2, 3), list(x.shape), align_corners=False)
        return self.read(F.grid_sample(x, grid, align_corners=False))


class Spectral(nn.Module):
    """A Fourier neural operator of one layer."""

    def __init__(self, width: int = 24, modes: int = 8) -> None:
        super().__init__()
        self.modes = modes
        self.first, self.around, self.head = (
            nn.Conv2d(3, width, 1),
            nn.Conv2d(width, width, 1),
            nn.Linear(width, CLASSES),
        )
        self.weight = nn.Parameter(torch.randn(width, width, modes, modes, 2) / width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        spectrum, low = torch.fft.rfft2(x), slice(0, self.modes)
        kept = torch.zeros_like(spectrum)
        weight = torch.view_as_complex(self.weight)
        kept[:, :, low, low] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, low, low], weight)
        mixed = torch.fft.irfft2(kept, s=(x.shape[-2], x.shape[-1]))
        return self.head(F.gelu(mixed + self.around(x)).mean((2, 3)))


class Rotary(nn.Module):
    """Attention with rotary embeddings, root mean square normalization and gated layers."""

    def __init__(self, width: int = 192, heads: int = 6, layers: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.words = nn.Embedding(1000, width)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.RMSNorm(width),
                    "mix": nn.Linear(width, 3 * width, bias=False),
                    "back": nn.Linear(width, width, bias=False),
                    "norm2": nn.RMSNorm(width),
                    "gate": nn.Linear(width, 1024, bias=False),
                    "down": nn.Linear(512, width, bias=False),
                }
            )
            for _ in range(layers)
        )
        self.head = nn.Linear(width, CLASSES)

    def turn(self, x: torch.Tensor) -> torch.Tensor:
        """Rotates pairs of places by their position."""
        angles = torch.arange(x.shape[-2])[:, None] * 1e4 ** (-torch.arange(0, x.shape[-1], 2) / x.shape[-1])
        one, two = x[..., ::2], x[..., 1::2]
        turned = one * angles.cos() - two * angles.sin(), one * angles.sin() + two * angles.cos()
        return torch.stack(turned, -1).flatten(-2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.words(x)
        for layer in self.layers:
            count, length, width = x.shape
            parts = layer["mix"](layer["norm"](x)).view(count, length, 3, self.heads, width // self.heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            seen = F.scaled_dot_product_attention(self.turn(query), self.turn(key), value, is_causal=True)
            x = x + layer["back"](seen.transpose(1, 2).reshape(count, length, width))
            gate, up = layer["gate"](layer["norm2"](x)).chunk(2, -1)
            x = x + layer["down"](F.silu(gate) * up)
        return self.head(x[:, -1])


class Recurrent(nn.Module):
    """Two layers of an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(500, 96), nn.LSTM(96, 128, 2, batch_first=True)
        self.head = nn.Linear(128, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.words(x))[0][:, -1])


class Messages(nn.Module):
    """A graph network that sums messages at their targets."""

    def __init__(self, nodes: int = 512, edges: int = 4096) -> None:
        super().__init__()
        self.first, self.message, self.head = nn.Linear(16, 64), nn.Linear(128, 64), nn.Linear(64, CLASSES)
        self.register_buffer("edges", torch.randint(0, nodes, (2, edges)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, (source, target) = self.first(x), self.edges
        message = F.relu(self.message(torch.cat([x[source], x[target]], 1)))
        return self.head(x + torch.zeros_like(x).index_add(0, target, message))


def _head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES)]


def _labeled(*shape: int) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    return lambda: (torch.randn(*shape), torch.randint(0, CLASSES, (shape[0],)))


def _sentences(batch: int, length: int, count: int) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    return lambda: (torch.randint(0, count, (batch, length)), torch.randint(0, CLASSES, (batch,)))


NETWORKS = {
    "depthwise 7 x 7, layer normalization": Network(wide_kernels, images(4, 64, CLASSES)),
    "depthwise 5 x 5, gates, hardswish": Network(excited, images(4, 128, CLASSES)),
    "grouped convolutions": Network(grouped, images(4, 64, CLASSES)),
    "dense connections": Network(dense, images(8, 32, CLASSES)),
    "volumes, max pooling": Network(Volumes, _labeled(2, 1, 16, 32, 32)),
    "lines, groups, ELU, PReLU": Network(series, _labeled(16, 8, 512)),
    "denoiser, attention, nearest": Network(lambda: Denoiser("nearest"), images(4, 32, CLASSES)),
    "denoiser, attention, bilinear": Network(lambda: Denoiser("bilinear"), images(4, 32, CLASSES)),
    "autoencoder, leaky rectifiers": Network(autoencoder, images(8, 64, CLASSES)),
    "spatial transformer": Network(Warped, images(16, 32, CLASSES)),
    "Fourier neural operator": Network(Spectral, images(4, 32, CLASSES)),
    "rotary attention, gated layers": Network(Rotary, _sentences(4, 64, 1000)),
    "LSTM, 2 layers, 60 words": Network(Recurrent, _sentences(16, 60, 500)),
    "graph, 4,096 messages": Network(Messages, _labeled(512, 16)),
}

HEADS = ("network", "eager ms", "gradients", "step", "export s")


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--write", type=pathlib.Path, help="a file with marks around the table")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    lines = [f"| {' | '.join(HEADS)} |", f"|{' --- |' * len(HEADS)}"]
    print(*lines, sep="\n", flush=True)
    for name, network in NETWORKS.items():
        if not options.only or any(part in name for part in options.only):
            lines.append(f"| {name} | {' | '.join(measure(network, options.rounds))} |")
            print(lines[-1], flush=True)
    if options.write:
        write_table(options.write, "more networks", "\n".join(lines))
    return 0


def measure(network: Network, rounds: int) -> list[str]:
    """The cells of one network."""
    torch.manual_seed(0)
    model = network.build().train()
    x, target = network.batch()
    parameters, optimizer = list(model.parameters()), torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss_of(model(x), target).backward()
        optimizer.step()

    with tempfile.TemporaryDirectory() as folder:
        bundle = pathlib.Path(folder) / "bundle"
        started = time.perf_counter()
        export(model, x, target, bundle)
        seconds = time.perf_counter() - started
        trainer = Trainer(bundle, threads=1)
        batch = dict(zip(input_names(trainer), (x.numpy(), target.numpy()), strict=True))
        ways: dict[str, Callable[[], Any]] = {
            "eager": lambda: torch.autograd.grad(loss_of(model(x), target), parameters),
            "gradients": functools.partial(trainer.gradients, batch),
            "eager step": step,
            "step": functools.partial(trainer.step, batch),
        }
        times = timed(ways, rounds)
    eager = 1e3 * statistics.median(times["eager"])
    return [
        f"{eager:.1f}",
        ratio(times, "gradients", "eager"),
        ratio(times, "step", "eager step"),
        f"{seconds:.1f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
