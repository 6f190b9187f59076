"""Custom Functions that the tests of this folder share: each has a backward that no differentiation of its forward
finds, so a gradient that was taken from the forward instead shows."""

import torch


class Swish(torch.autograd.Function):
    """x * sigmoid(beta x), its gradient written by hand and twice as large as it should be."""

    @staticmethod
    def forward(ctx, x, beta):
        ctx.save_for_backward(x)
        ctx.beta = beta
        return x * torch.sigmoid(beta * x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(ctx.beta * x)
        return 2 * g * s * (1 + ctx.beta * x * (1 - s)), None


class StraightThrough(torch.autograd.Function):
    """Rounds; the gradient passes."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


class GradientReversal(torch.autograd.Function):
    """The identity; the gradient turns round."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x * 1.0

    @staticmethod
    def backward(ctx, g):
        return -ctx.factor * g, None


class Affine(torch.autograd.Function):
    """Two tensor arguments, two outputs and a saved value that is neither."""

    @staticmethod
    def forward(ctx, x, weight):
        soft = torch.tanh(x)
        ctx.save_for_backward(soft, weight)
        return soft * weight, x + weight

    @staticmethod
    def backward(ctx, g_product, g_sum):
        soft, weight = ctx.saved_tensors
        g_x = 3 * g_product * weight * (1 - soft * soft) + g_sum
        return g_x, (g_product * soft + g_sum).sum(0)


class Settings(torch.autograd.Function):
    """A static argument of each kind that an attribute can hold."""

    @staticmethod
    def forward(ctx, x, count, scale, flag, mode, dtype, taps, missing):
        ctx.scale = scale
        return x * (scale * count)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.scale, None, None, None, None, None, None, None


def eager(function, *arguments, cotangents=None):
    """Outputs and gradients of the floating-point tensors among the arguments, as torch gives them."""
    leaves = [a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in arguments]
    outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    cotangents = cotangents or [torch.ones_like(output) for output in outputs]
    gradients = torch.autograd.grad(outputs, tensors, cotangents)
    return [tensor.detach() for tensor in (*outputs, *gradients)]
