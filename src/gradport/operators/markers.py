"""Three operators that exist only while a graph is traced and lowered.

`gradport::mark` takes the tensors that enter or leave one phase of a custom Function's call: it marks the exact border
of the Region. The translation keeps it as a node; outlining consumes it. `gradport::cotangent` is a placeholder for the
cotangent of an output; the trace turns it into a graph input, so that one trace is enough. `gradport::random` is the
same for random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from gradport.compat.onnxscript import add_node
from gradport.operators.samples import reals, sample
from gradport.operators.table import lowering

__all__ = ["MARK_DOMAIN", "cotangent", "mark", "random"]

MARK_DOMAIN = "gradport.mark"

_LIBRARY = torch.library.Library("gradport", "DEF")
_LIBRARY.define("mark(Tensor[] values, int region, str side) -> Tensor")
_LIBRARY.define("cotangent(Tensor output, str name) -> Tensor")
_LIBRARY.define("random(SymInt[] size, str name, ScalarType dtype, *, Device? device=None) -> Tensor")


def _mark(values: list[torch.Tensor], region: int, side: str) -> torch.Tensor:
    return values[0].new_zeros((), dtype=torch.bool)


def _cotangent(output: torch.Tensor, name: str) -> torch.Tensor:
    return torch.empty_like(output, memory_format=torch.contiguous_format)


def _random(size: list[int], name: str, dtype: torch.dtype, *, device: torch.device | None = None) -> torch.Tensor:
    return torch.empty(size, dtype=dtype, device=device)


_LIBRARY.impl("mark", _mark, "CompositeExplicitAutograd")
_LIBRARY.impl("cotangent", _cotangent, "CompositeExplicitAutograd")
_LIBRARY.impl("random", _random, "CompositeExplicitAutograd")

mark = torch.ops.gradport.mark.default
cotangent = torch.ops.gradport.cotangent.default
random = torch.ops.gradport.random.default

torch.fx.node.has_side_effect(mark)


class _Marked(torch.autograd.Function):
    """The identity as a custom Function: the sample of the row."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return cotangent.clone()


@lowering(mark, samples=[sample(lambda x: _Marked.apply(x), reals("n", 4))])
def mark_node(values: Sequence[ir.Value], region: int, side: str) -> ir.Value:
    """Adds a node that reads the values at a Region's border, so that a replacement of a value also applies here."""
    node = ir.Node(MARK_DOMAIN, side, values, [ir.AttrInt64("region", region)], num_outputs=1)
    return add_node(node).outputs[0]
