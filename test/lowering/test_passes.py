"""Each pass says whether it changed the model, and has nothing left to change when it runs again."""

import onnx_ir as ir
import pytest

from gradport.lowering.lower import BACKWARD
from gradport.lowering.passes import passes, rewrite

MODELS = {
    "RoundInside": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[n] x) => (float[n] y) {
            h = Cast <to = 16> (x)
            s = Add(h, h)
            y = Cast <to = 1> (s)
        }""",
    "MaskRowsInBranch": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[n, 4] x) => (float[n, 4] y) {
            lowest = Constant<value = float {-inf}>()
            zero = Constant<value = float {0.0}>()
            last = Constant<value = int64[1] {-1}>()
            equal = Equal(x, lowest)
            number = Cast<to = 1>(equal)
            whole = ReduceMin(number, last)
            masked = Cast<to = 9>(whole)
            softmax = Softmax<axis = -1>(x)
            y = Where(masked, zero, softmax)
        }""",
    "SelectByProduct": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[n] x, bool[n] m) => (float[n] y) {
            zero = Constant <value = float {0.0}> ()
            y = Where(m, x, zero)
        }""",
    "SelectBySum": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (bool[n, 64, 2] m, float[n, 64, 2] x, float[n, 64, 2] y) => (float[n, 64, 2] z) {
            z = Where(m, x, y)
        }""",
    "UnpoolByMask": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[2, 1, 4, 4] x, float[2, 1, 4] c, int64[2, 1, 1, 1] b) => (float[2, 1, 2, 2] y, float[2, 1, 16] d) {
            y, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2], pads = [0, 0, 0, 0], dilations = [1, 1]> (x)
            place = Sub(i, b)
            flat = Constant<value = int64[3] {2, 1, 4}>()
            places = Reshape(place, flat)
            shape = Constant<value = int64[3] {2, 1, 16}>()
            zeros = ConstantOfShape(shape)
            d = ScatterElements<axis = -1, reduction = "add">(zeros, places, c)
        }""",
    "PoolNan": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[1, 1, 4, 4] x) => (float[1, 1, 2, 2] y, int64[1, 1, 2, 2] i) {
            y, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        }""",
    "WriteCasts": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (int64[n] x, float[n] l) => (float[n] y) {
            y = CastLike(x, l)
        }""",
    "AddByScatter": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[4, 3] x, int64[2, 3] i, float[2, 3] u) => (float[4, 3] y) {
            shape = Constant<value = int64[2] {4, 3}>()
            zeros = ConstantOfShape(shape)
            filled = ScatterElements<axis = 0, reduction = "add">(zeros, i, u)
            y = Add(x, filled)
        }""",
    "ReverseScans": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[3] a, float[4, 3] x) => (float[3] last, float[4, 3] y) {
            first = Constant<value = int64[1] {0}>()
            minus = Constant<value = int64[1] {-1}>()
            least = Constant<value = int64[1] {-9223372036854775808}>()
            turned = Slice(x, minus, least, first, minus)
            last, rows = Scan<num_scan_inputs = 1, body = step (float[3] b, float[3] row) => (float[3] c, float[3] d) {
                c = Add(b, row)
                d = Mul(b, row)
            }>(a, turned)
            y = Relu(rows)
        }""",
    "SumProductsByDot": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[n, 3, 32, 32] a, float[n, 3, 32, 32] b) => (float[3] y) {
            product = Mul(a, b)
            axes = Constant<value = int64[3] {0, 2, 3}>()
            y = ReduceSum<keepdims = 0>(product, axes)
        }""",
    "SumRowsByProduct": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[n, 64, 32] x) => (float[32] y) {
            axes = Constant<value = int64[2] {0, 1}>()
            y = ReduceSum<keepdims = 0>(x, axes)
        }""",
    "BatchUpdates": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[3] x, float[4] y) => (float[3] a, float[4] b) {
            v = Neg(x)
            w = Neg(y)
            u = Abs(v)
            t = Abs(w)
            s = Sqrt(u)
            r = Sqrt(t)
            a = Neg(s)
            b = Neg(r)
        }""",
    "MatchRanks": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[128, 4, 1, 1] x, float s) => (float[128, 4, 1, 1] y) {
            y = Mul(x, s)
        }""",
    "Widen": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (bool[n] x) => (bool[n] y) {
            y = Add(x, x)
        }""",
    "RemoveRoundTrips": """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[n] x) => (float[n] y) {
            wide = Cast<to = 11>(x)
            back = Cast<to = 1>(wide)
            y = Relu(back)
        }""",
}

NOTHING = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[n] x) => (float[n] y) {
        y = Relu(x)
    }"""


def model_of(text):
    import onnx.parser

    model = ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))
    for node in model.graph:
        node.metadata_props[BACKWARD] = "true"
    return model


def test_each_pass_has_a_model_here():
    assert [type(one).__name__ for one in passes(finite_math=False, training=True)] == list(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_pass_says_what_it_changed_and_ends(name):
    model = model_of(MODELS[name])
    (one,) = [one for one in passes(finite_math=False, training=True) if type(one).__name__ == name]
    assert one(model).modified
    if name not in ("SelectByProduct", "PoolNan"):  # these keep the operator in one branch of an If
        assert not one(model).modified


@pytest.mark.parametrize("name", MODELS)
def test_a_pass_leaves_alone_what_it_is_not_about(name):
    (one,) = [one for one in passes(finite_math=False, training=True) if type(one).__name__ == name]
    assert not one(model_of(NOTHING)).modified


def test_all_passes_say_so_together():
    assert rewrite(model_of(MODELS["WriteCasts"]), finite_math=False).modified
    assert not rewrite(model_of(NOTHING), finite_math=False).modified
