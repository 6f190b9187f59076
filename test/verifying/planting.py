"""What the tests of verify share: a network with a long backward, and faults planted in a file."""

import numpy as np
import onnx_ir as ir
import torch

__all__ = ["Deep", "bodies", "copied", "plant"]

OTHER_OPERATOR = {"Mul": "Add", "Add": "Sub", "Sub": "Add", "Exp": "Sin", "Neg": "Abs", "Reciprocal": "Exp"}


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * s * (1 + x * (1 - s))


class Deep(torch.nn.Module):
    """Residual layers whose backward has more than 500 nodes."""

    def __init__(self, depth=16):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(6, 6) for _ in range(depth))
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(6) for _ in range(depth))

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + Swish.apply(norm(layer(x))) * torch.sigmoid(x)
        return x


def copied(program):
    """A model that can be spoilt without the original."""
    return ir.from_proto(ir.to_proto(program.model))


def bodies(model):
    """The graph, and the bodies of its functions."""
    return [model.graph, *(function.graph for function in model.functions.values())]


def plant(node, kind):
    """Spoils one node; False where it cannot be spoilt in this way."""
    if kind == "operator" and node.op_type in OTHER_OPERATOR:
        node.op_type = OTHER_OPERATOR[node.op_type]
        return True
    if kind == "edge" and node.op_type in ("Mul", "Add", "Sub") and node.inputs[0] is not node.inputs[1]:
        node.replace_input_with(0, node.inputs[1])
        return True
    if kind == "constant" and node.op_type == "Constant" and "value" in node.attributes:
        value = node.attributes["value"].as_tensor().numpy()
        if value.dtype == np.float32 and value.ndim == 0:
            node.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.float32(value * 1.5 + 0.25)))
            return True
    if kind == "attribute" and node.op_type == "ReduceSum" and "keepdims" not in node.attributes:
        return False
    if kind == "attribute" and node.op_type == "Gemm":
        node.attributes["alpha"] = ir.AttrFloat32("alpha", 0.5)
        return True
    return False
