"""A custom autograd Function, kept apart so that a Function of the same name can stand in another module.

What is tested with it: two Functions with one name from two modules stay two different things in the exported graph.
"""

import torch


class CustomFunction(torch.autograd.Function):
    """Clamps at a minimum of 0; the gradient is zero where the input is below 0."""

    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input.clamp(min=0)

    @staticmethod
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        grad_input = grad_output.clone()
        grad_input[input < 0] = 0
        return grad_input


if __name__ == "__main__":
    x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    y = CustomFunction.apply(x)
    y.sum().backward()
    print(y.tolist(), x.grad.tolist())
