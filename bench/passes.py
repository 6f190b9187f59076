"""What each pass gains: forward and gradients of networks exported without it, over those with all passes.

    python bench/passes.py [--only NAME ...] [--rounds 10] [--write FILE]

A figure is the median of the ratios of all rounds in turns, above 1 where the pass makes the network faster; a dash:
the graph is the same without the pass. One thread, weights as inputs. `BatchUpdates` changes training steps only: its
figures are those of whole AdamW steps (`gradport_runtime.Trainer`). `--write` puts the table between the marks
`<!-- passes -->` and `<!-- end -->` of a file. Passes that correct values, not time, are named in the last column.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import pathlib
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnx_ir as ir
import torch
from gradport_runtime import Trainer
from networks import NETWORKS, input_names, loss_of
from networks import export as export_bundle
from step import ratio, timed
from tables import write_table

import gradport
from gradport.lowering import passes as rooms
from gradport.model.sessions import new_session, session_options

CHOSEN = ("CNN", "U-Net", "MobileNetV2", "BERT", "GPT 2 x 128", "GRU")
_OF_STEPS = "BatchUpdates"
CORRECT = {
    "RoundInside": "rounds to bfloat16 where torch does",
    "PoolNan": "gives nan where torch does",
    "WriteCasts": "ONNX Runtime warns of each CastLike",
    "Widen": "operators without a kernel for the dtype",
    "RemoveRoundTrips": "spares ONNX Runtime a fault",
}


class Nothing(ir.passes.InPlacePass):
    """Changes nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model."""
        return ir.passes.PassResult(model, modified=False)


def main() -> int:
    """Prints one line a pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(CHOSEN), help="parts of names of networks")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    torch.set_num_threads(1)
    chosen = {name: one for name, one in NETWORKS.items() if any(part in name for part in options.only)}
    names = [type(one).__name__ for one in rooms.passes(finite_math=False, training=True)]
    found = {name: measure(network, names, options.rounds) for name, network in chosen.items()}
    heads = ["pass", "rewrites", *(name.partition(",")[0] for name in chosen), "without time"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name in names:
        about = (inspect.getdoc(sys.modules[getattr(rooms, name).__module__]) or "").partition("\n\n")[0]
        cells = [name, " ".join(about.split()), *(found[network][name] for network in chosen), CORRECT.get(name, "")]
        lines.append(f"| {' | '.join(cells)} |")
    table = "\n".join(lines)
    print(table)
    if options.write:
        write_table(options.write, "passes", table)
    return 0


def measure(network: Any, names: list[str], rounds: int) -> dict[str, str]:
    """The ratio of a network's time without each pass."""
    torch.manual_seed(0)
    model = network.build().train()
    x, target = network.batch()
    whole = export(model, x, target)
    batch = [x.numpy(), target.numpy()]
    calls, same = {"all": call(whole, batch)}, []
    for name in names:
        with mock.patch.object(rooms, name, Nothing):
            without = export(model, x, target)
        if operators(without) == operators(whole):
            same.append(name)
        else:
            calls[name] = call(without, batch)
    times = timed(calls, rounds)
    found = {name: "-" if name in same else ratio(times, name, "all") for name in names}
    return found | {_OF_STEPS: measure_steps(model, x, target, rounds)}


def measure_steps(model: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, rounds: int) -> str:
    """The ratio of a step's time without the pass for steps."""
    with tempfile.TemporaryDirectory() as folder:
        whole = step(model, x, target, pathlib.Path(folder) / "all")
        with mock.patch.object(rooms, _OF_STEPS, Nothing):
            without = step(model, x, target, pathlib.Path(folder) / "without")
        return ratio(timed({"without": without, "all": whole}, rounds), "without", "all")


def step(model: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, folder: pathlib.Path) -> Callable[[], Any]:
    """A training step of a bundle in a folder."""
    export_bundle(model, x, target, folder)
    trainer = Trainer(folder, threads=1)
    batch = dict(zip(input_names(trainer), (x.numpy(), target.numpy()), strict=True))
    return lambda: trainer.step(batch)


def export(model: torch.nn.Module, x: torch.Tensor, target: torch.Tensor) -> Any:
    """The loss and the gradients of all parameters, unproved: a pass may be missing."""
    return gradport.export(model, (x,), wrt="parameters", loss=loss_of, targets=(target,), verify=False)


def operators(program: Any) -> list[str]:
    """The operators of a graph and its branches, in order."""
    return [node.op_type for node in program.model.graph.all_nodes()]


def call(program: Any, batch: list[np.ndarray]) -> Callable[[], Any]:
    """A run of a Program whose weights are inputs."""
    feeds = dict(zip((spec.name for spec in program.inputs), batch, strict=True))
    model = program.model.clone()
    graph = model.graph
    for name, value in list(graph.initializers.items()):
        feeds[name] = value.const_value.numpy()
        graph.initializers.pop(name)
        value.const_value = None
        graph.inputs.append(value)
    session = new_session(model, session_options())
    return lambda: session.run(None, feeds)


if __name__ == "__main__":
    sys.exit(main())
