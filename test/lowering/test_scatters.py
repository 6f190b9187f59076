"""Gradients of gathers are scattered into the tensor that they are added to, with the same numbers."""

import collections

import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport

LOSSES = {
    "mean": lambda y, t: torch.nn.functional.cross_entropy(y, t),
    "sum": lambda y, t: torch.nn.functional.cross_entropy(y, t, reduction="sum"),
    "ignored": lambda y, t: torch.nn.functional.cross_entropy(y, t, ignore_index=2),
    "smoothed": lambda y, t: torch.nn.functional.cross_entropy(y, t, label_smoothing=0.1),
    "weighted": lambda y, t: torch.nn.functional.cross_entropy(y, t, weight=torch.arange(1.0, 1.0 + y.shape[-1])),
}


class Tied(torch.nn.Module):
    """An embedding whose transposed weight gives the logits."""

    def __init__(self, classes, width, padding=None):
        super().__init__()
        torch.manual_seed(0)
        self.tokens = torch.nn.Embedding(classes, width, padding_idx=padding)

    def forward(self, x):
        return (self.tokens(x) @ self.tokens.weight.T).flatten(0, -2)


def scatters(program):
    graphs = [*program.model.graphs(), *program.model.functions.values()]
    return [node for graph in graphs for node in graph if node.op_type.startswith("Scatter")]


def kinds(program):
    return collections.Counter(
        (node.op_type, node.attributes.get_string("reduction", "none")) for node in scatters(program)
    )


def into_zeros(program):
    """Scatters whose data is a tensor of zeros that is made for them."""
    made = {"Expand", "ConstantOfShape"}
    return [node for node in scatters(program) if (zeros := node.inputs[0].producer()) and zeros.op_type in made]


@pytest.mark.corpus  # each example is an export
@settings(max_examples=20, deadline=None)
@given(
    classes=st.integers(3, 9),
    width=st.integers(1, 4),
    batch=st.integers(1, 4),
    loss=st.sampled_from(sorted(LOSSES)),
    padding=st.sampled_from([None, 0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_gradients_of_a_tied_embedding_stay(classes, width, batch, loss, padding, dtype):
    model = Tied(classes, width, padding).to(dtype)
    x = torch.arange(batch * 3).reshape(batch, 3) % classes
    target = torch.randint(0, classes, (batch * 3,), generator=torch.Generator().manual_seed(1))
    # export holds the file against torch
    loss_of = LOSSES[loss] if dtype == torch.float32 or loss != "weighted" else LOSSES["mean"]
    gradport.export(model, x, loss=loss_of, targets=target, wrt="parameters")


def test_cross_entropy_and_a_tied_embedding_fill_no_zeros():
    x, target = torch.tensor([[1, 2, 2], [0, 1, 2]]), torch.tensor([0, 1, 2, 3, 4, 0])
    program = gradport.export(Tied(5, 4), x, loss=LOSSES["mean"], targets=target, wrt="parameters")
    assert kinds(program) == {("ScatterElements", "add"): 2}
    assert into_zeros(program) == []


class Picked(torch.autograd.Function):
    """A gather whose gradient stands in a Function of its own, while the sum is outside of it."""

    @staticmethod
    def forward(ctx, x, index):
        ctx.save_for_backward(index)
        ctx.shape = x.shape
        return x.gather(1, index)

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        return torch.zeros(ctx.shape, dtype=g.dtype).scatter(1, index, g), None


def test_a_scatter_stays_in_its_function():
    def two(x, index):
        return Picked.apply(x, index), x * 2

    x, index = torch.randn(3, 4), torch.tensor([[0], [3], [1]])
    program = gradport.export(two, (x, index), wrt="x")
    assert kinds(program) == {("ScatterElements", "none"): 1}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("z = ConstantOfShape(s) w = ScatterElements<axis = 1>(z, i2, u2) y = Sub(w, x)", "two indices along the axis"),
        ("w = ScatterElements<axis = 1>(x, i, u) y = Sub(w, x)", "it scatters into no zeros"),
        (
            "z = ConstantOfShape(s) w = ScatterElements<axis = 1>(z, i, u) v = Sub(w, x) y = Add(v, w)",
            "a second reader",
        ),
    ],
)
def test_other_scatters_stay(text, why):
    from gradport.lowering.passes.scatters import AddByScatter

    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 18]> g (float[3,4] x, int64[3,1] i, float[3,1] u, int64[3,2] i2, '
        f"float[3,2] u2, int64[2] s) => (float[3,4] y) <float[3,4] z, float[3,4] w, float[3,4] v> {{ {text} }}"
    )
    assert not AddByScatter()(model).modified, why
