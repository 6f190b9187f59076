"""Prediction is called without labels; every other argument stays."""

import pytest
import torch

import gradport


class WithLoss(torch.nn.Module):
    """Gives logits, and with labels a loss, as models of Hugging Face do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x, mask=None, labels=None, weight=None):
        x = x if mask is None else x * mask
        outputs = {"logits": self.layer(x)}
        if labels is not None:
            loss = torch.nn.functional.cross_entropy(outputs["logits"], labels, reduction="none")
            outputs["loss"] = (loss if weight is None else loss * weight).mean()
        return outputs


class Spans(torch.nn.Module):
    """Gives a loss if both labels are given."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x, starts=None, ends=None):
        first, last = self.layer(x).unbind(-1)
        outputs = {"first": first, "last": last}
        if starts is not None and ends is not None:
            both = [torch.nn.functional.cross_entropy(*one) for one in ((first, starts), (last, ends))]
            outputs["loss"] = sum(both)
        return outputs


class Total(torch.nn.Module):
    """A scalar is all that it gives, so that no argument is a label."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x, target=None):
        result = self.layer(x).square().sum()
        return {"sum": result} if target is None else {"sum": result, "error": (result - target.sum()) ** 2}


X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
CASES = {
    "labels": (WithLoss, {"labels": torch.tensor([0, 1, 2, 0, 1])}, "loss", ["x"]),
    "a mask stays": (
        WithLoss,
        {"mask": torch.ones(5, 4), "labels": torch.tensor([0, 1, 2, 0, 1])},
        "loss",
        ["x", "mask"],
    ),
    "two labels": (
        WithLoss,
        {"labels": torch.tensor([0, 1, 2, 0, 1]), "weight": torch.rand(5)},
        "loss",
        ["x", "weight"],
    ),
    "both ends": (Spans, {"starts": torch.tensor([1] * 5), "ends": torch.tensor([3] * 5)}, "loss", ["x"]),
    "another scalar": (Total, {"target": torch.ones(3)}, "error", ["x"]),
}


OFTEN = [name if name in ("labels", "a mask stays") else pytest.param(name, marks=pytest.mark.corpus) for name in CASES]


@pytest.mark.parametrize("name", OFTEN)
def test_prediction_takes_what_its_outputs_need(name):
    cls, kwargs, loss, expected = CASES[name]
    model = cls()
    x = X.unsqueeze(1).expand(5, 6, 4).contiguous() if cls is Spans else X
    training = gradport.export_training(
        model,
        x,
        kwargs,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        loss=lambda outputs: outputs[loss],
        verify=False,
    )
    models = training.manifest["models"]
    assert [port["name"] for port in models["predict"]["inputs"] if port["role"] == "argument"] == expected
    assert loss not in [port["name"] for port in models["predict"]["outputs"]]
    assert {port["name"] for port in models["evaluate"]["inputs"] if port["role"] == "argument"} == {"x", *kwargs}
