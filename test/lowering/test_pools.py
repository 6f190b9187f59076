"""Max pooling over nan: values and places as torch has them, and the MaxPool alone where nothing is nan."""

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
    program, _, _ = pooled("2d")
    (choice,) = [node for node in program.model.graph if node.op_type == "If"]
    counts = {
        name: sum(node.op_type == "MaxPool" for node in choice.attributes[name].as_graph())
        for name in ("then_branch", "else_branch")
    }
    assert counts == {"then_branch": 2, "else_branch": 1}
