"""implicit: the gradient of a solution, whatever found it.

The solution z of residual(z, x) = 0 has the derivative -(dr/dz)^-1 dr/dx (implicit function theorem). The backward
solves the adjoint system (dr/dz)^T u = cotangent by BiCGSTAB, which needs vector-Jacobian products of the residual, and
passes -u on to it. In an exported file the solver is a Loop of its own.

Sources: S. Bai, J. Z. Kolter, V. Koltun, "Deep Equilibrium Models", 2019, theorem 1; H. A. van der Vorst, "Bi-CGSTAB",
SIAM J. Sci. Stat. Comput. 13, 1992.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from gradport.eager.control_flow import vjp_of

__all__ = ["ImplicitSolution", "implicit", "iterate"]

Tensors = tuple[torch.Tensor, ...]


def implicit(
    solve: Callable[..., torch.Tensor],
    residual: Callable[..., torch.Tensor],
    *,
    tolerance: float = 1e-6,
    iterations: int = 200,
) -> Callable[..., torch.Tensor]:
    """A function that gives the solution of an equation, with the gradient of the equation in place of the solver's.

    Args:
        solve: `solve(*args, **kwargs) -> z`; runs without a graph, so it may loop until it converges (`iterate`).
        residual: `residual(z, *args, **kwargs)`, of the shape and dtype of `z`, zero at the solution. Gradients go to
            all tensors that it reads: arguments, and the parameters of a module that it calls.
        tolerance: of the adjoint system: the norm of its residual over that of the cotangent.
        iterations: the most steps of the adjoint's solver; each takes two vector-Jacobian products.

    Returns:
        `solution(*args, **kwargs) -> z`. It exports (the solver and the adjoint become Loops), and passes `check`.

    Raises:
        ValueError: by the returned function, if the residual has another shape than the solution.
    """
    settings = _Settings(tolerance, iterations)

    def solution(*args: Any, **kwargs: Any) -> torch.Tensor:
        with torch.no_grad():
            z = solve(*args, **kwargs)
        rest = residual(z, *args, **kwargs)
        if rest.shape != z.shape:
            raise ValueError(f"residual has the shape {tuple(rest.shape)}, not {tuple(z.shape)} as the solution.")
        found: torch.Tensor = ImplicitSolution.apply(lambda at: residual(at, *args, **kwargs), settings, z, rest)
        return found

    return solution


def iterate(
    condition: Callable[..., torch.Tensor], step: Callable[..., Tensors], state: Tensors, *, iterations: int = 1000
) -> Tensors:
    """Repeats a step while a condition holds: a Loop in an exported file, a loop of Python in eager.

    Args:
        condition: `condition(*state)`, a bool tensor of one element.
        step: `step(*state)`, a tuple of the same shapes and dtypes.
        state: the first state.
        iterations: the most steps.
    """
    if torch.compiler.is_compiling():

        def goes_on(count: torch.Tensor, *state: torch.Tensor) -> torch.Tensor:
            return (count < iterations) & condition(*state).reshape(())

        def count_step(count: torch.Tensor, *state: torch.Tensor) -> Tensors:
            return count + 1, *(one.clone() for one in step(*state))

        start = (torch.zeros((), dtype=torch.int64), *state)
        return tuple(torch.ops.higher_order.while_loop(goes_on, count_step, start, ())[1:])
    for _ in range(iterations):
        if not bool(condition(*state)):
            break
        state = tuple(step(*state))
    return state


@dataclasses.dataclass(frozen=True)
class _Settings:
    tolerance: float
    iterations: int


class ImplicitSolution(torch.autograd.Function):
    """The solution forward; the solution of the adjoint system backward, as the gradient of the residual."""

    @staticmethod
    def forward(
        ctx: Any,
        residual: Callable[[torch.Tensor], torch.Tensor],
        settings: _Settings,
        z: torch.Tensor,
        rest: torch.Tensor,
    ) -> torch.Tensor:
        """Returns `z`."""
        ctx.residual, ctx.settings = residual, settings
        ctx.save_for_backward(z)
        return z.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[None, None, None, torch.Tensor]:  # type: ignore[override]
        """The gradient of `rest`: -u with (dr/dz)^T u = cotangent."""
        (z,) = ctx.saved_tensors

        parts = vjp_of(ctx.residual, (z,))
        _, saved = parts.forward(z)
        return None, None, None, -_solve(lambda u: parts.backward(saved, u)[0], cotangent, ctx.settings)


def _solve(product: Callable[[torch.Tensor], torch.Tensor], right: torch.Tensor, settings: _Settings) -> torch.Tensor:
    """The solution of `product(u) = right` by BiCGSTAB from zero; a zero right side gives zero."""
    enough = settings.tolerance**2 * _dot(right, right)
    one, zero = torch.ones_like(enough), torch.zeros_like(right)

    def goes_on(u: torch.Tensor, r: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return _dot(r, r) > enough

    def step(
        u: torch.Tensor,
        r: torch.Tensor,
        p: torch.Tensor,
        v: torch.Tensor,
        rho: torch.Tensor,
        alpha: torch.Tensor,
        omega: torch.Tensor,
    ) -> Tensors:
        now = _dot(right, r)
        beta = _ratio(now, rho) * _ratio(alpha, omega)
        p = r + beta * (p - omega * v)
        v = product(p)
        alpha = _ratio(now, _dot(right, v))
        s = r - alpha * v
        t = product(s)
        omega = _ratio(_dot(t, s), _dot(t, t))
        return u + alpha * p + omega * s, s - omega * t, p, v, now, alpha, omega

    state = (zero, right.clone(), zero.clone(), zero.clone(), one, one.clone(), one.clone())
    return iterate(goes_on, step, state, iterations=settings.iterations)[0]


def _dot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x * y).sum()


def _ratio(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Zero where the denominator is zero: the solver then stands still."""
    return torch.where(y == 0, torch.zeros_like(x), x / torch.where(y == 0, torch.ones_like(y), y))
