"""Random numbers are never dropped or frozen: inputs by default, ONNX's generators or their means where asked for."""

import pytest
import torch
import torch.nn.functional as F

import gradport

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))

DRAWS = {
    "dropout": lambda x: F.dropout(x, 0.3),
    "dropout1d": lambda x: F.dropout1d(x.unsqueeze(0), 0.3),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.3, True),
    "bernoulli": lambda x: torch.bernoulli(x.sigmoid()) * x,
    "bernoulli_": lambda x: torch.empty_like(x).bernoulli_(0.4) * x,
    "rand_like": lambda x: torch.rand_like(x) * x,
    "rand": lambda x: torch.rand(4) * x,
    "uniform_": lambda x: torch.empty_like(x).uniform_(-1, 2) * x,
    "randn_like": lambda x: x + torch.randn_like(x) * x,
    "normal": lambda x: torch.normal(x, 0.5),
    "normal_": lambda x: torch.empty_like(x).normal_(1, 2) * x,
    "exponential_": lambda x: torch.empty_like(x).exponential_(2.0) * x,
    "randint": lambda x: torch.randint(-3, 9, (4,)) * x,
    "randperm": lambda x: x[:, torch.randperm(4)],
    "rrelu": lambda x: F.rrelu(x, training=True),
    "gumbel_softmax": lambda x: F.gumbel_softmax(x),
    "attention": lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None], dropout_p=0.2),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_inputs_and_agree_with_eager(name):
    program = gradport.export(DRAWS[name], X, wrt="inputs")
    assert program.random
    assert [spec.name for spec in program.random] == [s.name for s in program.inputs if s.role == "random"]
    assert gradport.verify(program, DRAWS[name], X, runtimes=["onnxruntime"]).ok


def test_draws_have_the_statistics_of_the_operator():
    program = gradport.export(lambda x: F.dropout(x, 0.25), torch.ones(1000, 100))
    (output,) = program.run(torch.ones(1000, 100), *program.draw(3))
    assert output.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert abs(float((output == 0).float().mean()) - 0.25) < 0.01


def test_the_same_seed_is_the_same_draw_and_sizes_follow_the_batch():
    program = gradport.export(lambda x: F.dropout(x, 0.5), X, dynamic_shapes=({0: "batch"},))
    (drawn,) = program.draw(1, batch=9)
    assert drawn.shape == (9, 4)
    assert torch.equal(drawn, *program.draw(1, batch=9))
    with pytest.raises(gradport.ProgramError, match="size for batch"):
        program.draw(1)


def test_a_backward_that_draws():
    class Noisy(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * torch.rand_like(g)

    for functions in ("keep", "inline", "opaque"):
        program = gradport.export(Noisy, X, wrt="inputs", functions=functions)
        assert len(program.random) == 1
        assert gradport.verify(program, Noisy, X, runtimes=["onnxruntime"]).ok


@pytest.mark.parametrize("dynamic", [None, ({0: "batch"},)])
def test_runtime_draws_afresh(dynamic):
    def noisy(x):
        return F.dropout(x, 0.5) + torch.randn_like(x)

    program = gradport.export(noisy, X, dynamic_shapes=dynamic, random="runtime")
    assert not program.random
    assert program.provenance["options"]["random"] == "runtime"
    first, second = program.run(X)[0], program.run(X)[0]
    assert not torch.equal(first, second)
    assert gradport.verify(program, noisy, X, runtimes=["onnxruntime"]).ok


def test_off_is_the_mean():
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.4), torch.nn.Linear(8, 2)).train()
    program = gradport.export(net, X, wrt="all", random="off")
    assert not program.random
    assert gradport.verify(program, net, X).ok
    torch.testing.assert_close(program.run(X, torch.ones(6, 2))[0], net.eval()(X).detach())


def test_draws_are_those_that_every_language_makes():
    import numpy as np
    from gradport_runtime.draws import Place, draw

    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Dropout(0.5))
    program = gradport.export(model, gradport.tensor("f32[batch,3]"))
    first, second = program.draw(7, batch=5)
    for number, drawn in enumerate((first, second)):
        own = draw("uniform", (5, 3), np.dtype("float32"), number, Place(7))
        assert np.array_equal(drawn.numpy(), own)
