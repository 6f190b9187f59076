"""Bodies that an author writes in onnxscript, in a file that gradport exported with the nodes alone: ONNX's own checker
and shape inference take them, so nodes and bodies fit in number, attributes and types. Nothing is run."""

import onnx.checker
import onnx.shape_inference
import onnx_ir as ir
import onnxscript
import pytest
import torch
from onnx_test_common import (
    ACME,
    OPSET,
    affine_backward,
    affine_bodies,
    affine_forward,
    op,
    shape_of,
    swish_backward,
    swish_bodies,
    swish_forward,
    waiting,
    with_bodies,
)
from pytorch_test_common import Affine, Swish

import gradport

X = torch.linspace(-2, 2, 12).reshape(4, 3)
WEIGHT = torch.tensor([0.5, -1.0, 2.0])


@onnxscript.script(ACME, default_opset=op)
def of_another_rank(x, g, beta: float):
    return op.ReduceSum(beta * x * g, keepdims=0)


class Named(Swish):
    """Its symbolic() calls the author's onnxscript function by name."""

    @staticmethod
    def symbolic(g, x, beta):
        return g.op("com.acme::swish_forward", x, beta_f=beta)


class Handed(Swish):
    """Its symbolic() hands the onnxscript function over."""

    @staticmethod
    def symbolic(g, x, beta):
        return g.onnxscript_op(swish_forward, x, beta_f=beta)


def swish(**bodies):
    return with_bodies(waiting(Swish, (X, 1.5), dynamic_shapes=({0: "batch"}, None)), swish_bodies(**bodies))


def affine():
    return with_bodies(waiting(Affine, (X, WEIGHT), dynamic_shapes=({0: "batch"}, None)), affine_bodies())


def forgotten(program):
    """The file without the shapes and types that gradport wrote into it, inputs apart."""
    proto = ir.to_proto(program.model)
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        output.ClearField("type")
    return proto


def tensor(*shape):
    return onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shape)


@pytest.mark.parametrize("program", [swish, affine])
def test_the_checker_takes_the_file(program):
    onnx.checker.check_model(ir.to_proto(program().model), full_check=True)


def test_inference_through_the_bodies_finds_what_gradport_declares():
    program = affine()
    inferred = onnx.shape_inference.infer_shapes(forgotten(program), strict_mode=True, data_prop=True)
    declared = {spec.name: list(spec.shape) for spec in program.outputs}
    assert {info.name: shape_of(info) for info in inferred.graph.output} == declared


def test_without_the_bodies_inference_finds_nothing():
    """What makes the test above one of the bodies."""
    bare = waiting(Affine, (X, WEIGHT))
    inferred = onnx.shape_inference.infer_shapes(forgotten(bare), data_prop=True)
    assert not any(info.type.HasField("tensor_type") for info in inferred.graph.output)


def test_a_body_of_another_rank_is_refused_by_strict_inference():
    proto = ir.to_proto(swish(backward=of_another_rank).model)
    with pytest.raises(onnx.shape_inference.InferenceError, match="rank"):
        onnx.shape_inference.infer_shapes(proto, strict_mode=True)


@pytest.mark.parametrize("program", [swish, affine])
def test_each_node_gives_what_its_body_declares(program):
    model = program().model
    for node in model.graph:
        body = model.functions[node.op_identifier()]
        assert len(node.inputs) == len(body.inputs)
        assert len(node.outputs) == len(body.outputs)
        assert set(node.attributes) == set(body.attributes)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize(
    ("written", "inputs", "outputs"),
    [
        (affine_forward, [("N", 3), (3,)], [("N", 3)] * 3),
        (affine_backward, [("N", 3), (3,), ("N", 3), ("N", 3)], [("N", 3), (3,)]),
    ],
    ids=["forward", "backward"],
)
def test_output_types_follow_from_input_types_at_any_batch(written, inputs, outputs, batch):
    given = [tensor(*(batch if dim == "N" else dim for dim in shape)) for shape in inputs]
    expected = [tensor(*(batch if dim == "N" else dim for dim in shape)) for shape in outputs]
    found = onnx.shape_inference.infer_function_output_types(written.to_function_proto(), given, [])
    assert list(found) == expected


def test_output_types_follow_where_an_attribute_is_given():
    beta = onnx.helper.make_attribute("beta", 1.5)
    given = [tensor("batch", 3), tensor("batch", 3)]
    found = onnx.shape_inference.infer_function_output_types(swish_backward.to_function_proto(), given, [beta])
    assert list(found) == [tensor("batch", 3)]


def test_a_symbolic_that_names_an_onnxscript_function_gives_a_file_that_takes_it():
    program = gradport.export(Named, (X, 1.5), wrt="inputs", functions="symbolic", opset_version=OPSET)
    full = ir.to_proto(with_bodies(program, {"swish_forward": swish_forward}).model)
    onnx.checker.check_model(full, full_check=True)
    assert [node.op_type.partition(".")[0] for node in full.graph.node] == ["swish_forward", "Named"]


def test_a_symbolic_that_hands_an_onnxscript_function_over_is_refused_by_name():
    with pytest.raises(gradport.ExportError, match=r"Handed .*g\.onnxscript_op.*functions='keep'"):
        gradport.export(Handed, (X, 1.5), wrt="inputs", functions="symbolic")
