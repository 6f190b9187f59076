"""The node tests that ship in the onnx package, through gradport's runtimes, against their own outputs and tolerances.

    python bench/backend_suite.py [--runtimes onnxruntime,reference] [--only PATTERN] [--list]

One line a runtime: how many agree, differ, and are left out because the runtime lacks the operator, type or opset.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Iterator

import numpy as np
import onnx.backend.test.loader
import onnx_ir as ir
import torch

import gradport
from gradport.isolation.limit import TimeUp, limit_time
from gradport.runtimes.ort import NoKernel
from gradport.runtimes.table import known_runtimes

SECONDS = 20.0


@dataclasses.dataclass(frozen=True)
class Verdict:
    """agrees, differs or lacks, and why."""

    outcome: str
    reason: str = ""


def cases(pattern: str = "") -> Iterator[onnx.backend.test.loader.TestCase]:
    """The node tests of the installed onnx whose name holds the pattern."""
    for case in onnx.backend.test.loader.load_model_tests(kind="node"):
        if re.search(pattern, case.name):
            yield case


def judged(case: onnx.backend.test.loader.TestCase, runtime: str) -> Verdict:
    """One test in one runtime."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), limit_time(SECONDS):
            program = gradport.Program(ir.from_proto(case.model))
            run = known_runtimes()[runtime].make(program)
            for inputs, outputs in case.data_sets:
                found = run({spec.name: _tensor(array) for spec, array in zip(program.inputs, inputs, strict=False)})
                for spec, wanted in zip(program.outputs, outputs, strict=True):
                    _compare(found[spec.name], np.asarray(wanted), case.rtol, case.atol)
    except AssertionError as error:
        return Verdict("differs", " ".join(str(error).split())[:160])
    except TimeUp:
        return Verdict("lacks", "takes too long")
    except (gradport.ProgramError, NoKernel, TypeError, ValueError) as error:
        return Verdict("lacks", " ".join(str(error).split())[:160])
    return Verdict("agrees")


def _tensor(array: np.ndarray) -> torch.Tensor:
    array = np.asarray(array)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def _compare(found: torch.Tensor, wanted: np.ndarray, rtol: float, atol: float) -> None:
    got = found.float().numpy() if found.dtype == torch.bfloat16 else found.numpy()
    want = wanted.astype(np.float32) if wanted.dtype.name == "bfloat16" else wanted
    assert got.shape == want.shape, f"shape {got.shape} where {want.shape} is due"
    assert got.dtype == want.dtype, f"dtype {got.dtype} where {want.dtype} is due"
    if want.dtype.kind in "fc":
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)
    else:
        np.testing.assert_array_equal(got, want)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtimes", default="onnxruntime,reference")
    parser.add_argument("--only", default="")
    parser.add_argument("--list", action="store_true", help="name what differs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for runtime in options.runtimes.split(","):
        counts: collections.Counter[str] = collections.Counter()
        for case in cases(options.only):
            verdict = judged(case, runtime)
            counts[verdict.outcome] += 1
            if options.list and verdict.outcome == "differs":
                print(f"{runtime} differs {case.name}: {verdict.reason}")
        said = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("agrees", "differs", "lacks"))
        print(f"{runtime}: {said} of {sum(counts.values())}")


if __name__ == "__main__":
    sys.exit(main())
