"""Eigenvalues of symmetric matrices and singular values, by Jacobi rotations; pseudo-inverse and matrix exponential.

Every round rotates disjoint pairs at once, so a sweep over all pairs of n columns takes n - 1 rounds (Golub and Van
Loan, "Matrix Computations", 8.5). The matrix has a fixed size. Vectors are defined up to sign, as in torch.
"""

from __future__ import annotations

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.orthogonal import complete_basis
from gradport.operators.samples import reals, sample
from gradport.operators.table import constant, decomposition

__all__: list[str] = []

_SWEEPS = 9
"""Convergence is quadratic at the end; in float64, 9 sweeps reach rounding error at the tested sizes."""

LARGEST = 64
"""Largest number of columns; beyond it the unrolled graph is too large to be useful."""

Pairs = tuple[list[int], list[int]]


def _rounds(size: int) -> list[Pairs]:
    """A round-robin tournament of `size` columns: every pair meets once."""
    players = [*range(size)] + ([size] if size % 2 else [])
    rounds = []
    for _ in range(len(players) - 1):
        half = len(players) // 2
        met = [(a, b) for a, b in zip(players[:half], reversed(players[half:]), strict=True) if max(a, b) < size]
        rounds.append(([min(pair) for pair in met], [max(pair) for pair in met]))
        players = [players[0], players[-1], *players[1:-1]]
    return rounds if size > 1 else []


def _rotation(app: torch.Tensor, aqq: torch.Tensor, apq: torch.Tensor, pairs: Pairs, size: int) -> torch.Tensor:
    """The orthogonal matrix that rotates each pair so that its `apq` becomes zero (Golub and Van Loan, 8.5.1)."""
    still = apq == 0
    tau = (aqq - app) / torch.where(still, torch.ones_like(apq), 2 * apq)
    sign = torch.where(tau < 0, -torch.ones_like(tau), torch.ones_like(tau))
    tangent = torch.where(still, torch.zeros_like(tau), sign / (tau.abs() + torch.hypot(tau, torch.ones_like(tau))))
    cosine = (tangent * tangent + 1).rsqrt()
    sine = tangent * cosine
    diagonal, across, alone = _places(pairs, size)
    flat = cosine @ constant(diagonal, app.dtype) + sine @ constant(across, app.dtype)
    turned = flat.reshape(*flat.shape[:-1], size, size)
    return turned + constant(alone, app.dtype) if any(map(any, alone)) else turned


def _places(pairs: Pairs, size: int) -> tuple[list[list[float]], list[list[float]], list[list[float]]]:
    """The places of each pair's cosine and sine, one flat matrix per pair; and the ones of columns without a pair."""
    diagonal = [[0.0] * (size * size) for _ in pairs[0]]
    across = [[0.0] * (size * size) for _ in pairs[0]]
    for k, (p, q) in enumerate(zip(*pairs, strict=True)):
        diagonal[k][p * size + p] = diagonal[k][q * size + q] = 1.0
        across[k][p * size + q], across[k][q * size + p] = 1.0, -1.0
    paired = {*pairs[0], *pairs[1]}
    alone = [[float(row == column and row not in paired) for column in range(size)] for row in range(size)]
    return diagonal, across, alone


def _require_small(size: int, name: str) -> None:
    if size > LARGEST:
        raise NotImplementedError(f"{name} of a matrix of {size} columns; the export works up to {LARGEST}")


def _eigen(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    size = matrix.shape[-1]
    _require_small(size, "the eigenvalues")
    if size == 0:
        return matrix.new_zeros(matrix.shape[:-1]), matrix.clone()
    vectors = torch.eye(size, dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
    for p, q in _rounds(size) * _SWEEPS:
        diagonal = matrix.diagonal(0, -2, -1)
        flat = matrix.flatten(-2)
        across = flat[..., [a * size + b for a, b in zip(p, q, strict=True)]]
        turn = _rotation(diagonal[..., p], diagonal[..., q], across, (p, q), size)
        matrix = turn.mT @ matrix @ turn
        vectors = vectors @ turn
    values, order = torch.sort(matrix.diagonal(0, -2, -1), stable=True, dim=-1)
    return values, vectors.gather(-1, order.unsqueeze(-2).expand_as(vectors))


@decomposition(
    _aten._linalg_eigh.default, samples=[sample(lambda x: torch.linalg.eigvalsh(x + x.mT), reals("n", 3, 3))]
)
def linalg_eigh(A: torch.Tensor, UPLO: str = "L", compute_v: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues, ascending, and eigenvectors of a symmetric matrix; reads only one triangle.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.eigh.html
    """
    whole = A.triu() + A.triu(1).mT if UPLO.upper() == "U" else A.tril() + A.tril(-1).mT
    values, vectors = _eigen(whole)
    return values, vectors if compute_v else A.new_zeros((0,))


def _singular(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U, S and V of a matrix with at least as many rows as columns: its columns are rotated until they are orthogonal
    (one-sided Jacobi, Golub and Van Loan, 8.6.3)."""
    size = matrix.shape[-1]
    _require_small(size, "the singular values")
    vectors = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    vectors = vectors.expand(*matrix.shape[:-2], size, size)
    if size == 0:
        return matrix.clone(), matrix.new_zeros((*matrix.shape[:-2], 0)), vectors.clone()
    for p, q in _rounds(size) * _SWEEPS:
        left, right = matrix[..., p], matrix[..., q]
        squares = (left * left).sum(-2), (right * right).sum(-2), (left * right).sum(-2)
        turn = _rotation(*squares, (p, q), size)
        matrix = matrix @ turn
        vectors = vectors @ turn
    values, order = torch.sort((matrix * matrix).sum(-2).sqrt(), stable=True, dim=-1, descending=True)
    matrix = matrix.gather(-1, order.unsqueeze(-2).expand_as(matrix))
    vectors = vectors.gather(-1, order.unsqueeze(-2).expand_as(vectors))
    safe = torch.where(values == 0, torch.ones_like(values), values)
    return matrix / safe.unsqueeze(-2), values, vectors


@decomposition(_aten._linalg_svd.default, samples=[sample(torch.linalg.svdvals, reals("n", 3, 3))])
def linalg_svd(
    A: torch.Tensor, full_matrices: bool = False, compute_uv: bool = True, *, driver: str | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U, the singular values, descending, and V transposed.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.svd.html
    """
    wide = A.shape[-2] < A.shape[-1]
    left, values, right = _singular(A.mT if wide else A)
    if not compute_uv:
        return A.new_zeros((0,)), values, A.new_zeros((0,))
    if full_matrices and left.shape[-2] != left.shape[-1]:
        left = complete_basis(left)
    return (right, values, left.mT) if wide else (left, values, right.mT)


@decomposition(
    _aten.linalg_pinv.atol_rtol_tensor,
    samples=[sample(lambda x: torch.linalg.pinv(x + 4 * torch.eye(2)), reals("n", 2, 2, low=-1.0, high=1.0))],
)
def linalg_pinv(
    self: torch.Tensor, *, atol: torch.Tensor | None = None, rtol: torch.Tensor | None = None, hermitian: bool = False
) -> torch.Tensor:
    """The pseudo-inverse: the reciprocals of the singular values above max(atol, rtol times the largest).

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.pinv.html
    """
    if self.shape[-1] == 0 or self.shape[-2] == 0:
        return self.new_zeros((*self.shape[:-2], self.shape[-1], self.shape[-2]))
    whole = self.tril() + self.tril(-1).mT if hermitian else self
    left, values, right = linalg_svd(whole)
    largest = values.amax(-1, keepdim=True)
    least = torch.zeros_like(largest) if atol is None else atol.unsqueeze(-1).to(values.dtype)
    unit = max(self.shape[-2:]) * torch.finfo(self.dtype).eps
    if rtol is None:
        share = torch.where(least > 0, torch.zeros_like(least), torch.full_like(least, unit))
    else:
        share = rtol.unsqueeze(-1).to(values.dtype)
    nonzero = values > torch.maximum(least, share * largest)
    inverse = torch.where(nonzero, torch.where(nonzero, values, torch.ones_like(values)).reciprocal(), 0.0)
    return (right.mT * inverse.unsqueeze(-2)) @ left.mT


@decomposition(
    _aten.linalg_matrix_exp.default, samples=[sample(torch.linalg.matrix_exp, reals("n", 3, 3, low=-1.0, high=1.0))]
)
def linalg_matrix_exp(self: torch.Tensor) -> torch.Tensor:
    """The exponential: Taylor's series of degree 18 of the matrix over 2^s, squared s times; s is at most 12.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.matrix_exp.html; Higham, "Functions of
    Matrices", 10.3
    """
    if self.numel() == 0:
        return self.clone()
    norm = self.abs().sum(-2).amax(-1)
    squarings = norm.clamp(min=1e-30).log2().ceil().clamp(0, 12)[..., None, None]
    scaled = self / torch.exp2(squarings)
    one = torch.eye(self.shape[-1], dtype=self.dtype, device=self.device)
    value = one + scaled / 18
    for degree in range(17, 0, -1):
        value = one + scaled @ value / degree
    for step in range(12):
        value = torch.where(squarings > step, value @ value, value)
    return value
