"""Completes a Subject from the model: gradients, outputs, dynamic dimensions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from gradport.eager.inputs import with_example
from gradport.eager.joint import Joint
from gradport.errors import SpecError
from gradport.model.loading import load
from gradport.model.program import Program
from gradport.subject.ports import Role
from gradport.subject.subject import Subject

__all__ = ["as_program", "complete_subject"]


def as_program(program: Program | ir.Model | str | os.PathLike[str]) -> Program:
    """A Program from a Program, a model or a path.

    Raises:
        ProgramError: the file cannot be read.
    """
    if isinstance(program, Program):
        return program
    if isinstance(program, ir.Model):
        return Program(program)
    return load(program)


def complete_subject(subject: Subject, program: Program) -> Subject:
    """The Subject with its missing fields taken from the model.

    Raises:
        SpecError: the model has a loss and the Subject does not.
    """
    changes: dict[str, Any] = {}
    losses = [spec.name for spec in program.outputs if spec.role is Role.LOSS]
    if losses and subject.loss is None:
        raise SpecError(f"The program has the loss {losses[0]!r}; pass the same loss= to verify.")
    wanted = program.provenance.get("wrt")
    if subject.wrt is None and wanted:
        missing = set(program.missing_gradients)
        changes["wrt"] = [name for name in wanted if name.removeprefix("param.") not in missing]
    outputs = program.provenance.get("outputs")
    if subject.outputs is None and outputs is not None and program.provenance:
        changes["outputs"] = outputs
    if subject.dynamic_shapes is None and not _has_specs(subject):
        named = {
            spec.name: _dynamic_axes(spec.shape) for spec in program.inputs if spec.role in (Role.ARGUMENT, Role.TARGET)
        }
        if any(named.values()):
            changes["dynamic_shapes"] = _rename_dimensions(subject, named)
    return subject.replace(**changes) if changes else subject


def _has_specs(subject: Subject) -> bool:
    return with_example(subject) is not subject


def _dynamic_axes(shape: Sequence[int | str]) -> dict[int, str]:
    return {axis: size for axis, size in enumerate(shape) if isinstance(size, str) and size.isidentifier()}


def _rename_dimensions(subject: Subject, named: Mapping[str, dict[int, str]]) -> dict[str, dict[int, str]] | None:
    """The dynamic dimensions by the Subject's names; None if the model's inputs do not correspond to its arguments."""
    joint = Joint(subject.replace(wrt=None))
    leaves = [leaf.name for leaf in (*joint.arguments, *joint.targets)]
    if set(named) <= set(leaves):
        return dict(named)
    return dict(zip(leaves, named.values(), strict=True)) if len(leaves) == len(named) else None
