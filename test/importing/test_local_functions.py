"""Functions of an ONNX file as submodules."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import torch
import torch.nn.functional as F

import gradport
from gradport.importing.module import ImportedFunction

LAYERS = """
<ir_version: 10, opset_import: ["" : 21, "layers" : 1]>
network (float[N, 4] x) => (float[N, M] y)
{
    [dense] h = layers.Dense <slope = 0.5> (x, dense_weight, dense_bias)
    k = layers.Dense (x, dense_weight, dense_bias)
    s = Add(h, k)
    [norm] n = layers.Norm (s, gamma, beta, mean, var)
    y = layers.Shaped (n, wide)
}
<domain: "layers", opset_import: ["" : 21, "layers" : 1]>
Dense <slope: float = 0.25> (x, weight, bias) => (y) {
    h = MatMul(x, weight)
    b = Add(h, bias)
    [activation] y = layers.Leaky <slope: float = @slope> (b)
}
<domain: "layers", opset_import: ["" : 21]>
Leaky <slope> (x) => (y) { y = LeakyRelu <alpha: float = @slope> (x) }
<domain: "layers", opset_import: ["" : 21]>
Norm (x, scale, bias, mean, var) => (y) { y = BatchNormalization (x, scale, bias, mean, var) }
<domain: "layers", opset_import: ["" : 21]>
Shaped (x, shape) => (y) { y = Reshape (x, shape) }
"""


def layers():
    model = onnx.parser.parse_model(LAYERS)
    generator = np.random.default_rng(0)
    vectors = ("dense_bias", "gamma", "beta", "mean", "var")
    values = {name: generator.random(6, np.float32) + 0.5 for name in vectors}
    values |= {"dense_weight": generator.random((4, 6), np.float32), "wide": np.array([-1, 3])}
    for node in model.graph.node:  # the names that torch gives
        node.input[:] = [name.replace("dense_", "dense.") for name in node.input]
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name.replace("dense_", "dense.")) for name, value in values.items()
    )
    return model


def test_local_functions_become_submodules():
    model = layers()
    module = gradport.from_onnx(model)
    labels = {name: str(part).strip() for name, part in module.named_modules() if isinstance(part, ImportedFunction)}
    assert labels.keys() == {"dense_", "dense_.activation", "Dense", "Dense.activation", "norm", "Shaped"}
    assert "layers::Leaky" in labels["dense_.activation"]
    assert {name for name, _ in module.named_parameters()} == {"dense.weight", "dense.bias", "gamma", "beta"}
    assert {name for name, _ in module.named_buffers()} == {"wide", "mean", "var"}
    x = torch.randn(5, 4)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (expected,) = session.run(None, {"x": x.numpy()})
    torch.testing.assert_close(module(x), torch.from_numpy(expected))
    seen = []
    module.norm.register_forward_hook(lambda part, inputs, outputs: seen.append(f"{inputs[0].shape[1]}"))
    module(x)
    assert seen == ["6"]


def test_gradients_go_through_local_functions():
    module = gradport.from_onnx(layers())
    subject = gradport.Subject(module, torch.randn(5, 4), wrt=["x", "dense.weight"], dynamic_shapes={"x": {0: "n"}})
    program = gradport.export(subject)
    assert [port.name for port in program.outputs if port.name.startswith("grad_")] == ["grad_x", "grad_dense.weight"]


def test_a_local_function_trains_as_its_module_does():
    module = gradport.from_onnx(layers())
    x = torch.randn(5, 4) * 9
    module.train()
    assert not torch.allclose(module(x), module.eval()(x))


def test_a_function_with_an_operator_without_a_row_is_replaced_by_its_nodes():
    text = """<ir_version: 10, opset_import: ["" : 21, "layers" : 1]>
    graph (float[N, 4] x, int64[N] t) => (float y) { y = layers.Loss (x, t) }
    <domain: "layers", opset_import: ["" : 21]>
    Loss (x, t) => (y) { p = LogSoftmax (x)  y = NegativeLogLikelihoodLoss (p, t) }"""
    module = gradport.from_onnx(onnx.parser.parse_model(text))
    assert not list(module.children())
    x, t = torch.randn(3, 4), torch.tensor([0, 3, 1])
    torch.testing.assert_close(module(x, t), F.cross_entropy(x, t))
