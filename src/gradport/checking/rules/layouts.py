"""Layouts: the same values in another memory layout, as inputs and as cotangents, must give the same gradients.

torch's gradcheck uses only contiguous cotangents. A network also passes the expanded gradient of a sum, a slice of the
gradient of a concatenation, or the transposed gradient of a matmul.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from gradport.checking.probes.calls import ForwardCall, Layout, call, cotangents_for, gradients
from gradport.checking.probes.judging import judge, note, skip
from gradport.checking.probes.trial import Trial
from gradport.checking.table import Topic, rule
from gradport.errors import TargetError
from gradport.evidence.distance import relative_distance
from gradport.evidence.evidence import Finding

__all__ = ["LAYOUTS", "layouts"]

_SLACK = 1e-9
"""Relative tolerance in float64 for another order of summation."""


def transpose_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The last two dimensions swapped in memory."""
    if tensor.dim() < 2:
        return tensor.clone()
    return _lay_out(tensor, tensor.transpose(-1, -2).contiguous().transpose(-1, -2).stride(), 0)


def slice_memory(tensor: torch.Tensor) -> torch.Tensor:
    """Every second element of a storage twice as long, like a slice of a concatenation."""
    return _lay_out(tensor, tuple(2 * stride for stride in tensor.contiguous().stride()), 0)


def offset(tensor: torch.Tensor) -> torch.Tensor:
    """An offset of three elements in the storage."""
    return _lay_out(tensor, tensor.contiguous().stride(), 3)


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """The channels-last layout of a tensor with four dimensions; a plain copy of any other."""
    return tensor.clone(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor.clone()


def _lay_out(tensor: torch.Tensor, strides: tuple[int, ...], start: int) -> torch.Tensor:
    """A copy with these strides, nan in the gaps; not a view, so that it may be written into."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, strides, strict=True)) if tensor.numel() else 0
    memory = torch.full((start + last + 1,), float("nan"), dtype=tensor.dtype)
    with torch.no_grad():
        copy = torch.empty(0, dtype=tensor.dtype).set_(memory.untyped_storage(), start, tensor.shape, strides)
        return copy.copy_(tensor)


LAYOUTS: dict[str, Layout] = {
    "transposed": transpose_memory,
    "sliced": slice_memory,
    "offset": offset,
    "channels-last": channels_last,
}


@rule(
    Topic.INPUTS,
    "layouts",
    "Are gradients the same for every memory layout of inputs and cotangents?",
    alongside=True,
)
def layouts(trial: Trial) -> Iterator[Finding]:
    """Yields one Finding for inputs and one for cotangents in each layout, and one for expanded cotangents."""
    if trial.is_random:
        yield skip(trial, "layouts", "", "random numbers depend on the memory layout")
        return
    tensors = trial.inputs[0]
    plain = call(trial, tensors)
    cotangents = cotangents_for(plain.outputs, trial.seed)
    want = gradients(trial, plain, cotangents, retain_graph=True)
    for name, layout in LAYOUTS.items():
        if not any(layout(t).stride() != t.contiguous().stride() or name == "offset" for t in _wanted_tensors(trial)):
            continue
        yield _check_inputs(trial, name, layout, plain, want, cotangents)
        laid = {output: layout(cotangent) for output, cotangent in cotangents.items()}
        yield _check_cotangents(trial, name, laid, want)
    yield _check_expanded(trial, plain)


def _wanted_tensors(trial: Trial) -> list[torch.Tensor]:
    return [trial.inputs[0][slot] for slot in trial.joint.wanted]


def _check_inputs(trial: Trial, name: str, layout: Layout, plain: ForwardCall, want: dict, cotangents: dict) -> Finding:  # type: ignore[type-arg]
    about = f"inputs {name}"
    try:
        forward_call = call(trial, trial.inputs[0], layout=layout)
    except TargetError as error:
        return note(trial, "layouts", about, f"The forward rejects {name} inputs: {error}", kind="raises")
    try:
        got = gradients(trial, forward_call, cotangents)
    except TargetError as error:
        return judge(trial, "layouts", about, False, f"With {name} inputs the backward fails: {error}", kind="raises")
    values = _distance(dict(plain.outputs), dict(forward_call.outputs))
    return _describe_difference(trial, about, f"{name} inputs", max(values, _distance(want, got)))


def _check_cotangents(trial: Trial, name: str, cotangents: dict, want: dict) -> Finding:  # type: ignore[type-arg]
    about = f"cotangents {name}"
    try:
        got = gradients(trial, call(trial, trial.inputs[0]), cotangents)
    except TargetError as error:
        return judge(
            trial, "layouts", about, False, f"With {name} cotangents the backward fails: {error}", kind="raises"
        )
    return _describe_difference(trial, about, f"{name} cotangents", _distance(want, got))


def _check_expanded(trial: Trial, plain: ForwardCall) -> Finding:
    """Checks the cotangent of `.sum().backward()`: one number, expanded with stride 0."""
    about = "cotangents expanded"
    ones = {name: torch.ones_like(value) for name, value in plain.outputs.items()}
    thin = {name: torch.ones((), dtype=value.dtype).expand(value.shape) for name, value in plain.outputs.items()}
    if not plain.outputs:
        return skip(trial, "layouts", about, "no output takes a cotangent")
    try:
        want = gradients(trial, call(trial, trial.inputs[0]), ones)
        got = gradients(trial, call(trial, trial.inputs[0]), thin)
    except TargetError as error:
        message = f"With the expanded cotangent of a sum the backward fails: {error}"
        return judge(trial, "layouts", about, False, message, kind="raises")
    return _describe_difference(trial, about, "an expanded cotangent (that of a sum)", _distance(want, got))


def _describe_difference(trial: Trial, about: str, what: str, distance: float) -> Finding:
    held = distance <= _SLACK
    message = (
        f"With {what} the result is the same, to {distance:.1g} relative."
        if held
        else f"With {what} of the same values the result differs by {distance:.2g} relative: the code reads memory "
        "as if it were contiguous; call .contiguous() first, or use operators that respect strides."
    )
    return judge(trial, "layouts", about, held, message, figure=distance, unit="relative")


def _distance(want: Mapping[Any, torch.Tensor | None], got: Mapping[Any, torch.Tensor | None]) -> float:
    """The largest relative distance of two sets of tensors; inf if a tensor is missing in one set."""
    pairs = [(got.get(key), value) for key, value in want.items()]
    return max((_pair_distance(*pair) for pair in pairs), default=0.0)


def _pair_distance(got: torch.Tensor | None, want: torch.Tensor | None) -> float:
    if got is None or want is None:
        return 0.0 if got is want else float("inf")
    return relative_distance(got, want)
