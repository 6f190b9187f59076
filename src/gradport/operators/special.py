"""Special functions, by Chebyshev series that interpolate torch's float64 values on intervals where the function,
divided by its growth, is smooth. Elsewhere recurrences and reflections reduce to those intervals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.compat.torch.operators import prims as _prims
from gradport.compat.torch.tracing import without_modes
from gradport.operators.samples import reals, sample
from gradport.operators.table import decomposition

__all__: list[str] = []

_DEGREE = 24

Unary = Callable[[torch.Tensor], torch.Tensor]


def _series(name: str, function: Unary, low: float, high: float, degree: int = _DEGREE) -> Unary:
    """The polynomial through `function` at the Chebyshev nodes of [low, high], evaluated by Clenshaw's recurrence."""
    coefficients = _coefficients(name, function, low, high, degree)

    def evaluate(x: torch.Tensor) -> torch.Tensor:
        t = (2 * x - (low + high)) / (high - low)
        following = after = torch.zeros_like(x)
        for coefficient in reversed(coefficients[1:]):
            following, after = 2 * t * following - after + coefficient, following
        return t * following - after + coefficients[0]

    return evaluate


_cache: dict[tuple[str, float, float, int], list[float]] = {}


def _coefficients(name: str, function: Unary, low: float, high: float, degree: int) -> list[float]:
    key = (name, low, high, degree)
    if key not in _cache:
        nodes = np.polynomial.chebyshev.chebpts1(degree + 1)
        with without_modes():
            values = function(torch.from_numpy((nodes * (high - low) + low + high) / 2)).numpy()
        series = np.polynomial.chebyshev.chebfit(nodes, values, degree)  # degree + 1 nodes: an interpolation
        _cache[key] = [float(c) for c in series]
    return _cache[key]


def _constant(x: torch.Tensor, value: float) -> torch.Tensor:
    return torch.full_like(x, value)


def _floating(x: torch.Tensor) -> torch.Tensor:
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


@decomposition(
    _prims.lgamma.default, _aten.lgamma.default, samples=[sample(torch.lgamma, reals("n", 4, low=0.2, high=6.0))]
)
def lgamma(x: torch.Tensor) -> torch.Tensor:
    """log |Gamma(x)|: on [1, 3] a series with the zeros at 1 and 2 factored out; above, Stirling's formula with its
    correction; below, the recurrence; for negative x the reflection formula.

    Source: https://dlmf.nist.gov/5.5 (recurrence, reflection), https://dlmf.nist.gov/5.11 (Stirling)
    """
    x = _floating(x)
    low = 0.5 * math.log(2 * math.pi)
    middle = _series("lgamma", lambda p: torch.lgamma(p) / ((p - 1) * (p - 2)), 1.0, 3.0, 25)  # no node is 2
    rest = _series("stirling", lambda t: _stirling_rest(t), 1e-6, 1.0 / 9.0, 12)
    negative = x < 0
    y = torch.where(negative, 1 - x, x)  # reflected
    below, beyond = y < 1, y > 3
    inside = torch.where(below, y + 1, torch.where(beyond, _constant(y, 2.0), y))
    small = middle(inside) * (inside - 1) * (inside - 2) - torch.where(below, y.log(), torch.zeros_like(y))
    far = torch.where(beyond, y, _constant(y, 4.0))
    t = 1 / (far * far)
    large = (far - 0.5) * (far.log() - 1) + (low - 0.5) + rest(t) / far
    value = torch.where(beyond, large, small)
    value = torch.where(y.isinf(), y, value)
    off = x - x.round()  # exact, also for tiny x
    reflected = math.log(math.pi) - (math.pi * off.abs()).sin().log() - value
    reflected = torch.where(x == -math.inf, -x, reflected)
    return torch.where(negative, torch.where(off == 0, _constant(x, math.inf), reflected), value)


def _stirling_rest(t: torch.Tensor) -> torch.Tensor:
    """x (lgamma(x) - Stirling's leading terms) at t = 1 / x^2; its asymptotic series where the difference cancels."""
    x = t.rsqrt()
    direct = x * (torch.lgamma(x) - ((x - 0.5) * x.log() - x + 0.5 * math.log(2 * math.pi)))
    terms = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
    asymptotic = sum(term * t**power for power, term in enumerate(terms))
    return torch.where(x > 12, asymptotic, direct)


@decomposition(
    _prims.digamma.default, _aten.digamma.default, samples=[sample(torch.digamma, reals("n", 4, low=0.2, high=6.0))]
)
def digamma(x: torch.Tensor) -> torch.Tensor:
    """The derivative of lgamma: on [1, 2] a series; above, log(x) with correction; below, recurrence and reflection.

    Source: https://dlmf.nist.gov/5.5, https://dlmf.nist.gov/5.11.E2
    """
    x = _floating(x)
    negative = x < 0
    y = torch.where(negative, 1 - x, x)
    below, beyond = y < 1, y > 2
    root = 1.4616321449683622  # https://dlmf.nist.gov/5.4.E19; factored out, so that values near it keep their digits
    middle = _series("digamma", lambda p: torch.digamma(p) / (p - root), 1.0, 2.0, 30)
    rest = _series("digamma.rest", _digamma_rest, 1e-5, 0.5, 20)
    inside = torch.where(below, y + 1, torch.where(beyond, _constant(y, 1.5), y))
    safe = torch.where(below, y, torch.ones_like(y))
    small = middle(inside) * (inside - root) - torch.where(below, safe.reciprocal(), torch.zeros_like(y))
    far = torch.where(beyond, y, _constant(y, 3.0))
    value = torch.where(beyond, far.log() - rest(1 / far) / far, small)
    value = torch.where(y.isinf(), y, value)
    off = x - x.round()  # exact, also for tiny x
    reflected = value - math.pi / (math.pi * off).tan()
    reflected = torch.where(off == 0, _constant(x, math.nan), reflected)
    return torch.where(x == 0, -x.reciprocal(), torch.where(negative, reflected, value))


def _digamma_rest(t: torch.Tensor) -> torch.Tensor:
    """x (log(x) - digamma(x)) at t = 1 / x."""
    terms = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760)
    asymptotic = 0.5 + sum(term * t ** (2 * power + 1) for power, term in enumerate(terms))
    return torch.where(t < 1 / 16, asymptotic, (-t.log() - torch.digamma(1 / t)) / t)


@decomposition(
    _aten.polygamma.default, samples=[sample(lambda x: torch.polygamma(1, x), reals("n", 4, low=0.2, high=6.0))]
)
def polygamma(n: int, x: torch.Tensor) -> torch.Tensor:
    """The n-th derivative of digamma: (-1)^(n+1) n! zeta(n + 1, x), reflected for negative x.

    Source: https://dlmf.nist.gov/5.15.E1 (series), https://dlmf.nist.gov/5.15.E6 (reflection)
    """
    x = _floating(x)
    if n == 0:
        return torch.digamma(x)
    negative = x < 0
    y = torch.where(negative, 1 - x, x)
    value = (-1.0) ** (n + 1) * math.factorial(n) * _hurwitz(n + 1, y)
    fraction = x - x.floor()
    centred = torch.where(fraction > 0.5, fraction - 1, fraction)
    cotangent = (math.pi * centred).tan().reciprocal()
    reflected = (-1.0) ** n * value - _polynomial(_derivative_of_cot(n), cotangent)
    return torch.where(negative, reflected, value)


def _derivative_of_cot(n: int) -> list[float]:
    """The n-th derivative of pi cot(pi x) as a polynomial in c = cot(pi x): c' = -pi (1 + c^2)."""
    polynomial = np.polynomial.Polynomial([0.0, math.pi])
    for _ in range(n):
        polynomial = polynomial.deriv() * np.polynomial.Polynomial([-math.pi, 0.0, -math.pi])
    return [float(c) for c in polynomial.coef]


def _polynomial(coefficients: list[float], x: torch.Tensor) -> torch.Tensor:
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


def _hurwitz(s: int, x: torch.Tensor) -> torch.Tensor:
    """zeta(s, x) for an integer s and positive x."""

    def zeta(p: torch.Tensor) -> torch.Tensor:
        return torch.special.zeta(torch.full_like(p, float(s)), p)

    below, beyond = x < 1, x > 2
    middle = _series(f"zeta{s}", zeta, 1.0, 2.0)
    growth = _series(f"zeta{s}.rest", lambda t: zeta(1 / t) * t ** (1 - s), 1e-4, 0.5)
    inside = torch.where(below, x + 1, torch.where(beyond, _constant(x, 1.5), x))
    far = torch.where(beyond, x, _constant(x, 3.0))
    near = middle(inside) + torch.where(below, x.reciprocal() ** s, torch.zeros_like(x))
    return torch.where(beyond, growth(1 / far) * (1 / far) ** (s - 1), near)


def _bessel(name: str, scaled: Unary, order: int, x: torch.Tensor) -> torch.Tensor:
    """exp(-|x|) I_n(x): up to 8 a series in |x|; above, a series in 1 / |x| of the value times sqrt(|x|)."""
    y = x.abs()
    beyond = y > 8
    near = _series(name, (lambda p: scaled(p) / p) if order else scaled, 1e-3 if order else 0.0, 8.0, 30)
    far = _series(f"{name}.far", lambda t: scaled(1 / t) * (1 / t).sqrt(), 1e-6, 1 / 8, 22)
    inside = torch.where(beyond, torch.ones_like(y), y)
    outside = torch.where(beyond, y, _constant(y, 9.0))
    low = near(inside) * x if order else near(inside)
    high = far(1 / outside) / outside.sqrt()
    return torch.where(beyond, high * x.sign() if order else high, low)


@decomposition(_prims.bessel_i0e.default, _aten.special_i0e.default, samples=[sample(torch.special.i0e, reals("n", 4))])
def i0e(x: torch.Tensor) -> torch.Tensor:
    """exp(-|x|) I_0(x).

    Source: https://docs.pytorch.org/docs/stable/special.html#torch.special.i0e, https://dlmf.nist.gov/10.40.E1
    """
    return _bessel("i0e", torch.special.i0e, 0, _floating(x))


@decomposition(
    _prims.bessel_i0.default,
    _aten.i0.default,
    _aten.special_i0.default,
    samples=[sample(torch.special.i0, reals("n", 4))],
)
def i0(x: torch.Tensor) -> torch.Tensor:
    """I_0(x), the modified Bessel function of the first kind.

    Source: https://docs.pytorch.org/docs/stable/special.html#torch.special.i0
    """
    return i0e(x) * _floating(x).abs().exp()


@decomposition(_prims.bessel_i1e.default, _aten.special_i1e.default, samples=[sample(torch.special.i1e, reals("n", 4))])
def i1e(x: torch.Tensor) -> torch.Tensor:
    """exp(-|x|) I_1(x).

    Source: https://docs.pytorch.org/docs/stable/special.html#torch.special.i1e, https://dlmf.nist.gov/10.40.E1
    """
    return _bessel("i1e", torch.special.i1e, 1, _floating(x))


@decomposition(_prims.bessel_i1.default, _aten.special_i1.default, samples=[sample(torch.special.i1, reals("n", 4))])
def i1(x: torch.Tensor) -> torch.Tensor:
    """I_1(x), the modified Bessel function of the first kind.

    Source: https://docs.pytorch.org/docs/stable/special.html#torch.special.i1
    """
    return i1e(x) * _floating(x).abs().exp()


def _tail(w: torch.Tensor) -> torch.Tensor:
    """-ndtri(exp(-w^2 / 2)) for w >= 1.4, where the probability is below 0.375."""
    near = _series("ndtri.near", lambda p: -torch.special.ndtri((-p * p / 2).exp()), 1.2, 4.0, 26)
    far = _series("ndtri.far", lambda p: -torch.special.ndtri((-p * p / 2).exp()), 4.0, 14.0, 26)
    farther = _series("ndtri.farther", lambda p: -torch.special.ndtri((-p * p / 2).exp()), 14.0, 37.0, 16)
    first = near(w.clamp(1.2, 4.0))
    return torch.where(w <= 4, first, torch.where(w <= 14, far(w.clamp(4.0, 14.0)), farther(w.clamp(14.0, 37.0))))


@decomposition(
    _prims.erf_inv.default, _aten.erfinv.default, samples=[sample(torch.erfinv, reals("n", 4, low=-0.9, high=0.9))]
)
def erfinv(x: torch.Tensor) -> torch.Tensor:
    """The inverse of erf: x times a series in x^2 up to 0.75, the tail of the normal quantile beyond.

    Source: https://docs.pytorch.org/docs/stable/special.html#torch.special.erfinv
    """
    x = _floating(x)
    y = x.abs()
    centre = _series("erfinv", lambda s: torch.erfinv(s.sqrt()) / s.sqrt(), 1e-8, 0.5625)
    middle = x * centre(x * x)
    w = (-2 * ((1 - y) / 2).log()).sqrt()
    value = torch.where(y <= 0.75, middle, x.sign() * _tail(w) / math.sqrt(2))
    return torch.where(y == 1, x * math.inf, torch.where(y > 1, _constant(x, math.nan), value))


@decomposition(
    _prims.ndtri.default,
    _aten.special_ndtri.default,
    samples=[sample(torch.special.ndtri, reals("n", 4, low=0.05, high=0.95))],
)
def ndtri(p: torch.Tensor) -> torch.Tensor:
    """The quantile of the normal distribution.

    Source: https://docs.pytorch.org/docs/stable/special.html#torch.special.ndtri
    """
    p = _floating(p)
    upper = p > 0.5
    q = torch.where(upper, 1 - p, p)
    w = (-2 * q.log()).sqrt()
    centre = _series("erfinv", lambda s: torch.erfinv(s.sqrt()) / s.sqrt(), 1e-8, 0.5625)
    y = 2 * p - 1
    middle = math.sqrt(2) * y * centre(y * y)
    tail = torch.where(upper, _tail(w), -_tail(w))
    value = torch.where(y.abs() <= 0.75, middle, tail)
    value = torch.where(p == 0, _constant(p, -math.inf), torch.where(p == 1, _constant(p, math.inf), value))
    return torch.where((p < 0) | (p > 1), _constant(p, math.nan), value)


@decomposition(_prims.erfcx.default, _aten.special_erfcx.default, samples=[sample(torch.special.erfcx, reals("n", 4))])
def erfcx(x: torch.Tensor) -> torch.Tensor:
    """exp(x^2) erfc(x): times 1 + 2 |x| it is a series in (|x| - 4) / (|x| + 4); 2 exp(x^2) - erfcx(-x) below zero.

    Source: https://docs.pytorch.org/docs/stable/special.html#torch.special.erfcx; Shepherd and Laframboise,
    "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x" (1981)
    """
    x = _floating(x)
    y = x.abs()

    def mapped(t: torch.Tensor) -> torch.Tensor:
        p = 4 * (1 + t) / (1 - t)
        return (1 + 2 * p) * torch.special.erfcx(p)

    series = _series("erfcx", mapped, -1.0, 1.0 - 1e-7, 30)
    finite = torch.where(y.isinf(), torch.ones_like(y), y)
    value = torch.where(y.isinf(), torch.zeros_like(y), series((finite - 4) / (finite + 4)) / (1 + 2 * finite))
    return torch.where(x < 0, 2 * (x * x).exp() - value, value)


@decomposition(_aten.special_log_ndtr.default, samples=[sample(torch.special.log_ndtr, reals("n", 4))])
def log_ndtr(x: torch.Tensor) -> torch.Tensor:
    """The logarithm of the normal distribution: below -1 by erfcx, which does not underflow.

    Source: https://docs.pytorch.org/docs/stable/special.html#torch.special.log_ndtr
    """
    x = _floating(x)
    t = x / math.sqrt(2)
    low = (erfcx(-t.clamp(max=-0.5)) / 2).log() - t * t
    scaled = erfcx(t.abs()) * (-t * t).exp() / 2
    high = torch.log1p(-torch.where(t < 0, 1 - scaled, scaled))
    return torch.where(x < -1, low, high)


@decomposition(
    _prims.erfc.default,
    _aten.erfc.default,
    _aten.special_erfc.default,
    samples=[sample(torch.special.erfc, reals("n", 4))],
)
def erfc(x: torch.Tensor) -> torch.Tensor:
    """1 - erf(x); above 0.5, exp(-x^2) erfcx(x), which does not cancel.

    Source: https://docs.pytorch.org/docs/stable/special.html#torch.special.erfc
    """
    x = _floating(x)
    tail = x > 0.5
    far = torch.where(tail, x, _constant(x, 1.0))
    return torch.where(tail, (-far * far).exp() * erfcx(far), 1 - x.erf())
