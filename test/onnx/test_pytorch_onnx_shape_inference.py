"""Shapes that a file declares and that ONNX infers (strict, with data propagation), against eager at several sizes.

What was dynamic stays symbolic through outputs, gradients and function calls, and a dimension that was planted wrong
is found: a number where a name belongs is what no run at the example's size shows.
"""

import re

import onnx.shape_inference
import onnx_ir as ir
import pytest
import sympy
import torch
import torch.nn.functional as F
from onnx_test_common import finding, shape_of
from pytorch_test_common import Affine, GradientReversal, Swish, eager

import gradport

pytestmark = pytest.mark.corpus

WEIGHT = torch.tensor([0.5, -1.0, 2.0])
QUICK = {"runtimes": ["onnxruntime"], "budget": 0.1}

SUBJECTS = {
    "function": (lambda x: Swish.apply(x, 1.5), "f32[batch:4,3]"),
    "two functions": (lambda x: GradientReversal.apply(sum(Affine.apply(x, WEIGHT)), 0.5), "f32[batch:4,3]"),
    "flattened": (lambda x: x.reshape(-1).sin(), "f32[batch:4,3]"),
    "split": (lambda x: x.reshape(x.shape[0], 2, -1).transpose(0, 1), "f32[batch:4,6]"),
    "joined": (lambda x: torch.cat([x, x[:, :2] * 2, x], 1), "f32[batch:4,3]"),
    "doubled": (lambda x: torch.cat([x, x * x], 0), "f32[batch:4,3]"),
    "outer": (lambda x: x @ x.T, "f32[batch:4,3]"),
    "broadcast": (lambda x: x.mean(0).expand_as(x) * x, "f32[batch:4,3]"),
    "padded": (lambda x: F.pad(x, (1, 2, 0, 1)), "f32[batch:4,3]"),
    "convolved": (lambda x: F.conv2d(x, torch.ones(2, 3, 3, 3), stride=2, padding=1), "f32[batch:2,3,height:8,8]"),
    "pooled": (lambda x: F.max_pool2d(x, 2), "f32[batch:2,3,height:8,8]"),
    "attended": (lambda x: F.scaled_dot_product_attention(x, x, x), "f32[batch:2,time:5,4]"),
}


def exported(target, spec, **options):
    return gradport.export(target, gradport.tensor(spec), wrt="inputs", verify=False, **options)


def at(shape, sizes):
    """A declared shape at sizes of its names."""
    return tuple(int(sympy.sympify(dim, locals=sympy_names(sizes))) for dim in shape)


def sympy_names(sizes):
    return {name: sympy.Integer(size) for name, size in sizes.items()}


def sizes_of(program, step):
    """A size of every dynamic dimension of the graph's inputs; none divides another by chance."""
    names = sorted(
        {dim for spec in program.inputs for dim in spec.shape if isinstance(dim, str) and dim.isidentifier()}
    )
    return dict(zip(names, ((6, 10), (11, 14))[step], strict=False))


def names_in(shape):
    return {str(symbol) for dim in shape for symbol in sympy.sympify(dim).free_symbols}


def respecified(program, name, dims):
    """The model with other dimensions declared of an output."""
    model = ir.from_proto(ir.to_proto(program.model))
    (value,) = [value for value in model.graph.outputs if value.name == name]
    value.shape = ir.Shape(dims)
    return model


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("name", SUBJECTS)
def test_declared_shapes_of_outputs_and_gradients_are_those_of_eager(name, step):
    target, spec = SUBJECTS[name]
    program = exported(target, spec)
    sizes = sizes_of(program, step)
    x = torch.rand(at(program.inputs[0].shape, sizes))
    assert [at(spec.shape, sizes) for spec in program.outputs] == [tuple(t.shape) for t in eager(target, x)]


@pytest.mark.parametrize("name", SUBJECTS)
def test_shapes_that_onnx_infers_agree_with_every_value_of_two_runs(name):
    target, spec = SUBJECTS[name]
    evidence = gradport.verify(exported(target, spec), target, gradport.tensor(spec), **QUICK)
    found = finding(evidence, "shapes/inferred")
    assert found.outcome == "ok", found.message


@pytest.mark.parametrize("functions", ["keep", "inline"])
def test_inference_that_is_told_the_inputs_alone_finds_the_dynamic_batch_in_every_result(functions):
    proto = ir.to_proto(exported(*SUBJECTS["two functions"], functions=functions).model)
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        output.ClearField("type")
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    assert [shape_of(info) for info in inferred.graph.output] == [["batch", 3], ["batch", 3]]


def test_the_dynamic_batch_stands_in_inputs_cotangents_outputs_and_gradients():
    program = exported(*SUBJECTS["convolved"])
    assert all("batch" in names_in(spec.shape) for spec in (*program.inputs, *program.outputs))


def test_a_size_that_is_computed_is_declared_by_its_expression():
    flattened, doubled = (exported(*SUBJECTS[name]).outputs[0].shape for name in ("flattened", "doubled"))
    assert [names_in(flattened), names_in(doubled)] == [{"batch"}, {"batch"}]
    assert [at(flattened, {"batch": 5}), at(doubled, {"batch": 5})] == [(15,), (10, 3)]


def test_inside_a_branch_dimensions_have_the_users_names():
    def branched(x):
        return torch.cond(x.sum() > 0, lambda x: x.sin() * 2, lambda x: x.cos() + 1, (x,))

    proto = ir.to_proto(exported(branched, "f32[batch:4,3]").model)
    assert set(re.findall(r'dim_param: "(.*?)"', str(proto))) == {"batch"}


def test_without_dynamic_shapes_every_dimension_is_a_number():
    program = gradport.export(SUBJECTS["convolved"][0], torch.rand(2, 3, 8, 8), wrt="inputs", verify=False)
    assert all(isinstance(dim, int) for spec in (*program.inputs, *program.outputs) for dim in spec.shape)


@pytest.mark.parametrize("result", ["output", "grad_x"])
def test_a_planted_number_in_place_of_the_batch_is_found(result):
    target, spec = SUBJECTS["function"]
    model = respecified(exported(target, spec), result, [4, 3])
    found = finding(gradport.verify(model, target, gradport.tensor(spec), **QUICK), "shapes/declared")
    assert (found.rule, found.outcome, found.kind) == ("shapes", "failed", "over-specialised")
    assert f"dimension 0 of '{result}'" in found.message


def test_a_planted_number_that_is_wrong_at_every_size_is_found():
    target, spec = SUBJECTS["function"]
    model = respecified(exported(target, spec), "output", ["batch", 5])
    found = finding(gradport.verify(model, target, gradport.tensor(spec), **QUICK), "shapes/declared")
    assert (found.outcome, found.kind) == ("failed", "wrong")


def test_a_planted_rank_is_found():
    target, spec = SUBJECTS["function"]
    model = respecified(exported(target, spec), "grad_x", ["batch", 3, 1])
    evidence = gradport.verify(model, target, gradport.tensor(spec), **QUICK)
    found = finding(evidence, "shapes/declared")
    assert found.outcome == "failed"
    assert "'grad_x' has rank 3" in found.message


def test_a_planted_shape_fails_the_whole_verification():
    target, spec = SUBJECTS["function"]
    model = respecified(exported(target, spec), "output", [4, 3])
    assert not gradport.verify(model, target, gradport.tensor(spec), **QUICK).ok


def test_a_dimension_that_is_left_open_is_counted_as_missing():
    target, spec = SUBJECTS["function"]
    model = respecified(exported(target, spec), "output", [None, 3])
    found = finding(gradport.verify(model, target, gradport.tensor(spec), **QUICK), "shapes/declared")
    assert (found.outcome, found.kind, found.figure) == ("ok", "missing", 1.0)


@pytest.mark.parametrize("fallback", [True, False])
def test_outputs_of_opaque_nodes_have_value_info_with_the_symbolic_batch(fallback):
    program = exported(*SUBJECTS["two functions"], functions="opaque", fallback=fallback)
    proto = ir.to_proto(program.model)
    said = {info.name: info for info in (*proto.graph.value_info, *proto.graph.output)}
    (affine,) = [node for node in proto.graph.node if node.op_type == "Affine.forward"]
    assert [shape_of(said[name]) for name in affine.output] == [["batch", 3]] * 3


@pytest.mark.parametrize("batch", [1, 7])
def test_types_of_a_functions_outputs_follow_from_its_inputs(batch):
    program = exported(*SUBJECTS["two functions"])
    for node in [node for node in program.model.graph if node.domain]:
        body = ir.to_proto(program.model.functions[node.op_identifier()])
        given = [concrete(value, batch) for value in node.inputs]
        found = onnx.shape_inference.infer_function_output_types(body, given, [])
        assert list(found) == [concrete(value, batch) for value in node.outputs]


def concrete(value, batch):
    dims = at([getattr(dim, "value", dim) for dim in value.shape], {"batch": batch})
    return onnx.helper.make_tensor_type_proto(value.dtype.value, dims)
