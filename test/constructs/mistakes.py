"""Arguments that mean nothing: each is refused by a sentence."""

import numpy
import torch
import torch.nn.functional as F
from torch import nn

import gradport

from .listing import Listing, normal

MISTAKES = Listing()
X, Y = normal(2, 4), normal(2, 3, seed=1)


def linear():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


MISTAKES.of(
    "a numpy array",
    linear(),
    (numpy.zeros((2, 4), numpy.float32),),
    r"'input' is a numpy array; give a tensor",
    wrt=None,
)
MISTAKES.of("a numpy target", linear(), X, r"not ndarray; torch.from_numpy", loss=F.mse_loss, targets=Y.numpy())
MISTAKES.of("opset_version='18'", linear(), X, r"opset_version='18' is not a whole number", opset_version="18")
MISTAKES.of("wrt=3", linear(), X, r"wrt=3 is not valid", wrt=3)
MISTAKES.of("loss=3", linear(), X, r"loss=3 is neither a function", loss=3)
MISTAKES.of("outputs=3", linear(), X, r"outputs=3 is neither", outputs=3)
MISTAKES.of("input_names='x'", linear(), X, r"input_names='x' is not valid: give a list", input_names="x")
MISTAKES.of("functions=3", linear(), X, r"functions=3 is not a form", functions=3)
MISTAKES.of("a scripted module", torch.jit.script(linear()), X, r"compiled by TorchScript.*before torch.jit.script")
MISTAKES.of("10^12 elements", linear(), gradport.tensor("f32[1000000000,1000]"), r"more memory than this machine has")


def trained(name, refused, **options):
    @MISTAKES.add(name, refused)
    def _():
        module = linear()
        defaults = {"loss": F.mse_loss, "targets": Y, "optimizer": torch.optim.SGD(module.parameters(), 0.1)}
        return module, X, {**defaults, **options}


trained("a step without targets", r"missing 1 required positional argument: 'target'", targets=())
trained("a step without a loss", r"needs a loss", loss=None)
trained("a step with a rate for an optimizer", r"optimizer is float", optimizer=0.1)
trained("clip_grad_norm=-1", r"clip_grad_norm=-1 is not a positive number", clip_grad_norm=-1)
trained("accumulate=0", r"accumulate=0 is not a number of calls", accumulate=0)
trained("accumulate=1.5", r"accumulate=1.5 is not a number of calls", accumulate=1.5)
