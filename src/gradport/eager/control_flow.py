"""torch.cond, scan and while_loop: every tensor that a body reads becomes an operand.

torch's operators differentiate only operands; a weight in a branch's closure would be a constant without a gradient.
In eager, torch.compile lifts such tensors. Here the operator is called without compilation, so that traces and random
numbers work, and the tensors are lifted before: a first run of the body finds the tensors that it reads.

Source: https://docs.pytorch.org/docs/stable/cond.html
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gradport.compat.torch.control_flow import skip_compilation
from gradport.compat.torch.pullbacks import forward_and_backward
from gradport.compat.torch.trees import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

__all__ = ["Lifting", "Vjp", "bodies", "control_flow", "in_body", "vjp_of"]


@contextlib.contextmanager
def control_flow() -> Iterator[None]:
    """While open, tensors in the closures of operator bodies are passed as operands; torch does not compile them."""
    with skip_compilation(), Lifting():
        yield


def bodies(graph_module: torch.fx.GraphModule) -> list[torch.fx.GraphModule]:
    """A traced graph and the bodies of its operators, innermost last."""
    return [module for module in graph_module.modules() if isinstance(module, torch.fx.GraphModule)]


class Lifting(TorchFunctionMode):
    """While open, tensors in the closures of operator bodies are passed as operands."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        rule = _RULES.get(func)
        return func(*args, **(kwargs or {})) if rule is None else rule(*args, **(kwargs or {}))


def _cond(pred: Any, true_fn: Any, false_fn: Any, operands: Any) -> Any:
    structure = tuple(operands)
    leaves, spec = tree_flatten(structure)
    branches = [_Body(branch, lambda *flat: tree_unflatten(flat, spec)) for branch in (true_fn, false_fn)]
    read = _tensors_read_by([(branch, tuple(leaves)) for branch in branches])
    results = _hop.cond(pred, *(branch.bind(read) for branch in branches), (*leaves, *_copy_operands(read, leaves)))
    return tree_unflatten(results, branches[0].spec)


def _scan(combine_fn: Any, init: Any, xs: Any, additional_inputs: Any = ()) -> Any:
    body = _Body(combine_fn)
    read = _tensors_read_by([(body, (*init, *(x[0] for x in xs), *additional_inputs))])
    results = _hop.scan(
        body.bind(read),
        list(init),
        list(xs),
        (*additional_inputs, *_copy_operands(read, (*init, *xs, *additional_inputs))),
    )
    return tree_unflatten(results, body.spec)  # torch's compiler gives the carry and the rows their structure


def _while_loop(cond_fn: Any, body_fn: Any, carried_inputs: Any, additional_inputs: Any = ()) -> Any:
    test, body = _Body(cond_fn), _Body(body_fn)
    operands = (*carried_inputs, *additional_inputs)
    read = _tensors_read_by([(test, operands), (body, operands)])
    extra = (*additional_inputs, *_copy_operands(read, operands))
    return _hop.while_loop(test.bind(read, single=True), body.bind(read), carried_inputs, extra)


_hop = torch.ops.higher_order
_RULES: dict[Any, Callable[..., Any]] = {_hop.cond: _cond, _hop.scan: _scan, _hop.while_loop: _while_loop}


def vjp_of(function: Callable[..., torch.Tensor], example: Sequence[torch.Tensor]) -> Vjp:
    """The value of a function and its vector-Jacobian product, also for the body of a loop.

    torch traces a body below autograd, so in a trace both are graphs of their own. Tensors in the function's closure
    are constants.

    Args:
        function: of tensors; returns a tensor.
        example: tensors with the shapes and dtypes of its arguments.
    """
    if not torch.compiler.is_compiling():
        return _eager_vjp(function)
    body = _Body(lambda *arguments: (function(*arguments),))
    read = _tensors_read_by([(body, tuple(example))])
    forward, backward = forward_and_backward(body.bind(read), (*example, *read), len(example))

    def value_and_saved(*arguments: torch.Tensor) -> tuple[torch.Tensor, tuple[Any, ...]]:
        value, *saved = forward(*arguments, *read)
        return value, tuple(saved)

    return Vjp(value_and_saved, lambda saved, cotangent: tuple(backward(*saved, cotangent)[: len(example)]))


@dataclasses.dataclass(frozen=True)
class Vjp:
    """A function in two parts.

    Attributes:
        forward: `(*arguments) -> (value, saved)`.
        backward: `(saved, cotangent) -> gradients of the arguments`.
    """

    forward: Callable[..., tuple[torch.Tensor, tuple[Any, ...]]]
    backward: Callable[[tuple[Any, ...], torch.Tensor], tuple[torch.Tensor, ...]]


def _eager_vjp(function: Callable[..., torch.Tensor]) -> Vjp:
    def forward(*arguments: torch.Tensor) -> tuple[torch.Tensor, tuple[Any, ...]]:
        with torch.enable_grad():
            leaves = [one.detach().requires_grad_() for one in arguments]
            value = function(*leaves)
        return value.detach(), (value, *leaves)

    def backward(saved: tuple[Any, ...], cotangent: torch.Tensor) -> tuple[torch.Tensor, ...]:
        value, *leaves = saved
        found = torch.autograd.grad(value, leaves, cotangent, retain_graph=True, allow_unused=True)
        return tuple(torch.zeros_like(leaf) if one is None else one for one, leaf in zip(found, leaves, strict=True))

    return Vjp(forward, backward)


_depth = 0


def in_body() -> bool:
    """Whether the body of an operator is running."""
    return _depth > 0


class _Body:
    """A body in the form of torch's operators: flat tensors in, a tuple of tensors out.

    Attributes:
        spec: the structure of the last result.
    """

    def __init__(self, function: Callable[..., Any], structured: Callable[..., Any] | None = None) -> None:
        self.spec: Any = None
        self._function = function
        self._structured = structured or (lambda *flat: flat)

    def __call__(self, *operands: Any) -> tuple[Any, ...]:
        global _depth
        _depth += 1
        try:
            with Lifting():  # torch disables the mode that called the operator
                results, self.spec = tree_flatten(self._function(*self._structured(*operands)))
        finally:
            _depth -= 1
        return tuple(results)

    def bind(self, read: tuple[torch.Tensor, ...], *, single: bool = False) -> Callable[..., Any]:
        """The body with an extra argument for each tensor it reads; `single`: returns its only result, no tuple."""

        def bound(*operands: Any) -> Any:
            own, stand_ins = operands[: len(operands) - len(read)], operands[len(operands) - len(read) :]
            with _Replacing(dict(zip(map(id, read), stand_ins, strict=True))):
                results = self(*own)
            return results[0] if single else results

        return bound


def _tensors_read_by(calls: Sequence[tuple[_Body, tuple[Any, ...]]]) -> tuple[torch.Tensor, ...]:
    """The tensors that the bodies read besides their operands, in order of first use."""
    tensors: dict[int, torch.Tensor] = {}
    for body, operands in calls:
        own = tree_map_only(torch.Tensor, torch.Tensor.detach, operands)  # a body may also close over an operand
        reading = _Reading(own)
        with torch.no_grad(), reading:
            body(*own)
        tensors |= {id(tensor): tensor for tensor in reading.read}
    return tuple(tensors.values())


def _copy_operands(read: tuple[torch.Tensor, ...], operands: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """The tensors that a body reads; operands among them are copied, since torch rejects duplicates."""
    own = {id(operand) for operand in operands}
    return tuple(tensor.clone() if id(tensor) in own else tensor for tensor in read)


class _Reading(TorchFunctionMode):
    """Records the tensors that come from outside."""

    def __init__(self, operands: tuple[Any, ...]) -> None:
        super().__init__()
        self.read: list[torch.Tensor] = []
        self._known = {id(leaf): leaf for leaf in tree_leaves(operands) if isinstance(leaf, torch.Tensor)}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for leaf in tree_leaves((args, dict(kwargs or {}))):
            if isinstance(leaf, torch.Tensor) and id(leaf) not in self._known:
                self._known[id(leaf)] = leaf
                self.read.append(leaf)
        result = func(*args, **(kwargs or {}))
        self._known |= {id(leaf): leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        return result


class _Replacing(TorchFunctionMode):
    def __init__(self, stand_ins: Mapping[int, Any]) -> None:
        super().__init__()
        self._stand_ins = stand_ins

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map_only(
            torch.Tensor, lambda tensor: self._stand_ins.get(id(tensor), tensor), (args, dict(kwargs or {}))
        )
        return func(*args, **kwargs)
