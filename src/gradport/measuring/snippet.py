"""A runnable snippet: a Function, an example, its export, and one run; tested before it is shown."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import torch

from gradport.eager.joint import Joint
from gradport.model.program import Program
from gradport.subject.ports import Role
from gradport.subject.spec import short_dtype
from gradport.subject.subject import Subject

__all__ = ["snippet"]

_SECONDS = 120.0


def snippet(joint: Joint, program: Program) -> dict[str, Any]:
    """A few lines of Python that export and run the Subject, and their output in a separate process.

    Returns:
        `code`, `printed` and `ok`; or `reason`, if there is no snippet.
    """
    code = _code(joint, program)
    if isinstance(code, Exception):
        return {"reason": str(code)}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_SECONDS, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return {"reason": f"the snippet did not finish within {_SECONDS:g} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        return {"reason": f"the snippet fails in a separate process: {last}"}
    return {"code": code, "printed": done.stdout.strip(), "ok": True}


def _code(joint: Joint, program: Program) -> str | ValueError:
    subject = joint.subject
    try:
        target, lines = _write_imports(subject)
        arguments = [_write_argument(name, value, lines) for name, value in _arguments(joint)]
    except ValueError as error:
        return error
    wanted = f", wrt={subject.wrt!r}" if subject.wrt else ""
    args = f"({arguments[0]},)" if len(arguments) == 1 else f"({', '.join(arguments)})"
    lines.append(f"program = gradport.export({target}, {args}{wanted})")
    lines.append(f"output = {_call(subject, target)}({', '.join(arguments)})")
    variables = [_variable(spec.name) for spec in program.inputs if spec.role == Role.ARGUMENT]
    variables += [_cotangent(str(spec.of)) for spec in program.inputs if spec.role == Role.COTANGENT]
    variables += ["*program.draw(0)"] if program.random else []
    lines.append(f"results = program.run({', '.join(variables)})")
    lines.append("for spec, result in zip(program.outputs, results, strict=True):")
    lines.append("    print(spec.name, tuple(result.shape))")
    return "\n".join(lines) + "\n"


def _write_imports(subject: Subject) -> tuple[str, list[str]]:
    """The target's name in code, and the lines that import it."""
    target = subject.target
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", "<")
    if subject.loss is not None or subject.kwargs or subject.targets:
        raise ValueError("a snippet has no loss, targets or keyword arguments; use the command line")
    if not module or module == "__main__" or "<" in name:
        raise ValueError(f"{subject.name} cannot be imported from a module")
    root = name.split(".")[0]
    return name, ["import torch", "", "import gradport", f"from {module} import {root}", ""]


def _arguments(joint: Joint) -> list[tuple[str, Any]]:
    names = {argument.path[-1]: argument.name for argument in joint.arguments if len(argument.path) == 2}
    return [(names.get(place, ""), value) for place, value in enumerate(joint.subject.args)]


def _write_argument(name: str, value: Any, lines: list[str]) -> str:
    """An expression for an argument; a tensor gets a variable with its own line."""
    if isinstance(value, torch.Tensor):
        variable = _variable(name)
        lines.append(f"{variable} = {_tensor(value)}")
        return variable
    if value is None or isinstance(value, (bool, int, float, str, torch.dtype)):
        return repr(value)
    raise ValueError(f"the argument {name or type(value).__name__!r} is a {type(value).__name__}")


def _tensor(value: torch.Tensor) -> str:
    shape = ", ".join(map(str, value.shape))
    flat = value.detach().reshape(-1)
    if value.numel() <= 1:
        return f"torch.tensor({value.detach().tolist()!r}, dtype={value.dtype})"
    if value.dtype == torch.bool:
        return f"torch.rand({shape}) > 0.5"
    if value.is_floating_point():
        low, high = float(flat.min()), float(flat.max())
        dtype = "" if value.dtype == torch.float32 else f", dtype={value.dtype}"
        return f"torch.empty({shape}{dtype}).uniform_({low:.2f}, {high:.2f})"
    if value.is_complex():
        raise ValueError(f"an argument is {short_dtype(value.dtype)}")
    return f"torch.randint({int(flat.min())}, {int(flat.max()) + 1}, ({shape},), dtype={value.dtype})"


def _call(subject: Subject, target: str) -> str:
    is_function = isinstance(subject.target, type) and issubclass(subject.target, torch.autograd.Function)
    return f"{target}.apply" if is_function else target


def _cotangent(of: str) -> str:
    """A cotangent of ones for `output`, or for one of several outputs such as `output_1`."""
    place = of.removeprefix("output_")
    return f"torch.ones_like(output[{place}])" if place.isdigit() else "torch.ones_like(output)"


def _variable(name: str) -> str:
    variable = "".join(letter if letter.isalnum() else "_" for letter in name) or "argument"
    return variable if variable.isidentifier() else f"x_{variable}"
