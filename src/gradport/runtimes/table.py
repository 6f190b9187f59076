"""The table of runtimes: one row for each, from a model to a function from tensors to tensors.

Another package registers a runtime by an entry point of the group `gradport.runtimes` with the runtime's name. The
entry point is a function from a `gradport.Program` to a runner: a function from tensors by name to tensors by name.
Both may raise `gradport.ProgramError`. A registered runtime is its own family.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence

import torch

from gradport.errors import ProgramError, SpecError
from gradport.model.program import Program
from gradport.runtimes import ort, reference_evaluator

__all__ = ["Runner", "Runtime", "choose_runtimes", "known_runtimes", "runners"]

Runner = Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]

GROUP = "gradport.runtimes"


@dataclasses.dataclass(frozen=True)
class Runtime:
    """One row.

    Attributes:
        name: its name in `runtimes=` and reports.
        family: the group of runtimes that share kernels and have one vote.
        make: from a Program to its runner; raises ProgramError if it rejects the model, NoKernel if only a kernel is
            missing.
        default: whether it runs by default.
        absent: returns the reason if it is not installed, else None.
    """

    name: str
    family: str
    make: Callable[[Program], Runner]
    default: bool = False
    absent: Callable[[], str | None] = lambda: None


_OWN = (
    Runtime("onnxruntime", "onnxruntime", ort.cpu, default=True),
    *(
        Runtime(f"onnxruntime-{level}", "onnxruntime", functools.partial(ort.make_session_runner, level=level))
        for level in ort.LEVELS
    ),
    Runtime("reference", "reference", reference_evaluator.evaluator, default=True),
    Runtime("onnxruntime-cuda", "onnxruntime-cuda", ort.cuda, default=True, absent=ort.cuda_is_absent),
)


def known_runtimes() -> dict[str, Runtime]:
    """All known runtimes by name, also those that are absent."""
    rows = {row.name: row for row in _OWN}
    for entry in importlib.metadata.entry_points(group=GROUP):
        rows.setdefault(entry.name, _load_registered(entry))
    return rows


def choose_runtimes(names: Sequence[str] | None) -> list[Runtime]:
    """The runtimes of these names; None: the default runtimes.

    Raises:
        SpecError: a runtime is unknown.
    """
    rows = known_runtimes()
    for name in names or ():
        if name not in rows:
            raise SpecError(f"runtimes names {name!r}, which is unknown; known runtimes are {', '.join(rows)}.")
    return [row for row in rows.values() if row.default] if names is None else [rows[name] for name in names]


def runners(program: Program, rows: Sequence[Runtime]) -> dict[str, Runner | ProgramError]:
    """A runner for each runtime, or the error why it does not run this model."""
    by_name: dict[str, Runner | ProgramError] = {}
    for row in rows:
        reason = row.absent()
        try:
            by_name[row.name] = row.make(program) if reason is None else ort.Absent(reason)
        except ProgramError as error:
            by_name[row.name] = error
    return by_name


def _load_registered(entry: importlib.metadata.EntryPoint) -> Runtime:
    def make(program: Program) -> Runner:
        try:
            function = entry.load()
        except Exception as error:
            raise ProgramError(f"The runtime {entry.name!r} ({entry.value}) cannot be loaded: {error}.") from error
        inner = function(program)

        def run(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            try:
                return dict(inner(tensors))
            except ProgramError:
                raise
            except Exception as error:
                raise ProgramError(f"The runtime {entry.name!r} fails on this model: {error}.") from error

        return run

    return Runtime(entry.name, entry.name, make, default=True)
