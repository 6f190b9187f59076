"""Runs a Subject in eager torch, and explains errors of its own code."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from gradport.compat.quiet import quiet
from gradport.compat.torch.functions import FunctionCall, Hooks, function_calls
from gradport.eager.custom_operators import ReferencedOperators, has_operator_references
from gradport.eager.joint import CallResults, Joint, Slot, copies
from gradport.eager.randomness import Randomness
from gradport.eager.references import ReferenceHooks
from gradport.errors import Error, TargetError
from gradport.subject.signature import source_of_backward
from gradport.subject.user_code import place_of_error

__all__ = ["Cotangent", "DrawnCotangents", "cotangents_from", "ones", "rejection", "run_eager"]

_BAD_BACKWARD = re.compile(r"[Ff]unction (?P<name>\w+)Backward returned (?P<what>.*)", re.DOTALL)


Cotangent = Callable[[str, torch.Tensor], torch.Tensor]
"""Returns the cotangent of an output, given its name and the output."""


def run_eager(
    joint: Joint,
    tensors: Mapping[Slot, torch.Tensor],
    cotangent: Cotangent,
    random: Callable[[], Randomness] | None = None,
    hooks: Hooks | None = None,
    operators: contextlib.AbstractContextManager[Any] | None = None,
) -> CallResults:
    """Calls a Joint in eager on copies of `tensors`, so that writes of the subject do not reach the caller's tensors.

    Args:
        joint: the function to call.
        tensors: a tensor for every slot.
        cotangent: returns the cotangent of an output.
        random: returns the mode that draws random numbers; None: torch's generator.
        hooks: hooks around custom Functions; None: references run if a Function fails.
        operators: a mode for operators; None: references run if an operator fails.

    Raises:
        TargetError: the subject's code raised; the message has its reason and its line.
    """
    try:
        with quiet(), function_calls(hooks or ReferenceHooks(always=False)), operators or _operators():
            return joint(copies(tensors), cotangent, random)
    except Error:
        raise
    except Exception as error:
        raise rejection(joint, tensors, error) from error


def _operators() -> contextlib.AbstractContextManager[Any]:
    return ReferencedOperators() if has_operator_references() else contextlib.nullcontext()


def ones(name: str, output: torch.Tensor) -> torch.Tensor:
    """A cotangent of ones, in the shape of the output."""
    return torch.ones_like(output)


def cotangents_from(cotangents: Mapping[str, torch.Tensor]) -> Cotangent:
    """Takes cotangents from a mapping by output name, in the output's dtype."""
    return lambda name, output: cotangents[name].to(output.dtype)


class DrawnCotangents:
    """Draws standard-normal cotangents, in the dtype and shape of their outputs.

    Args:
        generator: the random generator.
        change: a function applied to each draw.

    Attributes:
        cotangents: the cotangents by output name.
    """

    def __init__(
        self, generator: torch.Generator, change: Callable[[torch.Tensor], torch.Tensor] = lambda drawn: drawn
    ) -> None:
        self.cotangents: dict[str, torch.Tensor] = {}
        self._generator = generator
        self._change = change

    def __call__(self, name: str, output: torch.Tensor) -> torch.Tensor:
        """Draws the cotangent of one output."""
        wide = torch.complex128 if output.is_complex() else torch.float64
        drawn = torch.randn(output.shape, generator=self._generator, dtype=wide).to(output.dtype)
        self.cotangents[name] = self._change(drawn)
        return self.cotangents[name]


def rejection(
    joint: Joint, tensors: Mapping[Slot, torch.Tensor], error: Exception, what: str = "rejects its inputs"
) -> TargetError:
    """The error of user code in one sentence; `what` describes the failure."""
    reason = _first_sentence(error)
    place = place_of_error(error)
    bad_backward = _BAD_BACKWARD.search(str(error))
    if bad_backward:
        function = _functions_called(joint, tensors).get(bad_backward["name"])
        returned = " ".join(bad_backward["what"].split()).rstrip(".")
        return TargetError(
            f"The backward of {bad_backward['name']} ({_backward_place(function)}) returned {returned}; "
            "return one gradient for each argument of forward, in the shape of that argument."
        )
    where = f" at {place}" if place else ""
    arrays = [argument.name for argument in joint.statics if isinstance(argument.value, np.ndarray)]
    if arrays:
        return TargetError(
            f"{joint.subject.name} {what}{where}: {type(error).__name__}: {reason}. "
            f"The argument {arrays[0]!r} is a numpy array; give a tensor (torch.from_numpy)."
        )
    if _needs_cuda(error):
        return TargetError(
            f"{joint.subject.name} needs CUDA{where}, which this machine or this torch build does not have "
            f"({reason}); run it on a machine with a GPU, or use a CPU version."
        )
    return TargetError(
        f"{joint.subject.name} {what}{where}: {type(error).__name__}: {reason}. The inputs were {_summary(joint)}."
    )


def _first_sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].rstrip(".")[:300] if lines else type(error).__name__


def _needs_cuda(error: Exception) -> bool:
    text = f"{type(error).__name__} {error}"
    words = ("cuda", "nvidia", "triton")
    return not torch.cuda.is_available() and any(word in text.lower() for word in words)


def _functions_called(joint: Joint, tensors: Mapping[Slot, torch.Tensor]) -> dict[str, type]:
    """The custom Functions of a call, by name; calls the Joint once more to find them."""
    called = _CallRecorder()
    # the call fails again, after the Functions of interest
    with function_calls(called), contextlib.suppress(Exception):
        joint(copies(tensors), ones)
    return called.functions


class _CallRecorder(Hooks):
    """Records every called Function, by name."""

    def __init__(self) -> None:
        self.functions: dict[str, type] = {}

    def forward(self, call: FunctionCall, run: Callable[[], Any]) -> Any:
        self.functions[call.function.__name__] = call.function
        return run()


def _backward_place(function: type | None) -> str:
    file, line = source_of_backward(function)
    return f"{file}:{line}" if file else "source unknown"


def _summary(joint: Joint) -> str:
    tensors = [
        f"{a.name}: {str(a.value.dtype).removeprefix('torch.')}{list(a.value.shape)}"
        for a in (*joint.arguments, *joint.targets)
    ]
    return ", ".join([*tensors, *(f"{a.name}={a.value!r:.40}" for a in joint.statics)]) or "none"
