"""Matrix products, triangles, unit matrices and one-hot rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gradport.importing.sizes import Sizes
from gradport.importing.table import translation

Tensor = torch.Tensor


@translation("MatMul")
def matmul(x: Tensor, y: Tensor, /) -> Tensor:
    return torch.matmul(x, y)


@translation("Gemm")
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    /,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    product = torch.matmul(a.t() if transA else a, b.t() if transB else b)
    if alpha != 1:
        product = (alpha * product).to(product.dtype)
    if c is None or beta == 0:
        return product
    return product + (c if beta == 1 else (beta * c).to(c.dtype))


@translation("Det")
def det(x: Tensor, /) -> Tensor:
    return torch.linalg.det(x)


@translation("Trilu")
def trilu(x: Tensor, k: Sizes | None = None, /, *, upper: int = 1) -> Tensor:
    diagonal = 0 if k is None else k.number()
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)


@translation("EyeLike")
def eye_like(x: Tensor, /, *, dtype: torch.dtype | None = None, k: int = 0) -> Tensor:
    rows, columns = torch.arange(x.shape[0]), torch.arange(x.shape[1])
    return (columns == rows.unsqueeze(1) + k).to(dtype or x.dtype)


@translation("OneHot")
def one_hot(indices: Tensor, depth: Sizes, values: Tensor, /, *, axis: int = -1) -> Tensor:
    """An index out of range gives a row of `off`."""
    count = int(depth.number())
    places = indices.to(torch.int64)
    places = torch.where(places < 0, places + count, places).unsqueeze(axis)
    shape = [1] * places.dim()
    shape[axis] = count
    hot = places == torch.arange(count).reshape(shape)
    return torch.where(hot, values[1], values[0])


@translation("CosineSimilarity")
def cosine_similarity(x: Tensor, y: Tensor, /, *, axis: int = 1) -> Tensor:
    return F.cosine_similarity(x, y, dim=axis)
