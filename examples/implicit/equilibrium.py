"""A deep equilibrium layer: its output is the fixed point of a step, and its gradient is that of the fixed point.

Source: S. Bai, J. Z. Kolter, V. Koltun, "Deep Equilibrium Models", 2019.
"""

import torch

import gradport
from gradport.bridging import iterate


class Equilibrium(torch.nn.Module):
    """The fixed point z = tanh(A z + B x)."""

    def __init__(self, features, size):
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(size, size), torch.nn.Linear(features, size)
        with torch.no_grad():
            self.inner.weight.mul_(0.4)  # a contraction has one fixed point
        self.solution = gradport.implicit(self.solve, self.residual)

    def step(self, z, x):
        return torch.tanh(self.inner(z) + self.outer(x))

    def solve(self, x):
        def moves(z, before):
            return (z - before).abs().max() > 1e-7

        start = x.new_zeros(x.shape[0], self.inner.in_features)
        return iterate(moves, lambda z, before: (self.step(z, x), z), (self.step(start, x), start))[0]

    def residual(self, z, x):
        return self.step(z, x) - z

    def forward(self, x):
        return self.solution(x)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(gradport.export(Equilibrium(4, 6), torch.randn(3, 4), wrt="all", dynamic_shapes={"x": {0: "batch"}}))
