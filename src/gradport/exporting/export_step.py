"""A whole training step as ONNX: state in, state out; and the state brought back to torch."""

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

    The graph takes arguments, targets, random tensors, state and learning rates (float32, no dimensions), and gives the
    loss, outputs and new state: `new.<s>` of one run is `<s>` of the next. State is a plain required input;
    `Program.state()` gives its starting values, and `run_named` uses them where a state input is not given.

    Args:
        subject, args, kwargs, loss, targets, outputs, functions, fallback, dynamic_shapes, opset_version, input_names,
            output_names, random, finite_math, verify: as for `export`.
        optimizer: an instance of a `torch.optim` class, or of another Optimizer whose step can be traced, built on the
            parameters of the module. Learning rates are inputs (`lr`, or `lr_<group>` where there are several
            groups); its other hyperparameters are constants. Where it has taken steps, its state is the starting
            state.
        clip_grad_norm: limit of the norm of all gradients together, as `torch.nn.utils.clip_grad_norm_` has it.
        accumulate: how many runs add up their gradients before the optimizer steps.

    Returns:
        The Program; `Program.state()` is its starting state. Parameters that do not require a gradient, or get none,
        and buffers that never change, are initializers.

    Raises:
        ExportError: it cannot be carried, or the proof (one step after another against eager) fails.
        SpecError: an option does not hold together, or the optimizer cannot be carried (LBFGS, SparseAdam).
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
    """Writes the state of an exported training step into a module, and into its optimizer where one is given.

    Gradients that are being accumulated become `.grad` of their parameters.

    Args:
        state: tensors by name, `<s>` or `new.<s>`; what `Program.run_named` gives will do, other outputs are left out.
        module: whose parameters and buffers are written.
        optimizer: whose state is written; built on the module's parameters.

    Raises:
        SpecError: a name that the module or the optimizer does not have, or another shape; nothing was written.
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
            raise SpecError(f"{name!r} is no state of {type(module).__name__}; it has {', '.join(own)}.")
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
    """Tensors stay tensors; what the optimizer keeps as a Python number is one again."""
    starts = starting_state(optimizer)
    entries = list(entries)
    fresh = {owner for owner, key, value in entries if key == BEGAN and not value.item()}
    for owner, key, value in entries:
        if key == BEGAN or owner in fresh:  # torch keeps nothing before the first step
            continue
        parameter = parameters[owner]
        if parameter not in starts:
            raise SpecError(f"The optimizer does not hold {owner!r}; build it on the module's parameters.")
        start = starts[parameter].get(key)
        entry: Any = value.clone()
        if isinstance(start, (int, float)):
            entry = type(start)(value.item())
        optimizer.state[parameter] = {**_kept_names(starts[parameter]), **optimizer.state[parameter], key: entry}


def _kept_names(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != BEGAN}
