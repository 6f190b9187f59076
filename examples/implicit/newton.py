"""An implicit layer by Newton's method: the real root of z^3 + a z = b, for a > 0."""

import torch

import gradport
from gradport.bridging import iterate


def solve(a, b):
    """Newton's method from 1."""

    def moves(z, change):
        return change.abs().max() > 1e-6

    def step(z, change):
        change = -(z**3 + a * z - b) / (3 * z * z + a)
        return z + change, change

    start = torch.ones_like(a)
    return iterate(moves, step, (start, start.clone()))[0]


root = gradport.implicit(solve, lambda z, a, b: z**3 + a * z - b)


if __name__ == "__main__":
    print(gradport.export(lambda a, b: root(a, b), (torch.rand(5) + 1, torch.randn(5)), wrt="inputs"))
