"""The contract of a backward: one gradient for each argument, with its shape, dtype and device, for any set of
arguments that need a gradient and any set of used outputs.

Source: https://docs.pytorch.org/docs/stable/notes/extending.html
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch

from gradport.checking.probes.calls import call, cotangents_for, gradients, is_own
from gradport.checking.probes.judging import judge, note, warn
from gradport.checking.probes.samples import by_differences
from gradport.checking.probes.trial import Trial
from gradport.checking.table import Topic, rule
from gradport.compat.torch.functions import FunctionCall, Hooks, function_calls
from gradport.eager.joint import Slot, copies
from gradport.errors import TargetError
from gradport.evidence.distance import magnitude
from gradport.evidence.evidence import Finding
from gradport.subject.ports import Role

__all__ = ["contract"]

_RUNS = 5
"""Number of timed calls; the fastest counts."""


@dataclasses.dataclass
class _Seen:
    """The unmodified arguments and results of one Function, forward and backward."""

    name: str
    args: tuple[Any, ...]
    cotangents: tuple[Any, ...] = ()
    gradients: tuple[Any, ...] = ()
    needed: tuple[bool, ...] = ()
    seconds: float = 0.0


@rule(Topic.CONTRACT, "contract", "Does the backward follow the rules of torch for a backward?")
def contract(trial: Trial) -> Iterator[Finding]:
    """Checks shapes and dtypes of the gradients, frozen inputs, and outputs without a cotangent."""
    try:
        seen = _observe_functions(trial)
    except TargetError as error:
        yield judge(trial, "contract", "returns", False, str(error), kind="returns")
        return
    if seen:
        yield _describe_results(trial, seen)
        yield from _check_declared_dtypes(trial)
    yield from _check_frozen(trial)
    yield from _check_alone(trial)
    yield from _check_partial(trial)
    yield from _check_zeros(trial)


def _describe_results(trial: Trial, seen: list[_Seen]) -> Finding:
    shapes = [sentence for one in seen for sentence in _other_shapes(one)]
    narrowed = [sentence for one in seen for sentence in (*_narrow_gradients(one), *_other_devices(one))]
    # autograd sums a gradient that broadcasting made larger, so it is correct if the result is the derivative
    wrong = bool(narrowed) or (bool(shapes) and not _is_derivative(trial))
    message = "; ".join(dict.fromkeys((*shapes, *narrowed))) or "Every gradient has the shape and dtype of its argument"
    return judge(trial, "contract", "returns", not wrong, message + ".", kind="returns")


def _check_declared_dtypes(trial: Trial) -> Iterator[Finding]:
    """Checks dtypes again at the dtypes of the example: a hard-coded cast may show only at one dtype."""
    example = copies(trial.joint.examples())
    if all(tensor.dtype == trial.inputs[0][slot].dtype for slot, tensor in example.items()):
        return
    try:
        seen = _observe_functions(trial, tensors=example)
    except TargetError:
        return  # the rule "dtypes" reports it
    narrow = list(dict.fromkeys(sentence for one in seen for sentence in _narrow_gradients(one)))
    wide = list(dict.fromkeys(sentence for one in seen for sentence in _wide_gradients(one)))
    if narrow:
        yield judge(trial, "contract", "dtype", False, "; ".join(narrow) + ".", kind="dtype")
    elif wide:
        yield warn(trial, "contract", "dtype", "; ".join(wide) + ".", kind="dtype")


def _observe_functions(
    trial: Trial, requires: Collection[Slot] | None = None, tensors: dict[Slot, torch.Tensor] | None = None
) -> list[_Seen]:
    """Arguments and results of every custom Function in one call; `requires`: the arguments that need a gradient."""
    observer = _Observer()
    with function_calls(observer):
        forward_call = call(trial, trial.inputs[0] if tensors is None else tensors, requires=requires)
        gradients(trial, forward_call, cotangents_for(forward_call.outputs, trial.seed))
    return observer.seen


class _Observer(Hooks):
    """Records arguments and results of each Function in `seen`, in the order of their backwards."""

    def __init__(self) -> None:
        self.seen: list[_Seen] = []
        self._waiting: dict[int, _Seen] = {}

    def forward(self, call: FunctionCall, run: Callable[[], Any]) -> Any:
        if not is_own(call.function):
            self._waiting[id(call.context)] = _Seen(call.function.__name__, call.args)
        return run()

    def backward(self, context: Any, cotangents: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        results = run()
        took = time.perf_counter() - started
        one = self._waiting.pop(id(context), None)
        if one is not None:
            one.cotangents = cotangents
            one.gradients = results if isinstance(results, tuple) else (results,)
            one.needed, one.seconds = tuple(context.needs_input_grad), took
            self.seen.append(one)
        return results


def _other_shapes(seen: _Seen) -> Iterator[str]:
    for position, argument, gradient in _pairs(seen):
        if gradient.shape != argument.shape:
            yield (
                f"The gradient of argument {position} of {seen.name} has the shape {list(gradient.shape)}, but the "
                f"argument has {list(argument.shape)}; autograd sums it silently"
            )


def _narrow_gradients(seen: _Seen) -> Iterator[str]:
    """Gradients that are narrower than the argument and every cotangent: the backward loses precision."""
    floating = [c for c in seen.cotangents if isinstance(c, torch.Tensor) and c.is_floating_point()]
    for position, argument, gradient in _pairs(seen):
        given = [tensor.dtype for tensor in (argument, *floating)]
        if all(_bits(gradient.dtype) < _bits(dtype) for dtype in given):
            yield (
                f"The gradient of argument {position} of {seen.name} is {gradient.dtype}, but the argument and the "
                f"cotangents are {argument.dtype}; autograd casts it silently"
            )


def _wide_gradients(seen: _Seen) -> Iterator[str]:
    """Gradients that are wider than the argument and every cotangent: wasted memory and time."""
    floating = [c for c in seen.cotangents if isinstance(c, torch.Tensor) and c.is_floating_point()]
    for position, argument, gradient in _pairs(seen):
        given = [tensor.dtype for tensor in (argument, *floating)]
        if all(_bits(gradient.dtype) > _bits(dtype) > 0 for dtype in given):
            yield (
                f"The gradient of argument {position} of {seen.name} is {gradient.dtype}, but the argument and the "
                f"cotangents are {argument.dtype}; autograd casts it back"
            )


def _other_devices(seen: _Seen) -> Iterator[str]:
    for position, argument, gradient in _pairs(seen):
        if gradient.device != argument.device:
            yield (
                f"The gradient of argument {position} of {seen.name} is on {gradient.device}, but the argument is on "
                f"{argument.device}"
            )


def _pairs(seen: _Seen) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    for position, (argument, gradient) in enumerate(zip(seen.args, seen.gradients, strict=False)):
        if isinstance(argument, torch.Tensor) and isinstance(gradient, torch.Tensor):
            yield position, argument, gradient


def _bits(dtype: torch.dtype) -> int:
    return torch.finfo(dtype).bits if dtype.is_floating_point or dtype.is_complex else 0


def _is_derivative(trial: Trial) -> bool:
    calls = by_differences(trial)
    return all(sample.agrees for each in calls.values() for one in each for sample in one.samples)


def _changing_gradients(trial: Trial, slots: list[Slot]) -> list[str]:
    """The names of the arguments whose gradient changes if only these arguments need one.

    Raises:
        TargetError: the backward fails.
    """
    cotangents, every = trial.measure_once("every gradient", lambda: _all_gradients(trial))
    part = gradients(trial, call(trial, trial.inputs[0], requires=slots), cotangents)
    return [slot.name for slot in slots if not _same(every[slot], part.get(slot))]


def _all_gradients(trial: Trial) -> tuple[dict[str, torch.Tensor], dict[Slot, torch.Tensor | None]]:
    """Cotangents for the example, and the gradients of all wanted arguments."""
    forward_call = call(trial, trial.inputs[0])
    cotangents = cotangents_for(forward_call.outputs, trial.seed)
    return cotangents, gradients(trial, forward_call, cotangents)


def _check_frozen(trial: Trial) -> Iterator[Finding]:
    """Freezes each argument in turn: the gradients of the others must not change."""
    wanted = trial.joint.wanted
    if len(wanted) < 2:
        return
    for slot in wanted:
        others = [other for other in wanted if other != slot]
        try:
            changed = _changing_gradients(trial, others)
        except TargetError as error:
            message = f"With {slot.name} frozen (requires_grad=False) the backward fails: {error}"
            yield judge(trial, "contract", f"{slot.name} frozen", False, message, kind="frozen")
            continue
        message = (
            f"With {slot.name} frozen the gradient of {', '.join(changed)} changes"
            if changed
            else f"With {slot.name} frozen the other gradients are the same"
        )
        yield judge(trial, "contract", f"{slot.name} frozen", not changed, message + ".", kind="frozen")
        yield from _unasked_gradients(trial, slot, others)


def _check_alone(trial: Trial) -> Iterator[Finding]:
    """Requires the gradient of only one argument in turn, or only of all biases: the gradient must not change."""
    wanted = trial.joint.wanted
    if len(wanted) < 2:
        return
    biases = [
        slot for slot in wanted if slot.role == Role.PARAMETER and slot.name.rpartition(".")[2].startswith("bias")
    ]
    groups = {f"{slot.name} alone": [slot] for slot in wanted[: trial.effort.count(4, 16, 256)]}
    if 1 < len(biases) < len(wanted):
        groups["the biases alone"] = biases
    for about, slots in groups.items():
        names = ", ".join(slot.name for slot in slots)
        try:
            changed = _changing_gradients(trial, slots)
        except TargetError as error:
            message = f"With only {names} trained the backward fails: {error}"
            yield judge(trial, "contract", about, False, message, kind="alone")
            continue
        message = f"With only {names} trained the gradient is the same."
        if changed:
            message = f"With only {names} trained the gradient of {', '.join(changed)} changes."
        yield judge(trial, "contract", about, not changed, message, kind="alone")


def _unasked_gradients(trial: Trial, frozen: Slot, others: list[Slot]) -> Iterator[Finding]:
    """Gradients that were computed but not needed: the backward ignores `needs_input_grad`."""
    runs = [_observe_functions(trial, others) for _ in range(_RUNS)]
    whole = [_observe_functions(trial) for _ in range(_RUNS)]
    unused = [
        gradient
        for one in runs[0]
        for gradient, needed in zip(one.gradients, one.needed, strict=False)
        if isinstance(gradient, torch.Tensor) and not needed
    ]
    if not unused:
        return
    size = sum(gradient.numel() * gradient.element_size() for gradient in unused)
    took, all_took = (min(sum(one.seconds for one in seen) for seen in many) for many in (runs, whole))
    message = (
        f"With {frozen.name} frozen the backward still computes its gradient, {size} unused bytes: it "
        f"takes {took / all_took:.0%} of the time with nothing frozen; check ctx.needs_input_grad."
    )
    yield note(trial, "contract", f"{frozen.name} wasted", message, kind="wasted work", figure=float(size))


def _check_zeros(trial: Trial) -> Iterator[Finding]:
    """Checks that the vector-Jacobian product of a zero cotangent is zero."""
    forward_call = call(trial, trial.inputs[0])
    if not forward_call.outputs:
        return
    zeros = {name: torch.zeros_like(value) for name, value in forward_call.outputs.items()}
    grads = gradients(trial, forward_call, zeros)
    wrong = [slot.name for slot, gradient in grads.items() if gradient is not None and _is_not_zero(trial, gradient)]
    message = (
        f"For a cotangent of zeros the gradient of {', '.join(wrong)} is not zero"
        if wrong
        else "For a cotangent of zeros every gradient is zero"
    )
    yield judge(trial, "contract", "zero cotangents", not wrong, message + ".", kind="zeros")


def _is_not_zero(trial: Trial, gradient: torch.Tensor) -> bool:
    declared = trial.joint.subject.expect is not None  # a declared backward may ignore the cotangent on purpose
    return bool(gradient.isnan().any()) or (not declared and bool(gradient.any()))


def _check_partial(trial: Trial) -> Iterator[Finding]:
    """Uses only one output in turn: an unused output must act like a cotangent of zeros."""
    tensors = trial.inputs[0]
    names = list(call(trial, tensors).outputs)
    if len(names) < 2:
        return
    for name in names:
        forward_call = call(trial, tensors)
        drawn = cotangents_for(forward_call.outputs, trial.seed)
        zeros = {n: c if n == name else torch.zeros_like(c) for n, c in drawn.items()}
        try:
            part = gradients(trial, forward_call, {name: drawn[name]})
        except TargetError as error:
            message = f"With only {name} used the backward fails: {error}"
            yield judge(trial, "contract", f"{name} alone", False, message, kind="partial")
            continue
        whole = gradients(trial, call(trial, tensors), zeros)
        changed = [slot.name for slot in whole if not _same(whole[slot], part[slot])]
        if changed:
            message = f"With only {name} used the gradient of {', '.join(changed)} differs from that of zero cotangents"
            yield judge(trial, "contract", f"{name} alone", False, message + ".", kind="partial")
        else:
            yield note(trial, "contract", f"{name} alone", f"{name} may be the only used output.", kind="partial")


def _same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    if a is None or b is None:
        present = a if b is None else b
        return present is None or not bool(present.any())
    slack = 1e-6 * magnitude(a)  # adaptive solvers
    return bool(torch.allclose(a, b, rtol=1e-5, atol=slack + 1e-12, equal_nan=True))
