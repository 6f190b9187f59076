"""Code that reads a dynamic size."""

import math

import numpy
import torch
import torch.nn.functional as F
from torch import nn

import gradport

from .listing import Listing, normal

SIZES = Listing()
ROWS = {"x": {0: "n"}}
SQUARE = {"x": {0: "n", 1: "n"}}


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x.sigmoid() + x * x.sigmoid() * (1 - x.sigmoid()))


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)

    def forward(self, ids, labels):
        logits = self.head(self.embedding(ids))
        return F.cross_entropy(logits[:, :-1].reshape(-1, 11), labels[:, 1:].reshape(-1))


class ContiguousLanguageModel(LanguageModel):
    def forward(self, ids, labels):
        logits = self.head(self.embedding(ids))[:, :-1].contiguous()
        return F.cross_entropy(logits.view(-1, 11), labels[:, 1:].contiguous().view(-1))


class LearnedStep(torch.autograd.Function):
    """Learned step size quantization, Esser et al. 2020."""

    @staticmethod
    def forward(ctx, x, step, high):
        ctx.save_for_backward(x, step)
        ctx.high = high
        return torch.clamp(torch.round(x / step), -high - 1, high) * step

    @staticmethod
    def backward(ctx, g):
        x, step = ctx.saved_tensors
        high, value = ctx.high, x / step
        below, above = (value < -high - 1).to(x.dtype), (value > high).to(x.dtype)
        inside = 1 - below - above
        by_step = below * (-high - 1) + above * high + inside * (value.round() - value)
        return g * inside, (by_step * g / math.sqrt(x.numel() * high)).sum().reshape(step.shape), None


def linear(*sizes):
    torch.manual_seed(0)
    return nn.Linear(*sizes)


SIZES.of("an example of one row", linear(3, 2), normal(1, 3), dynamic_shapes={"input": {0: "b"}})
SIZES.of("a Function on one row", Swish, normal(1, 3), dynamic_shapes=ROWS)
SIZES.of("f32[b:1,3]", nn.Sequential(linear(3, 3), nn.LayerNorm(3)), gradport.tensor("f32[b:1,3]"), wrt="all")
SIZES.of(
    "a batch of one with a loss",
    linear(3, 4),
    normal(1, 3),
    wrt="all",
    loss=F.cross_entropy,
    targets=torch.tensor([1]),
    dynamic_shapes={"input": {0: "b"}, "target": {0: "b"}},
)

TOKENS = {"ids": {0: "b", 1: "s"}, "labels": {0: "b", 1: "s"}}
for length in (2, 5):
    ids = torch.arange(2 * length).reshape(2, length)
    about = {"wrt": "parameters", "loss": "output", "dynamic_shapes": TOKENS}
    SIZES.of(f"the loss of logits[:, :-1] against labels[:, 1:], {length} long", LanguageModel(), (ids, ids), **about)
SIZES.of("the same with contiguous().view(-1)", ContiguousLanguageModel(), (ids, ids), **about)


def written(name, write):
    def subject(x):
        y = x * 1.0
        write(y, x)
        return y.sin()

    SIZES.of(name, subject, normal(5, 4), dynamic_shapes=ROWS)


written("y[1:, 0] = x[1:, 1]", lambda y, x: y.__setitem__((slice(1, None), 0), x[1:, 1]))
written("y[::2, 0] = x[::2, 1]", lambda y, x: y.__setitem__((slice(None, None, 2), 0), x[::2, 1]))
written("y[2:, 0] = x[2:, 1]", lambda y, x: y.__setitem__((slice(2, None), 0), x[2:, 1]))
written("y[:-1] += x[1:]", lambda y, x: y[:-1].add_(x[1:]))

SIZES.of("len(x)", lambda x: x.sum() / len(x), normal(5, 3), dynamic_shapes=ROWS)
SIZES.of("x[1:] - x[:-1] of two rows", lambda x: (x[1:] - x[:-1]) ** 2, normal(2, 3), dynamic_shapes=ROWS)
SIZES.of(
    "x[:max(n - 1, 2)]", lambda x: x[: max(x.shape[0] - 1, 2)].exp(), normal(5, 3), r"sym_max", dynamic_shapes=ROWS
)
SIZES.of(
    "x[:torch.sym_max(n - 1, 2)]",
    lambda x: x[: torch.sym_max(x.shape[0] - 1, 2)].exp(),
    normal(5, 3),
    dynamic_shapes={"x": {0: torch.export.Dim("n", min=3)}},
)


@SIZES.add("range(len(x))", r"range\(len\(x\)\).*loop over it would be unrolled")
def _():
    def subject(x):
        total = 0
        for row in range(len(x)):
            total = total + x[row] * (row + 1)
        return total

    return subject, normal(5, 3), {"wrt": "inputs", "dynamic_shapes": ROWS}


@SIZES.add("for row in x", r"for row in x.*loop over it would be unrolled")
def _():
    def subject(x):
        total = 0
        for row in x:
            total = total + row.exp()
        return total

    return subject, normal(5, 3), {"wrt": "inputs", "dynamic_shapes": ROWS}


def above_diagonal(x):
    rows, columns = torch.triu_indices(x.shape[0], x.shape[1], offset=1)
    return x[rows, columns].exp()


def below_diagonal(x):
    rows, columns = torch.tril_indices(x.shape[0], x.shape[0])
    return x[rows, columns].exp()


SIZES.of("triu_indices", above_diagonal, normal(5, 5), dynamic_shapes=SQUARE)
SIZES.of("tril_indices", below_diagonal, normal(5, 5), dynamic_shapes=SQUARE)
SIZES.of("combinations", lambda x: torch.combinations(x, 2).prod(-1), normal(5), dynamic_shapes=ROWS)
SIZES.of("pdist", lambda x: F.pdist(x), normal(5, 3), dynamic_shapes=ROWS)
TWO = {"x": {0: "n"}, "y": {0: "m"}}
SIZES.of("cdist", lambda x, y: torch.cdist(x, y), (normal(4, 3), normal(5, 3, seed=1)), dynamic_shapes=TWO)
SIZES.of(
    "cdist above 25 rows", lambda x, y: torch.cdist(x, y), (normal(40, 3), normal(30, 3, seed=1)), dynamic_shapes=TWO
)
SIZES.of(
    "vmap over cat",
    lambda x, y: torch.vmap(lambda a, b: torch.cat([a, b.exp()]))(x, y),
    (normal(4, 3), normal(4, 2, seed=1)),
    dynamic_shapes={"x": {0: "n"}, "y": {0: "n"}},
)

root = normal(4, 4)
definite = root @ root.T + 4 * torch.eye(4)
for name, function in {
    "logdet": torch.logdet,
    "slogdet": lambda x: torch.linalg.slogdet(x)[1],
    "inv": torch.linalg.inv,
    "linalg.solve": lambda x: torch.linalg.solve(x, x[:, :1]),
    "cholesky": torch.linalg.cholesky,
}.items():
    SIZES.of(f"{name} of n rows", lambda x, function=function: function(x), definite, dynamic_shapes=SQUARE)

SIZES.of("math.sqrt(x.numel() * q)", LearnedStep, (normal(4, 3), torch.tensor(0.1), 7), dynamic_shapes={"x": {0: "n"}})
for name, function in {
    "math.sqrt": lambda n: math.sqrt(n),
    "math.log": lambda n: math.log(n),
    "math.log2": lambda n: math.log2(n),
    "math.exp": lambda n: math.exp(-n),
    "math.floor": lambda n: math.floor(n / 2),
    "math.ceil": lambda n: math.ceil(n / 2),
    "math.pow": lambda n: math.pow(n, 0.5),
    "n ** 0.5": lambda n: n**0.5,
    "round(n / 3)": lambda n: round(n / 3),
}.items():
    SIZES.of(name, lambda x, function=function: x * function(x.numel()), normal(4, 3), dynamic_shapes=ROWS)
SIZES.of("float(n)", lambda x: x * float(x.numel()), normal(4, 3), r"float\(", dynamic_shapes=ROWS)
SIZES.of("numpy.sqrt(n)", lambda x: x * numpy.sqrt(x.numel()), normal(4, 3), r"numpy", dynamic_shapes=ROWS)
SIZES.of("math.isqrt", lambda x: x * math.isqrt(x.numel()), normal(4, 3), r"isqrt", dynamic_shapes=ROWS)
SIZES.of("torch.tensor([n, 2])", lambda x: x * torch.tensor([x.shape[0], 2]).sum(), normal(4, 3), dynamic_shapes=ROWS)
SIZES.of(
    "torch.linspace(0, 1, n)", lambda x: torch.linspace(0, 1, x.shape[0]) * x[:, 0], normal(4, 3), dynamic_shapes=ROWS
)
SIZES.of("torch.arange(9) % n", lambda x: x[torch.arange(9) % x.shape[0]], normal(4, 3), dynamic_shapes=ROWS)
