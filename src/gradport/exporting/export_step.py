"""Exports a whole training step to ONNX, from state to new state, and writes the state back to torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gradport.eager.inputs import with_example
from gradport.eager.optimizers import BEGAN, starting_state
from gradport.eager.step import COUNT, Step
from gradport.errors import SpecError
from gradport.exporting.export import export_joint
from gradport.model.program import Program
from gradport.subject.given import Arguments, Forms, Keywords, Loss, Shapes, Target, Targets
from gradport.subject.subject import as_subject

__all__ = ["export_step", "write_back"]


def export_step(
    subject: Target,
    args: Arguments = (),
    kwargs: Keywords = None,
    *,
    optimizer: torch.optim.Optimizer,
    loss: Loss = None,
    targets: Targets = (),
    outputs: str | Sequence[str] | None = None,
    clip_grad_norm: float | None = None,
    accumulate: int = 1,
    functions: Forms = "keep",
    fallback: bool = True,
    dynamic_shapes: Shapes = None,
    opset_version: int | None = None,
    input_names: Sequence[str] | Mapping[str, str] | None = None,
    output_names: Sequence[str] | Mapping[str, str] | None = None,
    random: str = "input",
    finite_math: bool = False,
    verify: bool = True,
) -> Program:
    """Exports forward, backward and the optimizer's step as one graph.

    The graph takes arguments, targets, random tensors, state and learning rates (float32, no dimensions), and returns
    the loss, outputs and new state: `new.<s>` of one run is `<s>` of the next. State is a plain required input;
    `Program.state()` returns its starting values, and `run_named` uses them for omitted state inputs.

    Args:
        subject, args, kwargs, loss, targets, outputs, functions, fallback, dynamic_shapes, opset_version, input_names,
            output_names, random, finite_math, verify: as for `export`.
        optimizer: an instance of a `torch.optim` class, or of another Optimizer whose step can be traced, built on the
            parameters of the module. Learning rates are inputs (`lr`, or `lr_<group>` with several groups); other
            hyperparameters are constants. If it has taken steps, its state is the starting state.
        clip_grad_norm: maximum norm of all gradients together, as in `torch.nn.utils.clip_grad_norm_`.
        accumulate: number of runs whose gradients are summed before a step of the optimizer.

    Returns:
        The Program; `Program.state()` is its starting state. Parameters that do not require a gradient, or get none,
        and buffers that never change, are initializers.

    Raises:
        ExportError: the subject cannot be exported, or the Program differs from eager over successive steps.
        SpecError: an option is invalid, or the optimizer is not supported (LBFGS, SparseAdam).
        TargetError: the subject rejects its own example.
    """
    described = as_subject(
        subject, args, kwargs, loss=loss, targets=targets, outputs=outputs, dynamic_shapes=dynamic_shapes
    )
    step = Step(with_example(described), optimizer, clip_grad_norm=clip_grad_norm, accumulate=accumulate)
    return export_joint(
        step,
        functions=functions,
        fallback=fallback,
        opset_version=opset_version,
        input_names=input_names,
        output_names=output_names,
        random=random,
        finite_math=finite_math,
        verify=verify,
    )


def write_back(
    state: Mapping[str, torch.Tensor], module: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Writes the state of an exported training step into a module, and into its optimizer if given.

    Accumulated gradients become `.grad` of their parameters.

    Args:
        state: tensors by name, `<s>` or `new.<s>`, for example the result of `Program.run_named`, whose other outputs
            are ignored.
        module: the module to write into.
        optimizer: the optimizer to write into, built on the module's parameters.

    Raises:
        SpecError: a name is unknown, or a shape differs; nothing was written.
    """
    new = {name.removeprefix("new."): value for name, value in state.items() if name.startswith("new.")}
    given = new or dict(state)
    own = dict(module.named_parameters()) | dict(module.named_buffers())
    parameters = dict(module.named_parameters())
    plain = {name: value for name, value in given.items() if name in own}
    moved: dict[str, tuple[str, str, torch.Tensor]] = {}
    sums: dict[str, torch.Tensor] = {}
    for name, value in given.items():
        root, _, rest = name.partition(".")
        owner, _, key = rest.rpartition(".")
        if name in plain or name == COUNT:
            continue
        if root == "optim" and owner in parameters:
            moved[name] = (owner, key, value)
        elif root == "accumulated" and rest in parameters:
            sums[rest] = value
        elif new or root in ("optim", "accumulated"):
            raise SpecError(f"{name!r} is not a state of {type(module).__name__}; it has {', '.join(own)}.")
    for name, value in [*plain.items(), *sums.items()]:
        if own[name].shape != value.shape:
            raise SpecError(f"{name!r} has shape {list(value.shape)}, the module's {list(own[name].shape)}.")
    with torch.no_grad():
        for name, value in plain.items():
            own[name].copy_(value)
        for name, value in sums.items():
            parameters[name].grad = value.clone()
    if optimizer is not None:
        _write_optimizer(optimizer, parameters, moved.values())


def _write_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, torch.Tensor],
    entries: Any,
) -> None:
    """Writes the entries into the optimizer's state; entries that were Python numbers become Python numbers again."""
    starts = starting_state(optimizer)
    entries = list(entries)
    fresh = {owner for owner, key, value in entries if key == BEGAN and not value.item()}
    for owner, key, value in entries:
        if key == BEGAN or owner in fresh:  # torch keeps nothing before the first step
            continue
        parameter = parameters[owner]
        if parameter not in starts:
            raise SpecError(f"The optimizer does not have {owner!r}; build it on the module's parameters.")
        start = starts[parameter].get(key)
        entry: Any = value.clone()
        if isinstance(start, (int, float)):
            entry = type(start)(value.item())
        optimizer.state[parameter] = {**_without_began(starts[parameter]), **optimizer.state[parameter], key: entry}


def _without_began(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != BEGAN}
