"""A frozen weight is one tensor in memory: no runtime folds its transposition, and results stay."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradport.lowering.passes.shared_weights import ShareWeights

SIDE = 256


def model_of(text, rng):
    model = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : 18]> g (float[n,{SIDE}] x) => (float[n,{SIDE}] y) '
        f"<float[{SIDE},{SIDE}] t> {{ {text} }}"
    )
    tensor = ir.tensor(rng.standard_normal((SIDE, SIDE)).astype(np.float32) / 16, name="w")
    value = ir.Value(name="w", shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.initializers["w"] = value
    for node in model.graph:
        for index, read in enumerate(node.inputs):
            if read is not None and read.name == "w":
                node.replace_input_with(index, value)
    for number, node in enumerate(model.graph):
        node.name, node.outputs[0].dtype = f"node_{number}", ir.DataType.FLOAT
    return model


def session_of(model, path=""):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)


USES = {
    "a product": "y = MatMul(x, w)",
    "a transposed product": "t = Transpose<perm = [1, 0]>(w) y = MatMul(x, t)",
    "both": "t = Transpose<perm = [1, 0]>(w) h = MatMul(x, t) y = MatMul(h, w)",
    "a Gemm": "y = Gemm<transB = 1>(x, w)",
}


@pytest.mark.parametrize("use", USES)
@settings(max_examples=5, deadline=None)
@given(rows=st.integers(1, 4), seed=st.integers(0, 9))
def test_results_stay(use, rows, seed):
    rng = np.random.default_rng(seed)
    model = model_of(USES[use], rng)
    x = rng.standard_normal((rows, SIDE)).astype(np.float32)
    expected = session_of(model).run(None, {"x": x})[0]
    assert ShareWeights()(model).modified
    np.testing.assert_allclose(session_of(model).run(None, {"x": x})[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("use", USES)
def test_the_weight_stands_once_in_the_model_that_runs(use, tmp_path):
    model = model_of(USES[use], np.random.default_rng(0))
    ShareWeights()(model)
    session_of(model, tmp_path / "optimized.onnx")
    optimized = ir.load(tmp_path / "optimized.onnx")
    large = [value for value in optimized.graph.initializers.values() if value.const_value.size >= SIDE * SIDE]
    assert [value.name for value in large] == ["w"]


def test_a_model_without_large_weights_stays():
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 18]> g (float[2,2] x) => (float[2,2] y) '
        "<float[2,2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }"
    )
    assert not ShareWeights()(model).modified
