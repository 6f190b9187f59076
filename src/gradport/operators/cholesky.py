"""Linear algebra by the Cholesky factor, as in `triangular`: nan where eager raises."""

from __future__ import annotations

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators import elimination
from gradport.operators.samples import reals, sample
from gradport.operators.table import decomposition
from gradport.operators.triangular import lapack_info, solve_lower, solve_upper

__all__: list[str] = []

Pair = tuple[torch.Tensor, torch.Tensor]


def _info_of(factor: torch.Tensor) -> torch.Tensor:
    diagonal = factor.diagonal(0, -2, -1)
    return lapack_info(~(diagonal > 0))


@decomposition(
    _aten.linalg_cholesky_ex.default,
    samples=[sample(lambda x: torch.linalg.cholesky(x @ x.mT + torch.eye(3)), reals("n", 3, 3, low=-1.0, high=1.0))],
)
def linalg_cholesky_ex(self: torch.Tensor, *, upper: bool = False, check_errors: bool = False) -> Pair:
    """The triangular factor, one column at a time; nan if the matrix is not positive definite.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linalg.cholesky.html; Golub and Van Loan, 4.2.5
    """
    matrix = self.mT if upper else self
    size = matrix.shape[-1]
    if elimination.is_dynamic(size):
        factor = elimination.cholesky(matrix)
        return (factor.mT if upper else factor), _info_of(factor)
    columns: list[torch.Tensor] = []
    for j in range(size):
        column = matrix[..., j:, j : j + 1]
        if columns:
            left = torch.cat(columns, -1)[..., j:, :]
            column = column - left @ left[..., :1, :].mT
        column = column / column[..., :1, :].sqrt()
        above = column.new_zeros((*column.shape[:-2], j, 1))
        columns.append(torch.cat([above, column], -2) if j else column)
    lower = torch.cat(columns, -1) if columns else matrix.clone()
    return (lower.mT if upper else lower), _info_of(lower)


@decomposition(
    _aten.cholesky.default,
    samples=[sample(lambda x: torch.cholesky(x @ x.mT + torch.eye(3)), reals("n", 3, 3, low=-1.0, high=1.0))],
)
def cholesky(self: torch.Tensor, upper: bool = False) -> torch.Tensor:
    """As above; the older operator.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cholesky.html
    """
    return linalg_cholesky_ex(self, upper=upper)[0]


@decomposition(
    _aten.cholesky_solve.default,
    _aten._cholesky_solve_helper.default,
    samples=[
        sample(
            lambda x, y: torch.cholesky_solve(y, x.tril() + 4 * torch.eye(3)),
            reals("n", 3, 3, low=-1.0, high=1.0),
            reals("n", 3, 2),
        )
    ],
)
def cholesky_solve(self: torch.Tensor, A: torch.Tensor, upper: bool = False) -> torch.Tensor:
    """Solves two triangular systems.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cholesky_solve.html
    """
    lower = A.mT if upper else A
    return solve_upper(lower.mT, solve_lower(lower, self))


@decomposition(
    _aten.cholesky_inverse.default,
    samples=[
        sample(lambda x: torch.cholesky_inverse(x.tril() + 4 * torch.eye(3)), reals("n", 3, 3, low=-1.0, high=1.0))
    ],
)
def cholesky_inverse(self: torch.Tensor, upper: bool = False) -> torch.Tensor:
    """The inverse of the matrix whose Cholesky factor is `self`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cholesky_inverse.html
    """
    one = torch.eye(self.shape[-1], dtype=self.dtype, device=self.device).expand_as(self)
    return cholesky_solve(one, self, upper)
