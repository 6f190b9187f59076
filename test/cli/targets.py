"""What the tests of the command line name as TARGET."""

import torch

import gradport


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, beta=1.0):
        ctx.save_for_backward(x)
        ctx.beta = beta
        return x * torch.sigmoid(beta * x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(ctx.beta * x)
        return g * (s + ctx.beta * x * s * (1 - s)), None


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -g


class Branch(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2 if x.sum() > 0 else x * 2 + 0 * x

    @staticmethod
    def backward(ctx, g):
        return g * 2


class Cuda(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.cuda()

    @staticmethod
    def backward(ctx, g):
        return g.cpu()


class WrongCount(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g, g


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, x):
        return Swish.apply(self.linear(x))


class NeedsArguments(torch.nn.Module):
    def __init__(self, width):
        super().__init__()


class Outer:
    Inner = Swish


def error(result, target):
    return (result - target).square().mean()


def pair(parts, *, scale=2.0):
    return parts[0] * scale + parts[1]


SUBJECT = gradport.Subject(
    Reversed, gradport.tensor("f32[batch,3]"), wrt="inputs", expect="scaled by -1", name="a subject"
)


class Weighed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.linear(x)
