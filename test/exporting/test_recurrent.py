"""Recurrent layers: a fixed length, sequences packed by constant lengths, and a dynamic length refused by name."""

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


@pytest.mark.parametrize("name", OFTEN)
def test_a_dynamic_length_is_refused_with_its_line(name):
    class Called(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = LAYERS[name]()

        def forward(self, x):
            return self.layer(x)[0]

    with pytest.raises(gradport.ExportError, match=r"fixes the dynamic dimension 'time' at 5.*test_recurrent\.py"):
        gradport.export(Called(), torch.randn(2, 5, 3), wrt="parameters", dynamic_shapes={"x": {1: "time"}})


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
