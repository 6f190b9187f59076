"""Subjects for `gradport campaign examples/subjects.py`, `pytest --gradport` and `gradport docs`."""

import torch

import gradport


class Square(torch.autograd.Function):
    """x², with its derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * x


class Round(torch.autograd.Function):
    """Rounds; the gradient is straight-through."""

    @staticmethod
    def forward(ctx, x):
        return torch.round(x)

    @staticmethod
    def backward(ctx, g):
        return g


class Reverse(torch.autograd.Function):
    """The identity with a reversed gradient."""

    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return -ctx.strength * g, None


X = gradport.tensor("f32[batch:4,8]")

SUBJECTS = [
    gradport.Subject(Square, X, wrt="inputs"),
    gradport.Subject(Round, X, wrt="inputs", expect="straight-through"),
    gradport.Subject(Reverse, (X, 0.5), wrt="inputs", expect="scaled by -0.5"),
]
