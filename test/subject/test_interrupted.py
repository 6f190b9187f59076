"""Whatever interrupts a call of a subject, the user's module holds its own parameters afterwards."""

import sys

import pytest
import torch

import gradport
from gradport.eager.joint import Joint, cast
from gradport.eager.run import ones, run_eager


class Interrupt(BaseException):
    """What an alarm, Ctrl-C or another thread may raise, at any line."""


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
        self.scale = torch.nn.Parameter(torch.ones(3))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count = self.count + 1
        return self.inner(x) * self.scale


loose = torch.nn.Parameter(torch.ones(3))


def free(x):
    return x * loose


def interrupted_after(count, body):
    """Runs `body` and raises at the `count`-th line or return that Python executes in it; whether it was reached."""
    left = [count]

    def trace(frame, event, arg):
        left[0] -= 1
        if left[0] == 0:
            sys.settrace(None)
            raise Interrupt
        return trace

    sys.settrace(trace)
    try:
        body()
    except BaseException:
        return True
    finally:
        sys.settrace(None)
    return left[0] <= 0


@pytest.mark.parametrize("target", [Net, lambda: free])
def test_an_exception_at_any_line_leaves_the_users_tensors_in_place(target):
    target = target()
    joint = Joint(gradport.Subject(target, torch.randn(4, 3), wrt="parameters"))
    state = joint.state
    tensors = cast(joint.examples(), torch.float64)
    held = dict(target.named_parameters()) | dict(target.named_buffers()) if target is not free else {"loose": loose}
    values = {name: tensor.detach().clone() for name, tensor in held.items()}

    def body():
        state.call({slot.name: t for slot, t in tensors.items() if slot.role != "argument"}, lambda: None)

    lines = 0
    while interrupted_after(lines + 1, body):
        lines += 1
        assert lines < 10_000  # an error that is raised each time would never end this
        now = dict(target.named_parameters()) | dict(target.named_buffers()) if target is not free else {"loose": loose}
        assert list(now) == list(held)
        assert all(now[name] is tensor for name, tensor in held.items()), lines
    assert lines > (20 if target is free else 100)
    assert all(torch.equal(held[name], value) for name, value in values.items())


def test_an_interrupt_in_the_users_forward_is_passed_on():
    class Stops(torch.nn.Linear):
        def forward(self, x):
            raise KeyboardInterrupt

    net = Stops(3, 3)
    joint = Joint(gradport.Subject(net, torch.randn(4, 3), wrt="parameters"))
    weight = net.weight
    with pytest.raises(KeyboardInterrupt):
        run_eager(joint, cast(joint.examples(), torch.float64), ones)
    assert net.weight is weight and isinstance(net.weight, torch.nn.Parameter)
