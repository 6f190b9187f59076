"""Recurrent layers: a fixed and a dynamic length, sequences packed by constant lengths, and refusals by name."""

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gradport

pytestmark = pytest.mark.corpus

LAYERS = {
    "LSTM": lambda: torch.nn.LSTM(3, 4, num_layers=2, batch_first=True),
    "LSTM, both ways, no bias": lambda: torch.nn.LSTM(3, 4, bidirectional=True, bias=False, batch_first=True),
    "LSTM, both ways, projected": lambda: torch.nn.LSTM(3, 4, bidirectional=True, proj_size=2, batch_first=True),
    "GRU": lambda: torch.nn.GRU(3, 4, bidirectional=True, batch_first=True),
    "RNN": lambda: torch.nn.RNN(3, 4, nonlinearity="relu", batch_first=True),
}


OFTEN = [name if name in ("LSTM", "GRU") else pytest.param(name, marks=pytest.mark.slow) for name in LAYERS]
"""LAYERS, of which the usual ones are tried in each run."""


class Packed(torch.nn.Module):
    """A layer over sequences of these lengths."""

    def __init__(self, layer, lengths, **options):
        super().__init__()
        self.layer, self.lengths, self.options = layer, lengths, options

    def forward(self, x):
        packed = pack_padded_sequence(x, self.lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.layer(packed)[0], batch_first=True, **self.options)[0]


def test_a_layer_of_torch_is_plain_operators():
    """Its backward here is a Function of ours, of which the file says nothing."""
    assert gradport.export(LAYERS["LSTM"](), torch.randn(2, 5, 3), wrt="all").functions == ()


@pytest.mark.parametrize("name", OFTEN)
def test_fixed_length_dynamic_batch(name):
    torch.manual_seed(0)
    subject = gradport.Subject(
        LAYERS[name](), torch.randn(2, 5, 3), wrt="parameters", dynamic_shapes={"input": {0: "batch"}}
    )
    program = gradport.export(subject)
    assert gradport.verify(program, subject, sizes={"batch": (1, 4)}, budget=0.2).ok


@pytest.mark.parametrize("name", OFTEN)
@pytest.mark.parametrize("options", [{}, {"padding_value": -1.0, "total_length": 7}], ids=["plain", "padded"])
def test_packed(name, options):
    torch.manual_seed(0)
    subject = gradport.Subject(Packed(LAYERS[name](), [2, 5, 3], **options), torch.randn(3, 6, 3), wrt="all")
    assert gradport.verify(gradport.export(subject, functions="inline"), subject, budget=0.2).ok


def test_lengths_that_are_data_are_refused():
    class ByData(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = LAYERS["GRU"]()

        def forward(self, x, lengths):
            packed = pack_padded_sequence(x, lengths, batch_first=True)
            return pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0]

    with pytest.raises(gradport.ExportError, match=r"decides on a tensor's value.*test_recurrent\.py"):
        gradport.export(ByData(), (torch.randn(2, 5, 3), torch.tensor([5, 3])), wrt="x")


class Called(torch.nn.Module):
    """A layer's output and its last state."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("wrt", [None, "all"])
@pytest.mark.parametrize("name", [name for name in LAYERS if "projected" not in name])
def test_dynamic_length_and_batch(name, wrt):
    torch.manual_seed(0)
    shapes = {"x": {0: "batch", 1: "time"}}
    subject = gradport.Subject(Called(LAYERS[name]()), torch.randn(2, 5, 3), wrt=wrt, dynamic_shapes=shapes)
    program = gradport.export(subject)
    assert "Scan" in {node.op_type for node in program.model.graph}
    sizes = {"batch": (1, 4), "time": (1, 2, 9)}
    assert gradport.verify(program, subject, sizes=sizes, budget=0.2).ok


def test_a_projection_fixes_the_length():
    layer = Called(LAYERS["LSTM, both ways, projected"]())
    with pytest.raises(gradport.ExportError, match=r"fixes the dynamic dimension 'time' at 5.*test_recurrent\.py"):
        gradport.export(layer, torch.randn(2, 5, 3), wrt="parameters", dynamic_shapes={"x": {1: "time"}})


@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(
    kind=st.sampled_from([torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN]),
    layers=st.integers(1, 2),
    both_ways=st.booleans(),
    bias=st.booleans(),
    batch_first=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    sizes=st.tuples(*[st.integers(1, 4)] * 4),
    state=st.booleans(),
)
def test_any_layer(kind, layers, both_ways, bias, batch_first, dtype, sizes, state):
    """The proof of `export` compares outputs and gradients with eager on inputs and weights of its own."""
    length, batch, features, hidden = sizes
    torch.manual_seed(0)
    layer = kind(features, hidden, layers, bias=bias, batch_first=batch_first, bidirectional=both_ways, dtype=dtype)
    x = torch.randn(*((batch, length) if batch_first else (length, batch)), features, dtype=dtype)
    first = torch.randn(layers * (1 + both_ways), batch, hidden, dtype=dtype)
    first = (first, first * 2) if kind is torch.nn.LSTM else first
    gradport.export(layer, (x, first) if state else (x,), wrt="all", functions="inline")


def test_a_long_sequence_is_a_short_graph():
    """One Scan a direction forward and one backward, whatever the length."""
    short, long = (
        gradport.export(LAYERS["GRU"](), torch.randn(2, length, 3), wrt="all", verify=False) for length in (300, 900)
    )
    nodes = [sum(1 for _ in program.model.graph.all_nodes()) for program in (short, long)]
    assert nodes[0] == nodes[1]
    assert sum(node.op_type == "Scan" for node in long.model.graph) == 4


@pytest.mark.parametrize("name", OFTEN)
def test_differentiated_twice(name):
    class Penalty(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = LAYERS[name]()

        def forward(self, x):
            x.requires_grad_()
            (slope,) = torch.autograd.grad(self.layer(x)[0].sum(), x, create_graph=True)
            return slope.square().sum()

    subject = gradport.Subject(Penalty(), torch.randn(2, 3, 3), wrt="all", loss="output")
    assert gradport.verify(gradport.export(subject), subject).ok
