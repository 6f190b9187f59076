"""The softmax of attention: rows that are masked as a whole, looked for only if there may be one."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import gradport

SPECIAL = st.sampled_from([math.inf, -math.inf, math.nan])


def attend(q, k, v, bias):
    return F.scaled_dot_product_attention(q, k, v, bias)


@pytest.fixture(scope="module", params=[torch.float32, torch.float64, torch.float16])
def exported(request):
    args = (*torch.randn(3, 2, 3, 4), torch.zeros(3, 3))
    args = tuple(value.to(request.param) for value in args)
    program = gradport.export(attend, args, wrt="inputs", functions="inline", dynamic_shapes=({0: "b"},) * 3 + (None,))
    return program, request.param


@given(
    masked=st.sets(st.integers(0, 8)),
    specials=st.lists(st.tuples(st.integers(0, 8), SPECIAL), max_size=2),
    data=st.data(),
)
def test_masked_rows(exported, masked, specials, data):
    program, dtype = exported
    seeds = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    q, k, v, g = torch.randn(4, data.draw(st.integers(1, 2)), 3, 4, generator=seeds).to(dtype)
    bias = torch.zeros(3, 3, dtype=dtype)
    bias.view(-1)[list(masked)] = -math.inf
    for place, value in specials:
        bias.view(-1)[place] = value
    leaves = [value.clone().requires_grad_() for value in (q, k, v, bias)]
    result = attend(*leaves)
    expected = (result.detach(), *torch.autograd.grad(result, leaves, g))
    tolerance = {torch.float16: 1e-2}.get(dtype, 1e-5)
    torch.testing.assert_close(program.run(q, k, v, bias, g), expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def test_the_masks_stand_in_a_branch():
    args = (*torch.randn(3, 2, 3, 4), torch.zeros(3, 3))
    with_gradient = gradport.export(attend, args, wrt="inputs", functions="inline")
    assert not {"Equal", "Where"} & {node.op_type for node in with_gradient.model.graph}
    forward = gradport.export(attend, args, functions="inline")
    assert "If" not in {node.op_type for node in forward.model.graph}
