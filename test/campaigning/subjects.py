"""Subjects of the tests of campaigns: one right, one wrong."""

import torch

import gradport


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * (s + x * s * (1 - s))


class Wrong(Swish):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.sigmoid(x)


SUBJECTS = [gradport.Subject(one, torch.randn(4, 3), wrt="inputs") for one in (Swish, Wrong)]
