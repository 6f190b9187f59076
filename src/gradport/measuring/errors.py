"""The errors of eager and ONNX Runtime against float64, element by element."""

from __future__ import annotations

import math
from typing import Any

import torch

from gradport.eager.dimensions import Dimensions
from gradport.eager.inputs import draw_inputs, sizes_of
from gradport.eager.joint import Joint
from gradport.model.program import Program
from gradport.proving.answers import reference

__all__ = ["EDGES", "errors"]

EDGES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, math.inf)
"""Upper limits of the bins, in ULPs of the largest value of a tensor."""

_CASES = 3


def errors(joint: Joint, dimensions: Dimensions, program: Program, seed: int = 0) -> dict[str, Any]:
    """A histogram of the errors of all results against a float64 run of the same code, on three sets of inputs.

    Returns:
        `edges` (ULPs), and for `eager` and `onnxruntime` the number of elements in each bin; empty if the Subject does
        not run in float64.

    Raises:
        Error: the Subject or the runtime fails.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = {"eager": [0] * len(EDGES), "onnxruntime": [0] * len(EDGES)}
    names = [spec.name for spec in program.inputs]
    for _ in range(_CASES):
        answer = reference(joint, draw_inputs(joint, dimensions, sizes_of(joint, dimensions), generator), generator)
        oracle = answer.oracle()
        if oracle is None:
            return {}
        results = program.run_named(dict(zip(names, answer.feeds.values(), strict=True)))
        for (name, eager), result in zip(answer.expected.items(), results.values(), strict=True):
            if name in oracle and eager.is_floating_point():
                _count(counts["eager"], eager, oracle[name])
                _count(counts["onnxruntime"], result, oracle[name])
    return {"edges": list(EDGES), **counts} if any(counts["eager"]) else {}


def _count(counts: list[int], value: torch.Tensor, oracle: torch.Tensor) -> None:
    want = oracle.detach().double()
    finite = want.isfinite()
    if not finite.any():
        return
    unit = torch.finfo(value.dtype).eps * max(float(want[finite].abs().max()), torch.finfo(value.dtype).tiny)
    ulps = ((value.detach().double() - want).abs() / unit)[finite].nan_to_num(math.inf)
    bins = torch.bucketize(ulps, torch.tensor(EDGES, dtype=torch.float64))
    for bin_, count in zip(*(t.tolist() for t in bins.unique(return_counts=True)), strict=True):
        counts[min(bin_, len(EDGES) - 1)] += count
