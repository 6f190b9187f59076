"""Products, decompositions and solutions, their gradients, over ranks, batches and broadcasts."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport

from .proving import proved

pytestmark = pytest.mark.corpus


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([(), (3,), (2, 3), (4, 2, 3), (2, 1, 2, 3)]), st.sampled_from([(), (3,), (3, 5), (4, 3, 5)]))
def test_matmul(left, right):
    one, other = torch.randn(left), torch.randn(right)
    if left == () or right == ():
        proved(torch.mul, (one, other))
    else:
        proved(torch.matmul, (one, other))


@settings(max_examples=7, deadline=None)
@given(st.sampled_from(["ij,jk->ik", "bij,bjk->bik", "ii->i", "ij->", "bhqd,bhkd->bhqk", "i,j->ij", "bij,kj->bik"]))
def test_einsum(equation):
    sizes = dict(zip("bhijkqd", (2, 2, 3, 3, 4, 5, 3), strict=True))
    shapes = [tuple(sizes[letter] for letter in term) for term in equation.split("->")[0].split(",")]
    proved(lambda *tensors: torch.einsum(equation, *tensors), tuple(torch.randn(shape) for shape in shapes))


def test_singular_values_of_a_small_matrix():
    proved(lambda x: torch.linalg.svdvals(x), torch.randn(3, 2), inputs={"x": (-3.0, 3.0)})


def positive(size, batch=()):
    root = torch.randn(*batch, size, size)
    return root @ root.mT + size * torch.eye(size)


@settings(max_examples=2, deadline=None)
@given(st.integers(1, 4), st.sampled_from([(), (2,)]))
def test_solutions(size, batch):
    matrix, right = positive(size, batch), torch.randn(*batch, size, 2)
    proved(torch.linalg.solve, (matrix, right))
    proved(torch.linalg.inv, matrix)
    proved(torch.linalg.det, matrix)
    proved(lambda x: torch.linalg.cholesky(x @ x.mT + torch.eye(size)), matrix)


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("left", [False, True])
def test_triangular_solutions(upper, left):
    matrix = positive(3, (2,))
    right = torch.randn(2, 3, 4) if left else torch.randn(2, 4, 3)
    proved(lambda a, b: torch.linalg.solve_triangular(a, b, upper=upper, left=left), (matrix, right))


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(st.sampled_from([(2, 3), (4, 3), (2, 3, 3)]))
def test_orthogonal(shape):
    x = torch.randn(shape)
    inside = {"x": (-3.0, 3.0)}  # singular values that are equal, and infinite ones, have no gradient to agree on
    proved(lambda x: torch.linalg.svdvals(x), x, inputs=inside)
    if shape[-2] >= shape[-1]:
        proved(lambda x: torch.linalg.qr(x)[1].abs(), x, inputs=inside)
    proved(lambda x: torch.linalg.eigvalsh(x @ x.mT), x, inputs=inside)


MASKS = {
    "none": lambda shape: None,
    "float": lambda shape: torch.randn(4, 4),
    "bool": lambda shape: torch.ones(4, 4, dtype=torch.bool).tril(),
    "of keys": lambda shape: torch.tensor([[True, True, False, True]]),
    "of a row": lambda shape: torch.tensor([[True], [False], [True], [True]]).expand(4, 4),
    "of a batch": lambda shape: torch.randn(*shape[:-1], 4),
    "broadcast over heads": lambda shape: torch.randn(shape[0], *[1] * (len(shape) - 3), 4, 4),
}


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(sorted(MASKS)), st.sampled_from([(2, 3, 4, 5), (3, 4, 5), (2, 2, 1, 4, 3)]))
def test_attention(mask, shape):
    query, key, value = (torch.randn(shape) for _ in range(3))
    bias = MASKS[mask](shape)
    proved(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, bias), (query, key, value))
    proved(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3), (query, key, value))


def test_attention_of_other_lengths_and_groups():
    query, key, value = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 6, 5), torch.randn(2, 4, 6, 7)
    proved(F.scaled_dot_product_attention, (query, key, value))
    proved(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), (query, key, value))
    proved(lambda q, k, v: F.scaled_dot_product_attention(q, k[:, :1], v[:, :1]), (query, key, value))
    proved(lambda q, k, v: F.scaled_dot_product_attention(q, k[:, :2], v[:, :2], enable_gqa=True), (query, key, value))
    proved(F.scaled_dot_product_attention, (query[0, 0], key[0, 0], value[0, 0]))


def test_a_learned_bias_of_attention_has_a_gradient():
    query, key, value = (torch.randn(2, 3, 4, 5) for _ in range(3))
    for shape in ((4, 4), (3, 4, 4), (2, 1, 4, 4)):
        proved(F.scaled_dot_product_attention, (query, key, value, torch.randn(shape)))


def test_attention_at_any_batch_and_length():
    """All axes of the batch are one, whatever their sizes are."""
    query, key, value = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 6, 5), torch.randn(2, 3, 6, 5)
    shapes = {"q": {0: "batch", 2: "rows"}, "k": {0: "batch", 2: "keys"}, "v": {0: "batch", 2: "keys"}}
    program = gradport.export(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
        (query, key, value),
        wrt="inputs",
        dynamic_shapes=shapes,
    )
    for sizes in ((1, 1, 1), (5, 7, 2)):
        tensors = [torch.randn(sizes[0], 3, length, 5, requires_grad=True) for length in (sizes[1], *[sizes[2]] * 2)]
        output = F.scaled_dot_product_attention(*tensors)
        output.sum().backward()
        found = program.run(*(tensor.detach() for tensor in tensors), torch.ones_like(output))
        for got, wanted in zip(found, (output.detach(), *(tensor.grad for tensor in tensors)), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@settings(max_examples=6, deadline=None)
@given(st.sampled_from([1.0, 2.0, 0.5, float("inf"), 3.0]), st.sampled_from([(2, 3), (2, 4, 3)]))
def test_distances(p, shape):
    one, other = torch.randn(shape), torch.randn(*shape[:-2], 5, shape[-1])
    # with p = inf, eager's gradient of an infinite distance is nan in the whole row
    ranges = {"a": (-3.0, 3.0), "b": (-3.0, 3.0)} if p == float("inf") else None
    proved(lambda a, b: torch.cdist(a, b, p=p), (one, other), inputs=ranges)
    proved(lambda x: F.pairwise_distance(x, x.flip(0) + 1.0, p=p if p != float("inf") else 2.0), one)
