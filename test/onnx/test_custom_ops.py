"""Opaque nodes taken by somebody's own kernels, forward and backward: in the reference evaluator as an `OpRun`, in ONNX
Runtime as Python operators of onnxruntime-extensions. A kernel gets what `export` promises (inputs by position, static
arguments as attributes, symbolic shapes around it), and its numbers are eager's."""

import numpy as np
import onnx.checker
import onnx_ir as ir
import onnxruntime
import onnxruntime_extensions as extensions
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from pytorch_test_common import Affine, Settings, Swish, eager

import gradport

CONTRIB = "ai.onnx.contrib"
FLOAT = extensions.PyCustomOpDef.dt_float
X = torch.linspace(-2, 2, 12).reshape(4, 3)
WEIGHT = torch.tensor([0.5, -1.0, 2.0])
SEEN = []


def swish(x, beta):
    return (x / (1 + np.exp(-beta * x))).astype(x.dtype)


def swish_gradient(x, g, beta):
    s = 1 / (1 + np.exp(-beta * x))
    return (2 * g * s * (1 + beta * x * (1 - s))).astype(x.dtype)


def affine(x, weight):
    return np.tanh(x) * weight, x + weight, np.tanh(x)


def affine_gradient(soft, weight, g_product, g_sum):
    return 3 * g_product * weight * (1 - soft * soft) + g_sum, (g_product * soft + g_sum).sum(0)


@extensions.onnx_op(op_type="GradportSwish.forward", inputs=[FLOAT], outputs=[FLOAT], attrs={"beta": FLOAT})
def swish_forward(x, beta):
    SEEN.append("forward")
    return swish(x, beta)


@extensions.onnx_op(op_type="GradportSwish.backward", inputs=[FLOAT] * 2, outputs=[FLOAT], attrs={"beta": FLOAT})
def swish_backward(x, g, beta):
    SEEN.append("backward")
    return swish_gradient(x, g, beta)


@extensions.onnx_op(op_type="GradportAffine.forward", inputs=[FLOAT] * 2, outputs=[FLOAT] * 3)
def affine_forward(x, weight):
    return affine(x, weight)


@extensions.onnx_op(op_type="GradportAffine.backward", inputs=[FLOAT] * 4, outputs=[FLOAT] * 2)
def affine_backward(*given):
    return affine_gradient(*given)


def kernel(op_type, function):
    """An operator for the reference evaluator; the class is called what the node is called."""

    def _run(self, *inputs, **attributes):
        result = function(*inputs, **attributes)
        return result if isinstance(result, tuple) else (result,)

    return type(op_type, (OpRun,), {"op_domain": "com.acme", "_run": _run})


def bare(function, args, domain=CONTRIB, **options):
    """A file whose nodes only an own kernel can run."""
    form = f"opaque:{domain}::Gradport{function.__name__}"
    return gradport.export(function, args, wrt="inputs", functions={function: form}, fallback=False, **options)


def in_onnxruntime(program, *tensors):
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(extensions.get_library_path())
    source = ir.to_proto(program.model).SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    results = session.run(None, feeds(program, tensors))
    return [torch.from_numpy(result) for result in results]


def in_reference(program, *tensors, kernels):
    evaluator = ReferenceEvaluator(ir.to_proto(program.model), new_ops=kernels)
    return [torch.from_numpy(result) for result in evaluator.run(None, feeds(program, tensors))]


def feeds(program, tensors):
    return {spec.name: tensor.numpy() for spec, tensor in zip(program.inputs, tensors, strict=True)}


def test_python_operators_of_onnxruntime_extensions_run_forward_and_backward():
    SEEN.clear()
    found = in_onnxruntime(bare(Swish, (X, 1.5)), X, torch.ones(4, 3))
    assert sorted(SEEN) == ["backward", "forward"]
    torch.testing.assert_close(found, eager(Swish.apply, X, 1.5))


def test_kernels_of_the_reference_evaluator_run_forward_and_backward():
    kernels = [kernel("GradportSwish.forward", swish), kernel("GradportSwish.backward", swish_gradient)]
    found = in_reference(bare(Swish, (X, 1.5), "com.acme"), X, torch.ones(4, 3), kernels=kernels)
    torch.testing.assert_close(found, eager(Swish.apply, X, 1.5))


def test_the_beta_of_each_call_reaches_its_kernel():
    """Two calls with other constants are one operator with other attributes."""

    def both(x):
        return Swish.apply(Swish.apply(x, 0.5), 3.0)

    form = {Swish: f"opaque:{CONTRIB}::GradportSwish"}
    program = gradport.export(both, X, wrt="inputs", functions=form, fallback=False)
    torch.testing.assert_close(in_onnxruntime(program, X, torch.ones(4, 3)), eager(both, X))


def test_several_outputs_and_a_saved_value_cross_between_two_extensions_kernels():
    cotangents = [torch.full((4, 3), 2.0), torch.full((4, 3), -1.0)]
    found = in_onnxruntime(bare(Affine, (X, WEIGHT)), X, WEIGHT, *cotangents)
    torch.testing.assert_close(found, eager(Affine.apply, X, WEIGHT, cotangents=cotangents))


def test_several_outputs_and_a_saved_value_cross_between_two_reference_kernels():
    cotangents = [torch.full((4, 3), 2.0), torch.full((4, 3), -1.0)]
    kernels = [kernel("GradportAffine.forward", affine), kernel("GradportAffine.backward", affine_gradient)]
    found = in_reference(bare(Affine, (X, WEIGHT), "com.acme"), X, WEIGHT, *cotangents, kernels=kernels)
    torch.testing.assert_close(found, eager(Affine.apply, X, WEIGHT, cotangents=cotangents))


@pytest.mark.parametrize("batch", [1, 7])
def test_one_file_with_an_own_kernel_takes_any_batch(batch):
    program = bare(Swish, (X, 1.5), dynamic_shapes=({0: "batch"}, None))
    x = torch.linspace(-1, 1, 3 * batch).reshape(batch, 3)
    torch.testing.assert_close(in_onnxruntime(program, x, torch.ones(batch, 3)), eager(Swish.apply, x, 1.5))


def test_a_wrong_kernel_gives_a_wrong_gradient():
    """The kernel computes what the author's backward does not: nothing of the file may run in its place."""
    kernels = [kernel("GradportSwish.forward", swish), kernel("GradportSwish.backward", lambda x, g, beta: g)]
    _, gradient = in_reference(bare(Swish, (X, 1.5), "com.acme"), X, torch.ones(4, 3), kernels=kernels)
    assert torch.equal(gradient, torch.ones(4, 3))


def test_without_a_kernel_onnxruntime_refuses_the_file():
    with pytest.raises(gradport.Error, match=r"GradportSwish\.forward"):
        bare(Swish, (X, 1.5), "com.acme").session()


def test_the_kernel_beats_the_body_that_ships():
    form = "opaque:com.acme::GradportSwish"
    program = gradport.export(Swish, (X, 1.5), wrt="inputs", functions=form)
    kernels = [kernel("GradportSwish.forward", lambda x, beta: x * beta)]
    output, _ = in_reference(program, X, torch.ones(4, 3), kernels=kernels)
    torch.testing.assert_close(output, X * 1.5)


def test_static_arguments_are_attributes_of_both_nodes():
    args = (X, 3, 0.5, True, "fast", torch.float16, (1, 2), None)
    program = gradport.export(Settings, args, wrt="inputs", functions="opaque", fallback=False)
    expected = {"count": 3, "scale": 0.5, "flag": 1, "mode": "fast", "dtype": "torch.float16", "taps": (1, 2)}
    forward, backward = [{name: attr.value for name, attr in node.attributes.items()} for node in program.model.graph]
    assert forward == backward == expected


@pytest.mark.parametrize(("name", "kind"), [("count", "INT"), ("scale", "FLOAT"), ("mode", "STRING"), ("taps", "INTS")])
def test_the_kind_of_an_attribute_follows_the_argument(name, kind):
    args = (X, 3, 0.5, True, "fast", torch.float16, (1, 2), None)
    program = gradport.export(Settings, args, functions="opaque", fallback=False)
    (node,) = program.model.graph
    assert node.attributes[name].type.name == kind


def test_what_crosses_between_opaque_nodes_has_value_info_with_the_symbolic_batch():
    """No inference reaches through a node without a body, so the file has to say it."""
    proto = ir.to_proto(bare(Affine, (X, WEIGHT), dynamic_shapes=({0: "batch"}, None)).model)
    (saved,) = [info for info in proto.graph.value_info if info.name == proto.graph.node[0].output[2]]
    tensor = saved.type.tensor_type
    assert tensor.elem_type == onnx.TensorProto.FLOAT
    assert [dim.dim_param or dim.dim_value for dim in tensor.shape.dim] == ["batch", 3]


def test_onnx_checks_a_file_whose_operators_it_does_not_know():
    proto = ir.to_proto(bare(Affine, (X, WEIGHT)).model)
    onnx.checker.check_model(proto, full_check=True)
