"""The gradient in the file is the one that the author's backward gives, whatever it says, in every form."""

import pytest
import torch

import gradport

from . import functions as fn

pytestmark = pytest.mark.corpus

FORMS = ("keep", "inline", "opaque")
X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)) * 2

CASES = {
    "clamp": (fn.Clamp, (X,)),
    "straight-through": (fn.StraightThrough, (X,)),
    "surrogate": (fn.Surrogate, (X,)),
    "surrogate with a constant": (fn.Surrogate, (X, 5.0)),
    "reversed": (fn.Reversed, (X, 0.5)),
    "clipped": (fn.Clipped, (X, -0.1, 0.1)),
    "inside one another": (fn.Outer, (X,)),
    "setup_context": (fn.Newer, (X, torch.randn(3, 5))),
    "several outputs": (fn.Several, (X, torch.randn(2))),
    "mark_dirty": (fn.Dirty, (X,)),
    "classmethods": (fn.OfClass, (X,)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_every_habit_is_right_at_every_batch_size(case, form):
    function, args = CASES[case]
    shapes = tuple({0: "batch"} if arg is X else None for arg in args)
    program = gradport.export(function, args, wrt="inputs", functions=form, dynamic_shapes=shapes)
    evidence = gradport.verify(program, function, args, dynamic_shapes=shapes, sizes={"batch": (1, 2, 7, 64)})
    assert evidence.ok, [finding.message for finding in evidence.findings]


@pytest.mark.parametrize("form", FORMS)
def test_clamp_at_zero_nan_and_infinity_is_eagers(form):
    program = gradport.export(fn.Clamp, X[0], wrt="inputs", functions=form, dynamic_shapes=({0: "n"},))
    x = torch.tensor([-1.0, -0.0, 0.0, 2.0, float("nan"), float("inf"), -float("inf")])
    output, gradient = program.run(x, torch.full((7,), 3.0))
    assert torch.equal(gradient, torch.tensor([0.0, 3.0, 3.0, 3.0, 3.0, 3.0, 0.0]))
    assert torch.equal(output.nan_to_num(-7.0), x.clamp(min=0).nan_to_num(-7.0))


def test_forms_give_the_same_bits():
    def model(x):
        return fn.Swish.apply(fn.Outer.apply(fn.Clamp.apply(x)))

    cotangent = torch.randn(4, 3)
    results = [gradport.export(model, X, wrt="inputs", functions=form).run(X, cotangent) for form in FORMS]
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_uses_times_bodies_is_the_node_count_of_the_inline_form():
    def model(x):
        for _ in range(5):
            x = fn.Outer.apply(fn.Swish.apply(x))
        return x

    kept = gradport.export(model, X, wrt="inputs")
    inline = gradport.export(model, X, wrt="inputs", functions="inline")
    assert not inline.functions and not inline.model.functions
    assert len(kept.functions) == 5  # Swish both ways, Outer both ways, and Clamp in Outer's backward
    uses = {f.name: f.uses for f in kept.functions}
    assert sum(count for name, count in uses.items() if name.startswith("Swish.forward")) == 6  # five, and one in Outer

    def work(nodes):
        return sum(node.op_type not in ("Constant", "Identity") for node in nodes)

    bodies = {f.name: f for f in kept.model.functions.values()}

    def unfolded(nodes):
        return sum(unfolded(bodies[n.op_type]) if n.op_type in bodies else work([n]) for n in nodes)

    assert unfolded(kept.model.graph) == work(inline.model.graph)
    assert max(work(body) for body in bodies.values()) < work(inline.model.graph) / 5


@pytest.mark.parametrize("opset", range(18, 26))
@pytest.mark.parametrize("form", FORMS)
def test_every_opset_of_the_range_works(opset, form):
    program = gradport.export(fn.Outer, X, wrt="inputs", opset_version=opset, functions=form)
    assert program.opset == opset
    assert gradport.verify(program, fn.Outer, X).ok


@pytest.mark.parametrize("opset", [17, 26])
def test_an_opset_outside_the_range_is_refused_with_the_range(opset):
    with pytest.raises(gradport.SpecError, match="18 to 25"):
        gradport.export(fn.Clamp, X, opset_version=opset)


def test_the_same_bytes_come_out_twice():
    first, second = (gradport.export(fn.Outer, X, wrt="inputs") for _ in range(2))
    import onnx_ir as ir

    assert ir.to_proto(first.model).SerializeToString() == ir.to_proto(second.model).SerializeToString()


def test_forward_alone_has_no_cotangent():
    program = gradport.export(fn.Clamp, X)
    assert [spec.role for spec in program.inputs] == ["argument"]
    assert [spec.role for spec in program.outputs] == ["output"]


def test_a_checkpoint_in_the_style_of_megatron():
    weight = torch.nn.Parameter(torch.randn(3, 3))

    def block(x):
        return torch.tanh(x @ weight)

    def model(x):
        return fn.Checkpoint.apply(block, x)

    program = gradport.export(model, X, wrt="inputs", dynamic_shapes=({0: "batch"},))
    assert gradport.verify(program, model, X, sizes={"batch": (1, 2, 7)}).ok


def test_static_arguments_of_every_kind():
    args = (X, "double", None, torch.float64, (2, 6), torch.sin)
    program = gradport.export(fn.Static, args, wrt="inputs")
    assert [spec.name for spec in program.inputs] == ["x", "cotangent_output"]
    assert program.provenance["static_arguments"]["mode"] == "'double'"
    assert gradport.verify(program, fn.Static, args).ok


def test_closures_over_traced_tensors_and_parameters():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 3)

        def forward(self, x):
            hidden = self.linear(x)

            class Gate(torch.autograd.Function):
                @staticmethod
                def forward(ctx, y):
                    return y * hidden.sigmoid()

                @staticmethod
                def backward(ctx, g):
                    return g * hidden

            return Gate.apply(x)

    model = Model()
    program = gradport.export(model, X, wrt="inputs", dynamic_shapes=({0: "batch"},))
    assert gradport.verify(program, model, X, sizes={"batch": (1, 2, 7)}).ok


def test_equal_sizes_of_the_example_do_not_become_one_dimension():
    square = torch.randn(4, 4)
    program = gradport.export(fn.Swish, square, wrt="inputs", dynamic_shapes=({0: "batch", 1: "width"},))
    assert program.inputs[0].shape == ("batch", "width")
    assert program.run(torch.randn(7, 2), torch.randn(7, 2))[1].shape == (7, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_floating_dtypes(dtype):
    x = X.to(dtype)
    program = gradport.export(fn.Swish, x, wrt="inputs")
    assert {spec.dtype for spec in (*program.inputs, *program.outputs)} == {dtype}
    assert gradport.verify(program, fn.Swish, x).ok


def test_a_dtype_that_onnx_runtime_has_no_kernel_for_is_refused_and_handed_out_unproved():
    x = X.to(torch.bfloat16)
    with pytest.raises(gradport.ExportError, match="Could not find an implementation for"):
        gradport.export(fn.Swish, x, wrt="inputs")
    program = gradport.export(fn.Swish, x, wrt="inputs", verify=False)
    assert gradport.verify(program, fn.Swish, x, runtimes=["reference"]).ok


def test_a_module_with_a_loss_gives_loss_and_every_gradient():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 2)

        def forward(self, x):
            return fn.Swish.apply(self.linear(x))

    def loss(result, target):
        return (result - target).square().mean()

    model, target = Model(), torch.randn(4, 2)
    shapes = {"x": {0: "batch"}, "target": {0: "batch"}}
    program = gradport.export(model, X, wrt="all", loss=loss, targets=target, dynamic_shapes=shapes)
    assert [s.name for s in program.outputs] == ["loss", "grad_x", "grad_linear.weight", "grad_linear.bias"]
    evidence = gradport.verify(program, model, X, loss=loss, targets=target, sizes={"batch": (1, 2, 7)})
    assert evidence.ok, [f.message for f in evidence.findings]


def test_a_gradient_that_the_backward_leaves_out_is_missing_unless_it_is_named():
    args = (X, torch.randn(2))
    program = gradport.export(fn.Several, args, wrt="inputs")
    assert program.missing_gradients == ("unused",)
    assert [s.name for s in program.outputs if s.role == "gradient"] == ["grad_x"]
    named = gradport.export(fn.Several, args, wrt=["unused"])
    assert torch.equal(
        named.run_named({s.name: torch.ones(s.shape) for s in named.inputs})["grad_unused"], torch.zeros(2)
    )
