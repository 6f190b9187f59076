"""A backward that forgets its mask: `check` says what it is, where it departs, and what would accept it."""

import torch

import gradport


class Relu(torch.autograd.Function):
    """A ReLU whose author forgot that the gradient stops below 0."""

    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g


def main() -> None:
    """Print what was found."""
    evidence = gradport.check(Relu, torch.randn(4, 8))
    for finding in evidence.findings:
        print(f"{finding.outcome}: {finding.message}")
    assert not evidence.ok
    assert gradport.check(Relu, torch.randn(4, 8), expect="straight-through").ok


if __name__ == "__main__":
    main()
