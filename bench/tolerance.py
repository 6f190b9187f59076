"""How far correct single operators are off: what the floor and the factor of `gradport.tolerance` are calibrated on.

    python bench/tolerance.py [--markdown]

One line an operator: the largest error against float64 over a million elements, in units in the last place (ULPs) of
each value and of the largest one, for ONNX Runtime and for eager torch, and their ratio.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

import gradport

COUNT = 1 << 20
UNIT = torch.finfo(torch.float32).eps

OPERATORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": lambda x: (x.abs() + 0.01).log(),
    "log1p": lambda x: x.abs().log1p(),
    "sqrt": lambda x: x.abs().sqrt(),
    "rsqrt": lambda x: (x.abs() + 0.01).rsqrt(),
    "reciprocal": lambda x: (x.abs() + 0.01).reciprocal(),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "atan": torch.atan,
    "pow 1.7": lambda x: (x.abs() + 0.01) ** 1.7,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "softplus": torch.nn.functional.softplus,
    "softmax": lambda x: x.reshape(-1, 1024).softmax(-1),
    "log_softmax": lambda x: x.reshape(-1, 1024).log_softmax(-1),
    "layer_norm": lambda x: torch.nn.functional.layer_norm(x.reshape(-1, 1024), (1024,)),
    "sum of 1024": lambda x: x.reshape(-1, 1024).sum(-1),
    "product of 1024 x 1024": lambda x: x.reshape(1024, 1024) @ x.reshape(1024, 1024),
}


def row(call: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> tuple[float, float, float, float]:
    """Errors in ULPs: ONNX Runtime's of each value and of the largest, then eager's."""
    (found,) = gradport.export(call, x, verify=False).run(x)
    oracle = call(x.double())
    scale = float(oracle.abs().max())
    errors = [(value.double() - oracle).abs() for value in (found, call(x))]
    of_value = [float((e / oracle.abs().clamp_min(scale * 1e-6)).max()) / UNIT for e in errors]
    of_scale = [float(e.max()) / scale / UNIT for e in errors]
    return of_value[0], of_scale[0], of_value[1], of_scale[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(COUNT, generator=torch.Generator().manual_seed(0)) * 3
    if options.markdown:
        print("| operator | ONNX Runtime, ULPs of the value | of the largest | eager, of the value | of the largest |")
        print("| --- | --- | --- | --- | --- |")
    for name, call in OPERATORS.items():
        figures = [f"{figure:.2g}" for figure in row(call, x)]
        print(f"| {name} | {' | '.join(figures)} |" if options.markdown else f"{name}: {', '.join(figures)}")


if __name__ == "__main__":
    main()
