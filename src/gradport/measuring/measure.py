"""Measures a Function for its card: its checks, its ONNX compared with eager, and the data of all plots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradport.checking import check
from gradport.compat.quiet import quiet
from gradport.eager.dimensions import resolve_dimensions
from gradport.eager.inputs import with_every_gradient, with_example
from gradport.eager.joint import Joint
from gradport.eager.randomness import draw_by
from gradport.eager.run import ones, run_eager
from gradport.errors import Error
from gradport.evidence.evidence import Evidence, environment
from gradport.exporting.export import export
from gradport.lowering import OPSETS
from gradport.measuring.curves import curves
from gradport.measuring.divergence import divergence
from gradport.measuring.errors import errors
from gradport.measuring.forms import forms
from gradport.measuring.jacobian import jacobian
from gradport.measuring.nodes import nodes
from gradport.measuring.snippet import snippet
from gradport.measuring.timings import timings
from gradport.subject.signature import source_of
from gradport.subject.subject import Subject
from gradport.verifying import verify

__all__ = ["measure"]

_PATIENT = 0.5
"""Budget from which torch.compile, which takes seconds, is timed and every opset is tried."""


def measure(subject: Subject, *, budget: float = 1.0, progress: Callable[[str], None] = lambda what: None) -> Evidence:
    """Measures all the data of one Subject's card.

    Args:
        subject: has example inputs; without `wrt` all available gradients are measured.
        budget: factor of the work of the check and the verification; below 0.5 torch.compile is not timed and the
            forms are tried only at the lowest and the newest opset.
        progress: called with the name of the next step.

    Returns:
        Evidence with the Findings of `check` and `verify`, and the parts of the survey in `series`, by name: `curves`,
        `jacobian`, `onnx`, `errors`, `divergence`, `timings`, `forms`, `snippet`. `left_out` has the reason for each
        missing part, `refused` the reason for a refused export.
    """
    described = with_every_gradient(with_example(subject))
    joint = Joint(described)
    part = _Parts(progress)
    progress("checking")
    checked = check(subject, budget=budget)
    findings = checked.findings
    if _draws(joint):
        part.left_out |= dict.fromkeys(
            ("curves", "jacobian"), "it draws random numbers, so each call is a different function"
        )
    else:
        part("curves", lambda: curves(joint))
        part("jacobian", lambda: jacobian(joint))
    try:
        program = export(described, verify=False)
        progress("verifying")
        findings += verify(program, described, budget=budget).findings
    except Error as error:
        part.measured["refused"] = str(error)
    else:
        dimensions = resolve_dimensions(joint, described.dynamic_shapes)
        part("onnx", lambda: nodes(program))
        part("errors", lambda: errors(joint, dimensions, program))
        part("divergence", lambda: divergence(joint, dimensions, program.opset))
        opsets = OPSETS if budget >= _PATIENT else (OPSETS[0], OPSETS[-1])
        part("forms", lambda: forms(described, opsets, progress=progress))
        part("snippet", lambda: snippet(joint, program))
        forward = export(described.replace(wrt=None, loss=None, targets=(), outputs=None), verify=False)
        part("timings", lambda: timings(joint, dimensions, program, forward, compiled=budget >= _PATIENT))
    file, line = source_of(subject.target)
    return Evidence(
        subject=subject.name,
        findings=findings,
        series={**part.measured, "left_out": part.left_out},
        source={"file": file, "line": line, "gradients": described.wrt},
        environment=environment(),
    )


def _draws(joint: Joint) -> bool:
    """Whether a call draws random numbers."""
    generator = torch.Generator().manual_seed(0)
    return bool(run_eager(joint, joint.examples(), ones, draw_by(generator)).random)


class _Parts:
    """The measured parts, and the reasons for missing parts."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.measured: dict[str, Any] = {}
        self.left_out: dict[str, str] = {}
        self._progress = progress

    def __call__(self, name: str, collect: Callable[[], Any]) -> None:
        """Measures one part."""
        self._progress(name)
        try:
            with quiet():
                result = collect()
        except Error as error:
            self.left_out[name] = str(error)
            return
        if result:
            self.measured[name] = result
