"""The lists of operators, modules, optimizers and Functions that torch tests itself with.

Private in torch, and used here: `torch.testing._internal.common_methods_invocations.op_db`, `common_modules.module_db`,
`common_optimizers.optim_db`, `autograd_function_db.autograd_function_db`. They need the package expecttest.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from gradport.compat.quiet import quiet
from gradport.errors import CompatibilityError

__all__ = ["functions", "modules", "operators", "optimizers", "samples_of"]


def operators() -> dict[str, Any]:
    """The operators with a float32 gradient, by name and variant."""
    with _needs_expecttest(), quiet():
        from torch.testing._internal.common_methods_invocations import op_db
    return {_name(entry): entry for entry in op_db if entry.supports_autograd and torch.float32 in entry.dtypes}


def functions() -> dict[str, Any]:
    """The autograd Functions, by name."""
    with _needs_expecttest(), quiet():
        from torch.testing._internal.autograd_function_db import autograd_function_db
    return {_name(entry): entry for entry in autograd_function_db}


def samples_of(entry: Any, most: int) -> list[Any]:
    """The first sample inputs of an operator or Function in float32: `input`, `args`, `kwargs`,
    `output_process_fn_grad`."""
    torch.manual_seed(0)
    with quiet():
        return list(itertools.islice(entry.sample_inputs("cpu", torch.float32, requires_grad=True), most))


def modules() -> dict[str, Callable[[], list[tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]]]]:
    """By name: a function that makes the modules of `torch.nn` with positional and keyword inputs."""
    with _needs_expecttest(), quiet():
        from torch.testing._internal.common_modules import module_db

    def make(entry: Any) -> Callable[[], list[tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]]]:
        return lambda: list(_modules(entry))

    return {entry.name: make(entry) for entry in module_db}


def optimizers() -> dict[str, Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]]:
    """By name: a function that makes an optimizer of `torch.optim` with its options."""
    with _needs_expecttest(), quiet():
        from torch.testing._internal.common_optimizers import optim_db

    found: dict[str, Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]] = {}
    for entry in optim_db:
        for given in entry.optim_inputs_func(device="cpu"):
            if given.params is None:
                found[f"{entry.optim_cls.__name__}, {given.desc}"] = _optimizer(entry.optim_cls, given.kwargs)
    return found


def _optimizer(cls: Any, options: dict[str, Any]) -> Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]:
    return lambda parameters: cls(parameters, **options)


def _modules(entry: Any) -> Iterator[tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]]:
    torch.manual_seed(0)
    given = entry.module_inputs_func(entry, device="cpu", dtype=torch.float32, requires_grad=True, training=True)
    for one in given:
        if one.forward_input is not None:
            made = one.constructor_input
            with quiet():
                module = entry.module_cls(*made.args, **made.kwargs)
            yield module, tuple(one.forward_input.args), dict(one.forward_input.kwargs)


def _name(entry: Any) -> str:
    return ".".join(filter(None, (entry.name, entry.variant_test_name)))


class _needs_expecttest:
    """Says which package the lists need."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, ModuleNotFoundError):
            raise CompatibilityError(
                f"The suites of torch need {error.name}, which is not installed: pip install {error.name}."
            ) from error
