"""Operators of `torch.library`: custom_op, triton_op, Library.define.

Private in torch, and used here:
- `torch._library.custom_ops.OPDEFS`, `_init_fn` and `_backend_fns`: the Python bodies of a `custom_op`;
- the closure of the Function that torch makes for a registered backward: the operator and its `_backward_fn`
  (`torch._library.autograd.make_autograd_impl`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._library.custom_ops import OPDEFS, CustomOpDef

from gradport.compat.torch.operators import is_overload

__all__ = [
    "backward_of_operator",
    "is_custom_operator",
    "name_of_operator",
    "operator_of",
    "operator_of_function",
    "python_body",
    "with_defaults",
]

_OWN = {
    *("aten", "prim", "prims", "higher_order", "inductor", "profiler", "quantized", "rngprims", "_c10d_functional"),
    "gradport",
}
"""Namespaces of torch's own operators, and of this package's."""


def is_custom_operator(target: Any) -> bool:
    """Whether it is an operator that a library outside torch defines."""
    return is_overload(target) and target.namespace not in _OWN


def operator_of(value: Any) -> Any:
    """The operator that a `custom_op`, `torch.ops.<name>` or an overload of it stands for; None for anything else."""
    if isinstance(value, CustomOpDef):
        return value._opoverload
    if isinstance(value, torch._ops.OpOverloadPacket):
        return value.default if "default" in value.overloads() else None
    return value if is_custom_operator(value) else None


def operator_of_function(function: Any) -> Any:
    """The operator whose registered backward torch runs by this Function; None for a Function of a user's."""
    if not function.__name__.startswith("GeneratedBackwardFor_"):
        return None
    return _closure_values(function).get("op")


def backward_of_operator(function: Any) -> Any:
    """The backward that its author registered for the operator of such a Function."""
    return getattr(_closure_values(function).get("info"), "_backward_fn", None)


def name_of_operator(target: Any) -> tuple[str, str]:
    """An operator's namespace and its name, an overload after a point."""
    namespace, _, name = target._schema.name.partition("::")
    overload = target._schema.overload_name
    return namespace, f"{name}.{overload}" if overload else name


def python_body(target: Any) -> Callable[..., Any] | None:
    """What a `custom_op` runs on the CPU; None for an operator of `Library`, whose kernel the dispatcher keeps."""
    definition = OPDEFS.get(target._schema.name)
    if definition is not None:
        bodies = definition._backend_fns
        return definition._init_fn if None in bodies else bodies.get("cpu", definition._init_fn)
    return None


def with_defaults(target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of a call in the order of the operator's, those included that the dispatcher left out because they
    are the defaults."""
    rest = target._schema.arguments[len(args) :]
    return (*args, *(kwargs.get(argument.name, argument.default_value) for argument in rest))


def _closure_values(function: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for method in (function.forward, function.backward):
        variables = inspect.getclosurevars(inspect.unwrap(method)).nonlocals
        found |= variables
        for name in ("orig_forward", "orig_backward"):  # a Function that takes lists of tensors stands around another
            if name in variables:
                found |= inspect.getclosurevars(variables[name]).nonlocals
    return found
