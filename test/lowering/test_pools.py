"""Max pooling over nan: values and places as torch has them, and the MaxPool alone where nothing is nan; gradients by
masks where windows are disjoint."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import gradport

POOLS = {
    "1d": (F.max_pool1d, (2, 3, 8)),
    "2d": (F.max_pool2d, (2, 3, 6, 6)),
    "3d": (F.max_pool3d, (1, 2, 4, 4, 4)),
}


def pooled(rank):
    pool, shape = POOLS[rank]
    subject = gradport.Subject(lambda x: pool(x, 2), torch.randn(shape), wrt="inputs", name=f"max_pool{rank}")
    return gradport.export(subject), pool, shape


@pytest.fixture(scope="module", params=POOLS)
def exported(request):
    return pooled(request.param)


@given(data=st.data())
def test_the_last_nan_is_the_maximum_of_its_windows_and_takes_their_gradient(exported, data):
    program, pool, shape = exported
    x = torch.randn(shape, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    for place in data.draw(st.lists(st.integers(0, x.numel() - 1), max_size=x.numel() // 4)):
        x.view(-1)[place] = float("nan")
    leaf = x.clone().requires_grad_()
    expected = pool(leaf, 2)
    cotangent = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    expected.backward(cotangent)
    output, gradient = program.run(x, cotangent)
    torch.testing.assert_close(output, expected.detach(), equal_nan=True)
    torch.testing.assert_close(gradient, leaf.grad, equal_nan=True)


def test_the_forward_alone_keeps_its_max_pool():
    program = gradport.export(lambda x: F.max_pool2d(x, 2), torch.randn(1, 2, 4, 4))
    assert [node.op_type for node in program.model.graph] == ["MaxPool"]


def test_the_branches_hold_the_same_pool():
    program = gradport.export(lambda x: F.max_pool2d(x, 3, 2), torch.randn(1, 2, 7, 7), wrt="inputs")
    (choice,) = [node for node in program.model.graph if node.op_type == "If"]
    counts = {
        name: sum(node.op_type == "MaxPool" for node in choice.attributes[name].as_graph())
        for name in ("then_branch", "else_branch")
    }
    assert counts == {"then_branch": 2, "else_branch": 1}


KERNELS = [(2, 2), (1, 3), (3, 2), (3, 3), (2, 2, 2), (1, 3, 2)]

SIZES = {2: (6, 6), 3: (2, 6, 4)}


@pytest.fixture(scope="module", params=itertools.product(KERNELS, (torch.float32, torch.float64)))
def disjoint(request):
    kernel, dtype = request.param
    pool = {2: F.max_pool2d, 3: F.max_pool3d}[len(kernel)]
    x = torch.randn(2, 3, *SIZES[len(kernel)], dtype=dtype)
    subject = gradport.Subject(lambda x: pool(x, kernel), x, wrt="inputs", dynamic_shapes={"x": {0: "batch"}})
    program = gradport.export(subject, functions="inline")
    (choice,) = [node for node in program.model.graph if node.op_type == "If" and len(node.outputs[0].shape) == 3]
    assert not [node for node in choice.attributes["else_branch"].as_graph() if node.op_type == "ScatterElements"]
    return program, pool, kernel, dtype


@given(data=st.data())
def test_masks_give_the_gradient_of_torch(disjoint, data):
    """Few distinct values, so that windows have equal maxima; special values in the images and in the cotangents."""
    program, pool, kernel, dtype = disjoint
    seeds = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    shape = (data.draw(st.integers(1, 3)), 3, *SIZES[len(kernel)])
    x = torch.randint(-1, 2, shape, generator=seeds).to(dtype)
    leaf = x.requires_grad_()
    special = st.lists(
        st.tuples(st.integers(0, 26), st.sampled_from([float("inf"), float("-inf"), float("nan"), -0.0])), max_size=3
    )
    with torch.no_grad():
        for place, value in data.draw(special):
            x.view(-1)[place] = value
    expected = pool(leaf, kernel)
    cotangent = torch.randn(expected.shape, generator=seeds, dtype=dtype)
    for place, value in data.draw(special):
        cotangent.view(-1)[place % cotangent.numel()] = value
    expected.backward(cotangent)
    output, gradient = program.run(x.detach(), cotangent)
    torch.testing.assert_close(output, expected.detach(), equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(gradient, leaf.grad, equal_nan=True, rtol=0, atol=0)


def test_no_index_is_computed_where_windows_are_disjoint():
    """The MaxPool with indices stands in the branches for nan only; with finite_math nowhere."""
    x = torch.randn(2, 3, 6, 6)
    for finite_math in (False, True):
        program = gradport.export(
            lambda x: F.max_pool2d(x, 2), x, wrt="inputs", functions="inline", finite_math=finite_math
        )
        plain = list(program.model.graph)
        for node in program.model.graph:
            if node.op_type == "If":
                plain += node.attributes["else_branch"].as_graph()
        assert {len(node.outputs) for node in plain if node.op_type == "MaxPool"} == {1}
        assert not any(node.op_type == "ScatterElements" for node in plain)
        assert any(node.op_type == "If" for node in plain) is not finite_math


@pytest.mark.parametrize("options", [{"stride": 1}, {"padding": 1}, {"kernel_size": 4}], ids=str)
def test_other_windows_keep_their_indices(options):
    program = gradport.export(
        lambda x: F.max_pool2d(x, **{"kernel_size": 2, **options}), torch.randn(2, 3, 6, 6), wrt="inputs"
    )
    assert any(node.op_type == "ScatterElements" for node in program.model.graph.all_nodes())
