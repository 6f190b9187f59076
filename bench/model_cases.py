"""39 models from public packages and torch.nn, tiny and with random weights, and how to call each.

`build` is deterministic after `torch.manual_seed(0)`; `inputs(generator, batch)` gives positional inputs whose first
axis is the batch. Dropout is 0 in every case, so that training can be compared.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["MODELS", "Model", "loss_of"]


@dataclasses.dataclass(frozen=True)
class Model:
    """One model.

    Attributes:
        id: how rows name it.
        build: makes it.
        inputs: its inputs, given a generator and a batch size.
        output: what of its result the loss is made from.
        wrt: which gradients are wanted.
        train: whether it stands in training mode.
    """

    id: str
    build: Callable[[], nn.Module]
    inputs: Callable[[torch.Generator, int], tuple[torch.Tensor, ...]]
    output: Callable[[Any], Any] = lambda result: result
    wrt: str = "parameters"
    train: bool = False


def loss_of(model: Model, result: Any) -> torch.Tensor:
    """A scalar that weighs every element of every floating output differently."""
    total: Any = 0.0
    out = model.output(result)
    for k, value in enumerate(out if isinstance(out, (tuple, list)) else (out,)):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            weight = torch.cos(torch.arange(value.numel(), dtype=value.dtype) * 0.7 + k).reshape(value.shape)
            total = total + (value * weight).mean() + 0.1 * (value * value).mean()
    return total


def randn(*shape: int) -> Callable[[torch.Generator, int], tuple[torch.Tensor, ...]]:
    """Standard-normal inputs of this shape behind the batch."""
    return lambda generator, batch: (torch.randn(batch, *shape, generator=generator),)


def ids(high: int, *shape: int) -> Callable[[torch.Generator, int], tuple[torch.Tensor, ...]]:
    """Whole numbers below `high`."""
    return lambda generator, batch: (torch.randint(0, high, (batch, *shape), generator=generator),)


def hugging_face(cls: str, config: str, **options: Any) -> Callable[[], nn.Module]:
    """A model of transformers."""

    def build() -> nn.Module:
        import transformers

        return getattr(transformers, cls)(getattr(transformers, config)(**options))

    return build


def zoo(module: str, name: str, **options: Any) -> Callable[[], nn.Module]:
    """A model of pytorchcv."""
    return lambda: getattr(importlib.import_module("pytorchcv.models." + module), name)(**options)


class Energy(nn.Module):
    """Pair energy and forces of atoms; the gradient of its parameters goes through the forces."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 1))
        self.register_buffer("centers", torch.linspace(0.5, 4, 8))

    def forward(self, pos: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            pos = pos.detach().requires_grad_()
            d = (pos.unsqueeze(2) - pos.unsqueeze(1)).square().sum(-1).add(1e-3).sqrt()
            e = self.net(torch.exp(-((d.unsqueeze(-1) - self.centers) ** 2))).sum((1, 2, 3))
            (g,) = torch.autograd.grad(e.sum(), pos, create_graph=True)
        return e, -g


class Recurrent(nn.Module):
    """Two recurrent layers and a linear one."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        both = kind == "GRU"
        self.rnn = getattr(nn, kind)(8, 16, num_layers=2, batch_first=True, bidirectional=both)
        self.out = nn.Linear(32 if both else 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0])


class Attention(nn.Module):
    """Self-attention."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x, x, x)[0]


def perceptron() -> nn.Module:
    """Three layers."""
    layers = [nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4), nn.LogSoftmax(-1)]
    return nn.Sequential(*layers)


def encoder() -> nn.Module:
    """Two transformer layers."""
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), 2)


def last(result: Any) -> Any:
    """The hidden state of a transformer."""
    return result.last_hidden_state


def logits(result: Any) -> Any:
    """The logits of a language model."""
    return result.logits


_TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_BERT = {"vocab_size": 64, "max_position_embeddings": 32, **_TINY, **_NO_DROPOUT}
_GPT = {"vocab_size": 64, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 4, "use_cache": False}
_GPT |= {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
_LLAMA = {"vocab_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 32, "use_cache": False, **_TINY}
_VIT = {"image_size": 16, "patch_size": 4, **_TINY, **_NO_DROPOUT}
_DISTILBERT = {"vocab_size": 64, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
_DISTILBERT |= {"dropout": 0, "attention_dropout": 0}
_T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "dropout_rate": 0}
_CONVNEXT = {"num_channels": 3, "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "drop_path_rate": 0.0}
_IMAGE = randn(3, 224, 224)


def layer(name: str, build: Callable[[], nn.Module], *shape: int, **options: Any) -> Model:
    """One layer of torch.nn."""
    return Model("torch.nn:" + name, build, randn(*shape), **options)


MODELS = (
    Model("mlp", perceptron, randn(8)),
    Model("lstm", lambda: Recurrent("LSTM"), randn(5, 8)),
    Model("gru-bidirectional", lambda: Recurrent("GRU"), randn(5, 8)),
    Model("forces", Energy, lambda g, b: (torch.randn(b, 5, 3, generator=g) * 2,)),
    Model("hf-bert", hugging_face("BertModel", "BertConfig", **_BERT), ids(64, 8), last),
    Model("hf-gpt2", hugging_face("GPT2LMHeadModel", "GPT2Config", **_GPT), ids(64, 8), logits),
    Model("hf-llama", hugging_face("LlamaForCausalLM", "LlamaConfig", **_LLAMA), ids(64, 8), logits),
    Model("hf-vit", hugging_face("ViTModel", "ViTConfig", **_VIT), randn(3, 16, 16), last),
    Model("hf-distilbert", hugging_face("DistilBertModel", "DistilBertConfig", **_DISTILBERT), ids(64, 8), last),
    Model("hf-t5-encoder", hugging_face("T5EncoderModel", "T5Config", **_T5), ids(64, 8), last),
    Model("hf-convnext", hugging_face("ConvNextModel", "ConvNextConfig", **_CONVNEXT), randn(3, 64, 64), last),
    Model("cv-resnet20", zoo("resnet_cifar", "resnet20_cifar10"), randn(3, 32, 32), train=True),
    Model("cv-mobilenetv2", zoo("mobilenetv2", "mobilenetv2b_wd4", num_classes=10), _IMAGE),
    Model("cv-squeezenet", zoo("squeezenet", "squeezenet_v1_1", num_classes=10), _IMAGE),
    Model("cv-densenet", zoo("densenet_cifar", "densenet40_k12_cifar10"), randn(3, 32, 32)),
    Model("cv-efficientnet_b0", zoo("efficientnet", "efficientnet_b0", num_classes=10), _IMAGE, wrt="inputs"),
    Model("torch-transformer", encoder, randn(6, 16), train=True),
    layer("Conv1d", lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), 4, 9),
    layer("Conv2d-groups-dilated", lambda: nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=2), 4, 8, 8),
    layer("Conv3d", lambda: nn.Conv3d(2, 3, 2), 2, 4, 4, 4),
    layer("ConvTranspose2d", lambda: nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1), 4, 5, 5),
    layer("MaxPool2d", lambda: nn.MaxPool2d(3, 2, 1), 3, 8, 8, wrt="inputs"),
    layer("AvgPool2d", lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), 3, 8, 8, wrt="inputs"),
    layer("AdaptiveAvgPool2d", lambda: nn.AdaptiveAvgPool2d((3, 2)), 3, 7, 8, wrt="inputs"),
    layer("BatchNorm2d-train", lambda: nn.BatchNorm2d(3), 3, 4, 4, train=True),
    layer("LayerNorm", lambda: nn.LayerNorm(6), 5, 6),
    layer("GroupNorm", lambda: nn.GroupNorm(2, 4), 4, 5, 5),
    layer("InstanceNorm2d", lambda: nn.InstanceNorm2d(3, affine=True), 3, 4, 4, train=True),
    layer("Upsample-bilinear", lambda: nn.Upsample(scale_factor=2, mode="bilinear"), 3, 4, 5, wrt="inputs"),
    layer("PReLU", lambda: nn.PReLU(4), 4, 5),
    layer("GELU", nn.GELU, 5, wrt="inputs"),
    layer("SiLU", nn.SiLU, 5, wrt="inputs"),
    layer("Softplus", nn.Softplus, 5, wrt="inputs"),
    layer("Hardswish", nn.Hardswish, 5, wrt="inputs"),
    layer("GLU", nn.GLU, 6, wrt="inputs"),
    layer("PixelShuffle", lambda: nn.PixelShuffle(2), 8, 3, 3, wrt="inputs"),
    layer("ReflectionPad2d", lambda: nn.ReflectionPad2d(2), 3, 5, 5, wrt="inputs"),
    Model("torch.nn:Embedding", lambda: nn.Embedding(11, 4, padding_idx=0), ids(11, 5)),
    layer("MultiheadAttention", Attention, 5, 8, train=True),
)
