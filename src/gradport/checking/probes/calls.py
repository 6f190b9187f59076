"""Calls of the subject as a user makes them: tensors in the layout they have, gradients asked of chosen arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from gradport.checking.probes.trial import LOSS, Trial
from gradport.eager.joint import Slot
from gradport.errors import Error
from gradport.subject.ports import Role

__all__ = ["ForwardCall", "Layout", "call", "cotangents_for", "gradients", "is_own", "runs"]

Layout = Callable[[torch.Tensor], torch.Tensor]
"""From a tensor to one of the same values in other memory."""


@dataclasses.dataclass(frozen=True)
class ForwardCall:
    """One forward call with its graph.

    Attributes:
        outputs: the differentiable outputs by name; the loss alone where there is one.
        leaves: what gradients can be asked of.
        given: what the subject was given: for the leaves non-leaves, so that it may write into them.
    """

    outputs: dict[str, torch.Tensor]
    leaves: dict[Slot, torch.Tensor]
    given: dict[Slot, torch.Tensor]


class _Relay(torch.autograd.Function):
    """Passes a leaf on in another layout, and its gradient back."""

    @staticmethod
    def forward(ctx: Any, leaf: torch.Tensor, layout: Layout) -> torch.Tensor:
        return layout(leaf.detach())

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return cotangents[0], None


def is_own(function: type) -> bool:
    """Whether a Function is one of ours, put into the call, and not the subject's."""
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
        trial: whose subject is called.
        tensors: values for its slots.
        layout: how the examined arguments lie in memory.
        requires: the arguments that require a gradient; None: all that are examined.

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
    outputs, loss = trial.guarded(tensors, lambda: trial.joint.forward(given))
    if loss is not None:
        outputs = {LOSS: loss}
    floating = {n: v for n, v in outputs.items() if v.requires_grad and v.is_floating_point()}
    return ForwardCall(floating, leaves, given)


def cotangents_for(outputs: Mapping[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Standard-normal cotangents of these outputs."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
        for name, value in outputs.items()
    }


def gradients(
    trial: Trial,
    made: ForwardCall,
    cotangents: Mapping[str, torch.Tensor],
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> dict[Slot, torch.Tensor | None]:
    """The vector-Jacobian product of a call.

    Raises:
        TargetError: the backward fails.
    """
    asked = {name: value for name, value in made.outputs.items() if name in cotangents}

    def run() -> Any:
        return torch.autograd.grad(
            list(asked.values()),
            list(made.leaves.values()),
            [cotangents[name] for name in asked],
            allow_unused=True,
            create_graph=create_graph,
            retain_graph=retain_graph,
        )

    if not asked:
        return dict.fromkeys(made.leaves)
    found = trial.guarded(made.leaves, lambda: trial.joint.with_state(made.given, run), "fails in its backward")
    return dict(zip(made.leaves, found, strict=True))


def runs(body: Callable[[], Any]) -> Any:
    """What `body` gives, or None where the subject's code raises."""
    try:
        return body()
    except Error:
        return None
