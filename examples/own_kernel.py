"""An opaque Function: one node for each phase, taken by a runtime's own kernel, or by the body that ships with it.

The kernel here is an operator for the reference evaluator; a custom-operator library of ONNX Runtime is given to a
session in the same way, and beats the body that the file carries too.
"""

import numpy as np
import onnx_ir as ir
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import gradport


class Swish(torch.autograd.Function):
    """x * sigmoid(x)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * s * (1 + x * (1 - s))


class Forward(OpRun):
    """The kernel of the forward node."""

    op_domain = "com.acme"

    def _run(self, x):
        calls.append("forward")
        return ((x / (1 + np.exp(-x))).astype(x.dtype),)


class Backward(OpRun):
    """The kernel of the backward node: saved values, then the cotangent."""

    op_domain = "com.acme"

    def _run(self, x, g):
        calls.append("backward")
        s = 1 / (1 + np.exp(-x))
        return ((g * s * (1 + x * (1 - s))).astype(x.dtype),)


Forward.__name__, Backward.__name__ = "FastSwish.forward", "FastSwish.backward"
calls: list[str] = []


def main() -> None:
    """The same file with the kernel and without it."""
    x, cotangent = torch.randn(4, 8), torch.ones(4, 8)
    form = "opaque:com.acme::FastSwish"

    bare = gradport.export(Swish, x, wrt="inputs", functions=form, fallback=False)
    feeds = {"x": x.numpy(), "cotangent_output": cotangent.numpy()}
    own = ReferenceEvaluator(ir.to_proto(bare.model), new_ops=[Forward, Backward]).run(None, feeds)
    assert calls == ["forward", "backward"]

    shipped = gradport.export(Swish, x, wrt="inputs", functions=form).run(x, cotangent)
    for mine, fallback in zip(own, shipped, strict=True):
        torch.testing.assert_close(torch.from_numpy(mine), fallback)
    print("the kernel and the fallback agree")


if __name__ == "__main__":
    main()
