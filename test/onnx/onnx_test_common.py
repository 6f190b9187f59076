"""What the tests of files share: bodies written in onnxscript for the Functions of `pytorch_test_common`, how they get
into a file that was exported without any, and small models of many architectures."""

import onnx_ir as ir
import onnxscript
import torch
import torch.nn.functional as F
from onnxscript import opset20 as op
from pytorch_test_common import Affine, GradientReversal, StraightThrough, Swish
from torch import nn

import gradport
import gradport.testing

OPSET = 20
ACME = onnxscript.values.Opset("com.acme", 1)


@onnxscript.script(ACME, default_opset=op)
def swish_forward(x, beta: float):
    return x * op.Sigmoid(beta * x)


@onnxscript.script(ACME, default_opset=op)
def swish_backward(x, g, beta: float):
    s = op.Sigmoid(beta * x)
    return 2.0 * g * s * (1.0 + beta * x * (1.0 - s))


@onnxscript.script(ACME, default_opset=op)
def affine_forward(x, weight):
    soft = op.Tanh(x)
    product = soft * weight
    total = x + weight
    return product, total, soft


@onnxscript.script(ACME, default_opset=op)
def affine_backward(soft, weight, g_product, g_sum):
    g_x = 3.0 * g_product * weight * (1.0 - soft * soft) + g_sum
    g_weight = op.ReduceSum(g_product * soft + g_sum, [0], keepdims=0)
    return g_x, g_weight


def waiting(function, args, **options):
    """A file whose nodes wait for bodies: `com.acme::<name of the Function>.<phase>`."""
    form = {function: f"opaque:com.acme::{function.__name__}"}
    return gradport.export(
        function, args, wrt="inputs", functions=form, fallback=False, opset_version=OPSET, verify=False, **options
    )


def with_bodies(program, bodies):
    """The program with onnxscript functions as bodies, by the name that its nodes call them by."""
    model = ir.from_proto(ir.to_proto(program.model))
    for name, written in bodies.items():
        proto = written.to_function_proto()
        proto.name = name
        body = ir.from_proto(proto)
        model.functions[body.identifier()] = body
    return gradport.Program(model)


def swish_bodies(backward=swish_backward):
    return {"Swish.forward": swish_forward, "Swish.backward": backward}


def affine_bodies(forward=affine_forward):
    return {"Affine.forward": forward, "Affine.backward": affine_backward}


def shape_of(info):
    """Sizes and names of a ValueInfoProto's dimensions; None for one that is open."""
    dims = info.type.tensor_type.shape.dim
    return [dim.dim_param or (dim.dim_value if dim.HasField("dim_value") else None) for dim in dims]


def finding(evidence, key):
    """The one Finding of a key."""
    (found,) = [f for f in evidence.findings if f.key == key]
    return found


class Residual(nn.Module):
    """A block of a residual network, its shortcut included."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
        )
        self.shortcut = nn.Conv2d(3, 4, 1, stride=2)

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


class Recurrent(nn.Module):
    """A recurrent layer over a fixed number of steps; the last one is classified."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class Words(nn.Module):
    """The mean of embeddings, classified."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(12, 4, padding_idx=0)
        self.head = nn.Linear(4, 3)

    def forward(self, words):
        return F.log_softmax(self.head(self.embedding(words).mean(1)), -1)


class Hourglass(nn.Module):
    """Down, up by interpolation, and a connection across."""

    def __init__(self):
        super().__init__()
        self.before, self.below = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.after = nn.Conv2d(7, 1, 3, padding=1)

    def forward(self, x):
        high = F.leaky_relu(self.before(x))
        low = F.leaky_relu(self.below(F.avg_pool2d(high, 2)))
        up = F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
        return self.after(torch.cat([high, up], 1))


class CausalAttention(nn.Module):
    """Two heads of torch's fused attention."""

    def __init__(self):
        super().__init__()
        self.project, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x):
        batch, time, _ = x.shape
        q, k, v = self.project(x).reshape(batch, time, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, time, 8))


class Excited(nn.Module):
    """Channels weighted by what they hold together."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)
        self.squeeze, self.excite = nn.Linear(4, 2), nn.Linear(2, 4)

    def forward(self, x):
        x = F.silu(self.norm(self.conv(x)))
        weight = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        return x * weight[:, :, None, None]


class Authored(nn.Module):
    """Layers with four custom Functions between them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.tensor([0.5, -1.0, 2.0, 1.0]))

    def forward(self, x):
        x = Swish.apply(self.first(x), 1.5)
        product, total = Affine.apply(x, self.scale)
        return GradientReversal.apply(self.second(product + StraightThrough.apply(3 * total)), 0.5)


class Similar(nn.Module):
    """One encoder of two inputs; its parameters are used twice."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 4))

    def forward(self, left, right):
        return F.cosine_similarity(self.encoder(left), self.encoder(right))


MODELS = {
    "MLP": (
        lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)),
        ["f32[batch:3,3]"],
    ),
    "CNN": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)
        ),
        ["f32[batch:3,3,6,6]"],
    ),
    "residual block": (Residual, ["f32[batch:3,3,6,6]"]),
    "LSTM": (lambda: Recurrent(nn.LSTM), ["f32[batch:3,4,3]"]),
    "GRU": (lambda: Recurrent(nn.GRU), ["f32[batch:3,4,3]"]),
    "transformer layer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", batch_first=True),
        ["f32[batch:3,4,8]"],
    ),
    "embedding": (Words, ["i64[batch:3,5]@0..11"]),
    "autoencoder": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3, stride=2, padding=1),
            nn.ELU(),
            nn.ConvTranspose2d(3, 1, 3, stride=2, padding=1, output_padding=1),
            nn.Sigmoid(),
        ),
        ["f32[batch:3,1,6,6]"],
    ),
    "U-net": (Hourglass, ["f32[batch:3,2,6,6]"]),
    "depthwise-separable": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, groups=4),
            nn.Hardswish(),
            nn.Conv2d(4, 6, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ),
        ["f32[batch:3,4,5,5]"],
    ),
    "causal attention": (CausalAttention, ["f32[batch:3,4,8]"]),
    "squeeze and excite": (Excited, ["f32[batch:3,3,6,6]"]),
    "custom Functions": (Authored, ["f32[batch:3,3]"]),
    "shared encoder": (Similar, ["f32[batch:3,3]", "f32[batch:3,3]"]),
}
"""A module and its inputs, whose batch is dynamic."""


def subject_of(name, **options):
    """The Subject of one of MODELS, its weights drawn from one seed."""
    with gradport.testing.seeded(0):
        module = MODELS[name][0]()
    return gradport.Subject(module, inputs_of(name), name=name, **options)


def inputs_of(name, batch=3):
    """Arguments of one of MODELS."""
    return tuple(gradport.tensor(spec.replace("batch:3", f"batch:{batch}")) for spec in MODELS[name][1])
