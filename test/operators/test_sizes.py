"""What is made of dynamic sizes: pairs of indices, distances, and elimination over n rows."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport


def agrees(program, subject, x):
    leaf = x.clone().requires_grad_()
    output = subject(leaf)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(output, leaf, cotangent)
    found = program.run(x, cotangent)
    for got, want in zip(found, (output.detach(), gradient), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


PAIRS = {
    "upper": lambda x: x[tuple(torch.triu_indices(*x.shape, offset=1))].exp(),
    "lower": lambda x: x[tuple(torch.tril_indices(*x.shape))].exp(),
    "pdist": lambda x: torch.pdist(x),
    "combinations": lambda x: torch.combinations(x[:, 0]).prod(-1),
}


@settings(max_examples=4, deadline=None)
@given(st.sampled_from(sorted(PAIRS)), st.lists(st.integers(2, 9), min_size=3, max_size=3))
def test_pairs(name, sizes):
    program = gradport.export(PAIRS[name], torch.randn(5, 3), wrt="x", dynamic_shapes={"x": {0: "n"}})
    for size in sizes:
        agrees(program, PAIRS[name], torch.randn(size, 3))


SOLVED = {
    "solve": lambda x: torch.linalg.solve(x, x[:, :2] * 2 + 1),
    "inverse": torch.linalg.inv,
    "logdet": lambda x: torch.logdet(x @ x.mT).reshape(1),
    "cholesky": lambda x: torch.linalg.cholesky(x @ x.mT),
}


@settings(max_examples=4, deadline=None)
@given(st.sampled_from(sorted(SOLVED)), st.lists(st.integers(2, 7), min_size=3, max_size=3))
def test_elimination(name, sizes):
    def matrix(size):
        return torch.randn(size, size, generator=torch.Generator().manual_seed(size)) + 2 * size * torch.eye(size)

    def subject(x):
        return SOLVED[name](x)

    program = gradport.export(subject, matrix(4), wrt="x", dynamic_shapes={"x": {0: "n", 1: "n"}})
    for size in sizes:
        agrees(program, subject, matrix(size))


NUMBERS = {
    "sqrt": lambda n: math.sqrt(n),
    "log2": lambda n: math.log2(n),
    "floor": lambda n: math.floor(n / 2),
    "power": lambda n: n**0.5,
    "round": lambda n: round(n / 3),
    "modulo": lambda n: (torch.arange(5) % n).sum(),
    "tensor": lambda n: torch.tensor([n, 2 * n]).sum(),
    "linspace": lambda n: torch.linspace(-1, 1, n).square().sum(),
}


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(sorted(NUMBERS)), st.lists(st.integers(2, 40), min_size=4, max_size=4))
def test_numbers(name, sizes):
    def subject(x):
        return x * NUMBERS[name](x.shape[0])

    program = gradport.export(subject, torch.randn(5, 2), wrt="x", dynamic_shapes={"x": {0: "n"}})
    for size in sizes:
        agrees(program, subject, torch.randn(size, 2))


@settings(max_examples=6, deadline=None)
@given(st.sampled_from([(0, 1, 2), (2, 0, 1), (1, 2, 0)]), st.lists(st.integers(2, 7), min_size=3, max_size=3))
def test_strides(order, sizes):
    """A stride is the product of those sizes that lie inside it in memory."""

    def subject(x):
        y = x.permute(order)
        return x * x.stride(0) + sum(y.stride(axis) * (axis + 1) for axis in range(3))

    program = gradport.export(subject, torch.randn(2, 3, 4), wrt="x", dynamic_shapes={"x": {0: "a", 1: "b", 2: "c"}})
    agrees(program, subject, torch.randn(sizes))
