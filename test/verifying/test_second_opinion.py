"""Where a backward is the derivative, differentiating the exported forward must find the same: onnx-ad's `reverse`."""

import onnx_ad
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from onnxruntime import InferenceSession

import gradport

VECTOR, IMAGE, SEQUENCE = (4, 6), (2, 3, 8, 8), (2, 5, 8)


def layer(make):
    torch.manual_seed(0)
    return make().eval()


SUBJECTS = {
    "swish": (lambda x: x * torch.sigmoid(x), VECTOR),
    "tanh-exp": (lambda x: torch.tanh(x) * torch.exp(-x.square()), VECTOR),
    "log_softmax": (lambda x: F.log_softmax(x, -1), VECTOR),
    "logsumexp": (lambda x: x.logsumexp(-1), VECTOR),
    "matmul": (lambda x: x @ x.T, VECTOR),
    "broadcast": (lambda x: x * x.mean(0) + x.sum(1, keepdim=True), VECTOR),
    "index": (lambda x: x[:, [0, 2, 2]] * x[:, 1:4], VECTOR),
    "concat": (lambda x: torch.cat([x, x * x], 1).reshape(-1, 3), VECTOR),
    "max": (lambda x: x.amax(1), VECTOR),
    "gelu": (F.gelu, VECTOR),
    "erf": (torch.erf, VECTOR),
    "norm": (lambda x: F.normalize(x), VECTOR),
    "conv": (layer(lambda: torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)), IMAGE),
    "conv-transposed": (layer(lambda: torch.nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1)), IMAGE),
    "max_pool": (lambda x: F.max_pool2d(x, 2), IMAGE),
    "avg_pool": (lambda x: F.avg_pool2d(x, 2), IMAGE),
    "batch_norm": (layer(lambda: torch.nn.BatchNorm2d(3)), IMAGE),
    "layer_norm": (layer(lambda: torch.nn.LayerNorm(8)), SEQUENCE),
    "linear": (layer(lambda: torch.nn.Linear(8, 3)), SEQUENCE),
    "mlp": (layer(lambda: torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.Tanh(), torch.nn.Linear(9, 2))), VECTOR),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x), SEQUENCE),
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_exported_forward_differentiated_again_gives_the_same(name):
    target, shape = SUBJECTS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    forward = gradport.export(target, x, functions="inline")
    adjoint = onnx_ad.reverse(ir.to_proto(forward.model), layout="onnx")
    ours = gradport.export(target, x, wrt="inputs", functions="inline")
    (output,) = forward.run(x)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    _, gradient = ours.run(x, cotangent)
    session = InferenceSession(adjoint.SerializeToString(), providers=["CPUExecutionProvider"])
    source, seed = (value.name for value in session.get_inputs())
    (theirs,) = session.run([session.get_outputs()[-1].name], {source: x.numpy(), seed: cotangent.numpy()[..., None]})
    torch.testing.assert_close(gradient, torch.from_numpy(theirs)[..., 0], rtol=1e-4, atol=1e-5)


def test_it_knows_nothing_of_a_straight_through_backward():
    class Rounded(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

        @staticmethod
        def backward(ctx, g):
            return g

    x = torch.randn(VECTOR)
    forward = gradport.export(Rounded, x, functions="inline")
    with pytest.raises(Exception):  # noqa: B017 - its own error: no path is left from input to output
        adjoint = onnx_ad.reverse(ir.to_proto(forward.model), layout="onnx")
        session = InferenceSession(adjoint.SerializeToString(), providers=["CPUExecutionProvider"])
        found = session.run(None, {"x": x.numpy(), session.get_inputs()[1].name: torch.ones(*VECTOR, 1).numpy()})
        assert found[-1].any()
    _, gradient = gradport.export(Rounded, x, wrt="inputs").run(x, torch.ones(VECTOR))
    assert torch.equal(gradient, torch.ones(VECTOR))
