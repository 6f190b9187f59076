"""Networks in ONNX Runtime beside eager torch and torch.compile: forward and gradients, whole training steps, memory.

    python bench/networks.py [--only NAME ...] [--threads 1 2] [--rounds 10] [--no-compile] [--no-step] [--memory]
                             [--finite-math] [--write FILE]

Each network has a process of its own: eager is faster after another network, which changes the allocator. Times are
taken in turns, with the same number of threads. A figure is the median of the ratios of all rounds, below 1 where ONNX
Runtime is faster. With two threads, rounds in which the cores share a cache and others ("2, far") have a row each
(`cores.py`). "Gradients" is the loss and the gradients of all parameters, which are inputs of the graph; "step" is
AdamW through `gradport_runtime.Trainer`. Peaks are those of `bench/training.py`, of a process each. "Products" is the
time of all matrix products and convolutions at this machine's peak over the time of our gradients, and "bytes" that of
weights and saved tensors at copy speed (`bench/limits.py`). `--write` puts the table between
the marks `<!-- networks -->` and `<!-- end -->` of a file.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import logging
import multiprocessing
import pathlib
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from cores import Cores, find_cores
from gradport_runtime import Trainer
from limits import Machine, measure_machine, work_of
from step import GPT, Recurrent, by_way, convolutional, perceptron, ratio, rounds_of
from tables import write_table
from torch import nn
from training import gpt2, peaks

import gradport


@dataclasses.dataclass(frozen=True)
class Network:
    """A model and its batch.

    Attributes:
        build: makes the model.
        batch: makes inputs and targets.
    """

    build: Callable[[], nn.Module]
    batch: Callable[[], tuple[torch.Tensor, torch.Tensor]]


class Residual(nn.Module):
    """A block of two 3 x 3 convolutions with batch normalization."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.short = nn.Sequential()
        if stride != 1 or before != after:
            self.short = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        return F.relu(y + self.short(x))


def resnet(widths: tuple[int, ...], blocks: int, stem: nn.Module, classes: int) -> nn.Module:
    """A residual network of basic blocks."""
    layers: list[nn.Module] = [stem]
    before = widths[0]
    for index, width in enumerate(widths):
        for block in range(blocks):
            layers.append(Residual(before, width, 2 if index and not block else 1))
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def resnet20() -> nn.Module:
    """The ResNet-20 of CIFAR."""
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return resnet((16, 32, 64), 3, stem, 10)


def resnet18() -> nn.Module:
    """The ResNet-18 of ImageNet."""
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return resnet((64, 128, 256, 512), 2, nn.Sequential(*stem), 1000)


class Inverted(nn.Module):
    """An inverted residual with a depthwise convolution."""

    def __init__(self, before: int, after: int, stride: int, factor: int) -> None:
        super().__init__()
        inside = before * factor
        layers = [] if factor == 1 else [nn.Conv2d(before, inside, 1, bias=False), nn.BatchNorm2d(inside), nn.ReLU6()]
        layers += [nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False), nn.BatchNorm2d(inside)]
        layers += [nn.ReLU6(), nn.Conv2d(inside, after, 1, bias=False), nn.BatchNorm2d(after)]
        self.layers, self.adds = nn.Sequential(*layers), stride == 1 and before == after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


def mobilenet() -> nn.Module:
    """MobileNetV2."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
    before = 32
    for factor, width, count, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for index in range(count):
            layers.append(Inverted(before, width, stride if not index else 1, factor))
            before = width
    layers += [nn.Conv2d(before, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))


class UNet(nn.Module):
    """Three levels, batch normalization, transposed convolutions upwards."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(self.double(a, b) for a, b in zip((3, *sizes), sizes, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * a, a, 2, 2) for a in sizes[-2::-1])
        self.join = nn.ModuleList(self.double(2 * a, a) for a in sizes[-2::-1])
        self.head = nn.Conv2d(width, 10, 1)

    @staticmethod
    def double(before: int, after: int) -> nn.Module:
        """Two convolutions."""
        layers = []
        for one in (before, after):
            layers += [nn.Conv2d(one, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for index, block in enumerate(self.down):
            x = block(x if not index else F.max_pool2d(x, 2))
            kept.append(x)
        for up, join, side in zip(self.up, self.join, kept[-2::-1], strict=True):
            x = join(torch.cat((up(x), side), 1))
        return self.head(x)


class TwoWay(nn.Module):
    """A bidirectional GRU of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(32, 64, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Encoder(nn.Module):
    """Four layers of a transformer encoder over embedded words."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(1000, width), nn.Parameter(torch.randn(1, 64, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width, 4) for _ in range(4))
        self.head = nn.Linear(width, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.words(x) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Vision(nn.Module):
    """A small vision transformer: patches of 8, four layers."""

    def __init__(self, width: int = 192) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.places = nn.Parameter(torch.randn(1, 64, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width, 3) for _ in range(4))
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


class Layer(nn.Module):
    """An encoder layer, normalized before each part."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.heads = nn.LayerNorm(width), nn.LayerNorm(width), heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def images(batch: int, size: int, classes: int, channels: int = 3) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """Images and their classes."""
    return lambda: (torch.randn(batch, channels, size, size), torch.randint(0, classes, (batch,)))


def words(batch: int, length: int, count: int) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """Words and a target for each."""
    return lambda: (torch.randint(0, count, (batch, length)), torch.randint(0, count, (batch, length)))


def series(batch: int, length: int) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """Sequences and their classes."""
    return lambda: (torch.randn(batch, length, 32), torch.randint(0, 10, (batch,)))


NETWORKS = {
    "ResNet-20, batch 16": Network(resnet20, images(16, 32, 10)),
    "MobileNetV2, batch 2, 224 px": Network(mobilenet, images(2, 224, 1000)),
    "ResNet-18, batch 2, 224 px": Network(resnet18, images(2, 224, 1000)),
    "U-Net, batch 2, 64 px": Network(UNet, lambda: (torch.randn(2, 3, 64, 64), torch.randint(0, 10, (2, 64, 64)))),
    "BERT 4 x 256, batch 8 x 64": Network(Encoder, words(8, 64, 1000)),
    "ViT 4 x 192, batch 8": Network(Vision, images(8, 64, 10)),
    "bidirectional GRU, 2 layers, 40 steps": Network(TwoWay, series(16, 40)),
    "LSTM": Network(Recurrent, series(32, 20)),
    "GPT 2 x 128": Network(lambda: GPT(2, 128), words(8, 64, 512)),
    "GPT-2, 124 M, batch 2 x 64": Network(gpt2, words(2, 64, 50257)),
    "MLP, 784-256-10": Network(perceptron, lambda: (torch.randn(64, 784), torch.randint(0, 10, (64,)))),
    "CNN, two layers": Network(convolutional, images(32, 28, 10, 1)),
}


def loss_of(result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross entropy: of images, of each pixel, of each word."""
    of_words = target.dim() == 2
    return F.cross_entropy(result.flatten(0, 1), target.flatten()) if of_words else F.cross_entropy(result, target)


HEADS = ("network", "threads", "eager ms", "gradients", "compile", "step", "compiled step", "products", "bytes")
MEMORY = ("eager MiB", "peak over eager")


def main() -> int:
    """Prints one line a network, and the geometric means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    parser.add_argument("--threads", nargs="*", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--no-step", action="store_true", help="leave whole steps out")
    parser.add_argument("--memory", action="store_true", help="measure peaks too")
    parser.add_argument("--finite-math", action="store_true")
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    heads = HEADS + (MEMORY if options.memory else ())
    lines: list[str] = []
    say(lines, f"| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
    every = torch.get_num_threads()
    for threads in options.threads:
        torch.set_num_threads(threads)
        machine = measure_machine()
        chosen = [name for name in NETWORKS if not options.only or any(part in name for part in options.only)]
        rows: dict[str, list[list[str]]] = {}
        for name in chosen:
            asked = None if threads == every else threads
            for label, cells in in_own_process(measure, name, threads, asked, machine, options).items():
                rows.setdefault(label, []).append(cells)
                say(lines, f"| {name} | {label} | {' | '.join(cells)} |")
        for label, found in rows.items():
            if len(found) == len(chosen):
                means = [geometric_mean(column) for column in zip(*found, strict=True)]
                say(lines, f"| geometric mean | {label} | | {' | '.join(means[1:5])} {'| ' * (len(heads) - 7)}|")
        speeds = f"{machine.products / 1e9:.0f} GFLOP/s, copies {machine.bandwidth / 1e9:.0f} GB/s"
        print(f"\n{threads} thread(s): products {speeds}", file=sys.stderr)
    if options.write:
        write_table(options.write, "networks", "\n".join(lines))
    return 0


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function that runs in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def say(lines: list[str], line: str) -> None:
    """Prints a line at once, and keeps it."""
    print(line, flush=True)
    lines.append(line)


def geometric_mean(column: tuple[str, ...]) -> str:
    """Of the ratios in a column; empty if one is missing."""
    values = [float(cell) for cell in column if cell not in ("-", "")]
    return f"{statistics.geometric_mean(values):.2f}" if len(values) == len(column) else "-"


def measure(
    name: str, threads: int, asked: int | None, machine: Machine, options: argparse.Namespace
) -> dict[str, list[str]]:
    """The cells of one network, by the label of their threads: those of HEADS after it, then those of MEMORY.

    Args:
        name: of the network.
        threads: those of torch.
        asked: those of ONNX Runtime; None for its default, which gives each core a thread that stays on it.
        machine: its limits.
        options: of the command line.
    """
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    torch.set_num_threads(threads)
    network = NETWORKS[name]
    torch.manual_seed(0)
    model = network.build().train()
    x, target = network.batch()
    with tempfile.TemporaryDirectory() as folder:
        bundle = pathlib.Path(folder) / "bundle"
        export(model, x, target, bundle, finite_math=options.finite_math)
        rounds = rounds_by_cores(
            ways(model, x, target, Trainer(bundle, threads=asked), options), options.rounds, threads
        )
        highest = peaks(name, bundle, threads) if options.memory else None
    limits = work_of(model, lambda: loss_of(model(x), target)).milliseconds(machine)
    memory = [] if highest is None else [f"{highest['torch']:.0f}", f"{highest['bundle'] / highest['torch']:.2f}"]
    return {
        f"{threads}, far" if cores is Cores.FAR else f"{threads}": [*cells_of_times(by_way(found), limits), *memory]
        for cores, found in rounds.items()
        if len(found) >= _FEWEST
    }


def cells_of_times(times: dict[str, list[float]], limits: tuple[float, float]) -> list[str]:
    """The cells of HEADS after the threads."""
    milliseconds = 1e3 * statistics.median(times["gradients"])
    return [
        f"{1e3 * statistics.median(times['eager']):.1f}",
        *(ratio(times, way, "eager") for way in ("gradients", "compile")),
        *(ratio(times, way, "eager step") for way in ("step", "compiled step")),
        *(f"{limit / milliseconds:.2f}" for limit in limits),
    ]


_FEWEST = 3
"""Rounds of a row."""

_LONGEST = 4
"""How many times the rounds that are asked for are run, to find enough with near cores."""


def rounds_by_cores(
    calls: dict[str, Callable[[], Any]], rounds: int, threads: int
) -> dict[Cores, list[dict[str, float]]]:
    """Times of all ways with near cores, and those of rounds with far ones (`cores.py`). A round in which the cores
    change does not count. One thread is always near."""
    found: dict[Cores, list[dict[str, float]]] = {Cores.NEAR: [], Cores.FAR: []}
    before = find_cores(threads)
    for times in itertools.islice(rounds_of(calls), _LONGEST * rounds):
        after = find_cores(threads)
        if after is before:
            found[after].append(times)
        before = after
        if len(found[Cores.NEAR]) == rounds:
            break
    return found


def export(model: nn.Module, x: torch.Tensor, target: torch.Tensor, bundle: pathlib.Path, **options: Any) -> None:
    """Writes the bundle of an AdamW step."""
    optimizer = torch.optim.AdamW(model.parameters())
    gradport.export_training(model, x, optimizer=optimizer, loss=loss_of, targets=target, verify=False, **options).save(
        bundle
    )


def ways(
    model: nn.Module, x: torch.Tensor, target: torch.Tensor, trainer: Trainer, options: argparse.Namespace
) -> dict[str, Callable[[], Any]]:
    """The calls to time for one network, by name."""
    torch._dynamo.reset()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters)

    def step(forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        optimizer.zero_grad()
        loss_of(forward(x), target).backward()
        optimizer.step()

    batch = dict(zip(input_names(trainer), (x.numpy(), target.numpy()), strict=True))
    trainer.step(batch)  # it opens its files at the first step
    found: dict[str, Callable[[], Any]] = {
        "eager": lambda: torch.autograd.grad(loss_of(model(x), target), parameters),
        "gradients": lambda: trainer.gradients(batch),
    }
    compiled = None if options.no_compile else torch.compile(model)
    if compiled is not None:
        found["compile"] = lambda: torch.autograd.grad(loss_of(compiled(x), target), parameters)
    if not options.no_step:
        found |= {"eager step": functools.partial(step, model), "step": lambda: trainer.step(batch)}
        if compiled is not None:
            found["compiled step"] = functools.partial(step, compiled)
    return found


def input_names(trainer: Trainer) -> list[str]:
    """The names of the batch and of the targets."""
    ports = trainer.bundle.models["gradients"].inputs
    return [port.name for port in ports if port.role in ("argument", "target")]


if __name__ == "__main__":
    sys.exit(main())
