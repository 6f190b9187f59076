"""`gradport export TARGET INPUT...`: exports a Function to ONNX, and proves the result before it is written."""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradport.cli.options import (
    Functions,
    Inputs,
    Json,
    Loss,
    NoFallback,
    Opset,
    Out,
    Outputs,
    Random,
    Target,
    Wrt,
    names,
)
from gradport.cli.session import Session, require_writable, session
from gradport.cli.target import load_subject

if TYPE_CHECKING:
    from gradport.model.program import Program

__all__ = ["export", "export_target", "file_stem", "require_exportable", "save", "with_gradients"]


def export(
    target: Target,
    inputs: Inputs = None,
    *,
    wrt: Wrt = None,
    loss: Loss = None,
    outputs: Outputs = None,
    functions: Functions = "keep",
    no_fallback: NoFallback = False,
    random: Random = "input",
    opset: Opset = None,
    out: Out = Path("gradport-out"),
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Write the file without the proof.")] = False,
    as_json: Json = False,
) -> None:
    """Export a Function, forward and backward, to ONNX."""
    with session("export", as_json) as current:
        require_writable(out)
        subject = load_subject(target, inputs or [], loss=loss, outputs=names(outputs))
        options = {"functions": functions, "fallback": not no_fallback, "random": random, "opset_version": opset}
        program = export_target(current, subject, wrt, verify=not no_verify, **options)
        save(current, program, out / f"{file_stem(subject.name)}.onnx")


def export_target(current: Session, subject: Any, wrt: str | None, **options: Any) -> Program:
    """Exports with the options of the command line, by default with all gradients, and shows the result."""
    with current.step("importing"):
        from gradport.exporting.export import export as run_export
        from gradport.reporting.terminal import functions_table, interface_table
    with current.step(f"exporting {subject.name}"):
        program = run_export(with_gradients(subject, wrt), **options)
    current.show(interface_table(program))
    if program.functions:
        current.show(functions_table(program))
    for name in program.missing_gradients:
        current.say(f"The backward returns no gradient for {name}.")
    for name in program.dropped_updates:
        current.say(f"The file does not include the update of the buffer {name}.")
    current.result |= {"subject": subject.name, "export": _describe(program)}
    return program


def require_exportable(subject: Any, wrt: str | None, options: Mapping[str, Any]) -> None:
    """Checks names and options before long work.

    Raises:
        SpecError: a name or an option is invalid.
        TargetError: the subject rejects its own example.
    """
    from gradport.eager.inputs import with_example
    from gradport.eager.joint import Joint
    from gradport.exporting.export import require_options

    require_options(functions=options["functions"], opset_version=options["opset_version"], random=options["random"])
    Joint(with_example(with_gradients(subject, wrt)))


def with_gradients(subject: Any, wrt: str | None) -> Any:
    """The Subject with the gradients of `--wrt`; by default all available gradients."""
    from gradport.eager.inputs import with_every_gradient

    if wrt is not None:
        return subject.replace(wrt=names(wrt))
    return with_every_gradient(subject.replace(wrt=subject.wrt or None))


def save(current: Session, program: Program, path: Path) -> None:
    """Writes the model and prints its path."""
    program.save(path)
    current.result.setdefault("files", []).append(str(path))
    current.say(f"wrote {path}")


_LONGEST = 80
"""Largest length of a Subject's name in a file name."""


def file_stem(name: str) -> str:
    """A Subject's name as a file name."""
    stem = re.sub(r"[^\w.-]+", "_", name).strip("_") or "subject"
    return stem if len(stem) <= _LONGEST else f"{stem[:_LONGEST]}-{zlib.crc32(stem.encode()):08x}"


def _describe(program: Program) -> dict[str, Any]:
    def list_specs(specs: Any) -> list[dict[str, Any]]:
        return [
            {**dataclasses.asdict(spec), "dtype": str(spec.dtype).removeprefix("torch."), "shape": list(spec.shape)}
            for spec in specs
        ]

    return {
        "inputs": list_specs(program.inputs),
        "outputs": list_specs(program.outputs),
        "functions": [vars(info) for info in program.functions],
        "missing_gradients": list(program.missing_gradients),
        "dropped_updates": list(program.dropped_updates),
        "opset": program.opset,
    }
