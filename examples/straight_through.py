"""A quantiser with a straight-through backward, in ONNX with its gradient.

The forward rounds, so its derivative is zero everywhere; the author's backward passes the gradient on. That backward is
what stands in the file.
"""

import torch

import gradport


class Quantize(torch.autograd.Function):
    """Rounds to a multiple of `step`; the gradient passes straight through inside [-1, 1]."""

    @staticmethod
    def forward(ctx, x, step):
        ctx.save_for_backward(x)
        return torch.round(x / step) * step

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x.abs() <= 1), None


def main() -> None:
    """Check, export, run and verify."""
    x = torch.randn(4, 8)
    for finding in gradport.check(Quantize, (x, 0.25)).findings:
        print(finding.outcome, finding.message)

    program = gradport.export(Quantize, (x, 0.25), wrt="inputs", dynamic_shapes=({0: "batch"}, None))
    print(program, [function.name for function in program.functions])

    fresh = torch.randn(100, 8)
    output, gradient = program.run(fresh, torch.ones(100, 8))
    assert torch.equal(output, torch.round(fresh / 0.25) * 0.25)
    assert torch.equal(gradient, (fresh.abs() <= 1).float())

    assert gradport.verify(program, Quantize, (x, 0.25), sizes={"batch": (1, 2, 7, 64)}).ok


if __name__ == "__main__":
    main()
