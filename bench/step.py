"""Time of forward and gradients, and of a whole training step, in ONNX Runtime over eager and torch.compile.

    python bench/step.py [--only NAME ...] [--threads 1 2] [--rounds 30] [--no-compile] [--markdown]

Everything runs in one process, interleaved round by round, with the same number of threads; inputs and outputs are
bound in place. A row's figures are medians of the ratios of its rounds, below 1 where ONNX Runtime is faster; the last
column is the time over that of moving the bytes of inputs, parameters and gradients once at the machine's copy speed.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import onnx_ir as ir
import onnxruntime
import torch
import torch.nn.functional as F
from torch import nn

import gradport
from gradport.model.sessions import to_ort_value


@dataclasses.dataclass(frozen=True)
class Workload:
    """A model, its batch and its targets."""

    name: str
    build: Callable[[], Any]
    inputs: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    loss: Callable[..., torch.Tensor]


class Block(nn.Module):
    """One layer of a GPT."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.first(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, width)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(self.second(x))))


class GPT(nn.Module):
    """A small language model."""

    def __init__(self, layers: int, width: int, heads: int = 4, words: int = 512, length: int = 64) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.head = nn.Linear(width, words, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.words(ids) + self.places.weight[: ids.shape[1]]))


class Recurrent(nn.Module):
    """An LSTM and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(32, 64, batch_first=True), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Clamp(torch.autograd.Function):
    """Clamp at 0 forward, masked gradient backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        g = g.clone()
        g[x < 0] = 0
        return g


def convolutional() -> nn.Module:
    """Two convolutions, a max-pool each, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 49, 10),
    )


def perceptron() -> nn.Module:
    """784-256-10."""
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def labelled(*shape: int) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """A batch and its classes."""
    return lambda: (torch.randn(shape), torch.randint(0, 10, (shape[0],)))


def next_word(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross entropy of every position."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


def sentences() -> tuple[torch.Tensor, torch.Tensor]:
    """Words and those that follow them."""
    return torch.randint(0, 512, (8, 64)), torch.randint(0, 512, (8, 64))


WORKLOADS = (
    Workload("MLP", perceptron, labelled(64, 784), F.cross_entropy),
    Workload("CNN", convolutional, labelled(32, 1, 28, 28), F.cross_entropy),
    Workload("GPT", lambda: GPT(2, 128), sentences, next_word),
    Workload("LSTM", Recurrent, labelled(32, 20, 32), F.cross_entropy),
)


def main() -> int:
    """Prints one line a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--markdown", action="store_true", help="print a table for the README")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    head = ("workload", "threads", "eager ms", "over eager", "over torch.compile", "step over eager", "over bandwidth")
    print(f"| {' | '.join(head)} |\n| {' | '.join('---' for _ in head)} |" if options.markdown else "  ".join(head))
    for threads in options.threads:
        torch.set_num_threads(threads)
        speed = bandwidth()
        for work in (*WORKLOADS, None):
            name = "Clamp" if work is None else work.name
            if options.only and name not in options.only:
                continue
            torch.manual_seed(0)
            torch._dynamo.reset()
            ways, moved = clamp_row() if work is None else model_row(work, threads)
            if options.no_compile:
                ways.pop("compile", None)
            times = timed(ways, options.rounds)
            cells = [name, str(threads), f"{1e3 * statistics.median(times['eager']):.2f}"]
            cells += [ratio(times, "onnx", "eager"), ratio(times, "onnx", "compile")]
            cells += [ratio(times, "onnx step", "eager step")]
            cells += [f"{statistics.median(times['onnx']) / (moved / speed):.1f}"]
            print(f"| {' | '.join(cells)} |" if options.markdown else "  ".join(cells), flush=True)
    return 0


def ratio(times: dict[str, list[float]], one: str, other: str) -> str:
    """The median over the rounds, or a dash where one was not measured."""
    if one not in times or other not in times:
        return "-"
    return f"{statistics.median(a / b for a, b in zip(times[one], times[other], strict=True)):.2f}"


_PAUSE = 0.02
"""Seconds between two ways: the idle threads of the way before spin for a while, on a core that the next one needs. A
call whose time is not taken then wakes the threads of the next one."""


def timed(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round."""
    return by_way(list(itertools.islice(rounds_of(ways), rounds)))


def by_way(rounds: list[dict[str, float]]) -> dict[str, list[float]]:
    """The times of each way, from those of each round."""
    return {name: [times[name] for times in rounds] for name in rounds[0]}


def rounds_of(ways: dict[str, Callable[[], Any]]) -> Iterator[dict[str, float]]:
    """Seconds of each way, round after round without end, after a warm-up; within a round, every way repeats for at
    least 20 ms."""
    repeats = {}
    for name, way in ways.items():
        for _ in range(3):
            way()
        started = time.perf_counter()
        way()
        repeats[name] = max(1, int(0.02 / (time.perf_counter() - started)))
    while True:
        times = {}
        for name, way in ways.items():
            time.sleep(_PAUSE)
            way()
            started = time.perf_counter()
            for _ in range(repeats[name]):
                way()
            times[name] = (time.perf_counter() - started) / repeats[name]
        yield times


def bandwidth() -> float:
    """Bytes a second of a copy, read and written."""
    source = torch.ones(1 << 24)
    target = torch.empty_like(source)
    seconds = timed({"copy": lambda: target.copy_(source)}, 10)["copy"]
    return 2 * source.nbytes / statistics.median(seconds)


def bound(program: gradport.Program, feeds: dict[str, torch.Tensor], threads: int) -> Callable[[], None]:
    """A run of the program with inputs and outputs in place."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        ir.to_proto(program.model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    for name, tensor in feeds.items():
        binding.bind_ortvalue_input(name, to_ort_value(tensor))
    for spec in program.outputs:
        binding.bind_ortvalue_output(
            spec.name, to_ort_value(torch.zeros([int(d) for d in spec.shape], dtype=spec.dtype))
        )
    return lambda: session.run_with_iobinding(binding)


def model_row(work: Workload, threads: int) -> tuple[dict[str, Callable[[], Any]], int]:
    """The ways of one workload, and the bytes that its gradients have to move."""
    model = work.build()
    x, target = work.inputs()
    parameters = list(model.parameters())

    def gradients(call: Any) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(work.loss(call(x), target), parameters)

    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        work.loss(model(x), target).backward()
        optimizer.step()

    wanted = gradport.export(model, x, wrt="parameters", loss=work.loss, targets=target, functions="inline")
    whole = gradport.export_step(
        model, x, optimizer=optimizer, loss=work.loss, targets=target, functions="inline", verify=False
    )
    names = [spec.name for spec in wanted.inputs]
    feeds = dict(zip(names, (x, target), strict=True))
    compiled = torch.compile(model)
    ways = {
        "eager": gradients(model),
        "onnx": bound(wanted, feeds, threads),
        "compile": gradients(compiled),
        "eager step": step,
        "onnx step": bound(whole, {**feeds, **whole.state(), "lr": torch.tensor(1e-3)}, threads),
    }
    return ways, x.nbytes + 2 * sum(parameter.nbytes for parameter in parameters)


def clamp_row() -> tuple[dict[str, Callable[[], Any]], int]:
    """The Function that the project grew from, at a million elements."""
    x, g = torch.randn(1 << 20, requires_grad=True), torch.randn(1 << 20)
    program = gradport.export(Clamp, x, wrt="inputs", functions="inline")
    feeds = dict(zip([spec.name for spec in program.inputs], (x.detach(), g), strict=True))
    compiled = torch.compile(Clamp.apply)
    ways = {
        "eager": lambda: torch.autograd.grad(Clamp.apply(x), x, g),
        "onnx": bound(program, feeds, torch.get_num_threads()),
        "compile": lambda: torch.autograd.grad(compiled(x), x, g),
    }
    return ways, 4 * x.nbytes


if __name__ == "__main__":
    sys.exit(main())
