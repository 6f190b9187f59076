"""The CTC loss and its gradient."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from .proving import proved

pytestmark = pytest.mark.corpus


@settings(max_examples=6, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(["none", "mean", "sum"]),
    st.booleans(),
    st.integers(0, 3),
    st.data(),
)
def test_ctc(batch, longest, reduction, zero_infinity, blank, data):
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, longest), min_size=batch, max_size=batch)))
    steps = torch.tensor(data.draw(st.lists(st.integers(1, 8), min_size=batch, max_size=batch)))
    labels = [label for label in range(4) if label != blank]
    row = st.lists(st.sampled_from(labels), min_size=longest, max_size=longest)
    targets = torch.tensor(data.draw(st.lists(row, min_size=batch, max_size=batch)))

    def loss(x):
        found = F.ctc_loss(x.log_softmax(-1), targets, steps, lengths, blank, reduction, zero_infinity)
        return found.clamp(max=1e4) if not zero_infinity else found  # an endless loss has nan for a gradient

    if zero_infinity or bool((steps >= 2 * lengths).all()):
        proved(loss, torch.randn(8, batch, 4), inputs={"x": (-3.0, 3.0)})


def test_targets_in_a_row_are_those_of_a_table():
    x = torch.randn(6, 2, 4)
    steps, lengths = torch.tensor([6, 5]), torch.tensor([2, 3])
    proved(lambda x: F.ctc_loss(x.log_softmax(-1), torch.tensor([1, 2, 3, 1, 1]), steps, lengths), x)
    proved(lambda x: F.ctc_loss(x[:, 0].log_softmax(-1), torch.tensor([1, 2]), steps[0], lengths[0]), x)


def test_dynamic_lengths():
    def loss(x, targets, steps, lengths):
        return F.ctc_loss(x.log_softmax(-1), targets, steps, lengths, reduction="sum")

    args = (torch.randn(9, 2, 4), torch.tensor([[1, 2, 2], [3, 1, 1]]), torch.tensor([9, 7]), torch.tensor([3, 1]))
    shapes = ({0: "t", 1: "b"}, {0: "b", 1: "s"}, {0: "b"}, {0: "b"})
    import gradport

    program = gradport.export(loss, args, wrt="x", dynamic_shapes=shapes)
    other = (torch.randn(6, 1, 4), torch.tensor([[2, 3]]), torch.tensor([6]), torch.tensor([2]))
    x = other[0].clone().requires_grad_()
    expected = loss(x, *other[1:])
    expected.backward()
    found = program.run(*other, torch.ones(()))
    assert torch.allclose(found[0], expected, rtol=1e-5)
    assert torch.allclose(found[1], x.grad, rtol=1e-4, atol=1e-6)
