"""as_module beside eager torch and torch.compile: losses of 20 steps, time of forward and gradients.

    python bench/bridging.py [--only NAME ...] [--threads 1] [--rounds 8] [--no-compile] [--write FILE]

Networks are those of `bench/networks.py`. Losses: the largest relative difference over 20 steps of SGD. Times are
ratios to eager in one process, in turns, below 1 is faster. "nodes" counts the operators of the forward and the
backward model together over those of the whole Program: what runs twice.
"""

from __future__ import annotations

import argparse
import logging
import pathlib
import statistics
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from networks import NETWORKS, Network, loss_of
from step import ratio, timed
from tables import write_table
from torch import nn

import gradport
from gradport.bridging.cut import cut

HEADS = ("network", "eager ms", "as_module", "compile", "losses", "nodes")


def main() -> int:
    """Prints one line a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    torch.set_num_threads(options.threads)
    lines = [f"| {' | '.join(HEADS)} |", "| --- " * len(HEADS) + "|"]
    print("\n".join(lines))
    for name, network in NETWORKS.items():
        if not options.only or any(part in name for part in options.only):
            lines.append(f"| {name} | {' | '.join(measure(network, options))} |")
            print(lines[-1], flush=True)
    if options.write:
        write_table(options.write, "bridging", "\n".join(lines))
    return 0


def measure(network: Network, options: argparse.Namespace) -> list[str]:
    """The cells of a network."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    model = network.build().train()
    x, target = network.batch()
    program = gradport.export(model, x, wrt="parameters", functions="inline", verify=False)
    module = gradport.as_module(program)
    calls = {"eager": gradients(model, x, target), "as_module": gradients(module, x, target)}
    if not options.no_compile:
        calls["compile"] = gradients(model, x, target, torch.compile(model))
    times = timed(calls, options.rounds)
    apart = max(abs(a - b) / abs(a) for a, b in zip(*(losses(one, x, target) for one in (model, module)), strict=True))
    return [
        f"{1e3 * statistics.median(times['eager']):.1f}",
        ratio(times, "as_module", "eager"),
        ratio(times, "compile", "eager"),
        f"{apart:.1g}",
        f"{nodes(program):.2f}",
    ]


def gradients(
    model: nn.Module, x: torch.Tensor, target: torch.Tensor, run: Callable[..., Any] | None = None
) -> Callable[[], Any]:
    """A call of forward and gradients."""
    parameters = list(model.parameters())
    forward = model if run is None else run
    return lambda: torch.autograd.grad(loss_of(forward(x), target), parameters)


def losses(model: nn.Module, x: torch.Tensor, target: torch.Tensor) -> list[float]:
    """Of 20 steps, small enough that rounding does not grow."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    found = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = loss_of(model(x), target)
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


def nodes(program: Any) -> float:
    """The operators of both models over those of the whole."""
    outputs = [spec.name for spec in program.outputs if spec.role == "output"]
    wanted = [spec.name for spec in program.outputs if spec.role == "gradient"]
    parts = cut(program.model, outputs, wanted)
    counts = [
        sum(node.op_type != "Constant" for node in model.graph)
        for model in (parts.forward, parts.backward, program.model)
        if model is not None
    ]
    return (counts[0] + counts[1]) / counts[2]


if __name__ == "__main__":
    sys.exit(main())
