"""An export pauses Python's cyclic collector, and leaves it as it was."""

import gc

import pytest
import torch

import gradport


class Watched(torch.nn.Module):
    """Notes whether the collector runs while it is traced."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(gc.isenabled())
        return x.exp()


class Refused(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


@pytest.fixture
def collector():
    was = gc.isenabled()
    yield
    (gc.enable if was else gc.disable)()


@pytest.mark.parametrize("runs", [True, False])
def test_the_collector_is_as_before(runs, collector):
    (gc.enable if runs else gc.disable)()
    model = Watched()
    gradport.export(model, torch.randn(3), wrt="inputs")
    assert gc.isenabled() == runs
    assert False in model.seen
    with pytest.raises(gradport.ExportError):
        gradport.export(Refused(), torch.randn(3), wrt="inputs")
    assert gc.isenabled() == runs
