"""What the files of this folder were exported from, by gradport 0.1.0, which wrote format 1."""

import torch


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, k):
        ctx.save_for_backward(x)
        ctx.k = k
        return x * x * k

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * ctx.k * x * g, None


class Net(torch.nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2, dtype=dtype)
        self.norm = torch.nn.BatchNorm1d(2, dtype=dtype)

    def forward(self, x):
        return self.norm(self.linear(x))


def squared(result, target):
    return (result - target).square().mean()


X = torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0], [0.0, 1.0, -2.0], [2.0, 1.0, 0.5]])
Y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [1.0, 1.0]])


def net(dtype=torch.float32):
    torch.manual_seed(0)
    return Net(dtype)


def step(gradport, dtype=torch.float32, optimizer=torch.optim.Adam, **options):
    made = net(dtype)
    return gradport.export_step(
        made,
        X.to(dtype),
        optimizer=optimizer(made.parameters(), lr=0.1),
        loss=squared,
        targets=Y.to(dtype),
        opset_version=20,
        **options,
    )


def function(gradport, form):
    return gradport.export(Twice, (X, 3.0), wrt="inputs", functions=form, opset_version=20)


KINDS = {
    "keep": (lambda gradport: function(gradport, "keep"), {}),
    "inline": (lambda gradport: function(gradport, "inline"), {}),
    "opaque": (lambda gradport: function(gradport, "opaque"), {}),
    "random": (
        lambda gradport: gradport.export(
            torch.nn.Dropout(), (X,), wrt="inputs", dynamic_shapes={"input": {0: "batch"}}, opset_version=20
        ),
        {},
    ),
    "loss": (
        lambda gradport: gradport.export(net(), (X,), wrt="parameters", loss=squared, targets=Y, opset_version=20),
        {},
    ),
    "step": (step, {}),
    "step_accumulate": (lambda gradport: step(gradport, accumulate=2, optimizer=torch.optim.SGD), {}),
    "step_sgd": (lambda gradport: step(gradport, optimizer=torch.optim.SGD), {}),
    "step_external": (step, {"external_data": True}),
}
