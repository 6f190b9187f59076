"""The contract of a backward: one gradient for each argument, in its shape, dtype and device, for every combination of
what is asked.

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
"""Calls of which the fastest counts."""


@dataclasses.dataclass
class _Seen:
    """The tensors that one Function was given and gave back, as raw as they were."""

    name: str
    args: tuple[Any, ...]
    cotangents: tuple[Any, ...] = ()
    gradients: tuple[Any, ...] = ()
    needed: tuple[bool, ...] = ()
    seconds: float = 0.0


@rule(Topic.CONTRACT, "contract", "Does the backward keep to what torch asks of one?")
def contract(trial: Trial) -> Iterator[Finding]:
    """Shapes and dtypes of what it returns; frozen inputs; outputs that take no cotangent."""
    try:
        seen = _observe_functions(trial)
    except TargetError as error:
        yield judge(trial, "contract", "returns", False, str(error), kind="returns")
        return
    if seen:
        yield _describe_results(trial, seen)
        yield from _as_declared(trial)
    yield from _frozen(trial)
    yield from _alone(trial)
    yield from _partial(trial)
    yield from _of_zeros(trial)


def _describe_results(trial: Trial, seen: list[_Seen]) -> Finding:
    shapes = [sentence for one in seen for sentence in _other_shapes(one)]
    narrowed = [sentence for one in seen for sentence in (*_narrow_gradients(one), *_elsewhere(one))]
    # a gradient that broadcasting made larger is summed by autograd: right where the author counts on it
    wrong = bool(narrowed) or (bool(shapes) and not _is_derivative(trial))
    message = "; ".join(dict.fromkeys((*shapes, *narrowed))) or "Every gradient has the shape and dtype of its argument"
    return judge(trial, "contract", "returns", not wrong, message + ".", kind="returns")


def _as_declared(trial: Trial) -> Iterator[Finding]:
    """The same at the dtypes of the example: a cast that is written down shows at one dtype and not at another."""
    example = copies(trial.joint.examples())
    if all(tensor.dtype == trial.inputs[0][slot].dtype for slot, tensor in example.items()):
        return
    try:
        seen = _observe_functions(trial, tensors=example)
    except TargetError:
        return  # the rule "dtypes" says so
    narrow = list(dict.fromkeys(sentence for one in seen for sentence in _narrow_gradients(one)))
    wide = list(dict.fromkeys(sentence for one in seen for sentence in _wide_gradients(one)))
    if narrow:
        yield judge(trial, "contract", "dtype", False, "; ".join(narrow) + ".", kind="dtype")
    elif wide:
        yield warn(trial, "contract", "dtype", "; ".join(wide) + ".", kind="dtype")


def _observe_functions(
    trial: Trial, requires: Collection[Slot] | None = None, tensors: dict[Slot, torch.Tensor] | None = None
) -> list[_Seen]:
    """What every custom Function of one call took and returned; `requires` are the arguments that need a gradient."""
    observer = _Observer()
    with function_calls(observer):
        made = call(trial, trial.inputs[0] if tensors is None else tensors, requires=requires)
        gradients(trial, made, cotangents_for(made.outputs, trial.seed))
    return observer.seen


class _Observer(Hooks):
    """Notes what each Function takes and gives back; in `seen`, in the order of their backwards."""

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
                f"The gradient of argument {position} of {seen.name} has the shape {list(gradient.shape)} where the "
                f"argument has {list(argument.shape)}, and autograd sums it silently"
            )


def _narrow_gradients(seen: _Seen) -> Iterator[str]:
    """Gradients that are narrower than the argument and than every cotangent: precision that the backward drops."""
    floating = [c for c in seen.cotangents if isinstance(c, torch.Tensor) and c.is_floating_point()]
    for position, argument, gradient in _pairs(seen):
        given = [tensor.dtype for tensor in (argument, *floating)]
        if all(_bits(gradient.dtype) < _bits(dtype) for dtype in given):
            yield (
                f"The gradient of argument {position} of {seen.name} is {gradient.dtype} where the argument and the "
                f"cotangents are {argument.dtype}, and autograd casts it silently"
            )


def _wide_gradients(seen: _Seen) -> Iterator[str]:
    """Gradients that are wider than the argument and than every cotangent: memory and time for nothing."""
    floating = [c for c in seen.cotangents if isinstance(c, torch.Tensor) and c.is_floating_point()]
    for position, argument, gradient in _pairs(seen):
        given = [tensor.dtype for tensor in (argument, *floating)]
        if all(_bits(gradient.dtype) > _bits(dtype) > 0 for dtype in given):
            yield (
                f"The gradient of argument {position} of {seen.name} is {gradient.dtype} where the argument and the "
                f"cotangents are {argument.dtype}, and autograd casts it back"
            )


def _elsewhere(seen: _Seen) -> Iterator[str]:
    for position, argument, gradient in _pairs(seen):
        if gradient.device != argument.device:
            yield (
                f"The gradient of argument {position} of {seen.name} is on {gradient.device} where the argument is on "
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
    return all(sample.agrees for found in calls.values() for one in found for sample in one.samples)


def _changing_gradients(trial: Trial, slots: list[Slot]) -> list[str]:
    """The names of those whose gradient changes when they are the only ones that need one.

    Raises:
        TargetError: the backward fails then.
    """
    cotangents, every = trial.once("every gradient", lambda: _every(trial))
    part = gradients(trial, call(trial, trial.inputs[0], requires=slots), cotangents)
    return [slot.name for slot in slots if not _same(every[slot], part.get(slot))]


def _every(trial: Trial) -> tuple[dict[str, torch.Tensor], dict[Slot, torch.Tensor | None]]:
    """Cotangents for the example, and all gradients that they give."""
    made = call(trial, trial.inputs[0])
    cotangents = cotangents_for(made.outputs, trial.seed)
    return cotangents, gradients(trial, made, cotangents)


def _frozen(trial: Trial) -> Iterator[Finding]:
    """Each argument frozen in turn: the others' gradients must not change."""
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


def _alone(trial: Trial) -> Iterator[Finding]:
    """Each argument as the only one that needs a gradient, and all biases: its gradient must not change."""
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
            message = f"With nothing but {names} trained the backward fails: {error}"
            yield judge(trial, "contract", about, False, message, kind="alone")
            continue
        message = f"With nothing but {names} trained the gradient is the same."
        if changed:
            message = f"With nothing but {names} trained the gradient of {', '.join(changed)} changes."
        yield judge(trial, "contract", about, not changed, message, kind="alone")


def _unasked_gradients(trial: Trial, frozen: Slot, others: list[Slot]) -> Iterator[Finding]:
    """Gradients that were computed although nobody asked for them: `needs_input_grad` was not looked at."""
    runs = [_observe_functions(trial, others) for _ in range(_RUNS)]
    whole = [_observe_functions(trial) for _ in range(_RUNS)]
    thrown = [
        gradient
        for one in runs[0]
        for gradient, needed in zip(one.gradients, one.needed, strict=False)
        if isinstance(gradient, torch.Tensor) and not needed
    ]
    if not thrown:
        return
    size = sum(gradient.numel() * gradient.element_size() for gradient in thrown)
    took, all_took = (min(sum(one.seconds for one in seen) for seen in many) for many in (runs, whole))
    message = (
        f"With {frozen.name} frozen the backward still computes its gradient, {size} bytes that nobody reads: it "
        f"takes {took / all_took:.0%} of the time with nothing frozen; look at ctx.needs_input_grad."
    )
    yield note(trial, "contract", f"{frozen.name} wasted", message, kind="wasted work", figure=float(size))


def _of_zeros(trial: Trial) -> Iterator[Finding]:
    """A vector-Jacobian product of zeros is zero."""
    made = call(trial, trial.inputs[0])
    if not made.outputs:
        return
    zeros = {name: torch.zeros_like(value) for name, value in made.outputs.items()}
    found = gradients(trial, made, zeros)
    wrong = [slot.name for slot, gradient in found.items() if gradient is not None and _is_not_zero(trial, gradient)]
    message = (
        f"Of a cotangent of zeros the gradient of {', '.join(wrong)} is not zero"
        if wrong
        else "Of a cotangent of zeros every gradient is zero"
    )
    yield judge(trial, "contract", "zero cotangents", not wrong, message + ".", kind="zeros")


def _is_not_zero(trial: Trial, gradient: torch.Tensor) -> bool:
    declared = trial.joint.subject.expect is not None  # whoever ignores the cotangent on purpose says so
    return bool(gradient.isnan().any()) or (not declared and bool(gradient.any()))


def _partial(trial: Trial) -> Iterator[Finding]:
    """One output used and the others not: what is not used counts as a cotangent of zeros."""
    tensors = trial.inputs[0]
    names = list(call(trial, tensors).outputs)
    if len(names) < 2:
        return
    for name in names:
        made = call(trial, tensors)
        drawn = cotangents_for(made.outputs, trial.seed)
        zeros = {n: c if n == name else torch.zeros_like(c) for n, c in drawn.items()}
        try:
            part = gradients(trial, made, {name: drawn[name]})
        except TargetError as error:
            message = f"With {name} alone used the backward fails: {error}"
            yield judge(trial, "contract", f"{name} alone", False, message, kind="partial")
            continue
        whole = gradients(trial, call(trial, tensors), zeros)
        changed = [slot.name for slot in whole if not _same(whole[slot], part[slot])]
        if changed:
            message = f"With {name} alone used the gradient of {', '.join(changed)} is not that of zero cotangents"
            yield judge(trial, "contract", f"{name} alone", False, message + ".", kind="partial")
        else:
            yield note(trial, "contract", f"{name} alone", f"{name} may be used alone.", kind="partial")


def _same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    if a is None or b is None:
        present = a if b is None else b
        return present is None or not bool(present.any())
    slack = 1e-6 * magnitude(a)  # adaptive solvers
    return bool(torch.allclose(a, b, rtol=1e-5, atol=slack + 1e-12, equal_nan=True))
