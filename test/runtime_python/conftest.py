import pytest
import torch

import gradport


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.out = torch.nn.Linear(4, 8), torch.nn.Linear(8, 3)
        self.norm, self.drop = torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.2)

    def forward(self, x):
        return self.out(self.drop(torch.tanh(self.norm(self.hidden(x)))))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """A classifier with a norm layer and dropout, at any batch."""
    model = Net()
    training = gradport.export_training(
        model,
        torch.randn(6, 4),
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2),
        loss=torch.nn.functional.cross_entropy,
        targets=torch.randint(0, 3, (6,)),
        metrics={"accuracy": lambda result, target: (result.argmax(-1) == target).float().mean()},
        dynamic_shapes={"x": {0: "batch"}, "target": {0: "batch"}},
    )
    path = tmp_path_factory.mktemp("runtime") / "bundle"
    training.save(path)
    return path
