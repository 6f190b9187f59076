"""A Scan reads and writes backward in place of reversed tensors; values and gradients stay."""

import hypothesis
import hypothesis.strategies as st
import onnx_ir as ir
import pytest
import torch
from torch._higher_order_ops.scan import scan

import gradport
from gradport.lowering import passes


def recurrence(reverse, before, after):
    """A scan in either direction, with further reversals before and after."""

    def run(start, x):
        def step(state, row):
            return (state * 0.5 + row).tanh(), (state * row).sin()

        last, rows = scan(step, start, x.flip(0) if before else x, reverse=reverse)
        return last, rows.flip(0) * 2 if after else rows.exp()

    return run


def reversals(program):
    """The number of Slices with step -1."""
    nodes = [node for node in program.model.graph.all_nodes() if node.op_type == "Slice" and len(node.inputs) == 5]
    steps = [ir.convenience.get_const_tensor(node.inputs[4]) for node in nodes]
    return sum(step is not None and int(step.numpy().reshape(-1)[0]) == -1 for step in steps)


@hypothesis.settings(max_examples=8, deadline=None)
@hypothesis.given(
    st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0.0, 1.0, float("inf"), float("nan")]), st.booleans()
)
def test_same_values_and_gradients(reverse, before, after, edge, dynamic):
    torch.manual_seed(0)
    start, x = torch.randn(3), torch.randn(4, 3)
    x[1, 2] = edge
    function = recurrence(reverse, before, after)
    subject = gradport.Subject(function, (start, x), wrt="inputs", dynamic_shapes={"x": {0: "n"}} if dynamic else None)
    found = gradport.export(subject)
    cotangents = [torch.randn(3), torch.randn(4, 3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "ReverseScans", passes.RemoveRoundTrips)
        expected = gradport.export(subject)
    for one, other in zip(found.run(start, x, *cotangents), expected.run(start, x, *cotangents), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_no_reversal_is_left():
    """torch reverses the rows before and after the scan, forward and backward."""
    case = recurrence(True, False, True), (torch.randn(3), torch.randn(4, 3))
    assert reversals(gradport.export(*case, wrt="inputs")) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "ReverseScans", passes.RemoveRoundTrips)
        assert reversals(gradport.export(*case, wrt="inputs")) > 4


def test_rows_that_are_read_both_ways_stay():
    def both(start, x):
        _, rows = scan(lambda state, row: (state + row, state * row), start, x)
        return rows, rows.flip(0)

    x = torch.randn(4, 3)
    forward, backward = gradport.export(both, (torch.zeros(3), x)).run(torch.zeros(3), x)
    assert torch.equal(forward.flip(0), backward)
