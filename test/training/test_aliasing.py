"""What makes it safe to write a state over the one that it replaces."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from gradport.lowering.passes.aliasing import WriteInPlace, unsafe_successors

PAIRS = [("p", "new.p"), ("m", "new.m")]


def model_of(text):
    shape = "float[4]"
    return ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : 18]> g ({shape} p, {shape} m, {shape} g) => '
        f"({shape} new.p, {shape} new.m) {{ {text} }}".replace("new.", "new_")
    )


def renamed(pairs):
    return [(old, new.replace("new.", "new_")) for old, new in pairs]


SAFE = "new.m = Add(m, g) q = Mul(p, g) new.p = Sub(q, new.m)"
UNSAFE = {
    "another reader": "new.p = Add(p, g) new.m = Mul(p, m)",
    "a writer that is not elementwise": "zero = Constant<value_ints = [0]>() s = ReduceSum(p) t = Add(p, s) "
    "new.p = Softmax(t) new.m = Add(m, g)",
    "a view that is read late": "d = Cast<to = 1>(p) new.p = Add(p, g) t = Mul(d, g) new.m = Add(m, t)",
    "two equal readers": "new.p = Add(p, g) t = Add(p, g) new.m = Mul(t, t)",
    "two equal results": "new.p = Add(p, p) new.m = Add(p, p)",
    "both read both": "new.p = Add(p, m) new.m = Sub(m, p)",
}


def test_a_step_whose_readers_come_first_is_safe():
    assert list(unsafe_successors(model_of(SAFE).graph, renamed(PAIRS))) == []


@pytest.mark.parametrize("text", UNSAFE.values(), ids=UNSAFE)
def test_an_unsafe_step_is_seen_and_made_safe(text):
    model = model_of(text)
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal(4).astype(np.float32) for name in ("p", "m", "g")}
    names = [str(value.name) for value in model.graph.outputs]
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    expected = dict(zip(names, session.run(names, feeds), strict=True))
    assert list(unsafe_successors(model.graph, renamed(PAIRS)))
    assert WriteInPlace(renamed(PAIRS))(model).modified
    assert list(unsafe_successors(model.graph, renamed(PAIRS))) == []
    options = onnxruntime.SessionOptions()
    options.execution_mode, options.inter_op_num_threads = onnxruntime.ExecutionMode.ORT_PARALLEL, 2
    for settings in (onnxruntime.SessionOptions(), options):
        session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), settings)
        held = {name: array.copy() for name, array in feeds.items()}
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in held.items()}
        binding = session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for old, new in renamed(PAIRS):
            binding.bind_ortvalue_output(new, values[old])
        session.run_with_iobinding(binding)
        for old, new in renamed(PAIRS):
            assert np.array_equal(held[old], expected[new])
