"""Arithmetic and activations, element by element."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from gradport.errors import ExportError
from gradport.importing.rows.unsigned import ordered, quotient, wide
from gradport.importing.sizes import Sizes
from gradport.importing.table import translation

Tensor = torch.Tensor

for _op_type, _function in {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Log": torch.log,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "HardSwish": F.hardswish,
}.items():
    # A function with one input and no attribute: torch's own may have others.
    translation(_op_type)(functools.partial(lambda function, x, /: function(x), _function))


@translation("Identity")
def identity(x: Tensor, /) -> Tensor:
    return x


@translation("Add")
@wide
def add(x: Tensor, y: Tensor, /) -> Tensor:
    return x + y


@translation("Sub")
@wide
def sub(x: Tensor, y: Tensor, /) -> Tensor:
    return x - y


@translation("Mul")
@wide
def mul(x: Tensor, y: Tensor, /) -> Tensor:
    return x * y


@translation("Div")
def div(x: Tensor, y: Tensor, /) -> Tensor:
    """Whole numbers are divided towards zero."""
    if x.is_floating_point():
        return x / y
    return quotient(x, y) if x.dtype == torch.uint64 else wide(_truncated)(x, y)


def _truncated(x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y, rounding_mode="trunc")


@translation("Pow")
def power(x: Tensor, y: Tensor, /) -> Tensor:
    """The result has the dtype of the base."""
    return torch.pow(x, y).to(x.dtype)


@translation("Mod")
def mod(x: Tensor, y: Tensor, /, *, fmod: int = 0) -> Tensor:
    if x.dtype == torch.uint64:
        return sub(x, mul(quotient(x, y), y))
    return wide(torch.fmod if fmod else torch.remainder)(x, y)


@translation("Sum")
def sum_of(*tensors: Tensor) -> Tensor:
    return functools.reduce(torch.add, tensors)


@translation("Mean")
def mean_of(*tensors: Tensor) -> Tensor:
    return functools.reduce(torch.add, tensors) / len(tensors)


@translation("Max")
def max_of(*tensors: Tensor) -> Tensor:
    return functools.reduce(ordered(torch.maximum), tensors)


@translation("Min")
def min_of(*tensors: Tensor) -> Tensor:
    return functools.reduce(ordered(torch.minimum), tensors)


@translation("Clip", since=11)
def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None, /) -> Tensor:
    """Where the limits cross, the upper one holds."""
    if low is not None:
        x = torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


@translation("Clip", since=6)
def clip_by_attributes(x: Tensor, /, *, min: float | None = None, max: float | None = None) -> Tensor:
    return x if min is None and max is None else torch.clamp(x, min, max)


@translation("Elu")
def elu(x: Tensor, /, *, alpha: float = 1.0) -> Tensor:
    return F.elu(x, alpha)


@translation("Celu")
def celu(x: Tensor, /, *, alpha: float = 1.0) -> Tensor:
    return F.celu(x, alpha)


@translation("Selu")
def selu(x: Tensor, /, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Tensor:
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


@translation("LeakyRelu")
def leaky_relu(x: Tensor, /, *, alpha: float = 0.01) -> Tensor:
    return F.leaky_relu(x, alpha)


@translation("PRelu")
def prelu(x: Tensor, slope: Tensor, /) -> Tensor:
    """The slope is broadcast to `x`."""
    return torch.where(x < 0, slope * x, x)


@translation("ThresholdedRelu")
def thresholded_relu(x: Tensor, /, *, alpha: float = 1.0) -> Tensor:
    return torch.where(x > alpha, x, torch.zeros_like(x))


@translation("HardSigmoid")
def hard_sigmoid(x: Tensor, /, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


@translation("Shrink")
def shrink(x: Tensor, /, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    zero = torch.zeros_like(x)
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, zero)).to(x.dtype)


@translation("Softplus")
def softplus(x: Tensor, /) -> Tensor:
    return F.softplus(x)


@translation("Mish")
def mish(x: Tensor, /) -> Tensor:
    return F.mish(x)


@translation("Swish")
def swish(x: Tensor, /, *, alpha: float = 1.0) -> Tensor:
    return x * torch.sigmoid(alpha * x)


@translation("Gelu")
def gelu(x: Tensor, /, *, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


@translation("Dropout")
def dropout(
    x: Tensor,
    ratio: Sizes | None = None,
    training_mode: Sizes | None = None,
    /,
    *,
    seed: int | None = None,
    **old: float,
) -> tuple[Tensor, Tensor]:
    """The identity in inference; the mask keeps all."""
    if training_mode is not None and training_mode.number():
        raise ExportError(
            "A Dropout in training mode draws random numbers; set its training_mode to False in the file."
        )
    return x, torch.ones_like(x, dtype=torch.bool)
