"""Booleans, small integers, and indices that are constants."""

import torch
import torch.nn.functional as F
from torch import nn

from .listing import Listing, normal

TYPES = Listing()


class BooleanMasks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input, low, high):
        ctx.save_for_backward(input)
        ctx.low, ctx.high = low, high
        return input.clamp(low, high).round()

    @staticmethod
    def backward(ctx, g):
        (input,) = ctx.saved_tensors
        outside = (input < ctx.low) | (input > ctx.high)
        g = g.clone()
        g[outside] = 0
        return g * ((input > ctx.low) * (input < ctx.high)), None, None


def compared(x):
    a, b = x > 0, x < 1
    return x * (a > b) + x * (a >= b) + (a != b) * x + (a < b) * x + x * (a == 1) + x * (a <= 0.5)


def added(x):
    a, b = x > 0, x < 1
    return x * (a + b) + x * (a * b) + x * (~a) + x * (a ^ b) + x * torch.minimum(a, b) + x * a.prod() + a.cumsum(0)


def reduced(x):
    a = x > 0
    return x * a.max() + x * a.amax(0) + x * a.max(1, keepdim=True).values + x * a.sort(1).values + x * a.any()


TYPES.of("(input < low) | (input > high)", BooleanMasks, (normal(4, 3), -1.0, 1.0))
TYPES.of("booleans compared", compared, normal(4, 3))
TYPES.of("booleans added and multiplied", added, normal(4, 3))
TYPES.of("booleans reduced", reduced, normal(4, 3))


def shifted(x, q):
    return x * (q >> 1) + x * (q << 2) + x * torch.bitwise_right_shift(q, 2)


def masked(x, q):
    return x * (q & 15) + x * (q | 3) + x * (q ^ 5) + x * (~q) + (q & q.roll(1)) * x


def ordered(x, q):
    return x * (q > 3) + x * (q <= 7) + x * (q == 5) + x * (q < q.roll(1)) + torch.where(q > 4, x, q)


def counted(x, q):
    return x * (q + 3) + x * (q // 3) + x * (q % 5) + x * q.clamp(2, 50) + x * q.max() + x * torch.maximum(q, q.roll(1))


for dtype in (torch.int8, torch.uint8, torch.int16):
    q = torch.randint(0, 60, (4, 6), generator=torch.Generator().manual_seed(0)).to(dtype)
    for name, function in {"shifts": shifted, "bits": masked, "comparisons": ordered, "arithmetic": counted}.items():
        TYPES.of(f"{name} of {dtype}", function, (normal(4, 6), q), wrt=["x"])


class FourBits(nn.Module):
    """Packed 4-bit weights under a trained adapter of low rank."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("packed", torch.randint(0, 256, (6, 4), dtype=torch.uint8))
        self.register_buffer("scale", torch.rand(6, 1))
        self.down, self.up = nn.Parameter(torch.randn(2, 8) * 0.1), nn.Parameter(torch.zeros(6, 2))

    def forward(self, x):
        low, high = (self.packed & 0x0F).to(torch.int8) - 8, (self.packed >> 4).to(torch.int8) - 8
        weight = torch.stack([low, high], -1).reshape(6, 8).to(x.dtype) * self.scale
        return F.linear(x, weight) + F.linear(F.linear(x, self.down), self.up)


TYPES.of("packed 4-bit weights under an adapter", FourBits(), normal(3, 8), wrt="all")


class PairsAbove(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        index = torch.ones(x.shape[1], x.shape[1]).triu(1).nonzero()
        ctx.save_for_backward(index)
        ctx.shape = x.shape
        return x[:, index[:, 0]] * x[:, index[:, 1]].exp()

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        found = g.new_zeros(ctx.shape)
        found[:, index[:, 0]] = g
        return found


class EveryOther(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        index = torch.arange(0, x.shape[1], 2)
        ctx.save_for_backward(index, x)
        return x[:, index] ** 2

    @staticmethod
    def backward(ctx, g):
        index, x = ctx.saved_tensors
        found = torch.zeros_like(x)
        found[:, index] = g * 2 * x[:, index]
        return found


class Chosen(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.index = torch.tensor([0, 2, 3])
        return x[:, ctx.index].clone()

    @staticmethod
    def backward(ctx, g):
        found = torch.zeros(g.shape[0], 4)
        found[:, ctx.index] = g
        return found


for form in ("keep", "opaque"):
    TYPES.of(f"ones(n, n).triu().nonzero() saved, {form}", PairsAbove, normal(2, 4), functions=form)
    TYPES.of(f"arange saved as an index, {form}", EveryOther, normal(2, 4), functions=form)
    TYPES.of(f"an index on ctx, {form}", Chosen, normal(2, 4), functions=form)
