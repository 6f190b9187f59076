"""How many public Functions are carried, forward and backward: gradport beside `torch.onnx.export`, in one run.

    pip install --no-deps -r bench/requirements.txt
    python bench/corpus.py [--jobs 2] [--only entmax] [--markdown]

Each row says what is right: `forward` outputs, `gradient` outputs and gradients, both at batches 1, 2, 7 and the
example's. `static` is the same with a fixed batch. A file is right when every output and gradient agrees with eager on
fresh inputs and cotangents in ONNX Runtime (and for gradport in the reference evaluator), by gradport.verify.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import io
import logging
import multiprocessing
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import onnx_ir as ir
import torch
from cases import CASES, Case

import gradport

SIZES = {"batch": (1, 2, 7)}
FORMS = ("keep", "inline", "opaque")
OURS = ("forward", *FORMS, "static")
VERDICTS = ("right", "wrong", "refused")


@dataclasses.dataclass
class Row:
    """One case: right, wrong or refused for each way, and why."""

    id: str
    verdicts: dict[str, str]
    reasons: dict[str, str]
    seconds: float


def main() -> int:
    """Runs every case and prints a line each, then the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--markdown", action="store_true", help="print the refusals as a table for the README")
    options = parser.parse_args()
    numbers = [number for number, case in enumerate(CASES) if options.only in case.id]
    rows = []
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        for row in pool.map(run, numbers):
            rows.append(row)
            verdicts = "  ".join(f"{way}={verdict}" for way, verdict in row.verdicts.items())
            print(f"{row.id:70} {row.seconds:5.1f}s  {verdicts}", flush=True)
    report(rows, options.markdown)
    return 0 if all("wrong" not in row.verdicts[way] for row in rows for way in OURS) else 1


def report(rows: list[Row], markdown: bool) -> None:
    """Counts, then what was refused or wrong of ours, with its reason."""
    counts = [(way, *(sum(row.verdicts[way] == v for row in rows) for v in VERDICTS)) for way in rows[0].verdicts]
    told = [(row.id, *entry) for row in rows for entry in reasons(row)]
    print()
    if markdown:
        table(("way", *VERDICTS, "of"), [(way, *numbers, len(rows)) for way, *numbers in counts])
        table(("Function", "ways", "reason"), [(f"`{name}`", ways, reason) for name, ways, reason in told])
        return
    for way, *numbers in counts:
        print(f"{way:26}", *(f"{v} {n:2} " for v, n in zip(VERDICTS, numbers, strict=True)), f"of {len(rows)}")
    print()
    for name, ways, reason in told:
        print(f"{name}  {ways}: {reason}")


def reasons(row: Row) -> list[tuple[str, str]]:
    """Our ways that were not right, by reason."""
    found: dict[str, list[str]] = {}
    for way in OURS:
        if way in row.reasons:
            found.setdefault(row.reasons[way], []).append(way)
    return [("every" if len(ways) == len(OURS) else ", ".join(ways), reason) for reason, ways in found.items()]


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Prints Markdown."""
    print(f"| {' | '.join(head)} |\n| {' | '.join('---' for _ in head)} |")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print()


def run(number: int) -> Row:
    """One case in every way; errors are verdicts."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    torch.set_num_threads(1)
    case = CASES[number]
    started = time.monotonic()
    row = Row(case.id, {}, {}, 0.0)
    ways: dict[str, Callable[[], gradport.Evidence]] = {
        "forward": lambda: ours(case, functions="keep", wrt=None),
        **{form: lambda form=form: ours(case, functions=form, wrt="inputs") for form in FORMS},  # type: ignore[misc]
        "static": lambda: ours(case, functions="keep", wrt="inputs", dynamic=False),
        "torch.onnx forward static": lambda: theirs(case, gradient=False, dynamic=False),
        "torch.onnx static": lambda: theirs(case, gradient=True, dynamic=False),
        "torch.onnx forward": lambda: theirs(case, gradient=False, dynamic=True),
        "torch.onnx": lambda: theirs(case, gradient=True, dynamic=True),
    }
    for way, judge in ways.items():
        row.verdicts[way], reason = verdict(judge)
        if reason:
            row.reasons[way] = reason
    row.seconds = time.monotonic() - started
    return row


def verdict(judge: Callable[[], gradport.Evidence]) -> tuple[str, str]:
    """right, wrong or refused, and the reason for the latter two."""
    try:
        with silence():
            evidence = judge()
    except Exception as error:
        return "refused", said(error)
    failed = [finding.message for finding in evidence.findings if finding.outcome not in ("ok", "skipped")]
    return ("wrong", failed[0][:400]) if failed else ("right", "")


def said(error: Exception) -> str:
    """The message without where packages happen to be installed."""
    text = re.sub(r"(\(?)\S*/site-packages/", r"\1", " ".join(str(error).split()))
    return re.sub(r" at 0x[0-9a-f]+", "", text)[:400]


def ours(case: Case, *, functions: str, wrt: str | None, dynamic: bool = True) -> gradport.Evidence:
    """gradport's file held against eager."""
    function, args = case.function(), case.arguments()
    shapes = case.dynamic_shapes(args) if dynamic else None
    program = gradport.export(function, args, wrt=wrt, functions=functions, dynamic_shapes=shapes)
    return gradport.verify(
        program, function, case.arguments(seed=1), dynamic_shapes=shapes, sizes=SIZES if dynamic else None
    )


def theirs(case: Case, *, gradient: bool, dynamic: bool) -> gradport.Evidence:
    """`torch.onnx.export` of the call, with `torch.autograd.grad` written inside forward for the gradient."""
    function, args = case.function(), case.arguments()
    subject = gradport.Subject(function, args, wrt="inputs" if gradient else None)
    module = Written(function, args, gradient)
    example = module.example()
    shapes = case.dynamic_shapes(args) if dynamic else None
    module_shapes = module.shapes(shapes) if shapes else None
    program = torch.onnx.export(
        module, example, dynamo=True, dynamic_shapes=(module_shapes,) if module_shapes else None, verbose=False
    )
    assert program is not None
    model: ir.Model = program.model
    return gradport.verify(
        model, subject, dynamic_shapes=shapes, sizes=SIZES if dynamic else None, runtimes=["onnxruntime"]
    )


class Written(torch.nn.Module):
    """A Function's call as people write it for the exporter: tensors in, outputs and gradients out."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], gradient: bool) -> None:
        super().__init__()
        self._function = function
        self._args = args
        self._at = [index for index, value in enumerate(args) if isinstance(value, torch.Tensor)]
        self._wanted = [at for at, index in enumerate(self._at) if args[index].requires_grad]
        self._gradient = gradient

    def example(self) -> tuple[torch.Tensor, ...]:
        """The tensors, then a cotangent for each differentiable output."""
        tensors = tuple(self._args[index].detach() for index in self._at)
        return (*tensors, *(torch.ones_like(out) for out in self._seeded())) if self._gradient else tensors

    def shapes(self, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
        """torch.export's form; a cotangent's axes are those whose size follows the batch."""
        listed = [{a: torch.export.Dim.DYNAMIC for a in shapes[index]} if shapes[index] else None for index in self._at]
        if self._gradient:
            batch = next(self._args[i].shape[next(iter(axes))] for i, axes in enumerate(shapes) if axes)
            for out in self._seeded():
                axes = [axis for axis, size in enumerate(out.shape) if size == batch][:1]
                listed.append({axis: torch.export.Dim.DYNAMIC for axis in axes} or None)
        return tuple(listed)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Outputs, then gradients."""
        tensors, cotangents = tensors[: len(self._at)], tensors[len(self._at) :]
        leaves = [
            tensor.detach().requires_grad_() if at in self._wanted and self._gradient else tensor
            for at, tensor in enumerate(tensors)
        ]
        outputs = self._outputs(leaves)
        if not self._gradient:
            return tuple(outputs)
        seeded = [out for out in outputs if out.requires_grad]
        wanted = [leaves[at] for at in self._wanted]
        gradients = torch.autograd.grad(seeded, wanted, list(cotangents), allow_unused=True)
        return (*outputs, *(gradient for gradient in gradients if gradient is not None))

    def _outputs(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        args = list(self._args)
        for index, tensor in zip(self._at, tensors, strict=True):
            args[index] = tensor
        result = self._function(*args)
        results = result if isinstance(result, (tuple, list)) else (result,)
        return [out for out in results if isinstance(out, torch.Tensor)]

    def _seeded(self) -> list[torch.Tensor]:
        leaves = [self._args[index].detach().clone() for index in self._at]
        for at in self._wanted:
            leaves[at].requires_grad_()
        return [out.detach() for out in self._outputs(leaves) if out.requires_grad and out.is_floating_point()]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """The exporter prints its progress."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


if __name__ == "__main__":
    sys.exit(main())
