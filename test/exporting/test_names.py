"""Names in a file follow the forward's own parameters, and every clash has one answer."""

import dataclasses

import pytest
import torch

import gradport

from . import functions as fn

X = torch.randn(4, 3)


def names(program):
    return [spec.name for spec in program.inputs], [spec.name for spec in program.outputs]


def test_one_output_is_called_output_and_gradients_follow_the_arguments():
    assert names(gradport.export(fn.Newer, (X, torch.randn(3, 2)), wrt="inputs")) == (
        ["x", "w", "cotangent_output"],
        ["output", "grad_x", "grad_w"],
    )


def test_outputs_are_counted_with_the_absent_ones():
    program = gradport.export(fn.Several, (X, torch.randn(2)), wrt="inputs")
    assert names(program) == (
        ["x", "unused", "cotangent_output_0", "cotangent_output_2"],
        ["output_0", "output_2", "output_3", "grad_x"],
    )


def test_nested_arguments_and_results_go_by_their_paths():
    def model(x, options):
        return {"first": x + options["a"][0], "second": [x * options["b"]]}

    program = gradport.export(model, (X, {"a": [torch.randn(3)], "b": torch.randn(3)}), wrt=["options"])
    assert names(program) == (
        ["x", "options.a.0", "options.b", "cotangent_first", "cotangent_second.0"],
        ["first", "second.0", "grad_options.a.0", "grad_options.b"],
    )


def test_fields_of_a_dataclass_name_their_leaves():
    @dataclasses.dataclass
    class Result:
        last_hidden_state: torch.Tensor
        pooled: torch.Tensor

    program = gradport.export(lambda x: Result(x * 2, x.sum()), X)
    assert names(program)[1] == ["last_hidden_state", "pooled"]


def test_star_arguments_and_keywords():
    def model(*parts, scale):
        return sum(parts) * scale

    program = gradport.export(model, (X, X), {"scale": torch.tensor(2.0)}, wrt="inputs")
    assert names(program)[0] == ["parts_0", "parts_1", "scale", "cotangent_output"]


def test_targets_go_by_target_or_by_their_keys():
    def loss(result, low, high):
        return (result - low).square().mean() + high.sum()

    one = gradport.export(fn.Clamp, X, wrt="inputs", loss=lambda r, t: (r - t).sum(), targets=X)
    assert names(one) == (["x", "target"], ["loss", "grad_x"])
    two = gradport.export(fn.Clamp, X, wrt="inputs", loss=loss, targets={"low": X, "high": X}, outputs="all")
    assert names(two) == (["x", "low", "high"], ["loss", "output", "grad_x"])


def test_a_name_that_is_taken_gets_its_role_in_front():
    def model(output, loss):
        return output * loss

    program = gradport.export(model, (X, X), wrt="inputs")
    assert names(program) == (
        ["output", "loss", "cotangent_output"],
        ["output.output", "grad_output", "grad_loss"],
    )


def test_initializers_go_by_their_parameters_and_a_tied_weight_stands_once():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(3, 3, bias=False)
            self.second = torch.nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight
            self.register_buffer("shift", torch.ones(3))

        def forward(self, x):
            return self.second(self.first(x)) + self.shift

    model = Tied()
    program = gradport.export(model, X, wrt="parameters")
    assert names(program) == (["x", "cotangent_output"], ["output", "grad_first.weight"])
    assert {"first.weight", "shift"} <= set(program.model.graph.initializers)
    assert gradport.verify(program, model, X).ok


def test_a_module_among_the_arguments_names_its_weights_after_the_argument():
    class Run(torch.autograd.Function):
        @staticmethod
        def forward(ctx, f, x):
            ctx.f = f
            ctx.save_for_backward(x)
            return f(x)

        @staticmethod
        def backward(ctx, g):
            return None, g @ ctx.f.weight

    program = gradport.export(Run, (torch.nn.Linear(3, 3), X), wrt="inputs")
    assert {"f.weight", "f.bias"} <= set(program.model.graph.initializers)


def test_renames_by_list_and_by_mapping_carry_what_is_derived():
    program = gradport.export(fn.Newer, (X, torch.randn(3, 2)), wrt="inputs", input_names=["image"])
    assert names(program) == (["image", "w", "cotangent_output"], ["output", "grad_image", "grad_w"])
    program = gradport.export(fn.Clamp, X, wrt="inputs", input_names={"x": "image"}, output_names={"output": "y"})
    assert names(program) == (["image", "cotangent_y"], ["y", "grad_image"])
    assert gradport.verify(program, fn.Clamp, X).series["matched"] == "by position"


@pytest.mark.parametrize("wrong", [["a"] * 3, {"nope": "a"}, ["a", "b", "c"]])
def test_renames_that_do_not_fit_are_refused(wrong):
    with pytest.raises(gradport.SpecError, match="input_names"):
        gradport.export(fn.Clamp, X, wrt="inputs", input_names=wrong)


def test_an_output_that_is_an_input_has_a_name_of_its_own_and_cotangents_add():
    program = gradport.export(lambda x: (x, x, x * 2), X, wrt="inputs")
    assert names(program)[1] == ["output_0", "output_1", "output_2", "grad_x"]
    one = torch.ones(4, 3)
    assert torch.equal(program.run(X, one, one, one)[-1], one * 4)


@pytest.mark.parametrize(
    ("wrt", "reason"), [("nope", "does not exist"), ("index", "has no gradient"), (["x", "y"], "does not exist")]
)
def test_a_wrt_that_means_nothing_is_refused(wrt, reason):
    def model(x, index):
        return x[index]

    with pytest.raises(gradport.SpecError, match=reason):
        gradport.export(model, (X, torch.tensor([0, 1])), wrt=wrt)


def test_a_wrt_that_is_ambiguous_is_refused_and_param_tells_them_apart():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.x = torch.nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x * self.x

    with pytest.raises(gradport.SpecError, match="ambiguous"):
        gradport.export(Model(), X, wrt="x")
    program = gradport.export(Model(), X, wrt=["param.x"])
    assert program.outputs[-1].shape == (3,)


def test_roles_and_what_they_belong_to_stand_in_the_file():
    program = gradport.export(fn.Clamp, X, wrt="inputs")
    listed = [(spec.name, spec.role, spec.of) for spec in (*program.inputs, *program.outputs)]
    assert listed == [
        ("x", "argument", None),
        ("cotangent_output", "cotangent", "output"),
        ("output", "output", None),
        ("grad_x", "gradient", "x"),
    ]
