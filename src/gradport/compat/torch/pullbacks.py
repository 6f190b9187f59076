"""A function and its vector-Jacobian product as graphs of their own, which the body of a loop can call.

Private in torch, and used here: `torch._higher_order_ops.partitioner.HopGraphMinCutPartitioner`, by which torch's scan
makes its backward; `torch.fx.experimental.proxy_tensor.disable_proxy_modes_tracing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

__all__ = ["forward_and_backward"]


def forward_and_backward(
    function: Callable[..., tuple[torch.Tensor]], inputs: Sequence[torch.Tensor], differentiated: int
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """While a graph is traced: the two graphs of a function.

    Args:
        function: of all inputs; returns one tensor in a tuple.
        inputs: examples of its inputs.
        differentiated: the number of inputs, from the first, whose gradients are wanted; the others are constants.

    Returns:
        The forward, `(*inputs) -> (value, *saved)`, and the backward, `(*saved, cotangent) -> gradients` of all inputs.
    """
    from torch._higher_order_ops.partitioner import HopGraphMinCutPartitioner  # late: few programs need it

    arguments = [one.detach() for one in inputs]
    for one in arguments[:differentiated]:
        one.requires_grad_()
    with disable_proxy_modes_tracing():
        parts = HopGraphMinCutPartitioner.create_partitioned_graph(
            function, tuple(arguments), always_recompute_complex_exprs=True
        )
    return parts.fw_gm, parts.bw_gm
