"""Control flow in a backward, layers, and optimizers."""

import torch
import torch.nn.functional as F
from torch import nn

from .listing import Listing, normal

LAYERS = Listing()
WEIGHT = torch.tensor(3.0)


class Cond(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.cond(x.sum() > 0, lambda g: g * 2, lambda g: g * 3, (g,))


class CondThatCaptures(Cond):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.cond(x.sum() > 0, lambda g: g * WEIGHT + x, lambda g: g * 3 - x, (g,))


class CondWithConstants(Cond):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.cond(x.sum() > 0, lambda g: g * WEIGHT, lambda g: torch.where(g > 0, g, torch.tensor(0.5)), (g,))


class While(Cond):
    @staticmethod
    def backward(ctx, g):
        loop = torch._higher_order_ops.while_loop
        return loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * 1.5), (torch.tensor(0), g))[1]


class WhileThatCaptures(Cond):
    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        loop = torch._higher_order_ops.while_loop
        return loop(lambda i, a: i < 3, lambda i, a: (i + 1, a + x * g), (torch.tensor(0), g))[1]


LAYERS.of("cond in a backward", Cond, normal(2, 4))
LAYERS.of("cond in a backward that captures", CondThatCaptures, normal(2, 4))
LAYERS.of("cond in a backward with constants", CondWithConstants, normal(2, 4))
LAYERS.of("while_loop in a backward", While, normal(2, 4))
LAYERS.of("while_loop in a backward that captures", WhileThatCaptures, normal(2, 4))


def linear(*sizes):
    torch.manual_seed(0)
    return nn.Linear(*sizes)


def trained(name, make, args, targets, optimizer, **options):
    @LAYERS.add(name)
    def _():
        module = make()
        return module, args, {"loss": F.mse_loss, "targets": targets, "optimizer": optimizer(module), **options}


def sgd(**options):
    return lambda module: torch.optim.SGD(module.parameters(), 0.1, **options)


old, new = torch.nn.utils.weight_norm, torch.nn.utils.parametrizations.weight_norm
X, Y = normal(2, 4), normal(2, 3, seed=1)
trained("weight_norm, old", lambda: old(linear(4, 3)), X, Y, sgd(momentum=0.9))
trained("weight_norm, new", lambda: new(linear(4, 3)), X, Y, sgd(momentum=0.9))
trained("SGD with dampening", lambda: linear(4, 3), X, Y, sgd(momentum=0.9, dampening=0.5))
trained(
    "BatchNorm with momentum=None",
    lambda: nn.Sequential(linear(4, 3), nn.BatchNorm1d(3, momentum=None)),
    normal(5, 4),
    normal(5, 3, seed=1),
    sgd(),
)
trained(
    "a net with attention",
    lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
    normal(2, 3, 8),
    normal(2, 3, 8, seed=1),
    sgd(),
)

for mode in ("bilinear", "bicubic"):
    LAYERS.of(
        f"antialiased resize, {mode}",
        lambda x, mode=mode: F.interpolate(x, size=(5, 4), mode=mode, antialias=True),
        normal(1, 2, 9, 7),
    )


class Autocast(nn.Module):
    def __init__(self, norm, dtype):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.dtype = nn.Conv2d(3, 4, 1), norm, dtype

    def forward(self, x):
        with torch.autocast("cpu", dtype=self.dtype):
            return self.norm(self.conv(x)).float()


for dtype in (torch.float16, torch.bfloat16):
    for norm in (nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.LayerNorm([4, 5, 5])):
        name = f"{type(norm).__name__} under autocast to {dtype}"
        LAYERS.of(name, Autocast(norm, dtype), normal(2, 3, 5, 5), wrt="all")

LAYERS.of("FractionalMaxPool2d", nn.FractionalMaxPool2d(2, output_size=(3, 3)), normal(1, 2, 7, 7))
LAYERS.of("FractionalMaxPool3d", nn.FractionalMaxPool3d(2, output_size=(3, 3, 3)), normal(1, 2, 7, 7, 7))
LAYERS.of("wrt='all' without parameters", nn.ReLU(), normal(2, 4), wrt="all")


class Ctc(nn.Module):
    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        self.head, self.options = nn.Linear(5, 6), options

    def forward(self, x, targets, steps, lengths):
        return F.ctc_loss(self.head(x).log_softmax(-1), targets, steps, lengths, **self.options)


class CtcOfTuples(Ctc):
    def forward(self, x, targets):
        return F.ctc_loss(self.head(x).log_softmax(-1), targets, (7, 6), (3, 2))


SPOKEN = (normal(7, 2, 5), torch.tensor([[1, 2, 2], [3, 1, 4]]), torch.tensor([7, 6]), torch.tensor([3, 2]))
LENGTHS = {"x": {0: "t", 1: "b"}, "targets": {0: "b", 1: "s"}, "steps": {0: "b"}, "lengths": {0: "b"}}
LAYERS.of("CTC", Ctc(), SPOKEN, wrt="parameters", loss="output")
LAYERS.of("CTC at dynamic lengths", Ctc(), SPOKEN, wrt="parameters", loss="output", dynamic_shapes=LENGTHS)
LAYERS.of("CTC with lengths as tuples", CtcOfTuples(), SPOKEN[:2], wrt="parameters", loss="output")
