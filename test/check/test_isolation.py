"""Rules that can crash or hang the process run in a child; failures shrink, and are remembered."""

import ctypes
import os
import sys

import hypothesis
import pytest
import torch
from hypothesis.database import InMemoryExampleDatabase

import gradport


class CrashesOnNothing(torch.autograd.Function):
    """A kernel that reads where an empty batch has no memory."""

    @staticmethod
    def forward(ctx, x):
        if not x.numel():
            ctypes.string_at(0)
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


class LoopsOnNan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        while x.isnan().any():
            pass
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


class WrongBeyondOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.where(x > 1, 3 * x, 2 * x)


class DividesByFour(torch.autograd.Function):
    """Right at the example's four rows, and at no other count."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.mean(0)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return (g / 4).expand_as(x)


class TellsArgumentsApart(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.same = x is y
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, None if ctx.same else g * x


class WrongSomewhere(torch.autograd.Function):
    """One element in ten thousand has the wrong gradient."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        wrong = g * 2
        wrong.view(-1)[12345] = 0
        return wrong


def values(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def found(evidence, rule):
    return [f for f in evidence.findings if f.rule == rule and f.outcome != "held"]


def test_a_crash_is_a_finding_and_the_other_rules_are_asked():
    evidence = gradport.check(CrashesOnNothing, values(4, 3), only=["edge-values", "layouts"])
    (crash,) = found(evidence, "edge-values")
    assert crash.kind == "crash"
    assert "SIGSEGV" in crash.message
    assert not found(evidence, "layouts")
    assert any(f.rule == "layouts" for f in evidence.findings)


def test_a_rule_that_never_ends_is_undecided(monkeypatch):
    monkeypatch.setattr(sys.modules["gradport.check.check"], "LIMIT", 2.0)
    evidence = gradport.check(LoopsOnNan, values(4, 3), only=["edge-values"])
    (endless,) = found(evidence, "edge-values")
    assert endless.outcome == "undecided"
    assert not evidence.ok


def test_isolated_rules_run_in_another_process():
    class WritesItsProcess(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            seen = os.getpid()
            if seen != parent:
                raise RuntimeError("another process")
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    parent = os.getpid()
    evidence = gradport.check(WritesItsProcess, values(4, 3), only=["layouts"])
    assert [f.outcome for f in evidence.findings] == ["failed"]
    assert "another process" in evidence.findings[0].message


def test_what_cannot_be_carried_is_examined_here():
    class HoldsALock:
        def __init__(self):
            import threading

            self.lock = threading.Lock()

        def __call__(self, x):
            return x.sin()

    evidence = gradport.check(HoldsALock(), values(4, 3), only=["layouts"])
    assert evidence.ok
    assert {f.rule for f in evidence.findings} == {"layouts"}


def test_a_failure_shrinks_to_the_smallest_shape_and_the_roundest_numbers():
    evidence = gradport.check(WrongBeyondOne, 3 * values(5, 7), only=["differences"])
    (finding,) = found(evidence, "differences")
    shown = finding.input
    assert shown.startswith("x = float32 [[")
    numbers = [float(text) for text in shown[len("x = float32 [[") :].rstrip("]").replace("], [", ",").split(",")]
    assert len(numbers) <= 2
    assert all(number == round(number) for number in numbers)


class WrongAtOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.where((x - 1).abs() < 1e-3, 3 * x, 2 * x)


@pytest.fixture
def memory():
    before = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.register_profile("remembers", hypothesis.settings(database=InMemoryExampleDatabase()))
    hypothesis.settings.load_profile("remembers")
    yield
    hypothesis.settings.load_profile(before)


def test_what_failed_once_is_tried_first_the_next_time(memory):
    without, with_one = values(2, 2), torch.ones(2, 2)
    options = {"only": ["differences"], "inputs": {"x": (-3.0, 3.0)}}
    assert gradport.check(WrongAtOne, without, **options).ok
    assert not gradport.check(WrongAtOne, with_one, **options).ok
    (finding,) = found(gradport.check(WrongAtOne, without, **options), "differences")
    assert "earlier run" in finding.message
    assert finding.input == "x = float32 [[1.0]]"


def test_a_size_that_is_written_into_the_backward_is_found_at_another_size():
    evidence = gradport.check(DividesByFour, values(4, 3), only=["shapes"])
    (finding,) = found(evidence, "shapes")
    assert finding.kind == "sizes"
    assert "x = float32 [[" in finding.input


def test_one_tensor_given_twice_has_the_sum_of_both_gradients():
    evidence = gradport.check(TellsArgumentsApart, (values(4, 3), values(4, 3)), only=["shapes"])
    assert "given twice" in {f.kind for f in found(evidence, "shapes")}


def test_a_wrong_element_among_many_is_seen_along_a_random_direction():
    evidence = gradport.check(WrongSomewhere, values(200, 100), only=["differences"])
    assert [f.key for f in found(evidence, "differences")] == ["differences/x whole"]


class Doubles(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


@pytest.mark.parametrize("size", [(), (1,), (1, 1)])
def test_lone_elements_are_checked_too(size):
    assert gradport.check(Doubles, torch.full(size, 0.5)).ok
