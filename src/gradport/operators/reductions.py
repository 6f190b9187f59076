"""Reductions: over all dimensions, of scalars, into indexed places."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import integers, reals, sample
from gradport.operators.table import decomposition

__all__: list[str] = []


@decomposition(_aten.mv.default, samples=[sample(torch.mv, reals("n", 4), reals(4))])
def mv(self: torch.Tensor, vec: torch.Tensor) -> torch.Tensor:
    """A matrix product with one column: ONNX Runtime is wrong for a transposed matrix times a vector.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.mv.html
    """
    return torch.mm(self, vec.unsqueeze(1)).squeeze(1)


@decomposition(
    _aten.scatter_reduce.two,
    samples=[
        sample(
            lambda x, place, y: x.scatter_reduce(1, place, y, "mean"), reals("n", 4), integers("n", 3), reals("n", 3)
        )
    ],
)
def scatter_reduce(
    self: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor, reduce: str, *, include_self: bool = True
) -> torch.Tensor:
    """Reduces `src` into the places that `index` names; the mean is the sum over the count.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.scatter_reduce_.html
    """
    if reduce != "mean":
        return NotImplemented  # the exporter lowers the other reductions correctly
    if self.dim() == 0:
        reduced = scatter_reduce(
            self.reshape(1), 0, index.reshape(-1), src.reshape(-1), reduce, include_self=include_self
        )
        return reduced.reshape(())
    start = self if include_self else self.scatter(dim, index, 0.0)
    ones = torch.ones_like(self)
    count = (ones if include_self else ones.scatter(dim, index, 0.0)).scatter_add(dim, index, torch.ones_like(src))
    total, count = start.scatter_add(dim, index, src), count.clamp(min=1)
    return total / count if self.is_floating_point() else torch.div(total, count, rounding_mode="floor")


@decomposition(
    _aten.index_reduce.default,
    samples=[
        sample(lambda x, place, y: x.index_reduce(1, place, y, "mean"), reals("n", 4), integers(3), reals("n", 3))
    ],
)
def index_reduce(
    self: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, reduce: str, *, include_self: bool = True
) -> torch.Tensor:
    """As `scatter_reduce`, for whole slices.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.index_reduce_.html
    """
    if self.dim() == 0:
        whole = index_reduce(
            self.reshape(1), 0, index.reshape(-1), source.reshape(-1), reduce, include_self=include_self
        )
        return whole.reshape(())
    shape = [1] * source.dim()
    shape[dim] = -1
    place = index.reshape(shape).expand_as(source)
    return torch.scatter_reduce(self, dim, place, source, reduce, include_self=include_self)


@decomposition(_aten.amax.default, samples=[sample(lambda x: x.amax(), reals("n", 4))])
def amax(self: torch.Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> torch.Tensor:
    """The maximum; over all dimensions if `dim` is empty.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.amax.html
    """
    if self.dim() == 0:
        return self.clone()
    return NotImplemented if dim else torch.amax(self, list(range(self.dim())), keepdim)


@decomposition(_aten.amin.default, samples=[sample(lambda x: x.amin(), reals("n", 4))])
def amin(self: torch.Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> torch.Tensor:
    """The minimum; over all dimensions if `dim` is empty.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.amin.html
    """
    if self.dim() == 0:
        return self.clone()
    return NotImplemented if dim else torch.amin(self, list(range(self.dim())), keepdim)


@decomposition(_aten.prod.dim_int, samples=[sample(lambda x: x.prod(0), reals())])
def prod_dim(self: torch.Tensor, dim: int, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A tensor without dimensions unchanged: ONNX has no dimension to reduce.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.prod.html
    """
    if self.dim():
        return NotImplemented
    return self.to(dtype) if dtype is not None else self.clone()


@decomposition(_aten.linalg_vector_norm.default, samples=[sample(torch.linalg.vector_norm, reals())])
def vector_norm(
    self: torch.Tensor,
    ord: float = 2,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """The magnitude of a tensor without dimensions, as above.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.vector_norm.html
    """
    if self.dim() or self.is_complex():
        return NotImplemented
    value = self.abs() if ord else (self != 0).to(self.dtype)
    return value.to(dtype) if dtype is not None else value


@decomposition(_aten._trilinear.default, samples=[sample(F.bilinear, reals("n", 3), reals("n", 2), reals(4, 3, 2))])
def trilinear(
    i1: torch.Tensor,
    i2: torch.Tensor,
    i3: torch.Tensor,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    sumdim: Sequence[int],
    unroll_dim: int = 1,
) -> torch.Tensor:
    """The sum over `sumdim` of the product of three tensors, each with new dimensions of size 1.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Bilinear.html
    """
    for dim in sorted(expand1):
        i1 = i1.unsqueeze(dim)
    for dim in sorted(expand2):
        i2 = i2.unsqueeze(dim)
    for dim in sorted(expand3):
        i3 = i3.unsqueeze(dim)
    product = i1 * i2 * i3
    return product.sum(list(sumdim)) if sumdim else product
