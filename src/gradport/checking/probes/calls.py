"""Calls the subject as a user does: tensors in a given memory layout, gradients of chosen arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from gradport.checking.probes.trial import LOSS, Trial
from gradport.eager.joint import Slot
from gradport.errors import Error
from gradport.subject.ports import Role

__all__ = ["ForwardCall", "Layout", "call", "cotangents_for", "gradients", "is_own", "try_call"]

Layout = Callable[[torch.Tensor], torch.Tensor]
"""A function from a tensor to a tensor of the same values in another memory layout."""


@dataclasses.dataclass(frozen=True)
class ForwardCall:
    """One forward call with its graph.

    Attributes:
        outputs: the differentiable outputs by name; only the loss if there is one.
        leaves: the tensors whose gradients can be computed.
        given: the tensors passed to the subject: non-leaves instead of leaves, so that it may write into them.
    """

    outputs: dict[str, torch.Tensor]
    leaves: dict[Slot, torch.Tensor]
    given: dict[Slot, torch.Tensor]


class _Relay(torch.autograd.Function):
    """Copies a leaf into another memory layout; the gradient passes through."""

    @staticmethod
    def forward(ctx: Any, leaf: torch.Tensor, layout: Layout) -> torch.Tensor:
        return layout(leaf.detach())

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return cotangents[0], None


def is_own(function: type) -> bool:
    """Whether a Function belongs to gradport and not to the subject."""
    return function is _Relay


def call(
    trial: Trial,
    tensors: Mapping[Slot, torch.Tensor],
    *,
    layout: Layout = torch.clone,
    requires: Collection[Slot] | None = None,
) -> ForwardCall:
    """Calls the forward under autograd.

    Args:
        trial: the Trial of the subject.
        tensors: values for its slots.
        layout: the memory layout of the checked arguments.
        requires: the arguments that require a gradient; None: all checked arguments.

    Raises:
        TargetError: the subject rejects these inputs.
    """
    wanted = trial.joint.wanted if requires is None else requires
    leaves: dict[Slot, torch.Tensor] = {}
    given: dict[Slot, torch.Tensor] = {}
    for slot, tensor in tensors.items():
        if slot in wanted:
            leaves[slot] = tensor.detach().clone().requires_grad_()
            given[slot] = leaves[slot] if slot.role == Role.PARAMETER else _Relay.apply(leaves[slot], layout)
        else:
            given[slot] = layout(tensor.detach()) if slot in trial.joint.wanted else tensor.detach().clone()
    outputs, loss = trial.run_guarded(tensors, lambda: trial.joint.forward(given))
    if loss is not None:
        outputs = {LOSS: loss}
    floating = {n: v for n, v in outputs.items() if v.requires_grad and v.is_floating_point()}
    return ForwardCall(floating, leaves, given)


def cotangents_for(outputs: Mapping[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Standard-normal cotangents for these outputs."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
        for name, value in outputs.items()
    }


def gradients(
    trial: Trial,
    forward_call: ForwardCall,
    cotangents: Mapping[str, torch.Tensor],
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> dict[Slot, torch.Tensor | None]:
    """The vector-Jacobian product of a call.

    Raises:
        TargetError: the backward fails.
    """
    outputs = {name: value for name, value in forward_call.outputs.items() if name in cotangents}

    def run() -> Any:
        return torch.autograd.grad(
            list(outputs.values()),
            list(forward_call.leaves.values()),
            [cotangents[name] for name in outputs],
            allow_unused=True,
            create_graph=create_graph,
            retain_graph=retain_graph,
        )

    if not outputs:
        return dict.fromkeys(forward_call.leaves)
    grads = trial.run_guarded(
        forward_call.leaves, lambda: trial.joint.with_state(forward_call.given, run), "fails in its backward"
    )
    return dict(zip(forward_call.leaves, grads, strict=True))


def try_call(body: Callable[[], Any]) -> Any:
    """The result of `body`, or None if the subject's code raises."""
    try:
        return body()
    except Error:
        return None
