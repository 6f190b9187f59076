"""Forty Functions whose backward is right: kinks, straight-through, several outputs, saved results, both forms.

Each entry: the Function, its arguments, and what was declared of its backward.
"""

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd import Function
from torch.autograd.function import once_differentiable


@dataclasses.dataclass
class Entry:
    function: Any
    args: tuple[Any, ...]
    expect: Any = None


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X, W = normal(4, 6), normal(6, 5, seed=1)
RIGHT: dict[str, Entry] = {}


def elementwise(name, forward, backward, x=X, expect=None):
    """A Function of one tensor that saves its input."""

    def run(ctx, x):
        ctx.save_for_backward(x)
        return forward(x)

    body = {"forward": staticmethod(run), "backward": staticmethod(lambda ctx, g: backward(ctx.saved_tensors[0], g))}
    RIGHT[name] = Entry(type(name.title().replace(" ", ""), (Function,), body), (x,), expect)


def entry(name, *args, expect=None):
    def register(cls):
        RIGHT[name] = Entry(cls, args, expect)
        return cls

    return register


elementwise("relu", lambda x: x.clamp(min=0), lambda x, g: g * (x > 0))
elementwise("relu with one half at zero", torch.relu, lambda x, g: g * ((x > 0) + 0.5 * (x == 0)))
elementwise("leaky relu", lambda x: F.leaky_relu(x, 0.1), lambda x, g: torch.where(x > 0, g, 0.1 * g))
elementwise("absolute value", torch.abs, lambda x, g: g * x.sign())
elementwise("hard tanh", lambda x: x.clamp(-1, 1), lambda x, g: g * ((x >= -1) & (x <= 1)))
elementwise(
    "hard swish", F.hardswish, lambda x, g: g * torch.where(x < -3, x * 0, torch.where(x > 3, x * 0 + 1, x / 3 + 0.5))
)
elementwise("sine", torch.sin, lambda x, g: g * x.cos())
elementwise("swish", lambda x: x * x.sigmoid(), lambda x, g: g * x.sigmoid() * (1 + x * (1 - x.sigmoid())))
elementwise("softplus", F.softplus, lambda x, g: g * x.sigmoid())
elementwise("cube", lambda x: x**3, lambda x, g: g * 3 * x**2)
elementwise("logarithm", lambda x: x.log(), lambda x, g: g / x, x=X.abs() + 0.5)
elementwise("square root", lambda x: x.sqrt(), lambda x, g: g / (2 * x.sqrt()), x=X.abs() + 0.5)
elementwise("round", torch.round, lambda x, g: g, expect="straight-through")
elementwise("sign within an interval", torch.sign, lambda x, g: g * (x.abs() <= 1), expect="straight-through")
elementwise("spike", lambda x: (x > 0).to(x.dtype), lambda x, g: g / (1 + (2 * x) ** 2), expect="surrogate")
elementwise("reversal", lambda x: x * 1, lambda x, g: -0.5 * g, expect="scaled by -0.5")
elementwise("clipped gradient", lambda x: x * 3, lambda x, g: (3 * g).clamp(-1, 1), expect="clipped")
elementwise("sum over rows", lambda x: x.sum(0), lambda x, g: g.expand_as(x))
elementwise("mean over all", lambda x: x.mean(), lambda x, g: (g / x.numel()).expand_as(x))
elementwise("row maximum", lambda x: x.amax(-1), lambda x, g: g[..., None] * F.one_hot(x.argmax(-1), x.shape[-1]).to(x))
elementwise("sorting", lambda x: x.sort(-1)[0], lambda x, g: g.gather(-1, x.argsort(-1).argsort(-1)))
elementwise("transpose", lambda x: x.transpose(0, 1) * 1, lambda x, g: g.transpose(0, 1))
elementwise("cumulative sum", lambda x: x.cumsum(-1), lambda x, g: g.flip(-1).cumsum(-1).flip(-1))
elementwise("normalise", lambda x: x / x.norm(), lambda x, g: g / x.norm() - x * (g * x).sum() / x.norm() ** 3)
elementwise("channels last friendly", lambda x: x * 2, lambda x, g: g * 2, x=normal(2, 3, 4, 4))
elementwise("a lone number", lambda x: x * x, lambda x, g: 2 * x * g, x=torch.tensor(0.7))
elementwise(
    "real part",
    lambda x: torch.view_as_complex(x).real * 2,
    lambda x, g: torch.stack([2 * g, 0 * g], -1),
    x=normal(4, 2),
)


@entry("matrix product", X, W)
class Product(Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w.T, x.T @ g


@entry("affine with setup_context", X, W, normal(5, seed=2))
class Affine(Function):
    @staticmethod
    def forward(x, w, b):
        return x @ w + b

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        needs = ctx.needs_input_grad
        return (g @ w.T if needs[0] else None, x.T @ g if needs[1] else None, g.sum(0) if needs[2] else None)


@entry("sigmoid from its result", X)
class SigmoidFromResult(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.sigmoid()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y * (1 - y)


@entry("softmax from its result", X)
class SoftmaxFromResult(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.softmax(-1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y * (g - (g * y).sum(-1, keepdim=True))


@entry("two outputs", X)
class SineAndCosine(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin(), x.cos()

    @staticmethod
    def backward(ctx, a, b):
        (x,) = ctx.saved_tensors
        return a * x.cos() - b * x.sin()


@entry("unused outputs stay None", X)
class Unmaterialised(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return x.sin(), x * 2

    @staticmethod
    def backward(ctx, a, b):
        (x,) = ctx.saved_tensors
        total = torch.zeros_like(x)
        if a is not None:
            total = total + a * x.cos()
        if b is not None:
            total = total + b * 2
        return total


@entry("values and indices", X)
class MaxWithIndex(Function):
    @staticmethod
    def forward(ctx, x):
        values, index = x.max(-1)
        ctx.mark_non_differentiable(index)
        ctx.save_for_backward(index)
        ctx.width = x.shape[-1]
        return values, index

    @staticmethod
    def backward(ctx, g, _):
        (index,) = ctx.saved_tensors
        return g[..., None] * F.one_hot(index, ctx.width).to(g.dtype)


@entry("in place and said so", X)
class Doubled(Function):
    @staticmethod
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 2


@entry("numbers, strings and None", X, 2.5, "scale", None)
class WithStatics(Function):
    @staticmethod
    def forward(ctx, x, k, mode, nothing):
        ctx.k = k
        return x * k if mode == "scale" else x

    @staticmethod
    def backward(ctx, g):
        return g * ctx.k, None, None, None


@entry("once differentiable", X)
class Once(Function):
    @staticmethod
    def forward(ctx, x):
        e = x.exp()
        ctx.save_for_backward(e)
        return e + 1

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (e,) = ctx.saved_tensors
        return g * e


@entry("broadcasting", X, normal(1, 6, seed=3))
class Shifted(Function):
    @staticmethod
    def forward(ctx, x, b):
        return x + b

    @staticmethod
    def backward(ctx, g):
        return g, g.sum(0, keepdim=True)


@entry("dropout with its own mask", X)
class Dropout(Function):
    @staticmethod
    def forward(ctx, x):
        mask = (torch.rand_like(x) > 0.5).to(x.dtype) * 2
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx, g):
        (mask,) = ctx.saved_tensors
        return g * mask


@entry("recomputed from inputs", X, W)
class Recomputed(Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return torch.tanh(x @ w)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        d = g * (1 - torch.tanh(x @ w) ** 2)
        return d @ w.T, x.T @ d


@entry("gather by an index", X, torch.tensor([[0, 2], [1, 1], [5, 0], [3, 3]]))
class Gather(Function):
    @staticmethod
    def forward(ctx, x, index):
        ctx.save_for_backward(index)
        ctx.shape = x.shape
        return x.gather(1, index)

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        return torch.zeros(ctx.shape, dtype=g.dtype).scatter_add(1, index, g), None


@entry("where by a condition", X, normal(4, 6, seed=4), normal(4, 6, seed=5) > 0)
class Chosen(Function):
    @staticmethod
    def forward(ctx, x, y, condition):
        ctx.save_for_backward(condition)
        return torch.where(condition, x, y)

    @staticmethod
    def backward(ctx, g):
        (condition,) = ctx.saved_tensors
        zero = torch.zeros_like(g)
        return torch.where(condition, g, zero), torch.where(condition, zero, g), None


@entry("complex product", torch.complex(X, X.flip(0)), torch.complex(X.flip(1), X))
class ComplexProduct(Function):
    @staticmethod
    def forward(ctx, z, w):
        ctx.save_for_backward(z, w)
        return z * w

    @staticmethod
    def backward(ctx, g):
        z, w = ctx.saved_tensors
        return g * w.conj(), g * z.conj()


@entry("squared modulus", torch.complex(X, X.flip(0)))
class SquaredModulus(Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.real**2 + z.imag**2

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return 2 * g * z
