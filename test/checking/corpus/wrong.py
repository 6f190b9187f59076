"""Forty-odd Functions with one real mistake each, and the rule that names its cause."""

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd import Function

from .right import W, X, normal


@dataclasses.dataclass
class Entry:
    function: Any
    args: tuple[Any, ...]
    rule: str


WRONG: dict[str, Entry] = {}


def elementwise(name, rule, forward, backward, x=X):
    def run(ctx, x):
        ctx.save_for_backward(x)
        return forward(x)

    body = {"forward": staticmethod(run), "backward": staticmethod(lambda ctx, g: backward(ctx.saved_tensors[0], g))}
    WRONG[name] = Entry(type(name.title().replace(" ", ""), (Function,), body), (x,), rule)


def entry(name, rule, *args):
    def register(cls):
        WRONG[name] = Entry(cls, args, rule)
        return cls

    return register


# the formula
elementwise("a missing mask", "differences", torch.relu, lambda x, g: g)
elementwise("the mask turned round", "differences", torch.relu, lambda x, g: g * (x < 0))
elementwise("a wrong sign", "differences", torch.cos, lambda x, g: g * x.sin())
elementwise("a missing factor", "differences", lambda x: x**2, lambda x, g: g * x)
elementwise("a missing chain", "differences", lambda x: (3 * x).sin(), lambda x, g: g * (3 * x).cos())
elementwise("a missing term", "differences", lambda x: x * x.sigmoid(), lambda x, g: g * x.sigmoid())
elementwise("a slope off by a thousandth", "differences", torch.tanh, lambda x, g: g * (1 - x.tanh() ** 2) * 1.001)
elementwise(
    "an approximation of another formula",
    "differences",
    F.gelu,
    lambda x, g: g * (1.702 * x).sigmoid() * (1 + 1.702 * x * (1 - (1.702 * x).sigmoid())),
)
elementwise("the wrong threshold", "differences", lambda x: x.clamp(max=0.5), lambda x, g: g * (x < 0.7))
elementwise("no gradient", "differences", torch.sin, lambda x, g: None)
elementwise("zeros", "differences", torch.sin, lambda x, g: torch.zeros_like(x))
elementwise("the cotangent ignored", "differences", torch.sin, lambda x, g: x.cos())
elementwise("squared cotangent", "differences", torch.sin, lambda x, g: g * g * x.cos())
elementwise("a wrong reduction", "differences", lambda x: x.mean(0), lambda x, g: g.expand_as(x))
elementwise("a sum for a mean", "differences", lambda x: x.sum(), lambda x, g: (g / x.numel()).expand_as(x))
elementwise("the wrong axis", "differences", lambda x: x.cumsum(0), lambda x, g: g.flip(1).cumsum(1).flip(1))
elementwise("not flipped back", "differences", lambda x: x.flip(-1) * 1, lambda x, g: g)
elementwise("not reversed cumulative", "differences", lambda x: x.cumsum(-1), lambda x, g: g.cumsum(-1))
elementwise(
    "softmax as if diagonal",
    "differences",
    lambda x: x.softmax(-1),
    lambda x, g: g * x.softmax(-1) * (1 - x.softmax(-1)),
)
elementwise("a norm held constant", "differences", lambda x: x / x.norm(), lambda x, g: g / x.norm())
elementwise(
    "sorted back by the wrong order", "differences", lambda x: x.sort(-1)[0], lambda x, g: g.gather(-1, x.argsort(-1))
)
elementwise("one and a half at a kink", "kinks", torch.relu, lambda x, g: g * ((x > 0) + 1.5 * (x == 0)))
elementwise(
    "minus at an edge", "kinks", lambda x: x.clamp(-1, 1), lambda x, g: g * ((x.abs() < 1) * 1.0 - 1.0 * (x.abs() == 1))
)

# memory
elementwise(
    "strides taken for contiguous",
    "layouts",
    lambda x: x * 2,
    lambda x, g: 2 * torch.as_strided(g, g.shape, torch.empty(g.shape).stride()),
)
elementwise("a view of any cotangent", "layouts", lambda x: x * 2, lambda x, g: g.view(-1).mul(2).view(g.shape))
elementwise(
    "a forward that reads storage",
    "layouts",
    lambda x: torch.as_strided(x, x.shape, torch.empty(x.shape).stride()) * 2,
    lambda x, g: 2 * g,
)

# values
elementwise("nan at zero", "edge-values", lambda x: x * x.abs(), lambda x, g: g * 2 * x * x / x.abs())
elementwise(
    "a nan swallowed",
    "edge-values",
    lambda x: x * x,
    lambda x, g: torch.where(x > 0, 2 * x * g, torch.where(x <= 0, 2 * x * g, torch.zeros_like(g))),
)
elementwise("an exponential that overflows", "edge-values", F.softplus, lambda x, g: g * x.exp() / (1 + x.exp()))
elementwise(
    "cancellation",
    "dtypes",
    lambda x: x.log1p(),
    lambda x, g: g * ((1 + x * 1e-3) - 1) / (x * 1e-3) / (1 + x),
    x=X.abs() + 0.5,
)
elementwise("half precision inside", "contract", lambda x: x * 2, lambda x, g: (g * 2).half())


@entry("a narrow detour", "dtypes", X)
class Narrow(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        narrow = torch.bfloat16 if x.dtype == torch.float32 else x.dtype
        return (g.to(narrow) * x.to(narrow).cos()).to(x.dtype)


@entry("too many gradients", "contract", X)
class TooMany(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2, None, g


@entry("too few gradients", "contract", X, W)
class TooFew(Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(w)
        return x @ w

    @staticmethod
    def backward(ctx, g):
        return g @ ctx.saved_tensors[0].T


@entry("a shape that does not fit", "contract", X)
class Shapeless(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return (g * 2)[:, :2]


@entry("a shape that broadcasts", "contract", X)
class Broadcast(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return (g * 2).expand(3, *g.shape)


@entry("frozen inputs forgotten", "contract", X, W)
class NeedsBoth(Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        first = g @ w.T
        return first, x.T @ g if ctx.needs_input_grad[0] else None


@entry("an unused output is None", "contract", X)
class NoneForgotten(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return x.sin(), x * 2

    @staticmethod
    def backward(ctx, a, b):
        (x,) = ctx.saved_tensors
        return a * x.cos() + b * 2


@entry("an input changed in silence", "aliasing", X)
class InPlace(Function):
    @staticmethod
    def forward(ctx, x):
        x.data.mul_(2)
        return x * 1

    @staticmethod
    def backward(ctx, g):
        return g * 2


@entry("a cotangent changed", "aliasing", X)
class CotangentChanged(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        g[x < 0] = 0
        return g


@entry("a saved tensor changed", "aliasing", X)
class SavedChanged(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x.data.exp_()


@entry("a result kept on ctx", "leaks", X)
class ResultKept(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.y = x.exp()
        return ctx.y

    @staticmethod
    def backward(ctx, g):
        return g * ctx.y


@entry("an input kept on ctx", "leaks", X)
class InputKept(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.x.cos()


@entry("a detached second derivative", "second-order", X)
class Detached(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x.detach().cos()


@entry("an intermediate in the second derivative", "second-order", X)
class Intermediate(Function):
    @staticmethod
    def forward(ctx, x):
        e = x.exp()
        ctx.save_for_backward(e)
        return e + 1

    @staticmethod
    def backward(ctx, g):
        (e,) = ctx.saved_tensors
        return g * e


_last = {}


@entry("a stale attribute of the class", "differences", X, normal(4, 6, seed=9))
class Stale(Function):
    @staticmethod
    def forward(ctx, x, y):
        _last.setdefault("x", x.detach().clone())
        ctx.save_for_backward(y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y, g * _last["x"]


@entry("another random mask in backward", "differences", X)
class MaskDrawnAnew(Function):
    @staticmethod
    def forward(ctx, x):
        return x * (torch.rand_like(x) > 0.5)

    @staticmethod
    def backward(ctx, g):
        return g * (torch.rand_like(g) > 0.5)


_calls = []


@entry("a counter outside torch", "determinism", X)
class Counting(Function):
    @staticmethod
    def forward(ctx, x):
        _calls.append(1)
        ctx.k = 1 + len(_calls) * 1e-3
        return x * ctx.k

    @staticmethod
    def backward(ctx, g):
        return g * ctx.k


@entry("a conjugate forgotten", "differences", torch.complex(X, X.flip(0)), torch.complex(X.flip(1), X))
class Unconjugated(Function):
    @staticmethod
    def forward(ctx, z, w):
        ctx.save_for_backward(z, w)
        return z * w

    @staticmethod
    def backward(ctx, g):
        z, w = ctx.saved_tensors
        return g * w, g * z


@entry("divided by four rows", "shapes", X)
class FourRows(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.rows = x.shape[0]
        return x.mean(0)

    @staticmethod
    def backward(ctx, g):
        return (g / 4).expand(ctx.rows, -1)


@entry("arguments told apart by identity", "shapes", X, normal(4, 6, seed=9))
class Identity(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.same = x.data_ptr() == y.data_ptr()
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, None if ctx.same else g * x


@entry("a norm of the cotangent", "contract", X)
class NormOfTheCotangent(Function):
    """The gradient keeps its length by a division that knows no zero."""

    @staticmethod
    def forward(ctx, x):
        return x * 1.0

    @staticmethod
    def backward(ctx, g):
        return g / g.norm() * g.norm()


@entry("a cotangent read by its strides", "layouts", X)
class ReadByStrides(Function):
    """Takes the memory behind the cotangent for its elements in order."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        if g.storage_offset() + g.numel() <= g.untyped_storage().nbytes() // g.element_size():
            return 2 * g.as_strided(g.shape, torch.empty(g.shape).stride())
        return 2 * g
