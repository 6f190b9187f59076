"""Transforms: a Function under torch.compile, torch.export, func.grad, vmap, jvp and checkpoints.

Each transform must give the values and the gradient of eager, or torch refuses it; then the Finding has torch's reason.
A transform that silently ignores the custom backward is reported too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from gradport.checking.probes.calls import cotangents_for
from gradport.checking.probes.judging import judge, note, skip, warn
from gradport.checking.probes.trial import Trial
from gradport.checking.table import Topic, rule
from gradport.compat.quiet import quiet
from gradport.eager.joint import Joint, Slot
from gradport.errors import Error
from gradport.evidence.distance import relative_distance
from gradport.evidence.evidence import Finding
from gradport.isolation.effort import Profile
from gradport.subject.ports import Role

__all__ = ["transforms"]

Tensors = tuple[torch.Tensor, ...]

_SLACK = 1e-4
"""Relative tolerance in the example's dtype for another order of the same operators."""


@dataclasses.dataclass(frozen=True)
class _Flat:
    """The subject as a function of only its checked arguments.

    Attributes:
        run: from these arguments to the differentiable outputs.
        inputs: their example values.
        cotangents: one for each output.
        outputs, gradients: the results of eager.
    """

    run: Callable[..., Tensors]
    inputs: Tensors
    cotangents: Tensors
    outputs: Tensors
    gradients: Tensors


@rule(
    Topic.CALLS,
    "transforms",
    "Do compile, export, func.grad, vmap, jvp and checkpoints keep values and the author's gradient?",
    shrinks=False,
    alongside=True,
    compiles=True,
    least=Profile.DEFAULT,
)
def transforms(trial: Trial) -> Iterator[Finding]:
    """Yields one Finding for each transform."""
    if trial.is_random:
        yield skip(trial, "transforms", "", "the subject draws random numbers")
        return
    flat = _flatten(trial)
    if flat is None:
        yield skip(trial, "transforms", "", "its checked arguments are not plain positional tensors")
        return
    for name, transform in _TRANSFORMS.items():
        yield _try_transform(trial, name, transform, flat)
    if not trial.thorough:
        reason = "not part of this profile; use profile='thorough'"
        yield skip(trial, "transforms", "compile(inductor)", reason)
    elif shutil.which("g++") is None:
        yield skip(trial, "transforms", "compile(inductor)", "it needs a C++ compiler, and g++ is not installed")
    else:
        yield _try_transform(trial, "compile(inductor)", _compile_to_code, flat)


def _compile(flat: _Flat) -> tuple[Tensors, Tensors]:
    torch.compiler.reset()
    return _run_both(torch.compile(flat.run, backend="aot_eager", fullgraph=True), flat)


def _compile_to_code(flat: _Flat) -> tuple[Tensors, Tensors]:
    torch.compiler.reset()
    return _run_both(torch.compile(flat.run, backend="inductor", fullgraph=True), flat)


def _export(flat: _Flat) -> tuple[Tensors, Tensors]:
    class Wrapped(torch.nn.Module):
        def forward(self, *inputs: torch.Tensor) -> Tensors:
            return flat.run(*inputs)

    return _run_both(torch.export.export(Wrapped(), flat.inputs).module(), flat)


def _func_grad(flat: _Flat) -> tuple[Tensors, Tensors]:
    return flat.outputs, _functional_gradient(flat)(*flat.inputs)


def _compile_func_grad(flat: _Flat) -> tuple[Tensors, Tensors]:
    torch.compiler.reset()
    compiled = torch.compile(_functional_gradient(flat), backend="aot_eager", fullgraph=True)
    return flat.outputs, compiled(*flat.inputs)


def _vmap(flat: _Flat) -> tuple[Tensors, Tensors]:
    """Compares a batch of two with a loop; returns the gradients of eager, because vmap computes none."""
    batch = tuple(torch.stack([x, x.flip(0) if x.dim() else x * 2]) for x in flat.inputs)
    got = torch.func.vmap(flat.run)(*batch)
    one_by_one = [flat.run(*(x[at] for x in batch)) for at in range(2)]
    want = tuple(torch.stack(parts) for parts in zip(*one_by_one, strict=True))
    _require_close(got, want)
    return flat.outputs, flat.gradients


def _jvp(flat: _Flat) -> tuple[Tensors, Tensors]:
    """Forward mode against the vector-Jacobian product: <cotangent, J u> is <J^T cotangent, u>."""
    directions = tuple(torch.ones_like(x) for x in flat.inputs)
    pushed = torch.func.jvp(flat.run, flat.inputs, directions)[1]
    left = sum(float((c * p).sum()) for c, p in zip(flat.cotangents, pushed, strict=True))
    right = sum(float(g.sum()) for g in flat.gradients)
    _require_close((torch.tensor(left),), (torch.tensor(right),))
    return flat.outputs, flat.gradients


def _checkpoint(flat: _Flat) -> tuple[Tensors, Tensors]:
    return _run_both(lambda *inputs: checkpoint(flat.run, *inputs, use_reentrant=False), flat)


_TRANSFORMS: dict[str, Callable[[_Flat], tuple[Tensors, Tensors]]] = {
    "compile": _compile,
    "export": _export,
    "func.grad": _func_grad,
    "compile(func.grad)": _compile_func_grad,
    "vmap": _vmap,
    "jvp": _jvp,
    "checkpoint": _checkpoint,
}

_DROPS = ("export", "compile(func.grad)")
"""Transforms in which torch is known to replace a custom backward by the derivative of the forward; not the author's
mistake."""


def _try_transform(
    trial: Trial, name: str, transform: Callable[[_Flat], tuple[Tensors, Tensors]], flat: _Flat
) -> Finding:
    try:
        with quiet(), contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            outputs, gradients = transform(flat)
    except _Differs as differs:
        message = f"{name} and eager give different values: off by {differs.args[0]:.2g} relative."
        return judge(trial, "transforms", name, False, message, kind="other values", figure=differs.args[0])
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        return note(trial, "transforms", name, f"torch refuses {name}: {reason}", kind="refused")
    values, slopes = _gap(outputs, flat.outputs), _gap(gradients, flat.gradients)
    if values > _SLACK:
        message = f"{name} and eager give different values: off by {values:.2g} relative."
        return judge(trial, "transforms", name, False, message, kind="other values", figure=values)
    if slopes <= _SLACK:
        message = f"{name} gives the values and the gradient of eager."
        return judge(trial, "transforms", name, True, message, kind="same", figure=slopes)
    message = f"{name} silently ignores the custom backward: the gradient is off by {slopes:.2g} relative."
    if name in _DROPS:
        return warn(trial, "transforms", name, message, kind="drops the backward", figure=slopes)
    return judge(trial, "transforms", name, False, message, kind="drops the backward", figure=slopes)


def _flatten(trial: Trial) -> _Flat | None:
    """The subject as a flat function; None if a checked argument is nested, a keyword or a parameter, or if there is
    a loss."""
    joint = trial.joint
    by_name = {argument.name: argument for argument in joint.arguments}
    wanted = [by_name.get(slot.name) if slot.role == Role.ARGUMENT else None for slot in joint.wanted]
    if joint.subject.loss is not None or any(a is None or len(a.path) != 2 or a.path[0] != "args" for a in wanted):
        return None
    at = [int(argument.path[1]) for argument in wanted if argument is not None]
    examples = joint.examples()
    base = list(joint.subject.args)
    for argument in joint.arguments:
        if len(argument.path) == 2 and argument.path[0] == "args":
            base[int(argument.path[1])] = examples[Slot(Role.ARGUMENT, argument.name)].detach().clone()
    for prepared in (_as_is, _as_non_leaf):  # the latter for a subject that writes into its arguments
        every = _caller(joint, base, at, prepared)
        flat = _run_eager(trial, every, tuple(base[position] for position in at))
        if flat is not None:
            return flat
    return None


def _as_is(value: torch.Tensor) -> torch.Tensor:
    return value


def _as_non_leaf(value: torch.Tensor) -> torch.Tensor:
    return value * 1


def _caller(
    joint: Joint, base: list[Any], at: list[int], prepared: Callable[[torch.Tensor], torch.Tensor]
) -> Callable[..., tuple[Any, ...]]:
    """The subject as a plain closure over all other arguments, which a compiler can trace."""
    target, kwargs = joint.subject.target, joint.subject.kwargs
    called = target.apply if isinstance(target, type) and issubclass(target, torch.autograd.Function) else target

    def every(*inputs: torch.Tensor) -> tuple[Any, ...]:
        args = list(base)
        for position, value in zip(at, inputs, strict=True):
            args[position] = prepared(value)
        result = called(*args, **kwargs)
        return result if isinstance(result, tuple) else (result,)

    return every


def _run_eager(trial: Trial, every: Callable[..., tuple[Any, ...]], inputs: Tensors) -> _Flat | None:
    """The flat function with the results of eager; None if it fails or a result is not a tensor."""
    try:
        listed = trial.run_guarded({}, lambda: every(*(x.clone().requires_grad_() for x in inputs)))
    except Error:
        return None
    if any(not isinstance(value, torch.Tensor) for value in listed):
        return None
    kept = [at for at, value in enumerate(listed) if value.is_floating_point() and value.requires_grad]
    if not kept:
        return None

    def run(*inputs: torch.Tensor) -> Tensors:
        results = every(*inputs)
        return tuple(results[at] for at in kept)

    cotangents = tuple(cotangents_for({str(at): listed[at] for at in kept}, trial.seed).values())
    partial = _Flat(run, inputs, cotangents, (), ())
    try:
        outputs, gradients = trial.run_guarded({}, lambda: _run_both(run, partial))
    except Error:
        return None
    return dataclasses.replace(partial, outputs=outputs, gradients=gradients)


def _run_both(run: Callable[..., Tensors], flat: _Flat) -> tuple[Tensors, Tensors]:
    """The outputs and gradients of one call."""
    leaves = [x.detach().clone().requires_grad_() for x in flat.inputs]
    outputs = run(*leaves)
    attached = [(out, c) for out, c in zip(outputs, flat.cotangents, strict=True) if out.requires_grad]
    grads: Any = [None] * len(leaves)
    if attached:
        grads = torch.autograd.grad([o for o, _ in attached], leaves, [c for _, c in attached], allow_unused=True)
    gradients = tuple(torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True))
    return tuple(out.detach() for out in outputs), gradients


def _functional_gradient(flat: _Flat) -> Callable[..., Tensors]:
    def total(*inputs: torch.Tensor) -> torch.Tensor:
        return sum((out * c).sum() for out, c in zip(flat.run(*inputs), flat.cotangents, strict=True))  # type: ignore[return-value]

    return torch.func.grad(total, argnums=tuple(range(len(flat.inputs))))


class _Differs(Exception):
    """Two results that should be equal differ."""


def _require_close(got: Any, want: Any) -> None:
    gap = _gap(got, want)
    if gap > _SLACK:
        raise _Differs(gap)


def _gap(got: Any, want: Any) -> float:
    return max((relative_distance(a, b) for a, b in zip(got, want, strict=True)), default=0.0)
