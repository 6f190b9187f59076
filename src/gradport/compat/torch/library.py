"""Operators of `torch.library`: custom_op, triton_op, Library.define.

Private in torch, and used here:
- `torch._library.custom_ops.OPDEFS`, `_init_fn` and `_backend_fns`: the Python bodies of a `custom_op`;
- the closure of the Function that torch creates for a registered backward: the operator and its `_backward_fn`
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
    "fill_defaults",
    "is_custom_operator",
    "name_of_operator",
    "operator_of",
    "operator_of_function",
    "python_body",
]

_OWN = {
    *("aten", "prim", "prims", "higher_order", "inductor", "profiler", "quantized", "rngprims", "_c10d_functional"),
    "gradport",
}
"""Namespaces of torch's own operators, and of gradport's."""


def is_custom_operator(target: Any) -> bool:
    """Whether `target` is an operator that a library outside torch defines."""
    return is_overload(target) and target.namespace not in _OWN


def operator_of(value: Any) -> Any:
    """The operator of a `custom_op`, of `torch.ops.<name>` or of an overload; None for any other value."""
    if isinstance(value, CustomOpDef):
        return value._opoverload
    if isinstance(value, torch._ops.OpOverloadPacket):
        return value.default if "default" in value.overloads() else None
    return value if is_custom_operator(value) else None


def operator_of_function(function: Any) -> Any:
    """The operator whose registered backward torch runs as this Function; None for a user's Function."""
    if not function.__name__.startswith("GeneratedBackwardFor_"):
        return None
    return _closure_values(function).get("op")


def backward_of_operator(function: Any) -> Any:
    """The registered backward of the operator of such a Function."""
    return getattr(_closure_values(function).get("info"), "_backward_fn", None)


def name_of_operator(target: Any) -> tuple[str, str]:
    """An operator's namespace and name; the name ends with `.overload` if there is one."""
    namespace, _, name = target._schema.name.partition("::")
    overload = target._schema.overload_name
    return namespace, f"{name}.{overload}" if overload else name


def python_body(target: Any) -> Callable[..., Any] | None:
    """The CPU function of a `custom_op`; None for an operator of `Library`, whose kernel only the dispatcher has."""
    definition = OPDEFS.get(target._schema.name)
    if definition is not None:
        bodies = definition._backend_fns
        return definition._init_fn if None in bodies else bodies.get("cpu", definition._init_fn)
    return None


def fill_defaults(target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of a call in the operator's order, including the defaults that the dispatcher omitted."""
    rest = target._schema.arguments[len(args) :]
    return (*args, *(kwargs.get(argument.name, argument.default_value) for argument in rest))


def _closure_values(function: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for method in (function.forward, function.backward):
        variables = inspect.getclosurevars(inspect.unwrap(method)).nonlocals
        values |= variables
        for name in ("orig_forward", "orig_backward"):  # a Function that takes lists of tensors wraps another
            if name in variables:
                values |= inspect.getclosurevars(variables[name]).nonlocals
    return values
