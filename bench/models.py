"""Loss and gradients of whole models as ONNX, beside torch.onnx.export on the same cases in the same run.

    python bench/models.py [--only NAME ...] [--opsets 18 20 25] [--jobs 2] [--markdown]

Each model is exported with a dynamic batch (`functions="inline"`), which proves it, and then verified in ONNX Runtime
at batches 1, 2 and 5. torch.onnx.export gets a module that calls `torch.autograd.grad` inside its forward, with a
static batch, which is all that it takes; its file is held to the same criterion. One line a row.
"""

from __future__ import annotations

import argparse
import collections
import logging
import multiprocessing
import os
import sys
import time
import warnings
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from model_cases import MODELS, Model, loss_of

import gradport

BATCH = 3


def main() -> int:
    """Prints a line for each model and the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--opsets", nargs="*", type=int, default=[20])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--markdown", action="store_true", help="print the counts as a table for the README")
    options = parser.parse_args()
    numbers = [n for n, model in enumerate(MODELS) if not options.only or any(o in model.id for o in options.only)]
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=4) as pool:
        for name, verdicts in pool.imap(judged, [(number, tuple(options.opsets)) for number in numbers]):
            for way, (verdict, _, _) in verdicts.items():
                counts[way][verdict] += 1
            row = "  ".join(f"{way}={verdict} {seconds:.1f}s" for way, (verdict, _, seconds) in verdicts.items())
            print(f"{name:34} {row}", flush=True)
            for way, (_, reason, _) in verdicts.items():
                if reason:
                    print(f"    {way}: {reason}", flush=True)
    report(counts, len(numbers), options.markdown)
    return 1 if any(count["wrong"] for way, count in counts.items() if way.startswith("gradport")) else 0


def report(counts: dict[str, collections.Counter[str]], total: int, markdown: bool) -> None:
    """The counts of each way."""
    print("\n| way | right | wrong | refused | of |\n| --- | --- | --- | --- | --- |" if markdown else "")
    for way, count in counts.items():
        cells = (way, count["right"], count["wrong"], count["refused"], total)
        print(
            f"| {' | '.join(map(str, cells))} |"
            if markdown
            else "{:24} right {} wrong {} refused {} of {}".format(*cells)
        )


def judged(task: tuple[int, tuple[int, ...]]) -> tuple[str, dict[str, tuple[str, str, float]]]:
    """A model's verdicts: for each way right, wrong or refused, the reason and the seconds."""
    number, opsets = task
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    torch.set_num_threads(1)
    model = MODELS[number]
    found = {f"gradport opset {opset}": timed(lambda opset=opset: ours(model, opset)) for opset in opsets}
    return model.id, found | {"torch.onnx": timed(lambda: theirs(model))}


def timed(judge: Any) -> tuple[str, str, float]:
    """A verdict, its reason and how long it took."""
    started = time.monotonic()
    try:
        failed = [finding.message for finding in judge().findings if finding.outcome != "ok"]
        verdict, reason = ("wrong", failed[0]) if failed else ("right", "")
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(error, gradport.Error):
            cause = cause.__cause__
        verdict, reason = "refused", f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
    return verdict, reason, time.monotonic() - started


def subject_of(model: Model, dynamic: bool) -> gradport.Subject:
    """The model with its loss, fresh inputs and batch."""
    torch.manual_seed(0)
    module = model.build().train(model.train)
    args = model.inputs(torch.Generator().manual_seed(1), BATCH)
    return gradport.Subject(
        module,
        args,
        wrt=model.wrt,
        loss=lambda result: loss_of(model, result),
        dynamic_shapes=tuple({0: "batch"} for _ in args) if dynamic else None,
        inputs=lambda generator, sizes: (model.inputs(generator, sizes.get("batch", BATCH)), {}, ()),
    )


def ours(model: Model, opset: int) -> gradport.Evidence:
    """gradport's file, verified."""
    subject = subject_of(model, dynamic=True)
    program = gradport.export(subject, functions="inline", opset_version=opset)
    assert {node.domain for node in program.model.graph.all_nodes()} == {""}
    return gradport.verify(program, subject, sizes={"batch": (1, 2, 5)}, runtimes=["onnxruntime"])


def theirs(model: Model) -> gradport.Evidence:
    """torch.onnx's file of a module that asks for its gradients, verified."""
    subject = subject_of(model, dynamic=False)
    module = subject.target
    written = Written(model, module)
    program = torch.onnx.export(written, subject.args, dynamo=True, verbose=False)
    assert program is not None
    asked = gradport.Subject(written, subject.args, inputs=subject.inputs)
    return gradport.verify(program.model, asked, runtimes=["onnxruntime"])


class Written(torch.nn.Module):
    """A model that gives its loss and gradients in its forward."""

    def __init__(self, model: Model, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module
        self._model = model

    def forward(self, *args: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.enable_grad():
            if self._model.wrt == "inputs":
                args = tuple(arg.detach().requires_grad_() if arg.is_floating_point() else arg for arg in args)
                wanted = [arg for arg in args if arg.requires_grad]
            else:
                wanted = list(self.module.parameters())
            loss = loss_of(self._model, self.module(*args))
            gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
        return (loss.detach(), *(gradient for gradient in gradients if gradient is not None))


if __name__ == "__main__":
    sys.exit(main())
