"""Linear algebra by elimination: triangular systems and LU with pivots. A fixed number of rows is unrolled, a dynamic
one is scanned (`elimination`); batch dimensions may be dynamic.

Where eager raises on a matrix that is singular or not positive definite, the graph gives inf or nan.
"""

from __future__ import annotations

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators import elimination
from gradport.operators.samples import reals, sample
from gradport.operators.table import decomposition

__all__ = ["lapack_info", "lu_factor", "solve_lower", "solve_upper"]

Pair = tuple[torch.Tensor, torch.Tensor]


def solve_lower(matrix: torch.Tensor, right: torch.Tensor, unit: bool = False) -> torch.Tensor:
    """`matrix^-1 right` by forward substitution; reads only the lower triangle (Golub and Van Loan, "Matrix
    Computations", 3.1.1)."""
    if elimination.is_dynamic(matrix.shape[-1]):
        return elimination.solve(matrix, right, upper=False, unit=unit)
    rows: list[torch.Tensor] = []
    for i in range(matrix.shape[-1]):
        row = right[..., i : i + 1, :]
        if rows:
            row = row - matrix[..., i : i + 1, :i] @ torch.cat(rows, -2)
        rows.append(row if unit else row / matrix[..., i : i + 1, i : i + 1])
    return _stack(rows, matrix, right)


def solve_upper(matrix: torch.Tensor, right: torch.Tensor, unit: bool = False) -> torch.Tensor:
    """`matrix^-1 right` by back substitution; reads only the upper triangle (as above, 3.1.2)."""
    if elimination.is_dynamic(matrix.shape[-1]):
        return elimination.solve(matrix, right, upper=True, unit=unit)
    rows: list[torch.Tensor] = []
    for i in reversed(range(matrix.shape[-1])):
        row = right[..., i : i + 1, :]
        if rows:
            row = row - matrix[..., i : i + 1, i + 1 :] @ torch.cat(rows, -2)
        rows.insert(0, row if unit else row / matrix[..., i : i + 1, i : i + 1])
    return _stack(rows, matrix, right)


def _stack(rows: list[torch.Tensor], matrix: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    if rows:
        return torch.cat(rows, -2)
    batch = torch.broadcast_shapes(matrix.shape[:-2], right.shape[:-2])
    return right.expand(*batch, *right.shape[-2:]).clone()


@decomposition(
    _aten.linalg_solve_triangular.default,
    samples=[
        sample(
            lambda x, y: torch.linalg.solve_triangular(x + 4 * torch.eye(3), y, upper=True),
            reals("n", 3, 3, low=-1.0, high=1.0),
            reals("n", 3, 2),
        )
    ],
)
def solve_triangular(
    self: torch.Tensor, B: torch.Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> torch.Tensor:
    """`self^-1 B`, or `B self^-1`, by substitution.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.solve_triangular.html
    """
    if not left:
        turned = solve_triangular(self.mT, B.mT, upper=not upper, left=True, unitriangular=unitriangular)
        return turned.mT
    return solve_upper(self, B, unitriangular) if upper else solve_lower(self, B, unitriangular)


@decomposition(
    _aten.triangular_solve.default,
    samples=[
        sample(
            lambda x, y: torch.triangular_solve(y, x + 4 * torch.eye(3)).solution,
            reals("n", 3, 3, low=-1.0, high=1.0),
            reals("n", 3, 2),
        )
    ],
)
def old_triangular_solve(
    self: torch.Tensor, A: torch.Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> Pair:
    """As above; the older operator.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.triangular_solve.html
    """
    matrix = A.mT if transpose else A
    solution = solve_triangular(matrix, self, upper=upper != transpose, unitriangular=unitriangular)
    batch = torch.broadcast_shapes(A.shape[:-2], self.shape[:-2])
    return solution, A.expand(*batch, *A.shape[-2:]).clone()


def lu_factor(matrix: torch.Tensor, pivot: bool = True) -> Pair:
    """L and U in one matrix, and the pivots, counted from 1, as LAPACK's getrf (Golub and Van Loan, 3.4.1)."""
    if elimination.is_dynamic(*matrix.shape[-2:]):
        return elimination.lu_factor(matrix, pivot)
    rows, columns = matrix.shape[-2:]
    number = torch.arange(rows, device=matrix.device)
    across = torch.arange(columns, device=matrix.device)
    batch = matrix.shape[:-2]
    pivots = []
    for k in range(min(rows, columns)):
        if pivot and k + 1 < rows:
            chosen = matrix[..., k:, k].abs().argmax(-1, keepdim=True) + k
            order = torch.where(number == k, chosen, torch.where(number == chosen, torch.full_like(number, k), number))
            matrix = matrix.gather(-2, order.unsqueeze(-1).expand(*batch, rows, columns))
            pivots.append(chosen + 1)
        else:
            pivots.append(torch.full((*batch, 1), k + 1, dtype=torch.int64, device=matrix.device))
        head = matrix[..., k : k + 1, k : k + 1]
        safe = torch.where(head == 0, torch.ones_like(head), head)
        below = (number > k).unsqueeze(-1)
        column = matrix[..., :, k : k + 1]
        factor = torch.where(below, column / safe, torch.zeros_like(column))
        reduced = matrix - factor * torch.where(across > k, matrix[..., k : k + 1, :], 0.0)
        matrix = torch.where(below & (across == k), factor, reduced)
    counted = torch.cat(pivots, -1) if pivots else torch.zeros((*batch, 0), dtype=torch.int64, device=matrix.device)
    return matrix, counted.to(torch.int32)


def _order(pivots: torch.Tensor, rows: int) -> torch.Tensor:
    """The row that the pivots move to each place."""
    if elimination.is_dynamic(rows, pivots.shape[-1]):
        return elimination.order(pivots, rows)
    number = torch.arange(rows, device=pivots.device)
    order = number.expand(*pivots.shape[:-1], rows)
    for k in range(pivots.shape[-1]):
        other = pivots[..., k : k + 1].to(torch.int64) - 1
        swapped = torch.where(number == k, other, torch.where(number == other, torch.full_like(number, k), number))
        order = order.gather(-1, swapped.expand_as(order))
    return order


@decomposition(
    _aten._linalg_check_errors.default,
    samples=[sample(lambda x: torch.linalg.inv(x + 4 * torch.eye(3)), reals("n", 3, 3, low=-1.0, high=1.0))],
)
def check_errors(info: torch.Tensor, api_name: str, *, is_matrix: bool) -> None:
    """Does nothing: where eager raises, the graph gives inf or nan."""


def lapack_info(failed: torch.Tensor) -> torch.Tensor:
    """LAPACK's info: 0, or the first place on the diagonal, counted from 1, where the factorization failed.

    Source: https://www.netlib.org/lapack/explore-html/ (getrf, potrf)
    """
    if not elimination.is_dynamic(failed.shape[-1]) and failed.shape[-1] == 0:
        return torch.zeros(failed.shape[:-1], dtype=torch.int32, device=failed.device)
    first = failed.to(torch.int64).argmax(-1) + 1
    return torch.where(failed.any(-1), first, torch.zeros_like(first)).to(torch.int32)


def _info_of_lu(lu: torch.Tensor) -> torch.Tensor:
    return lapack_info(lu.diagonal(0, -2, -1) == 0)


@decomposition(
    _aten.linalg_lu_factor_ex.default,
    samples=[sample(lambda x: torch.linalg.lu_factor(x + 4 * torch.eye(3)).LU, reals("n", 3, 3, low=-1.0, high=1.0))],
)
def linalg_lu_factor_ex(
    A: torch.Tensor, *, pivot: bool = True, check_errors: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """LU with pivots.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.lu_factor_ex.html
    """
    lu, pivots = lu_factor(A, pivot)
    return lu, pivots, _info_of_lu(lu)


@decomposition(
    _aten.lu_unpack.default,
    samples=[
        sample(
            lambda x: torch.lu_unpack(*torch.linalg.lu_factor(x + 4 * torch.eye(3)))[1:],
            reals("n", 3, 3, low=-1.0, high=1.0),
        )
    ],
)
def lu_unpack(
    LU_data: torch.Tensor, LU_pivots: torch.Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """P, L and U.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.lu_unpack.html
    """
    rows, columns = LU_data.shape[-2:]
    small = torch.sym_min(rows, columns)
    nothing = LU_data.new_zeros((0,))
    permutation, lower, upper = nothing, nothing, nothing
    if unpack_pivots:
        order = _order(LU_pivots, rows)
        one = torch.eye(rows, dtype=LU_data.dtype, device=LU_data.device)
        permutation = one[order].mT
    if unpack_data:
        unit = torch.eye(rows, small, dtype=LU_data.dtype, device=LU_data.device)
        lower = LU_data[..., :small].tril(-1) + unit
        upper = LU_data[..., :small, :].triu()
    return permutation, lower, upper


@decomposition(
    _aten.linalg_lu.default,
    samples=[sample(lambda x: torch.linalg.lu(x + 4 * torch.eye(3))[1:], reals("n", 3, 3, low=-1.0, high=1.0))],
)
def linalg_lu(A: torch.Tensor, *, pivot: bool = True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """P, L and U of a matrix.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.lu.html
    """
    permutation, lower, upper = lu_unpack(*lu_factor(A, pivot))
    return (permutation if pivot else A.new_zeros((0,))), lower, upper


@decomposition(
    _aten.linalg_lu_solve.default,
    samples=[
        sample(
            lambda x, y: torch.linalg.lu_solve(*torch.linalg.lu_factor(x + 4 * torch.eye(3)), y),
            reals("n", 3, 3, low=-1.0, high=1.0),
            reals("n", 3, 2),
        )
    ],
)
def linalg_lu_solve(
    LU: torch.Tensor, pivots: torch.Tensor, B: torch.Tensor, *, left: bool = True, adjoint: bool = False
) -> torch.Tensor:
    """Solves by two triangular systems and a permutation.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.lu_solve.html
    """
    if not left:
        return linalg_lu_solve(LU, pivots, B.mT, left=True, adjoint=not adjoint).mT
    batch = torch.broadcast_shapes(LU.shape[:-2], B.shape[:-2])
    if LU.shape[-1] == 0:
        return B.expand(*batch, *B.shape[-2:]).clone()
    right = B.expand(*batch, *B.shape[-2:])
    order = _order(pivots, LU.shape[-1]).expand(*batch, LU.shape[-1])
    if not adjoint:
        moved = right.gather(-2, order.unsqueeze(-1).expand(right.shape))
        return solve_upper(LU, solve_lower(LU, moved, unit=True))
    solution = solve_upper(LU.mT, solve_lower(LU.mT, right), unit=True)
    back = order.argsort(-1)
    return solution.gather(-2, back.unsqueeze(-1).expand(solution.shape))


@decomposition(
    _aten._linalg_solve_ex.default,
    samples=[
        sample(
            lambda x, y: torch.linalg.solve(x + 4 * torch.eye(3), y),
            reals("n", 3, 3, low=-1.0, high=1.0),
            reals("n", 3, 2),
        )
    ],
)
def linalg_solve_ex(
    A: torch.Tensor, B: torch.Tensor, *, left: bool = True, check_errors: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A linear system by LU.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.solve.html
    """
    lu, pivots = lu_factor(A)
    vector = B.dim() == 1 or (B.dim() == A.dim() - 1 and B.shape == A.shape[:-1])
    right = B.unsqueeze(-1) if vector else B
    solution = linalg_lu_solve(lu, pivots, right, left=left or vector)
    return (solution.squeeze(-1) if vector else solution), lu, pivots, _info_of_lu(lu)


@decomposition(
    _aten.linalg_inv_ex.default,
    samples=[sample(lambda x: torch.linalg.inv(x + 4 * torch.eye(3)), reals("n", 3, 3, low=-1.0, high=1.0))],
)
def linalg_inv_ex(A: torch.Tensor, *, check_errors: bool = False) -> Pair:
    """The inverse, by LU.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.inv.html
    """
    lu, pivots = lu_factor(A)
    one = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A)
    return linalg_lu_solve(lu, pivots, one), _info_of_lu(lu)


def _is_turned(matrix: torch.Tensor) -> bool:
    """Whether eager factors the transpose: LAPACK reads a contiguous matrix as its transpose. Eager's backward relies
    on it."""
    return matrix.is_contiguous() and not matrix.is_complex()


def _parity(pivots: torch.Tensor) -> torch.Tensor:
    """1 for an even number of row exchanges, -1 for an odd number."""
    places = torch.arange(1, pivots.shape[-1] + 1, device=pivots.device)
    exchanged = (pivots.to(torch.int64) != places).to(torch.int64).sum(-1)
    return 1 - 2 * (exchanged % 2)


@decomposition(_aten._linalg_det.default, samples=[sample(torch.linalg.det, reals("n", 3, 3))])
def linalg_det(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The determinant: the product of U's diagonal, with the sign of the pivots; also LU and pivots.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.det.html
    """
    lu, pivots = lu_factor(A.mT if _is_turned(A) else A)
    diagonal = lu.diagonal(0, -2, -1)
    return diagonal.prod(-1) * _parity(pivots).to(A.dtype), lu, pivots


@decomposition(
    _aten._linalg_slogdet.default,
    samples=[
        sample(lambda x: torch.linalg.slogdet(x + 4 * torch.eye(3)).logabsdet, reals("n", 3, 3, low=-1.0, high=1.0))
    ],
)
def linalg_slogdet(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sign and logarithm of the absolute determinant; also LU and pivots.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.slogdet.html
    """
    lu, pivots = lu_factor(A.mT if _is_turned(A) else A)
    diagonal = lu.diagonal(0, -2, -1)
    sign = diagonal.sign().prod(-1) * _parity(pivots).to(A.dtype)
    return sign, diagonal.abs().log().sum(-1), lu, pivots
