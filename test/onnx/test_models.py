"""Whole models, exported with the gradient of every parameter and nothing run: `onnx.checker` takes the file, strict
inference agrees with what it declares, and its names are those of the module."""

import onnx.checker
import onnx.shape_inference
import onnx_ir as ir
import pytest
from onnx_test_common import MODELS, shape_of, subject_of

import gradport

pytestmark = pytest.mark.corpus

_EXPORTED = {}


@pytest.fixture(params=MODELS)
def model(request):
    """The module and its file, exported once."""
    if request.param not in _EXPORTED:
        subject = subject_of(request.param, wrt="parameters")
        _EXPORTED[request.param] = subject.target, gradport.export(subject, verify=False)
    return _EXPORTED[request.param]


def test_the_checker_takes_the_file(model):
    _, program = model
    onnx.checker.check_model(ir.to_proto(program.model), full_check=True)


def test_strict_inference_takes_what_is_declared(model):
    _, program = model
    onnx.shape_inference.infer_shapes(ir.to_proto(program.model), strict_mode=True, data_prop=True)


def test_no_size_that_is_inferred_departs_from_what_is_declared(model):
    _, program = model
    proto = ir.to_proto(program.model)
    for output in proto.graph.output:
        output.ClearField("type")
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    for info, spec in zip(inferred.graph.output, program.outputs, strict=True):
        for found, declared in zip(shape_of(info), spec.shape, strict=False):
            assert not isinstance(found, int) or found == declared, f"{spec.name}: {shape_of(info)}, {spec.shape}"


def test_each_parameter_is_an_initializer_of_its_name(model):
    module, program = model
    assert {name for name, _ in module.named_parameters()} <= set(program.model.graph.initializers)


def test_each_parameter_has_a_gradient_of_its_shape(model):
    module, program = model
    found = {spec.of: spec.shape for spec in program.outputs if spec.role == "gradient"}
    assert found == {name: tuple(p.shape) for name, p in module.named_parameters()}


def test_the_batch_stays_dynamic_from_input_to_output(model):
    _, program = model
    outputs = [spec for spec in program.outputs if spec.role == "output"]
    assert {spec.shape[0] for spec in (*program.inputs, *outputs)} == {"batch"}


@pytest.mark.parametrize("name", MODELS)
def test_the_forward_alone_is_checked_and_inferred(name):
    program = gradport.export(subject_of(name), verify=False)
    onnx.checker.check_model(ir.to_proto(program.model), full_check=True)
    assert [spec.role for spec in program.outputs] == ["output"]


@pytest.mark.parametrize("opset", [18, 25])
@pytest.mark.parametrize("name", ["CNN", "transformer layer", "custom Functions"])
def test_the_first_and_the_last_opset_are_checked_and_inferred(name, opset):
    program = gradport.export(subject_of(name, wrt="all"), opset_version=opset, verify=False)
    onnx.checker.check_model(ir.to_proto(program.model), full_check=True)
    assert program.opset == opset


def test_what_was_planted_fails_the_check(model):
    """The detector of this module: an operator that takes fewer inputs than it gets."""
    _, program = model
    planted = ir.to_proto(program.model)
    planted.graph.node[-1].op_type, planted.graph.node[-1].domain = "Range", ""
    with pytest.raises((onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
        onnx.checker.check_model(planted, full_check=True)
