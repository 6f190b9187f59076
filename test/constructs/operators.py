"""Operators of `torch.library`."""

import numpy
import torch

from .listing import Listing, normal

OPERATORS = Listing()


def backward(context, g):
    (x,) = context.saved_tensors
    return g * (x.sigmoid() + x * x.sigmoid() * (1 - x.sigmoid()))


def setup(ctx, inputs, output):
    ctx.save_for_backward(inputs[0])


@torch.library.custom_op("gradport_test::swish", mutates_args=())
def swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


@torch.library.custom_op("gradport_test::numpy_swish", mutates_args=())
def numpy_swish(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.numpy() / (1 + numpy.exp(-x.numpy())))


@torch.library.triton_op("gradport_test::triton_swish", mutates_args=())
def triton_swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


for operator in (swish, numpy_swish, triton_swish):
    operator.register_fake(torch.empty_like)
    operator.register_autograd(backward, setup_context=setup)


@torch.library.custom_op("gradport_test::scaled", mutates_args=())
def scaled(x: torch.Tensor, by: float) -> torch.Tensor:
    return x * by


scaled.register_fake(lambda x, by: torch.empty_like(x))

LIBRARY = torch.library.Library("gradport_test", "FRAGMENT")
LIBRARY.define("registered_swish(Tensor x) -> Tensor")
LIBRARY.impl("registered_swish", lambda x: x * torch.sigmoid(x), "CompositeExplicitAutograd")
torch.library.register_fake("gradport_test::registered_swish", torch.empty_like, lib=LIBRARY)
torch.library.register_autograd("gradport_test::registered_swish", backward, setup_context=setup, lib=LIBRARY)
registered_swish = torch.ops.gradport_test.registered_swish

for form in ("keep", "inline", "opaque"):
    OPERATORS.of(f"custom_op, {form}", lambda x: swish(x), normal(2, 4), functions=form)
OPERATORS.of("custom_op without a backward", lambda x: scaled(x, 2.0), normal(2, 4), wrt=None)
OPERATORS.of("triton_op in plain torch", lambda x: triton_swish(x), normal(2, 4))
OPERATORS.of(
    "custom_op in numpy",
    lambda x: numpy_swish(x),
    normal(2, 4),
    r"numpy_swish\.forward .* leaves torch for numpy.*@gradport\.reference\(torch\.ops\.gradport_test\.numpy_swish\)",
)
OPERATORS.of(
    "Library.define and impl",
    lambda x: registered_swish(x),
    normal(2, 4),
    r"torch\.ops\.gradport_test\.registered_swish, an operator whose kernel no trace can follow.*@gradport\.reference",
)
