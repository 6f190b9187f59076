"""torch's own optimizers on given tensors: the starting state, and one step, eager or traced.

In a trace the learning rate, the step count and all other Python numbers of eager are float64 tensors without
dimensions, so that the step rounds as in eager.
"""

from __future__ import annotations

import collections
import contextlib
import inspect
import math
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gradport.compat.torch.tensors import version_of
from gradport.errors import SpecError

__all__ = [
    "BEGAN",
    "eager_step",
    "group_names",
    "is_elementwise",
    "require_exportable_optimizer",
    "starting_state",
    "trace_step",
]

_REFUSED = {
    "LBFGS": "its line search evaluates the loss as often as the values require",
    "SparseAdam": "it needs sparse gradients, which ONNX does not have",
}

_ELEMENTWISE = frozenset({"ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD"})
"""Without Rprop, whose masked gradient decides on the sum of a whole tensor."""

ParameterState = dict[str, Any]

BEGAN = "began"
"""State entry of a parameter whose first step differs from later steps: 0 before the first step, then 1. SGD applies no
dampening in its first step."""


def require_exportable_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Refuses optimizers whose step cannot be one graph.

    Raises:
        SpecError: names the optimizer and the reason.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise SpecError(f"optimizer is {type(optimizer).__name__}; give an instance of a torch.optim.Optimizer class.")
    for cls in type(optimizer).__mro__:
        if cls.__module__.startswith("torch.optim") and cls.__name__ in _REFUSED:
            raise SpecError(
                f"{type(optimizer).__name__} cannot be exported: {_REFUSED[cls.__name__]}; use Adam or AdamW."
            )


def is_elementwise(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the step moves each element by its own gradient and state, so that a tensor may have any shape."""
    cls = type(optimizer)
    return cls.__name__ in _ELEMENTWISE and cls is getattr(torch.optim, cls.__name__, None)


def group_names(optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the learning rates: `lr`; with several groups `lr_<group>`, by the group's `name` or index."""
    groups = optimizer.param_groups
    if len(groups) == 1:
        return ["lr"]
    return [f"lr_{group.get('name', index)}" for index, group in enumerate(groups)]


def starting_state(optimizer: torch.optim.Optimizer) -> dict[torch.Tensor, ParameterState]:
    """The state before the next step, per parameter: its own state, or the initial state if it has taken no step. The
    initial state is recorded in a step on copies with zero gradients: the first assignment of each entry.

    An entry that the first step creates after it moves the parameter (SGD's momentum) starts as zeros.
    """
    copies: dict[torch.Tensor, torch.Tensor] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            copies[parameter] = parameter.detach().clone().requires_grad_(parameter.requires_grad)
            if parameter.requires_grad:
                copies[parameter].grad = torch.zeros_like(parameter)
    twin = _twin(optimizer, copies)
    twin.state = collections.defaultdict(dict)
    for parameter, copy in copies.items():
        twin.state[copy] = _First(copy)
        for key, value in optimizer.state.get(parameter, {}).items():
            twin.state[copy][key] = _copy(value)
    twin.step()
    starts = {parameter: dict(twin.state[copy].first) for parameter, copy in copies.items()}
    for parameter in _with_special_first_step(optimizer):
        starts[parameter][BEGAN] = torch.zeros(())
    return starts


def _with_special_first_step(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The parameters that have taken no step and whose first step differs from later steps."""
    if not isinstance(optimizer, torch.optim.SGD):
        return []
    groups = [group for group in optimizer.param_groups if group["momentum"] and group["dampening"]]
    parameters = [parameter for group in groups for parameter in group["params"] if parameter.requires_grad]
    return [parameter for parameter in parameters if optimizer.state.get(parameter, {}).get("momentum_buffer") is None]


def eager_step(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[torch.Tensor, torch.Tensor],
    state: Mapping[torch.Tensor, ParameterState],
    rates: list[torch.Tensor],
    clip_grad_norm: float | None,
) -> dict[torch.Tensor, ParameterState]:
    """Runs one step of torch's optimizer, in place on the given tensors.

    Args:
        optimizer: its class and hyperparameters are used; it is not changed.
        parameters: for each parameter, the tensor that is updated in its place; `.grad` is set.
        state: the state of each parameter; not changed.
        rates: learning rate of each group.
        clip_grad_norm: as in `torch.nn.utils.clip_grad_norm_`.

    Returns:
        The new state of each parameter.
    """
    twin = _twin(optimizer, parameters)
    for group, rate in zip(twin.param_groups, rates, strict=True):
        group["lr"] = float(rate)
    begins = {parameter for group in optimizer.param_groups for parameter in group["params"]} - set(optimizer.state)
    for parameter, entries in state.items():
        blank = parameter in begins and _is_blank(entries)
        own = {key: _copy(value) for key, value in entries.items() if key != BEGAN}
        twin.state[parameters[parameter]] = {} if blank else own
    _clip(parameters.values(), clip_grad_norm)
    twin.step()
    return _new_state(twin, parameters, state)


def _new_state(
    twin: torch.optim.Optimizer,
    parameters: Mapping[torch.Tensor, torch.Tensor],
    state: Mapping[torch.Tensor, ParameterState],
) -> dict[torch.Tensor, ParameterState]:
    new_state = {
        parameter: dict(twin.state[tensor]) for parameter, tensor in parameters.items() if tensor in twin.state
    }
    for parameter, entries in state.items():
        if BEGAN in entries and parameter in new_state:
            new_state[parameter][BEGAN] = torch.ones_like(entries[BEGAN])
    return new_state


def trace_step(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[torch.Tensor, torch.Tensor],
    state: Mapping[torch.Tensor, ParameterState],
    rates: list[torch.Tensor],
    clip_grad_norm: float | None,
) -> dict[torch.Tensor, ParameterState]:
    """As `eager_step`, in a trace, tensor by tensor; numbers are tensors, also in the returned state."""
    twin = _twin(optimizer, parameters)
    for group, rate in zip(twin.param_groups, rates, strict=True):
        group["lr"] = rate.double()
        group.update({key: False for key in ("foreach", "fused") if key in group})
        if isinstance(twin, (torch.optim.RAdam, torch.optim.ASGD)):
            group["capturable"] = True  # otherwise they branch on a number
    began = {parameters[parameter]: entries[BEGAN] for parameter, entries in state.items() if BEGAN in entries}
    twin.param_groups = [one for group in twin.param_groups for one in _split_by_dampening(group, began)]
    for parameter, entries in state.items():
        own = {key: _wide(value) for key, value in entries.items() if key != BEGAN}
        twin.state[parameters[parameter]] = own
    _clip(parameters.values(), clip_grad_norm)
    with _numbers_as_tensors(type(optimizer)):
        twin.step()
    return _new_state(twin, parameters, state)


def _split_by_dampening(group: dict[str, Any], began: Mapping[torch.Tensor, torch.Tensor]) -> list[dict[str, Any]]:
    """Splits a group into groups of one parameter each; the dampening is 0 until the first step is done."""
    if not any(parameter in began for parameter in group["params"]):
        return [group]
    return [
        {
            **group,
            "params": [parameter],
            "dampening": began[parameter].double() * group["dampening"] if parameter in began else group["dampening"],
        }
        for parameter in group["params"]
    ]


class _First(dict[str, Any]):
    """A parameter's state that keeps the first value of each entry."""

    def __init__(self, parameter: torch.Tensor) -> None:
        super().__init__()
        self.first: dict[str, Any] = {}
        self._parameter = parameter
        self._version = version_of(parameter)

    def __setitem__(self, key: str, value: Any) -> None:
        left_behind = version_of(self._parameter) != self._version and isinstance(value, torch.Tensor)
        self.first.setdefault(key, torch.zeros_like(value) if left_behind else _copy(value))
        super().__setitem__(key, value)


def _twin(optimizer: torch.optim.Optimizer, parameters: Mapping[torch.Tensor, torch.Tensor]) -> torch.optim.Optimizer:
    """A copy of an optimizer without state, on other tensors; parameters without a tensor are left out."""
    twin: torch.optim.Optimizer = object.__new__(type(optimizer))
    twin.__dict__.update(optimizer.__dict__)
    twin.__dict__.pop("step", None)  # a scheduler's wrapper would step the original
    twin.param_groups = [
        {**group, "params": [parameters[p] for p in group["params"] if p in parameters]}
        for group in optimizer.param_groups
    ]
    twin.state = collections.defaultdict(dict)
    return twin


def _is_blank(entries: ParameterState) -> bool:
    """Whether all entries are zero: torch then starts without a state."""
    if BEGAN in entries:
        return not entries[BEGAN]
    return all(isinstance(value, torch.Tensor) and not value.any() for value in entries.values())


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _wide(value: Any) -> Any:
    """A scalar tensor in float64, the precision of Python numbers; other values are copied."""
    if isinstance(value, torch.Tensor) and value.dim() == 0 and value.is_floating_point():
        return value.detach().double()
    return _copy(value)


def _clip(tensors: Any, norm: float | None) -> None:
    if norm is not None:
        torch.nn.utils.clip_grad_norm_([t for t in tensors if t.grad is not None], norm, foreach=False)


@contextlib.contextmanager
def _numbers_as_tensors(cls: type) -> Iterator[None]:
    """While open, an optimizer's code computes with tensors in place of numbers.

    `.item()` returns the tensor; `min`, `max` and `math` in the modules of the class accept tensors.
    """
    steps = [vars(base)["step"] for base in cls.__mro__ if "step" in vars(base)]
    modules = [inspect.unwrap(step).__globals__ for step in steps]
    shadows = {"min": _least, "max": _largest, "math": _Math("math")}
    with contextlib.ExitStack() as stack:
        for names in modules:
            for name, shadow in shadows.items():
                if name in ("min", "max") or names.get(name) is math:
                    stack.enter_context(_replace_name(names, name, shadow))
        stack.enter_context(_TensorNumbers())
        yield


@contextlib.contextmanager
def _replace_name(names: dict[str, Any], name: str, shadow: Any) -> Iterator[None]:
    missing = object()
    before = names.get(name, missing)
    names[name] = shadow
    try:
        yield
    finally:
        if before is missing:
            del names[name]
        else:
            names[name] = before


class _TensorNumbers(TorchFunctionMode):
    """While open, `alpha=` and `value=` accept tensors without dimensions, and `.item()` returns one."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.item:
            return args[0].double() if args[0].is_floating_point() else args[0]
        name = getattr(func, "__name__", "")
        factor = kwargs.get("alpha", kwargs.get("value"))
        if isinstance(factor, torch.Tensor) and name in _SCALED:
            kwargs.pop("alpha", None)
            kwargs.pop("value", None)
            operator, scaled = _SCALED[name]
            return operator(args[0], scaled(factor, *args[1:]), **kwargs)
        return func(*args, **kwargs)


def _product(factor: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return first * factor * second


def _quotient(factor: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return first * factor / second


def _multiple(factor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return other * factor


_SCALED: dict[str, tuple[Callable[..., Any], Callable[..., torch.Tensor]]] = {
    "add": (torch.add, _multiple),
    "add_": (torch.Tensor.add_, _multiple),
    "sub": (torch.sub, _multiple),
    "sub_": (torch.Tensor.sub_, _multiple),
    "addcmul": (torch.add, _product),
    "addcmul_": (torch.Tensor.add_, _product),
    "addcdiv": (torch.add, _quotient),
    "addcdiv_": (torch.Tensor.add_, _quotient),
}


class _Math(types.ModuleType):
    """`math` for numbers and for tensors."""

    def __getattr__(self, name: str) -> Any:
        plain = getattr(math, name)
        if not callable(plain):
            return plain
        return lambda *values: (
            getattr(torch, name)(*values)
            if any(isinstance(value, torch.Tensor) for value in values)
            else plain(*values)
        )


def _extreme(pick: Callable[..., Any], plain: Callable[..., Any], values: tuple[Any, ...], options: Any) -> Any:
    if len(values) < 2 or not any(isinstance(value, torch.Tensor) for value in values):
        return plain(*values, **options)
    first, *others = [torch.as_tensor(value, dtype=torch.float64) for value in values]
    for other in others:
        first = pick(first, other)
    return first


def _least(*values: Any, **options: Any) -> Any:
    return _extreme(torch.minimum, min, values, options)


def _largest(*values: Any, **options: Any) -> Any:
    return _extreme(torch.maximum, max, values, options)
