"""Functions that share a name and must stay apart: two modules, two closures of one factory, a reload, other constants.

Run as a script it exports them and prints, as JSON, what each file calls its functions; the order of imports is the
first argument.
"""

import importlib
import json
import sys

import torch


class CustomFunction(torch.autograd.Function):
    """The twin of the one in autograd_helper: the same name, another clamp."""

    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input.clamp(min=1)

    @staticmethod
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        return grad_output * (input >= 1)


def make(slope):
    """A factory: each call makes a class of the same qualified name with another closure."""

    class Gelu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * torch.sigmoid(slope * x)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * torch.sigmoid(slope * x)

    return Gelu


class Scaled(torch.autograd.Function):
    """Called with other constants it is another function in the file."""

    @staticmethod
    def forward(ctx, x, k):
        ctx.k = k
        return x * k

    @staticmethod
    def backward(ctx, g):
        return g * ctx.k, None


def all_twins(x):
    """Every twin in one model."""
    helper = importlib.import_module("autograd_helper")
    y = CustomFunction.apply(x) + helper.CustomFunction.apply(x)
    y = make(1.0).apply(y) + make(1.702).apply(y)
    return Scaled.apply(Scaled.apply(Scaled.apply(y, 2.0), 3.0), 2.0)


if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/")[0])
    if sys.argv[1] == "helper first":
        pass
    import gradport

    program = gradport.export(all_twins, torch.linspace(-2, 2, 6), wrt="inputs")
    print(json.dumps([[f.domain, f.name, f.uses] for f in program.functions]))
