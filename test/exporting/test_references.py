"""A Function that no trace can follow is carried by its slow reference, which is held against it."""

import numpy as np
import pytest
import torch

import gradport

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def kernel():
    """A Function whose forward and backward run outside torch, as a compiled extension does."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale):
            ctx.save_for_backward(x)
            ctx.scale = scale
            return torch.from_numpy(np.power(x.detach().numpy(), 3) * np.asarray(scale, x.detach().numpy().dtype))

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return torch.from_numpy(3 * x.numpy() ** 2 * ctx.scale) * g, None

    return Cube


def test_without_a_reference_the_refusal_says_how_to_give_one():
    with pytest.raises(gradport.ExportError, match=r"@gradport.reference\(Cube\)"):
        gradport.export(kernel(), (X, 0.5), wrt="inputs")


@pytest.mark.parametrize("functions", ["keep", "inline", "opaque"])
def test_the_reference_is_exported_under_the_name_of_the_function(functions):
    cube = kernel()
    gradport.reference(cube)(lambda x, scale: x**3 * scale)
    program = gradport.export(cube, (X, 0.5), wrt="inputs", functions=functions, dynamic_shapes=({0: "batch"}, None))
    assert gradport.verify(program, cube, (X, 0.5)).ok
    assert list(program.provenance["references"].values()) == ["runs here"]
    if functions != "inline":
        assert {info.phase for info in program.functions} == {"forward", "backward"}
        assert all("Cube." in info.name for info in program.functions)


def test_a_wrong_reference_is_caught():
    cube = kernel()
    gradport.reference(cube.apply)(lambda x, scale: x**3 * scale * 1.01)
    with pytest.raises(gradport.ExportError, match="differs from eager"):
        gradport.export(cube, (X, 0.5), wrt="inputs")


def test_a_reference_with_a_wrong_gradient_is_caught():
    cube = kernel()
    gradport.reference(cube)(lambda x, scale: x.detach() ** 3 * scale + (x - x.detach()) * scale)
    with pytest.raises(gradport.ExportError, match="gradient 'grad_x' differs from eager"):
        gradport.export(cube, (X, 0.5), wrt="inputs")


def test_where_the_function_does_not_run_the_reference_stands_alone():
    class OnlyCuda(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            raise RuntimeError("this kernel needs CUDA")

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("this kernel needs CUDA")

    gradport.reference(OnlyCuda)(torch.tanh)
    program = gradport.export(OnlyCuda, X, wrt="inputs")
    assert list(program.provenance["references"].values()) == ["does not run here"]
    output, gradient = program.run(X, torch.ones_like(X))
    torch.testing.assert_close(output, X.tanh())
    torch.testing.assert_close(gradient, 1 - X.tanh() ** 2)


def test_a_reference_belongs_to_a_function():
    with pytest.raises(gradport.TargetError, match="belongs to an autograd"):
        gradport.reference(torch.tanh)
