"""Random numbers as tensors from outside: every draw of a Subject becomes a function of standard draws.

torch draws inside operators (`bernoulli_`, `randn_like`, dropout). Here each draw is computed from uniform numbers on
[0, 1) or standard normal numbers of the same shape. A source supplies them: new draws, those of an earlier call, or
graph inputs. So a call can be repeated, traced, and compared with a graph, bit for bit.

`Expected` replaces each draw by its mean: dropout becomes the identity, normal noise its mean.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from gradport.compat.torch.checkpoints import running_recomputation
from gradport.compat.torch.modes import TorchDispatchMode
from gradport.compat.torch.operators import Absent
from gradport.compat.torch.operators import aten as _aten

__all__ = [
    "DISTRIBUTIONS",
    "Expected",
    "Randomness",
    "Supplied",
    "draw_by",
    "draw_from",
    "draw_standard",
    "seed_generators",
]

DISTRIBUTIONS = ("uniform", "normal")

Source = Callable[[str, str, Sequence[Any], torch.dtype], torch.Tensor]
"""Returns a standard draw, given its name, distribution, shape and dtype."""

Ask = Callable[[str, Sequence[Any], torch.dtype], torch.Tensor]

_DRAWS: dict[Any, Callable[..., Any]] = {}

_MEANS: dict[Any, Callable[..., Any]] = {}


@contextlib.contextmanager
def seed_generators(seed: int) -> Iterator[None]:
    """While open, torch's generators use this seed; their states are restored on exit."""
    on_cuda = torch.cuda.is_initialized()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if on_cuda else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed formats a traceback without CUDA
        if on_cuda:
            torch.cuda.manual_seed_all(seed)
        yield


class Randomness(TorchDispatchMode):
    """While open, draws use a table of rules instead of torch's generator.

    Attributes:
        drawn: the standard draws of the call by name, in order.
        distributions: the distribution of each draw, by name.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.drawn: dict[str, torch.Tensor] = {}
        self.distributions: dict[str, str] = {}


class Supplied(Randomness):
    """Computes every draw from standard draws of `source`."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        rule = _DRAWS.get(func)
        if rule is None:
            return func(*args, **(kwargs or {}))
        return rule(self._ask, *args, **(kwargs or {}))

    def _ask(self, distribution: str, shape: Sequence[Any], dtype: torch.dtype) -> torch.Tensor:
        recomputation = running_recomputation()
        again = None if recomputation is None else recomputation.next_draw()
        if again is not None:  # a recomputed checkpoint draws the same numbers
            return self.drawn[f"random_{again}"]
        name = f"random_{len(self.drawn)}"
        self.drawn[name] = self._source(name, distribution, shape, dtype)
        self.distributions[name] = distribution
        return self.drawn[name]


class Expected(Randomness):
    """Replaces every draw by its mean."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        rule = _MEANS.get(func)
        return func(*args, **(kwargs or {})) if rule is None else rule(*args, **(kwargs or {}))


def draw_standard(
    distribution: str, shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator
) -> torch.Tensor:
    """Draws uniform numbers on [0, 1), or standard normal numbers."""
    draw = torch.rand if distribution == "uniform" else torch.randn
    return draw(list(shape), generator=generator, dtype=dtype)


def draw_by(generator: torch.Generator) -> Callable[[], Randomness]:
    """Makes each call draw new numbers from a generator."""
    return lambda: Supplied(lambda name, kind, shape, dtype: draw_standard(kind, shape, dtype, generator))


def draw_from(drawn: Mapping[str, torch.Tensor]) -> Callable[[], Randomness]:
    """Makes each call repeat the draws of an earlier call, in the requested dtype."""
    return lambda: Supplied(lambda name, kind, shape, dtype: drawn[name].to(dtype))


def _draw(*overloads: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a rule that computes an operator's draw from standard draws: `rule(ask, *args, **kwargs)`."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        _DRAWS.update({overload: rule for overload in overloads if not isinstance(overload, Absent)})
        return rule

    return register


def _mean(*overloads: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a rule for the mean of an operator's draw: `rule(*args, **kwargs)`."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        _MEANS.update({overload: rule for overload in overloads if not isinstance(overload, Absent)})
        return rule

    return register


def _floating(dtype: torch.dtype | None) -> torch.dtype:
    return torch.get_default_dtype() if dtype is None or not dtype.is_floating_point else dtype


# --- Bernoulli: true where a uniform number is below p; https://docs.pytorch.org/docs/stable/generated/torch.bernoulli.html


@_draw(_aten.bernoulli.default)
def _bernoulli(ask: Ask, p: torch.Tensor, *, generator: Any = None) -> torch.Tensor:
    return (ask("uniform", p.shape, p.dtype) < p).to(p.dtype)


@_draw(_aten.bernoulli.p)
def _bernoulli_p(ask: Ask, self: torch.Tensor, p: float, *, generator: Any = None) -> torch.Tensor:
    return (ask("uniform", self.shape, _floating(self.dtype)) < p).to(self.dtype)


@_draw(_aten.bernoulli_.float)
def _bernoulli_float(ask: Ask, self: torch.Tensor, p: float = 0.5, *, generator: Any = None) -> torch.Tensor:
    return self.copy_(_bernoulli_p(ask, self, p))


@_draw(_aten.bernoulli_.Tensor)
def _bernoulli_tensor(ask: Ask, self: torch.Tensor, p: torch.Tensor, *, generator: Any = None) -> torch.Tensor:
    return self.copy_((ask("uniform", self.shape, p.dtype) < p).to(self.dtype))


@_draw(_aten.native_dropout.default)
def _native_dropout(ask: Ask, input: torch.Tensor, p: float, train: bool | None) -> tuple[torch.Tensor, torch.Tensor]:
    if train is False or p == 0:
        return input.clone(), torch.ones_like(input, dtype=torch.bool)
    mask = ask("uniform", input.shape, input.dtype) < 1 - p
    return input * mask * (1 / (1 - p) if p < 1 else 0.0), mask


@_draw(_aten.rrelu_with_noise_functional.default)
def _rrelu_functional(
    ask: Ask,
    self: torch.Tensor,
    noise: torch.Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Any = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The slope of negative elements is uniform between the limits; in eval mode it is their mean.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RReLU.html
    """
    if not training:
        return _apply_slope(self, torch.full_like(self, (lower + upper) / 2))[0], noise.clone()
    return _apply_slope(self, lower + (upper - lower) * ask("uniform", self.shape, self.dtype))


@_draw(_aten.rrelu_with_noise.default)
def _rrelu(ask: Ask, self: torch.Tensor, noise: torch.Tensor, *limits: Any, **options: Any) -> torch.Tensor:
    result, slope = _rrelu_functional(ask, self, noise, *limits, **options)
    noise.copy_(slope)
    return result


def _apply_slope(self: torch.Tensor, slope: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    slope = torch.where(self > 0, torch.ones_like(slope), slope)
    return self * slope, slope


# --- uniform and normal numbers, shifted and scaled


def _dtype_like(self: torch.Tensor, options: Mapping[str, Any]) -> torch.dtype:
    return options.get("dtype") or self.dtype


@_draw(_aten.rand.default)
def _rand(ask: Ask, size: Sequence[Any], **options: Any) -> torch.Tensor:
    return ask("uniform", size, _floating(options.get("dtype"))).clone()


@_draw(_aten.rand_like.default)
def _rand_like(ask: Ask, self: torch.Tensor, **options: Any) -> torch.Tensor:
    return ask("uniform", self.shape, _dtype_like(self, options)).clone()


@_draw(_aten.uniform_.default)
def _uniform_(ask: Ask, self: torch.Tensor, from_: float = 0, to: float = 1, *, generator: Any = None) -> torch.Tensor:
    return self.copy_(_uniform(ask, self, from_, to))


@_draw(_aten.uniform.default)
def _uniform(ask: Ask, self: torch.Tensor, from_: float = 0, to: float = 1, *, generator: Any = None) -> torch.Tensor:
    return ask("uniform", self.shape, self.dtype) * (to - from_) + from_


@_draw(_aten.randn.default)
def _randn(ask: Ask, size: Sequence[Any], **options: Any) -> torch.Tensor:
    return ask("normal", size, _floating(options.get("dtype"))).clone()


@_draw(_aten.randn_like.default)
def _randn_like(ask: Ask, self: torch.Tensor, **options: Any) -> torch.Tensor:
    return ask("normal", self.shape, _dtype_like(self, options)).clone()


@_draw(_aten.normal_.default)
def _normal_(ask: Ask, self: torch.Tensor, mean: float = 0, std: float = 1, *, generator: Any = None) -> torch.Tensor:
    return self.copy_(_normal(ask, self, mean, std))


@_draw(_aten.normal_functional.default)
def _normal(ask: Ask, self: torch.Tensor, mean: float = 0, std: float = 1, *, generator: Any = None) -> torch.Tensor:
    return ask("normal", self.shape, self.dtype) * std + mean


@_draw(_aten.normal.Tensor_float)
def _normal_around(ask: Ask, mean: torch.Tensor, std: float = 1, *, generator: Any = None) -> torch.Tensor:
    return ask("normal", mean.shape, mean.dtype) * std + mean


@_draw(_aten.normal.float_Tensor)
def _normal_wide(ask: Ask, mean: float, std: torch.Tensor, *, generator: Any = None) -> torch.Tensor:
    return ask("normal", std.shape, std.dtype) * std + mean


@_draw(_aten.normal.Tensor_Tensor)
def _normal_each(ask: Ask, mean: torch.Tensor, std: torch.Tensor, *, generator: Any = None) -> torch.Tensor:
    mean, std = torch.broadcast_tensors(mean, std)
    return ask("normal", mean.shape, mean.dtype) * std + mean


@_draw(_aten.normal.float_float)
def _normal_sized(ask: Ask, mean: float, std: float, size: Sequence[Any], **options: Any) -> torch.Tensor:
    return ask("normal", size, _floating(options.get("dtype"))) * std + mean


@_draw(_aten.exponential_.default)
def _exponential_(ask: Ask, self: torch.Tensor, lambd: float = 1, *, generator: Any = None) -> torch.Tensor:
    """Draws by the inverse distribution function, `-log(1 - u) / lambda`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.exponential_.html
    """
    return self.copy_(-(1 - ask("uniform", self.shape, self.dtype)).log() / lambd)


@_draw(_aten.randint.default)
def _randint(ask: Ask, high: int, size: Sequence[Any], **options: Any) -> torch.Tensor:
    return _randint_low(ask, 0, high, size, **options)


@_draw(_aten.randint.low)
def _randint_low(ask: Ask, low: int, high: int, size: Sequence[Any], **options: Any) -> torch.Tensor:
    """The floor of a uniform number on [low, high), in float64, so that large ranges are exact."""
    whole = (ask("uniform", size, torch.float64) * (high - low)).floor() + low
    return whole.to(options.get("dtype") or torch.int64)


@_draw(_aten.randint_like.default)
def _randint_like(ask: Ask, self: torch.Tensor, high: int, **options: Any) -> torch.Tensor:
    return _randint_low(ask, 0, high, self.shape, dtype=_dtype_like(self, options))


@_draw(_aten.randint_like.low_dtype)
def _randint_like_low(ask: Ask, self: torch.Tensor, low: int, high: int, **options: Any) -> torch.Tensor:
    return _randint_low(ask, low, high, self.shape, dtype=_dtype_like(self, options))


@_draw(_aten.randperm.default)
def _randperm(ask: Ask, n: int, **options: Any) -> torch.Tensor:
    """The argsort of uniform numbers."""
    return ask("uniform", [n], torch.float32).argsort().to(options.get("dtype") or torch.int64)


# --- means


@_mean(_aten.native_dropout.default)
def _mean_dropout(input: torch.Tensor, p: float, train: bool | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The identity; the backward multiplies by mask / (1 - p), so the mask is 1 - p."""
    return input.clone(), torch.full_like(input, 1.0 if train is False else 1 - p)


@_mean(_aten.bernoulli.default)
def _mean_bernoulli(p: torch.Tensor, *, generator: Any = None) -> torch.Tensor:
    return p.clone()


@_mean(_aten.bernoulli.p)
def _mean_bernoulli_p(self: torch.Tensor, p: float, *, generator: Any = None) -> torch.Tensor:
    return torch.full_like(self, p)


@_mean(_aten.bernoulli_.float)
def _mean_bernoulli_float(self: torch.Tensor, p: float = 0.5, *, generator: Any = None) -> torch.Tensor:
    return self.fill_(p)


@_mean(_aten.randn.default)
def _mean_randn(size: Sequence[Any], **options: Any) -> torch.Tensor:
    return torch.zeros(size, dtype=_floating(options.get("dtype")))


@_mean(_aten.randn_like.default)
def _mean_randn_like(self: torch.Tensor, **options: Any) -> torch.Tensor:
    return torch.zeros_like(self, dtype=_dtype_like(self, options))


@_mean(_aten.normal_.default)
def _mean_normal_(self: torch.Tensor, mean: float = 0, std: float = 1, *, generator: Any = None) -> torch.Tensor:
    return self.fill_(mean)


@_mean(_aten.rand.default)
def _mean_rand(size: Sequence[Any], **options: Any) -> torch.Tensor:
    return torch.full(list(size), 0.5, dtype=_floating(options.get("dtype")))


@_mean(_aten.rand_like.default)
def _mean_rand_like(self: torch.Tensor, **options: Any) -> torch.Tensor:
    return torch.full_like(self, 0.5, dtype=_dtype_like(self, options))


@_mean(_aten.uniform_.default)
def _mean_uniform_(self: torch.Tensor, from_: float = 0, to: float = 1, *, generator: Any = None) -> torch.Tensor:
    return self.fill_((from_ + to) / 2)


@_mean(_aten.rrelu_with_noise_functional.default)
def _mean_rrelu_functional(
    self: torch.Tensor,
    noise: torch.Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Any = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    return _apply_slope(self, torch.full_like(self, (lower + upper) / 2))


@_mean(_aten.rrelu_with_noise.default)
def _mean_rrelu(self: torch.Tensor, noise: torch.Tensor, *limits: Any, **options: Any) -> torch.Tensor:
    result, slope = _mean_rrelu_functional(self, noise, *limits, **options)
    noise.copy_(slope)
    return result
