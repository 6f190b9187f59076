"""from_onnx on files that other exporters wrote: outputs and gradients against the source model; peers beside it.

    python bench/imported_models.py [--only NAME ...] [--peer onnx2torch|onnx2pytorch|onnx2fx]

Models of transformers with random weights, written by torch.onnx.export (its exporter of today, and the TorchScript
exporter). "output" compares outputs with the source; "gradient" compares the gradients of all floating-point inputs, of
token models those of the embeddings that the file kept under their name; "export" exports the module again with its
gradients, which includes the proof. Right: to 1e-3 relative.
"""

from __future__ import annotations

import argparse
import logging
import os
import pathlib
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers

TOKENS, PIXELS = (2, 12), (2, 3, 32, 32)
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
}


class Only(torch.nn.Module):
    """The first output of a model."""

    def __init__(self, model: torch.nn.Module, **options: Any) -> None:
        super().__init__()
        self.model, self.options = model, options

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x, **self.options)[0]


def _bert(kind: str) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        config = getattr(transformers, f"{kind}Config")(**SMALL, max_position_embeddings=40)
        return Only(getattr(transformers, f"{kind}Model")(config), return_dict=False)

    return build


def _vision(kind: str, **options: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        config = getattr(transformers, f"{kind}Config")(**options)
        return Only(getattr(transformers, f"{kind}Model")(config), return_dict=False)

    return build


def _causal(kind: str, **options: Any) -> Callable[[], torch.nn.Module]:
    def build() -> torch.nn.Module:
        config = getattr(transformers, f"{kind}Config")(**options)
        return Only(getattr(transformers, f"{kind}Model")(config), use_cache=False, return_dict=False)

    return build


VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 32}
LLAMA = {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": 40}
FAMILIES: dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, ...]]] = {
    "BERT": (_bert("Bert"), TOKENS),
    "RoBERTa": (_bert("Roberta"), TOKENS),
    "ELECTRA": (_bert("Electra"), TOKENS),
    "DistilBERT": (
        _vision("DistilBert", dim=32, n_layers=2, n_heads=4, hidden_dim=64, vocab_size=100, max_position_embeddings=40),
        TOKENS,
    ),
    "GPT-2": (_causal("GPT2", n_embd=32, n_layer=2, n_head=4, vocab_size=100, n_positions=40), TOKENS),
    "Llama": (_causal("Llama", **LLAMA), TOKENS),
    "Qwen2": (_causal("Qwen2", **LLAMA), TOKENS),
    "Mistral": (_causal("Mistral", **LLAMA), TOKENS),
    "ViT": (_vision("ViT", **VIT, patch_size=8), PIXELS),
    "ConvNeXt": (_vision("ConvNext", hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 1, 1]), PIXELS),
    "ResNet": (_vision("ResNet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"), PIXELS),
    "Swin": (
        _vision("Swin", image_size=32, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4),
        PIXELS,
    ),
    "SegFormer": (_vision("Segformer", hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1]), PIXELS),
    "RegNet": (_vision("RegNet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=8), PIXELS),
}


def by_gradport(path: pathlib.Path) -> torch.nn.Module:
    """The imported module."""
    import gradport

    return gradport.from_onnx(path)


def by_peer(name: str) -> Callable[[pathlib.Path], torch.nn.Module]:
    """The conversion of a peer."""

    def convert(path: pathlib.Path) -> torch.nn.Module:
        import onnx

        if name == "onnx2torch":
            import onnx2torch

            return onnx2torch.convert(onnx.load(path))
        if name == "onnx2fx":
            import onnx2fx

            return onnx2fx.convert(onnx.load(path))
        import onnx2pytorch

        return onnx2pytorch.ConvertModel(onnx.load(path), experimental=True)

    return convert


def write(model: torch.nn.Module, x: torch.Tensor, path: pathlib.Path, dynamo: bool) -> None:
    """The file of an exporter, with a dynamic batch where it can."""
    batch = torch.export.Dim("batch", min=2, max=64)
    options: dict[str, Any] = {"dynamic_shapes": ({0: batch},)} if dynamo else {"dynamic_axes": {"x": {0: "batch"}}}
    torch.onnx.export(model, (x,), path, input_names=["x"], dynamo=dynamo, verbose=False, **options)


def outcome(task: Callable[[], str]) -> str:
    """right or wrong, or the reason of a refusal."""
    try:
        return task()
    except Exception as error:
        return f"refused ({type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''})"


def close(one: torch.Tensor, other: torch.Tensor) -> str:
    """right if two tensors agree to 1e-3 of the largest element."""
    gap = float((one.double() - other.double()).abs().max()) / max(float(other.abs().max()), 1e-6)
    return "right" if one.shape == other.shape and gap < 1e-3 else f"wrong ({gap:.1g})"


def gradient(source: torch.nn.Module, module: torch.nn.Module, x: torch.Tensor) -> str:
    """Compares gradients of the input, or of weights that the file has under the source's names and values."""
    if x.is_floating_point():
        found = [
            torch.autograd.grad(weighted(one(leaf)), leaf)[0]
            for one in (module, source)
            if (leaf := _leaf(x)) is not None
        ]
        return close(*found)
    own, others = dict(source.named_parameters()), dict(module.named_parameters())
    names = [name for name in own if name in others and torch.equal(own[name], others[name])]
    names = [name for name in names if own[name].unique().numel() > 1]  # equal weights are merged in the file
    if not names:
        return "no weight under its name"
    pairs = [
        torch.autograd.grad(weighted(one(x)), [table[n] for n in names], allow_unused=True)
        for one, table in ((module, others), (source, own))
    ]
    results = [close(a, b) for a, b in zip(*pairs, strict=True) if a is not None and b is not None]
    return next((one for one in results if one != "right"), "right")


def weighted(output: torch.Tensor) -> torch.Tensor:
    """A sum with random weights: that of squares behind a normalization does not depend on the input."""
    return (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(1))).sum()


def _leaf(x: torch.Tensor) -> torch.Tensor:
    return x.clone().requires_grad_()


def again(module: torch.nn.Module, x: torch.Tensor) -> str:
    """Exports the module with its gradients."""
    import gradport

    gradport.export(module, x, wrt="all" if x.is_floating_point() else "parameters")
    return "right"


def main() -> int:
    """Prints one line a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--peer", choices=("onnx2torch", "onnx2pytorch", "onnx2fx"))
    parser.add_argument("--files", type=pathlib.Path, help="keep files here, and take those that are there")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    torch.set_num_threads(1)
    convert = by_peer(options.peer) if options.peer else by_gradport
    print("| model | exporter | output | gradient | export |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.files or pathlib.Path(scratch)
        for name, (build, shape) in FAMILIES.items():
            for dynamo in (True, False):
                if options.only and name not in options.only:
                    continue
                torch.manual_seed(0)
                model = build().eval()
                x = torch.randn(shape) if len(shape) == 4 else torch.randint(5, 100, shape)
                path = folder / f"{name}-{'today' if dynamo else 'script'}.onnx"
                cells = line(model, x, path, dynamo, convert, bool(options.peer))
                print(f"| {name} | {'torch.onnx' if dynamo else 'TorchScript'} | {' | '.join(cells)} |", flush=True)
    return 0


def line(
    model: torch.nn.Module, x: torch.Tensor, path: pathlib.Path, dynamo: bool, convert: Callable[..., Any], peer: bool
) -> list[str]:
    """The cells of one file."""
    if not path.exists():
        made = outcome(lambda: write(model, x, path, dynamo) or "right")
        if made != "right":
            return [f"no file: {made}", "", ""]
    modules: list[torch.nn.Module] = []

    def first() -> str:
        modules.append(convert(path))
        with torch.no_grad():
            return close(modules[0](x), model(x))

    output = outcome(first)
    if not output.startswith("right"):
        return [output, "", ""]
    return [
        output,
        outcome(lambda: gradient(model, modules[0], x)),
        "" if peer else outcome(lambda: again(modules[0], x)),
    ]


if __name__ == "__main__":
    sys.exit(main())
