"""An adaptive ODE solver with its adjoint: forward and backward are Loops in the file, each with its own step size.

The gradient is that of the continuous adjoint (L. S. Pontryagin; R. T. Q. Chen et al., "Neural Ordinary Differential
Equations", 2018): the state, its cotangent and the gradient of the parameters are integrated backward in time.
"""

import torch

import gradport
from gradport.bridging import iterate, vjp_of

TOLERANCE = 1e-5


def integrate(slope, state, start, end):
    """Heun's method with Euler's as the error estimate; the step follows the error.

    `slope(time, *state)` gives the derivative of each tensor of the state. `start` and `end` are numbers.
    """
    way = 1.0 if end > start else -1.0

    def goes_on(time, step, *state):
        return (end - time) * way > 1e-7

    def advance(time, step, *state):
        step = torch.minimum(step, (end - time) * way)
        first = slope(time, *state)
        moved = [one + way * step * change for one, change in zip(state, first, strict=True)]
        second = slope(time + way * step, *moved)
        gaps = [(a - b) * step / 2 for a, b in zip(first, second, strict=True)]
        error = sum(gap.square().mean() for gap in gaps).sqrt() / TOLERANCE
        good = (error <= 1).to(step.dtype)
        new = [one + good * way * step * (a + b) / 2 for one, a, b in zip(state, first, second, strict=True)]
        factor = torch.clamp(0.9 / torch.sqrt(error + 1e-12), 0.2, 5.0)
        return time + good * way * step, step * factor, *new

    clock = state[0].new_tensor(start), state[0].new_tensor(0.05)
    return iterate(goes_on, advance, (*clock, *state))[2:]


class Solution(torch.autograd.Function):
    """The state at time 1 of `dz/dt = tanh(z W + b)` from `z`."""

    @staticmethod
    def forward(ctx, z, weight, bias):
        (end,) = integrate(lambda time, z: (field(z, weight, bias),), (z,), 0.0, 1.0)
        ctx.save_for_backward(end, weight, bias)
        return end

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, cotangent):
        end, weight, bias = ctx.saved_tensors
        parts = vjp_of(field, (end, weight, bias))

        def slope(time, z, a, *gradients):
            value, saved = parts.forward(z, weight, bias)
            dz, dweight, dbias = parts.backward(saved, a)
            return value, -dz, -dweight, -dbias

        state = end, cotangent, torch.zeros_like(weight), torch.zeros_like(bias)
        return integrate(slope, state, 1.0, 0.0)[1:]


def field(z, weight, bias):
    """The right side of the equation."""
    return torch.tanh(z @ weight + bias)


class Flow(torch.nn.Module):
    """A layer that is the solution of the equation."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = torch.nn.Parameter(torch.randn(3, 3) * 0.5), torch.nn.Parameter(torch.randn(3) * 0.1)

    def forward(self, z):
        return Solution.apply(z, self.weight, self.bias)


if __name__ == "__main__":
    torch.manual_seed(0)
    program = gradport.export(Flow(), torch.randn(2, 3), wrt="all", dynamic_shapes={"z": {0: "batch"}})
    print(program, [node.op_type for node in program.model.graph.all_nodes() if node.op_type == "Loop"])
