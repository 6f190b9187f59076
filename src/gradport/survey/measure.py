"""A Function's card, measured: its checks, its ONNX beside eager, curves, sizes, timings and a snippet that ran."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from gradport.check import check
from gradport.eager import ones, run_eager
from gradport.errors import Error
from gradport.evidence import Evidence, environment
from gradport.export import export
from gradport.inputs import with_every_gradient, with_example
from gradport.joint import Joint
from gradport.program import Program
from gradport.signature import source_of
from gradport.subject import Subject
from gradport.survey.curves import curves
from gradport.verify import verify

__all__ = ["measure"]

_ROUNDS = 7


def measure(subject: Subject, *, budget: float = 10.0) -> Evidence:
    """Everything that a card shows of one Subject.

    Args:
        subject: with example inputs; where it names no gradients, every one there is.
        budget: seconds for the check, and for the verification.

    Returns:
        Evidence with the Findings of `check` and `verify`, and in `series` `curves`, `onnx` (functions, nodes, bytes,
        opset), `timings` (milliseconds of forward and backward, eager and ONNX Runtime) and, where the export is
        refused, `refused`.
    """
    described = with_every_gradient(with_example(subject))
    checked = check(subject, budget=budget)
    series: dict[str, Any] = {"curves": curves(Joint(described))}
    findings = checked.findings
    try:
        program = export(described, verify=False)
        verified = verify(program, described, budget=budget)
        findings += verified.findings
        series |= {"onnx": _onnx(program), "timings": _timings(Joint(described), program)}
    except Error as error:
        series["refused"] = str(error)
    file, line = source_of(subject.target)
    return Evidence(
        subject=subject.name,
        findings=findings,
        series=series,
        source={"file": file, "line": line, "gradients": described.wrt},
        environment=environment(),
    )


def _onnx(program: Program) -> dict[str, Any]:
    bodies = [program.model.graph, *(function.graph for function in program.model.functions.values())]
    return {
        "opset": program.opset,
        "nodes": sum(len(list(body)) for body in bodies),
        "inputs": [spec.name for spec in program.inputs],
        "outputs": [spec.name for spec in program.outputs],
        "functions": [dataclasses.asdict(info) for info in program.functions],
    }


def _timings(joint: Joint, program: Program) -> dict[str, float]:
    """Medians in milliseconds of forward and backward, in one process and interleaved."""
    answer = run_eager(joint, joint.examples(), ones)
    cotangents = {name: torch.ones_like(answer.outputs[name]) for name in answer.seeded}
    feeds = [tensor for slot, tensor in joint.examples().items() if slot.kind in ("argument", "target")]
    feeds += cotangents.values()
    try:
        program.run(*feeds)
    except Error:
        return {}
    calls: dict[str, Callable[[], object]] = {
        "eager": lambda: run_eager(joint, joint.examples(), ones),
        "onnxruntime": lambda: program.run(*feeds),
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            taken[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(times) for name, times in taken.items()}
