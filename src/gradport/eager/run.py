"""Runs a Subject in eager torch, and says in the user's terms what its own code rejects."""

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

__all__ = ["Cotangent", "Drawn", "cotangents_from", "ones", "rejection", "run_eager"]

_BAD_BACKWARD = re.compile(r"[Ff]unction (?P<name>\w+)Backward returned (?P<what>.*)", re.DOTALL)


Cotangent = Callable[[str, torch.Tensor], torch.Tensor]
"""Asked for the cotangent of an output, given its name and the output."""


def run_eager(
    joint: Joint,
    tensors: Mapping[Slot, torch.Tensor],
    cotangent: Cotangent,
    random: Callable[[], Randomness] | None = None,
    hooks: Hooks | None = None,
    operators: contextlib.AbstractContextManager[Any] | None = None,
) -> CallResults:
    """One eager call on copies of `tensors`; nothing the subject writes into is the caller's.

    Args:
        joint: what is called.
        tensors: a tensor for every slot.
        cotangent: asked for the cotangent of an output.
        random: makes what random numbers go through; None: torch's generator.
        hooks: around custom Functions; None: references run where a Function fails.
        operators: what sees operators; None: references run where an operator fails.

    Raises:
        TargetError: the subject's code raised; the message carries its reason and its line.
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
    """A cotangent of ones."""
    return torch.ones_like(output)


def cotangents_from(cotangents: Mapping[str, torch.Tensor]) -> Cotangent:
    """The cotangents of a mapping by output name, in the output's dtype."""
    return lambda name, output: cotangents[name].to(output.dtype)


class Drawn:
    """Standard-normal cotangents, in the dtype and shape of the outputs that take one.

    Args:
        generator: draws.
        change: what becomes of each.

    Attributes:
        cotangents: what was drawn, by output name.
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
    """The user's own error in one sentence; `what` says what the subject does."""
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
            f"({reason}); run it where a GPU is, or give a variant for the CPU."
        )
    return TargetError(
        f"{joint.subject.name} {what}{where}: {type(error).__name__}: {reason}. They were {_summary(joint)}."
    )


def _first_sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].rstrip(".")[:300] if lines else type(error).__name__


def _needs_cuda(error: Exception) -> bool:
    text = f"{type(error).__name__} {error}"
    words = ("cuda", "nvidia", "triton")
    return not torch.cuda.is_available() and any(word in text.lower() for word in words)


def _functions_called(joint: Joint, tensors: Mapping[Slot, torch.Tensor]) -> dict[str, type]:
    """The custom Functions that a call passes through, by name; found by calling once more."""
    called = _Called()
    # it fails as before; what was called until then is what we came for
    with function_calls(called), contextlib.suppress(Exception):
        joint(copies(tensors), ones)
    return called.found


class _Called(Hooks):
    """Notes every Function that is called, by name."""

    def __init__(self) -> None:
        self.found: dict[str, type] = {}

    def forward(self, call: FunctionCall, run: Callable[[], Any]) -> Any:
        self.found[call.function.__name__] = call.function
        return run()


def _backward_place(function: type | None) -> str:
    file, line = source_of_backward(function)
    return f"{file}:{line}" if file else "its source is not known"


def _summary(joint: Joint) -> str:
    tensors = [
        f"{a.name}: {str(a.value.dtype).removeprefix('torch.')}{list(a.value.shape)}"
        for a in (*joint.arguments, *joint.targets)
    ]
    return ", ".join([*tensors, *(f"{a.name}={a.value!r:.40}" for a in joint.statics)]) or "none"
