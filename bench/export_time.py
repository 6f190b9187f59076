"""Time to export a GPT's forward and backward, over that of torch.onnx.export for its forward alone, in one run.

    python bench/export_time.py [--layers 2 4 12] [--width 256] [--rounds 3]

Both without verification, in turns in one process, on one thread; dynamic is a dynamic batch. One line a row: medians,
and the median of the ratios.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from step import GPT, by_way, next_word, ratio

import gradport


def main() -> int:
    """Prints one line for each number of layers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="*", type=int, default=[2, 4, 12])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    torch.set_num_threads(1)
    ids, target = torch.randint(0, 512, (4, 64)), torch.randint(0, 512, (4, 64))
    warm = GPT(1, 32)
    torch.onnx.export(warm, (ids,), dynamo=True, verbose=False)
    gradport.export(warm, ids, wrt="parameters", loss=next_word, targets=target, verify=False)
    for layers in options.layers:
        model = GPT(layers, options.width)
        for dynamic in (False, True):
            ways = {
                "torch.onnx": functools.partial(forward, model, ids, dynamic),
                "gradport": functools.partial(both, model, ids, target, dynamic),
            }
            times = by_way([{name: seconds(way) for name, way in ways.items()} for _ in range(options.rounds)])
            theirs, ours = (statistics.median(times[name]) for name in ways)
            print(
                f"{layers:3} layers {'dynamic' if dynamic else 'static':8} torch.onnx {theirs:6.1f} s  "
                f"gradport {ours:6.1f} s  {ratio(times, 'gradport', 'torch.onnx')}",
                flush=True,
            )
    return 0


def seconds(task: Callable[[], Any]) -> float:
    """How long a task takes."""
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


def forward(model: torch.nn.Module, ids: torch.Tensor, dynamic: bool) -> None:
    """torch.onnx.export of the forward."""
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    torch.onnx.export(model, (ids,), dynamo=True, verbose=False, dynamic_shapes=shapes)


def both(model: torch.nn.Module, ids: torch.Tensor, target: torch.Tensor, dynamic: bool) -> None:
    """gradport's export of loss and gradients."""
    shapes = {"ids": {0: "batch"}, "target": {0: "batch"}} if dynamic else None
    gradport.export(model, ids, wrt="parameters", loss=next_word, targets=target, dynamic_shapes=shapes, verify=False)


if __name__ == "__main__":
    sys.exit(main())
