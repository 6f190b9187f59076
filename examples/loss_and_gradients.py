"""The loss of a small model and every gradient of it as outputs of one ONNX file, at any batch size."""

import torch

import gradport


class Swish(torch.autograd.Function):
    """x * sigmoid(x), with a backward that keeps the input alone."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * s * (1 + x * (1 - s))


class Model(torch.nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(8, 16)
        self.second = torch.nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(Swish.apply(self.first(x)))


def loss(result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error."""
    return (result - target).square().mean()


def main() -> None:
    """Export, and take one step of gradient descent with ONNX Runtime's gradients."""
    model = Model()
    x, target = gradport.tensor("f32[batch,8]"), gradport.tensor("f32[batch,1]")
    program = gradport.export(model, x, wrt="parameters", loss=loss, targets=target)
    print(program)

    features, labels = torch.randn(32, 8), torch.randn(32, 1)
    before, *gradients = program.run(features, labels)
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter -= 0.1 * gradient
    after = loss(model(features), labels)
    print(f"loss {before.item():.4f} -> {after.item():.4f}")
    assert after < before


if __name__ == "__main__":
    main()
