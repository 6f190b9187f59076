"""Time of each form of a convolution's gradients in ONNX Runtime, over torch's own, for shapes of known networks.

    python bench/convolution_forms.py [--rounds 15] [--write]

Static shapes, forms in turns, cold caches; with one thread, and with two while their cores share a cache (`cores.py`).
`--write` writes the table of costs, from which `choose_forms` takes the fastest forms of the most similar convolution.
A figure is the time over torch's with one thread, then with two; the form whose product of both is smallest is bold.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
import onnxruntime
import torch
import torch.nn.functional as F
from cores import Cores, find_cores
from step import ratio

import gradport
from gradport.operators import convolution
from gradport.operators.convolution_forms import Convolution, InputForm, WeightForm, possible_forms

COSTS = pathlib.Path(convolution.__file__).with_name("convolution_costs.json")

_IMAGES = (  # batch, channels, outputs, size, kernel, stride, groups
    (16, 3, 16, 32, 3, 1, 1),
    (16, 16, 16, 32, 3, 1, 1),
    (16, 16, 32, 32, 3, 2, 1),
    (16, 32, 32, 16, 3, 1, 1),
    (16, 64, 64, 8, 3, 1, 1),
    (2, 64, 64, 56, 3, 1, 1),
    (2, 128, 128, 28, 3, 1, 1),
    (2, 256, 256, 14, 3, 1, 1),
    (2, 512, 512, 7, 3, 1, 1),
    (2, 32, 32, 64, 3, 1, 1),
    (2, 64, 32, 64, 3, 1, 1),
    (2, 3, 64, 224, 7, 2, 1),
    (2, 3, 32, 224, 3, 2, 1),
    (2, 16, 96, 112, 1, 1, 1),
    (2, 144, 24, 56, 1, 1, 1),
    (2, 384, 64, 14, 1, 1, 1),
    (2, 320, 1280, 7, 1, 1, 1),
    (2, 64, 128, 56, 1, 2, 1),
    (1, 64, 64, 32, 3, 1, 1),
    (32, 1, 16, 28, 3, 1, 1),
    (32, 16, 32, 14, 3, 1, 1),
    (8, 8, 16, 48, 5, 1, 1),
    (8, 32, 64, 24, 5, 1, 1),
    (2, 256, 512, 14, 3, 2, 1),
    (2, 64, 256, 56, 1, 1, 1),
    (8, 512, 128, 28, 1, 1, 1),
    (8, 64, 64, 16, 1, 1, 1),
    (2, 128, 256, 28, 1, 2, 1),
    (2, 96, 96, 112, 3, 2, 96),
    (2, 32, 32, 112, 3, 1, 32),
    (2, 144, 144, 56, 3, 1, 144),
    (2, 144, 144, 56, 3, 2, 144),
    (2, 192, 192, 28, 3, 1, 192),
    (16, 32, 32, 32, 3, 1, 32),
    (2, 384, 384, 14, 3, 1, 384),
    (2, 960, 960, 7, 3, 1, 960),
    (4, 120, 120, 16, 5, 1, 120),
    (4, 72, 72, 32, 5, 2, 72),
    (4, 48, 48, 16, 7, 1, 48),
    (2, 192, 192, 28, 7, 1, 192),
    (4, 128, 128, 28, 3, 1, 32),
    (4, 256, 256, 14, 3, 2, 32),
    (8, 64, 128, 16, 3, 1, 4),
)

_LINES = (
    (16, 8, 64, 512, 9, 2, 1),
    (4, 32, 64, 1024, 3, 1, 1),
    (16, 64, 128, 128, 5, 1, 1),
    (8, 128, 128, 100, 1, 1, 1),
    (16, 64, 64, 256, 9, 1, 4),
    (8, 256, 256, 128, 15, 1, 256),
)

_VOLUMES = (
    (2, 1, 16, 16, 3, 1, 1),
    (2, 16, 32, 16, 3, 1, 1),
    (2, 32, 32, 8, 3, 1, 1),
    (2, 32, 64, 16, 3, 2, 1),
)

SHAPES = tuple((*shape, axes) for axes, shapes in ((2, _IMAGES), (1, _LINES), (3, _VOLUMES)) for shape in shapes)


def main() -> None:
    """Prints one row for each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="write the table of costs")
    options = parser.parse_args()
    print(f"| {' | '.join(HEADS)} |\n{'| --- ' * len(HEADS)}|")
    rows = [row(shape, options.rounds) for shape in SHAPES]
    if options.write:
        COSTS.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in rows) + "\n]\n", "utf-8")


HEADS = ("batch, channels, outputs, size, kernel, stride, groups, axes", "gradient", "torch ms", "forms over torch")


def row(shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Measures one shape; gives its entry in the table of costs."""
    batch, channels, outputs, size, kernel, stride, groups, axes = shape
    attributes = Convolution([stride] * axes, [kernel // 2] * axes, [1] * axes, groups)
    weights, inputs = possible_forms(attributes, [kernel] * axes, is_depthwise=groups == channels == outputs)
    pairs = {
        "weight": [(form, InputForm.TRANSPOSED) for form in weights],
        "input": [(WeightForm.BATCH, form) for form in inputs],
    }
    positions = ((size + 2 * (kernel // 2) - kernel) // stride + 1) ** axes
    sizes = {"batch": batch, "channels": channels, "outputs": outputs, "positions": positions}
    entry: dict[str, Any] = {**sizes, "axes": axes, "places": kernel**axes, "stride": stride, "groups": groups}
    for gradient, forms in pairs.items():
        entry[gradient] = measure(shape, gradient, forms, rounds)
    return entry


def measure(
    shape: tuple[int, ...], gradient: str, forms: list[tuple[WeightForm, InputForm]], rounds: int
) -> dict[str, list[float]]:
    """Prints the ratios to torch for one gradient; gives the milliseconds of each form with one thread and with two."""
    batch, channels, outputs, size, kernel, stride, groups, axes = shape
    x, w = torch.randn(batch, channels, *[size] * axes), torch.randn(outputs, channels // groups, *[kernel] * axes)
    by_axes = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}

    def convolve(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return by_axes[axes](x, w, stride=stride, padding=kernel // 2, groups=groups)

    g = torch.randn_like(convolve(w, x))
    asked = ["x" if gradient == "input" else "w"]
    mask = [gradient == "input", gradient == "weight", False]
    programs = {}
    own = convolution.choose_forms
    for pair in forms:
        convolution.choose_forms = lambda *values, pair=pair: pair
        try:
            program = gradport.export(convolve, (w, x), wrt=asked, functions="inline", verify=False)
        finally:
            convolution.choose_forms = own
        programs[(pair[1] if gradient == "input" else pair[0]).name] = program
    torch_ms, ratios = [], {name: [] for name in programs}
    for threads in THREADS:
        torch.set_num_threads(threads)
        calls: dict[str, Callable[[], Any]] = {
            "torch": lambda: torch.ops.aten.convolution_backward(
                g, x, w, None, [stride] * axes, [kernel // 2] * axes, [1] * axes, False, [0] * axes, groups, mask
            ),
            **{name: session_call(program, threads, w, x, g) for name, program in programs.items()},
        }
        times = timed_near(calls, rounds, threads)
        torch_ms.append(1e3 * statistics.median(times["torch"]))
        for name, found in ratios.items():
            found.append(float(ratio(times, name, "torch")))
    fastest = min(ratios, key=lambda name: math.prod(ratios[name]))
    texts = []
    for name, costs in ratios.items():
        text = f"{name} {' '.join(f'{cost:.2f}' for cost in costs)}"
        texts.append(f"**{text}**" if name == fastest else text)
    milliseconds = " ".join(f"{time:.2f}" for time in torch_ms)
    print(f"| {', '.join(map(str, shape))} | {gradient} | {milliseconds} | {', '.join(texts)} |", flush=True)
    return {
        name: [round(cost * time, 3) for cost, time in zip(costs, torch_ms, strict=True)]
        for name, costs in ratios.items()
    }


THREADS = (1, 2)

_MOST_TRIES = 60
"""How often a measurement is repeated while the cores are far, after a second of waiting each."""


def timed_near(calls: dict[str, Callable[[], Any]], rounds: int, threads: int) -> dict[str, list[float]]:
    """The times of all calls with cores that share a cache, if there is such a time at all."""
    for _ in range(_MOST_TRIES):
        before = find_cores(threads)
        times = timed_cold(calls, rounds)
        if before is find_cores(threads) is Cores.NEAR:
            return times
        time.sleep(1)
    print("the cores do not share a cache", flush=True)
    return times


def timed_cold(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """The times of all calls, in turns, from a thread that stays on the first core. Before each one the caches are
    filled with other memory, as in a network, and the threads of the one before have gone to sleep."""
    other = np.zeros(2**24, np.float32)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # starts its threads
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        for _ in range(rounds):
            for name, call in calls.items():
                time.sleep(_PAUSE)
                call()
                np.add(other, 1, out=other)
                started = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - started)
    finally:
        os.sched_setaffinity(0, cores)
    return times


_PAUSE = 0.002


def session_call(program: gradport.Program, threads: int, *tensors: torch.Tensor) -> Callable[[], Any]:
    """A call of ONNX Runtime that computes the last output, the gradient, and nothing else."""
    model = ir.from_proto(ir.to_proto(program.model))
    del model.graph.outputs[:-1]
    common.RemoveUnusedNodesPass()(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads if threads < ALL_THREADS else 0  # 0: each thread stays on its core
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    names = [port.name for port in session.get_inputs()]
    feeds = dict(zip(names, (tensor.numpy() for tensor in tensors), strict=True))
    return lambda: session.run(None, feeds)


ALL_THREADS = torch.get_num_threads()


if __name__ == "__main__":
    main()
