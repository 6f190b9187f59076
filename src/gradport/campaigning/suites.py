"""The built-in suites: torch's own lists of operators, modules, optimizers and Functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from gradport.campaigning.cases import Entry
from gradport.campaigning.tasks import Task
from gradport.compat.quiet import quiet
from gradport.compat.torch import suites
from gradport.errors import SpecError, TargetError
from gradport.exporting.export_step import export_step
from gradport.subject.leaves import leaves, map_leaves
from gradport.subject.subject import Subject

__all__ = ["SUITES", "load_entry", "suite_entries"]

_SAMPLES = 3
"""Sample inputs of each operator, module or Function."""

_STEP = "export step"
"""The column of the optimizers."""


def suite_entries(suite: str) -> list[Entry]:
    """The entries of a suite: `add/0` is the first sample of `add`.

    Raises:
        TargetError: the suite is unknown.
        CompatibilityError: the suite needs a package that is not installed.
    """
    is_task = suite == "optimizers"
    column = _STEP if is_task else ""
    return [Entry(name, "", column, is_task) for entry in _listed(suite) for name in _names(suite, entry)]


def load_entry(suite: str, name: str) -> Subject | Task:
    """The Subject or Task of an entry.

    Raises:
        SpecError: the suite of this torch has no such entry.
    """
    entry, _, number = name.rpartition("/")
    try:
        with quiet():
            return SUITES[suite](entry, int(number))
    except (KeyError, IndexError, ValueError):
        raise SpecError(f"torch:{suite} has no entry {name!r} in torch {torch.__version__}.") from None


@functools.lru_cache(maxsize=8)
def _listed(suite: str) -> dict[str, Any]:
    if suite not in SUITES:
        known = ", ".join(f"torch:{name}" for name in SUITES)
        raise TargetError(f"torch:{suite} is unknown; the suites are {known}.")
    listed: dict[str, Any] = getattr(suites, suite)()
    return listed


def _names(suite: str, entry: str) -> Iterator[str]:
    found = _listed(suite)[entry]
    if suite == "optimizers":
        count = 1
    else:
        count = len(found() if suite == "modules" else suites.samples_of(found, _SAMPLES))
    yield from (f"{entry}/{at}" for at in range(min(count, _SAMPLES)))


def _operator(entry: str, number: int, suite: str = "operators") -> Subject:
    """A sample of an operator, with all gradients that it has."""
    found = _listed(suite)[entry]
    sample = suites.samples_of(found, _SAMPLES)[number]

    def called(input: Any, *args: Any, **kwargs: Any) -> Any:
        return _as_real(sample.output_process_fn_grad(found.op(input, *args, **kwargs)))

    called.__name__ = called.__qualname__ = found.name
    args = (sample.input, *sample.args)
    wrt = "inputs" if _requires_grad(called(*args, **sample.kwargs)) else None
    return Subject(called, args, sample.kwargs, wrt=wrt, name=f"{entry}/{number}")


def _module(entry: str, number: int) -> Subject:
    """A module of torch.nn with its inputs, and the gradients of inputs and parameters."""
    module, args, kwargs = _listed("modules")[entry]()[number]
    if any(torch.nn.parameter.is_lazy(one) for one in module.parameters()):
        module(*args, **kwargs)  # a lazy module gets its parameters
    inputs = _requires_grad((args, kwargs))
    wrt = "all" if inputs and next(module.parameters(), None) is not None else "inputs" if inputs else "parameters"
    return Subject(module, args, kwargs, wrt=wrt, name=f"{entry}/{number}")


def _optimizer(entry: str, number: int) -> Task:
    """Steps of an optimizer on a small network; the proof of the export compares them with torch's own steps."""
    make = _listed("optimizers")[entry]

    def train() -> None:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
        x, target = torch.randn(6, 4), torch.randint(0, 3, (6,))
        of_matrices = entry.split(",")[0] == "Muon"
        chosen = [one for one in model.parameters() if one.dim() == 2 or not of_matrices]
        loss = torch.nn.functional.cross_entropy
        export_step(model, x, optimizer=make(chosen), loss=loss, targets=target)

    return Task(f"{entry}/{number}", train, _STEP)


def _requires_grad(values: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) and leaf.requires_grad for _, leaf in leaves(values))


def _as_real(result: Any) -> Any:
    """Complex results as pairs of real numbers: ONNX has no complex numbers."""

    def pair(leaf: Any) -> Any:
        is_complex = isinstance(leaf, torch.Tensor) and leaf.is_complex()
        return torch.view_as_real(leaf.resolve_conj()) if is_complex else leaf

    return map_leaves(pair, result)


SUITES: dict[str, Callable[[str, int], Subject | Task]] = {
    "operators": _operator,
    "modules": _module,
    "optimizers": _optimizer,
    "functions": functools.partial(_operator, suite="functions"),
}
"""How an entry of a suite is made, by the name of the suite."""
