"""Linear algebra by reflections: Householder vectors and QR, unrolled over the columns of a matrix of fixed
size."""

from __future__ import annotations

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import reals, sample
from gradport.operators.table import decomposition

__all__ = ["complete_basis"]

Pair = tuple[torch.Tensor, torch.Tensor]


@decomposition(_aten.geqrf.default, samples=[sample(lambda x: x + torch.geqrf(x.detach()).a, reals("n", 3, 3))])
def geqrf(self: torch.Tensor) -> Pair:
    """R on and above the diagonal, the Householder vectors below it, and their scales, with LAPACK's signs.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.geqrf.html; LAPACK, dlarfg
    """
    matrix, scales = self, []
    rows, columns = self.shape[-2:]
    for k in range(min(rows, columns)):
        alpha, rest = matrix[..., k : k + 1, k : k + 1], matrix[..., k + 1 :, k : k + 1]
        norm = rest.square().sum(-2, keepdim=True).sqrt()
        still = norm == 0  # then the reflection is the identity
        size = torch.hypot(alpha, norm)
        beta = torch.where(still, alpha, torch.where(alpha < 0, size, -size))
        tau = torch.where(still, torch.zeros_like(beta), (beta - alpha) / torch.where(still, 1.0, beta))
        vector = rest / torch.where(still, 1.0, alpha - beta)
        scales.append(tau[..., 0])
        right = matrix[..., k:, k + 1 :]
        whole = torch.cat([torch.ones_like(alpha), vector], -2)
        right = right - tau * whole * (whole.mT @ right)
        lower = torch.cat([torch.cat([beta, vector], -2), right], -1)
        lower = torch.cat([matrix[..., k:, :k], lower], -1) if k else lower
        matrix = torch.cat([matrix[..., :k, :], lower], -2) if k else lower
    tau = torch.cat(scales, -1) if scales else self.new_zeros((*self.shape[:-2], 0))
    return matrix, tau


def _reflections(vectors: torch.Tensor, tau: torch.Tensor) -> list[Pair]:
    """Each Householder vector, with its leading zeros and 1, and its scale."""
    reflections = []
    for k in range(tau.shape[-1]):
        column = vectors[..., k + 1 :, k : k + 1]
        one = torch.ones_like(vectors[..., :1, :1])
        parts = [one, column] if k == 0 else [one.expand(*one.shape[:-2], k, 1) * 0, one, column]
        reflections.append((torch.cat(parts, -2), tau[..., k : k + 1].unsqueeze(-1)))
    return reflections


@decomposition(
    _aten.linalg_householder_product.default,
    samples=[sample(torch.linalg.householder_product, reals("n", 3, 2), reals("n", 2))],
)
def householder_product(input: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
    """The first columns of the product of the reflections.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.householder_product.html
    """
    return _product(input, tau, input.shape[-1])


def _product(vectors: torch.Tensor, tau: torch.Tensor, columns: int) -> torch.Tensor:
    rows = vectors.shape[-2]
    product = torch.eye(rows, columns, dtype=vectors.dtype, device=vectors.device)
    product = product.expand(*vectors.shape[:-2], rows, columns)
    for vector, scale in reversed(_reflections(vectors, tau)):
        product = product - scale * vector * (vector.mT @ product)
    return product


@decomposition(_aten.ormqr.default, samples=[sample(torch.ormqr, reals("n", 3, 2), reals("n", 2), reals("n", 3, 2))])
def ormqr(
    self: torch.Tensor, input2: torch.Tensor, input3: torch.Tensor, left: bool = True, transpose: bool = False
) -> torch.Tensor:
    """The whole product of the reflections, or its transpose, times a matrix.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.ormqr.html
    """
    if not left:
        return ormqr(self, input2, input3.mT, True, not transpose).mT
    product, steps = input3, _reflections(self, input2)
    for vector, scale in steps if transpose else reversed(steps):
        product = product - scale * vector * (vector.mT @ product)
    return product


@decomposition(
    _aten.linalg_qr.default, samples=[sample(lambda x: torch.linalg.qr(x + 4 * torch.eye(3)).R, reals("n", 3, 3))]
)
def linalg_qr(A: torch.Tensor, mode: str = "reduced") -> Pair:
    """Q and R.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.qr.html
    """
    rows, columns = A.shape[-2:]
    packed, tau = geqrf(A)
    small = min(rows, columns)
    if mode == "r":
        return A.new_zeros((0,)), packed[..., :small, :].triu()
    width = rows if mode == "complete" else small
    return _product(packed, tau, width), packed[..., :width, :].triu()


def complete_basis(columns: torch.Tensor) -> torch.Tensor:
    """Extends orthonormal columns to a basis."""
    rows, count = columns.shape[-2:]
    packed, tau = geqrf(columns)
    return torch.cat([columns, _product(packed, tau, rows)[..., count:]], -1)
