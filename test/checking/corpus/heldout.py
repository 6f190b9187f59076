"""Ten right and ten wrong Functions that were written after the rules were done; no rule was changed for them."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd import Function

from .right import Entry as Right
from .right import X, normal
from .wrong import Entry as Wrong

RIGHT: dict[str, Right] = {}
WRONG: dict[str, Wrong] = {}


def made(name: str, forward: Any, backward: Any) -> type:
    """A Function that saves all its tensors."""

    def run(ctx: Any, *args: Any) -> Any:
        ctx.save_for_backward(*args)
        return forward(*args)

    body = {"forward": staticmethod(run), "backward": staticmethod(lambda ctx, *g: backward(*ctx.saved_tensors, *g))}
    return type(name.title().replace(" ", ""), (Function,), body)


def right(name, forward, backward, *args, expect=None):
    RIGHT[name] = Right(made(name, forward, backward), args, expect)


def wrong(name, rule, forward, backward, *args):
    WRONG[name] = Wrong(made(name, forward, backward), args, rule)


def tanh_gelu_slope(x):
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return 0.5 * (1 + inner.tanh()) + 0.5 * x * (1 - inner.tanh() ** 2) * slope


def gelu_slope(x):
    return 0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


right("exact gelu", F.gelu, lambda x, g: g * gelu_slope(x), X)
right("log sum exp", lambda x: x.logsumexp(-1), lambda x, g: g[:, None] * x.softmax(-1), X)
right("huber", lambda x: torch.where(x.abs() < 1, x * x / 2, x.abs() - 0.5), lambda x, g: g * x.clamp(-1, 1), X)
right("outer product", lambda a, b: a[:, None] * b, lambda a, b, g: (g @ b, g.T @ a), normal(4), normal(5, seed=1))
right(
    "ternary weights",
    lambda x: torch.sign(x) * (x.abs() > 0.5),
    lambda x, g: g * (x.abs() < 1.5),
    X,
    expect="straight-through",
)
right("reversal by two", lambda x: x.clone(), lambda x, g: -2 * g, X, expect="scaled by -2")
right(
    "mean squared error",
    lambda x, y: (x - y).square().mean(),
    lambda x, y, g: (2 * g * (x - y) / x.numel(), -2 * g * (x - y) / x.numel()),
    X,
    normal(4, 6, seed=1),
)
right(
    "concatenation",
    lambda a, b: torch.cat([a, b], 1),
    lambda a, b, g: (g[:, : a.shape[1]], g[:, a.shape[1] :]),
    X,
    normal(4, 2, seed=1),
)
right(
    "pooling",
    lambda x: F.avg_pool2d(x, 2),
    lambda x, g: g.repeat_interleave(2, -1).repeat_interleave(2, -2) / 4,
    normal(1, 2, 4, 4),
)
right(
    "inverse",
    lambda a: torch.linalg.inv(a),
    lambda a, g: -(torch.linalg.inv(a).T @ g @ torch.linalg.inv(a).T),
    normal(3, 3) + 3 * torch.eye(3),
)

wrong("gelu by tanh", "differences", F.gelu, lambda x, g: g * tanh_gelu_slope(x), X)
wrong(
    "logits without their maximum",
    "edge-values",
    lambda x: x.logsumexp(-1),
    lambda x, g: g[:, None] * x.exp() / x.exp().sum(-1, keepdim=True),
    X,
)
wrong(
    "arguments swapped",
    "differences",
    lambda a, b: a @ b,
    lambda a, b, g: (g @ a.T, b.T @ g),
    normal(4, 4),
    normal(4, 4, seed=1),
)
wrong(
    "sum instead of mean over the batch",
    "differences",
    lambda x, w: (x @ w).mean(0),
    lambda x, w, g: (g.expand(4, 5) @ w.T, x.T @ g.expand(4, 5)),
    X,
    normal(6, 5, seed=1),
)
wrong(
    "bias not reduced",
    "contract",
    lambda x, b: x + b,
    lambda x, b, g: (g, g.mean(0, keepdim=True)[:, :3]),
    X,
    normal(1, 6, seed=1),
)
wrong(
    "a pool that forgets its area",
    "differences",
    lambda x: F.avg_pool2d(x, 2),
    lambda x, g: g.repeat_interleave(2, -1).repeat_interleave(2, -2),
    normal(1, 2, 4, 4),
)
wrong(
    "transposed storage", "layouts", lambda x: x * 3, lambda x, g: 3 * torch.as_strided(g, g.shape, (g.shape[1], 1)), X
)
wrong(
    "a cotangent added into",
    "aliasing",
    lambda x: x + 1,
    lambda x, g: g.add_(0).mul_(1.0) if g.mul_(1.5) is None else g,
    X,
)
wrong(
    "a frozen second derivative",
    "second-order",
    torch.exp,
    lambda x, g: g * torch.tensor(x.exp().tolist(), dtype=x.dtype),
    X,
)
wrong("clamped at the wrong side", "differences", lambda x: x.clamp(-0.5, 0.5), lambda x, g: g * (x > -0.5), X)
