"""The runtimes that a model is run in: a table, one row for each, from a model to something that takes and gives
tensors.

Somebody's own runtime registers itself by an entry point of the group `gradport.runtimes`, whose name is the runtime's.
It loads to a function of a `gradport.Program` that gives a function from tensors by name to tensors by name; either may
raise `gradport.ProgramError`. An attribute `family` of it says with whom it shares its kernels; without one it speaks
for itself.
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
        name: as `runtimes=` and reports call it.
        family: those that share kernels have one voice.
        make: from a Program to its runner; ProgramError where it does not take the model, NoKernel where it only
            lacks a kernel.
        default: whether it runs where nobody chose.
        absent: why it is not on this machine, or None where it is.
    """

    name: str
    family: str
    make: Callable[[Program], Runner]
    default: bool = False
    absent: Callable[[], str | None] = lambda: None


_OWN = (
    Runtime("onnxruntime", "onnxruntime", ort.cpu, default=True),
    *(
        Runtime(f"onnxruntime-{level}", "onnxruntime", functools.partial(ort.at_level, level=level))
        for level in ort.LEVELS
    ),
    Runtime("reference", "reference", reference_evaluator.evaluator, default=True),
    Runtime("onnxruntime-cuda", "onnxruntime-cuda", ort.cuda, default=True, absent=ort.cuda_is_absent),
)


def known_runtimes() -> dict[str, Runtime]:
    """Every runtime that is installed, by name."""
    rows = {row.name: row for row in _OWN}
    for entry in importlib.metadata.entry_points(group=GROUP):
        rows.setdefault(entry.name, _load_registered(entry))
    return rows


def choose_runtimes(names: Sequence[str] | None) -> list[Runtime]:
    """The runtimes of these names; None: those that run where nobody chose.

    Raises:
        SpecError: a runtime that is not known.
    """
    rows = known_runtimes()
    for name in names or ():
        if name not in rows:
            raise SpecError(f"runtimes names {name!r}; known are {', '.join(rows)}.")
    return [row for row in rows.values() if row.default] if names is None else [rows[name] for name in names]


def runners(program: Program, rows: Sequence[Runtime]) -> dict[str, Runner | ProgramError]:
    """A runner for each runtime, or the reason why it does not take this model."""
    made: dict[str, Runner | ProgramError] = {}
    for row in rows:
        reason = row.absent()
        try:
            made[row.name] = row.make(program) if reason is None else ort.Absent(reason)
        except ProgramError as error:
            made[row.name] = error
    return made


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
