"""Functions that the tests of export share: small, each one habit that people have."""

import torch


def masked(ctx, g):
    (x,) = ctx.saved_tensors
    g = g.clone()
    g[x < 0] = 0
    return g


class Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    backward = staticmethod(masked)


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


class Surrogate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, alpha=2.0):
        ctx.save_for_backward(x)
        ctx.alpha = alpha
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g / (1 + (ctx.alpha * x) ** 2), None


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -ctx.factor * g, None


class Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, low, high):
        ctx.low, ctx.high = low, high
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return (2 * g).clamp(ctx.low, ctx.high), None, None


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return g * s * (1 + x * (1 - s))


class Outer(torch.autograd.Function):
    """A Function inside a Function, in forward and in backward."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return Swish.apply(x) + 1

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return Clamp.apply(g) * x


class Newer(torch.autograd.Function):
    """The form with setup_context."""

    @staticmethod
    def forward(x, w):
        return x @ w

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w.T, x.T @ g


class Several(torch.autograd.Function):
    """Outputs in another order than they were computed, one None, one twice, one integer."""

    @staticmethod
    def forward(ctx, x, unused):
        first = x * 2
        second = x.sin()
        where = x.argmax(-1)
        ctx.mark_non_differentiable(where)
        ctx.save_for_backward(x)
        return second, None, first, where

    @staticmethod
    def backward(ctx, g_second, g_none, g_first, g_where):
        (x,) = ctx.saved_tensors
        return g_second * x.cos() * 3 + g_first, None


class Dirty(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 5


class OfClass(torch.autograd.Function):
    """classmethods instead of staticmethods."""

    scale = 3.0

    @classmethod
    def forward(cls, ctx, x):
        return x * cls.scale

    @classmethod
    def backward(cls, ctx, g):
        return g * cls.scale


class Checkpoint(torch.autograd.Function):
    """In the style of Megatron: the forward runs without a graph, the backward runs it again with one."""

    @staticmethod
    def forward(ctx, run_function, *args):
        ctx.run_function = run_function
        ctx.save_for_backward(*args)
        with torch.no_grad():
            return run_function(*args)

    @staticmethod
    def backward(ctx, *grads):
        args = [arg.detach().requires_grad_() for arg in ctx.saved_tensors]
        with torch.enable_grad():
            outputs = ctx.run_function(*args)
        torch.autograd.backward(outputs, grads[0])
        return (None, *(arg.grad for arg in args))


class Static(torch.autograd.Function):
    """Strings, None, dtypes, tuples and callables among the arguments."""

    @staticmethod
    def forward(ctx, x, mode, missing, dtype, shape, function):
        assert missing is None
        ctx.mode = mode
        return function(x).to(dtype).reshape(shape) if mode == "double" else x

    @staticmethod
    def backward(ctx, g):
        return g.float().reshape(4, 3) * 2, None, None, None, None, None
