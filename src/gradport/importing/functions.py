"""Custom Functions in a file that gradport wrote: `<name>.forward.<hash>` and `<name>.backward.<hash>`.

A call of the forward and the call of its backward become one autograd.Function. The file names the parameters of both
(docs/format.md): the backward takes `cotangent_<output>` and the saved values, and gives `grad_<input>`. Saved values
are inputs and outputs of the forward's call, so a backward belongs to the call whose values it reads.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from gradport.errors import ExportError

__all__ = ["Backward", "Call", "call_function", "ours", "pair"]

_NAME = re.compile(r"(?P<name>.+)\.(?P<phase>forward|backward)\.[0-9a-f]{8}")
_COTANGENT, _GRADIENT = "cotangent_", "grad_"

Run = Callable[[Any, dict[str, Any]], list[Any]]


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of one phase of a Function.

    Attributes:
        domain: of the function in the file: the module of the Function.
        function: its name in the file.
        body: its nodes, a Subgraph.
        backward: of a forward: how its gradient is computed; None if the file does not say.
    """

    domain: str
    function: str
    body: Any
    backward: Backward | None = None

    @property
    def label(self) -> str:
        """The Function's own name."""
        match = _NAME.fullmatch(self.function)
        assert match is not None
        return match["name"]

    @property
    def is_forward(self) -> bool:
        """Whether this is the forward."""
        match = _NAME.fullmatch(self.function)
        assert match is not None
        return match["phase"] == "forward"


@dataclasses.dataclass(frozen=True)
class Backward:
    """The backward of a forward's call.

    Attributes:
        body: its nodes, a Subgraph.
        reads: for each of its inputs, the place among the forward's inputs, outputs and cotangents, in this order.
        gradients: for each of its outputs, the forward's input.
    """

    body: Any
    reads: tuple[int, ...]
    gradients: tuple[int, ...]


def ours(name: str) -> bool:
    """Whether a function of a file is one phase of a custom Function that gradport wrote."""
    return _NAME.fullmatch(name) is not None


def pair(steps: Sequence[Any]) -> list[Any]:
    """The steps, with the backward of every call of a forward for which there is exactly one."""
    backwards = [step for step in steps if step.call is not None and not step.call.is_forward]
    paired = []
    for step in steps:
        if step.call is not None and step.call.is_forward:
            found = [one for one in (_backward_of(step, other) for other in backwards) if one is not None]
            if len(found) == 1:
                step = dataclasses.replace(step, call=dataclasses.replace(step.call, backward=found[0]))
        paired.append(step)
    return paired


def _backward_of(forward: Any, backward: Any) -> Backward | None:
    """How a call of a backward computes the gradient of a forward's call; None if it belongs to another."""
    one, other = forward.call, backward.call
    if (one.domain, one.label) != (other.domain, other.label):
        return None
    values = [*forward.inputs, *forward.outputs]
    cotangents = {f"{_COTANGENT}{name}": at for at, name in enumerate(one.body.outputs)}
    reads = []
    for formal, actual in zip(other.body.inputs, backward.inputs, strict=True):
        if formal in cotangents:
            reads.append(len(values) + cotangents[formal])
        elif actual in values:
            reads.append(values.index(actual))
        else:
            return None
    arguments = {f"{_GRADIENT}{name}": at for at, name in enumerate(one.body.inputs)}
    if not set(other.body.outputs) <= set(arguments):
        return None
    return Backward(other.body, tuple(reads), tuple(arguments[name] for name in other.body.outputs))


def call_function(call: Call, run: Run, inputs: Sequence[torch.Tensor | None], *, derive: bool) -> Sequence[Any]:
    """The results of a forward, differentiated by the backward of the file.

    Args:
        call: of the forward.
        run: runs a Subgraph.
        inputs: of the call.
        derive: without a backward: take the derivative of the forward; otherwise the gradient is refused.
    """
    if call.backward is None and derive:
        return run(call.body, dict(zip(call.body.inputs, inputs, strict=True)))
    function: Any = type(call.label.rpartition(".")[2], (_Imported,), {"__module__": call.domain})
    results = function.apply(call, run, *inputs)
    return results if isinstance(results, tuple) else (results,)


class _Imported(torch.autograd.Function):
    """The forward and the backward of a file."""

    @staticmethod
    def forward(ctx: Any, call: Call, run: Run, *inputs: torch.Tensor | None) -> Any:
        """Runs the forward's nodes; saves inputs and outputs."""
        results = tuple(run(call.body, dict(zip(call.body.inputs, inputs, strict=True))))
        ctx.call, ctx.run = call, run
        ctx.save_for_backward(*inputs, *results)
        return results if len(results) > 1 else results[0]

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Runs the backward's nodes."""
        call: Call = ctx.call
        if call.backward is None:
            raise ExportError(
                f"The file has the forward of {call.label} and not the backward that its author wrote; "
                "backward='derivative' takes the derivative of its forward."
            )
        values = [*ctx.saved_tensors, *cotangents]
        inputs = [values[at] for at in call.backward.reads]
        found = ctx.run(call.backward.body, dict(zip(call.backward.body.inputs, inputs, strict=True)))
        gradients: list[Any] = [None] * len(call.body.inputs)
        for at, gradient in zip(call.backward.gradients, found, strict=True):
            gradients[at] = gradient
        return None, None, *gradients
