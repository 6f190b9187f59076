"""Rules run in children, so that a crash, an exit or a hang costs one rule; failures shrink, and are remembered."""

import ctypes
import dataclasses
import os
import sys
import threading
import time

import hypothesis
import pytest
import torch
from hypothesis.database import InMemoryExampleDatabase

import gradport
from gradport.checking import workers
from gradport.compat.torch import selftest


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
    return [f for f in evidence.findings if f.rule == rule and f.outcome != "ok"]


def test_a_crash_is_a_finding_and_the_other_rules_are_asked():
    evidence = gradport.check(CrashesOnNothing, values(4, 3), only=["edge-values", "layouts"])
    (crash,) = found(evidence, "edge-values")
    assert crash.kind == "crash"
    assert "SIGSEGV" in crash.message
    assert not found(evidence, "layouts")
    assert any(f.rule == "layouts" for f in evidence.findings)


def test_a_rule_that_never_ends_is_undecided(monkeypatch):
    monkeypatch.setattr(sys.modules["gradport.checking.check"], "LIMIT", 2.0)
    evidence = gradport.check(LoopsOnNan, values(4, 3), only=["edge-values"])
    (endless,) = found(evidence, "edge-values")
    assert endless.outcome == "undecided"
    assert not evidence.ok


def test_rules_run_in_another_process(tmp_path):
    class WritesItsProcess(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            (tmp_path / str(os.getpid())).touch()
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    assert gradport.check(WritesItsProcess, values(4, 3), only=["layouts", "differences"]).ok
    seen = {path.name for path in tmp_path.iterdir()}
    assert seen
    assert str(os.getpid()) not in seen


@pytest.mark.parametrize(
    ("deed", "sentence"),
    [
        (lambda: ctypes.string_at(0), "kills its process (SIGSEGV) on its own example"),
        (lambda: os.abort(), "kills its process (SIGABRT) on its own example"),
        (lambda: sys.exit(5), "calls exit (exit code 5) on its own example"),
        (lambda: os._exit(3), "calls exit (exit code 3) on its own example"),
        (lambda: os._exit(0), "calls exit (exit code 0) on its own example"),
    ],
)
def test_a_forward_that_ends_its_process_is_a_finding(deed, sentence):
    class Ends(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            deed()
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    evidence = gradport.check(Ends, values(4, 3))
    failed = [f for f in evidence.findings if f.outcome == "failed"]
    assert [f.key for f in failed] == ["contract/returns"]
    assert sentence in failed[0].message
    assert {f.outcome for f in evidence.findings} == {"failed", "skipped"}


def test_an_exit_on_some_inputs_costs_one_rule():
    class Exits(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if x.isnan().any():
                sys.exit(5)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    evidence = gradport.check(Exits, values(4, 3), only=["edge-values", "layouts"])
    (ended,) = found(evidence, "edge-values")
    assert ended.outcome == "failed"
    assert "calls exit (exit code 5) on the inputs of this rule" in ended.message
    assert not found(evidence, "layouts")


def test_a_worker_that_waits_for_ever_is_ended(monkeypatch):
    monkeypatch.setattr(sys.modules["gradport.isolation.child"], "_BLOCKED", 2.0)

    class Waits(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if x.isnan().any():
                time.sleep(1000)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    evidence = gradport.check(Waits, values(4, 3), only=["edge-values", "layouts"])
    (waits,) = found(evidence, "edge-values")
    assert waits.outcome == "undecided"
    assert not found(evidence, "layouts")


def test_a_fault_in_one_rule_is_a_finding_and_the_others_are_asked(monkeypatch):
    def broken(trial):
        raise KeyError("oops")

    rules = sys.modules["gradport.checking.table"].RULES
    monkeypatch.setitem(rules, "layouts", dataclasses.replace(rules["layouts"], answer=broken))
    evidence = gradport.check(Doubles, values(4, 3), only=["layouts", "differences"])
    (fault,) = found(evidence, "layouts")
    assert fault.outcome == "error"
    assert "KeyError" in fault.message
    assert "please report it" in fault.message
    assert any(f.rule == "differences" and f.outcome == "ok" for f in evidence.findings)
    assert not evidence.ok


def test_threads_and_children_are_as_before(monkeypatch):
    def broken(trial):
        raise KeyError("oops")

    threads, switched = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    rules = sys.modules["gradport.checking.table"].RULES
    monkeypatch.setitem(rules, "layouts", dataclasses.replace(rules["layouts"], answer=broken))
    gradport.check(Doubles, values(4, 3), only=["layouts", "differences", "determinism"])
    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled() == switched
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def notes_its_process(seen):
    class NotesItsProcess(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            seen.add(os.getpid())
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    return NotesItsProcess


def test_where_a_debugger_looks_everything_runs_in_this_process(monkeypatch):
    monkeypatch.setenv("GRADPORT_DEBUG", "1")
    seen = set()

    assert gradport.check(notes_its_process(seen), values(4, 3), only=["layouts"]).ok
    assert seen == {os.getpid()}


def test_what_no_pickle_carries_is_examined_as_well():
    class HoldsALock:
        def __init__(self):
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


def test_what_is_remembered_belongs_to_its_declaration_and_its_ranges(memory):
    far, near = {"x": (0.5, 3.0)}, {"x": (-3.0, 0.0)}
    assert not gradport.check(WrongAtOne, torch.ones(2, 2), only=["differences"], inputs=far).ok
    assert gradport.check(WrongAtOne, -torch.ones(2, 2), only=["differences"], inputs=near).ok
    without = torch.full((2, 2), 2.0)
    (finding,) = found(gradport.check(WrongAtOne, without, only=["differences"], inputs=far), "differences")
    assert "delete that folder to forget it" in finding.message


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


def test_rules_run_in_this_process_when_a_backward_does_not_survive_a_fork(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(
        workers, "run_in_child", lambda body, seconds: (b"", 0)
    )  # as torch fails after a fork with CUDA
    seen = set()

    assert gradport.check(notes_its_process(seen), values(4, 3), only=["layouts"]).ok
    assert seen == {os.getpid()}


@pytest.fixture
def accelerator(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)


def test_rules_run_in_children_when_the_machine_has_an_accelerator(accelerator):
    seen = set()

    def forward(x):
        seen.add(os.getpid())
        return x * 2

    assert gradport.check(forward, values(4, 3), only=["layouts"]).ok
    assert not seen


def test_a_crash_is_a_finding_when_the_machine_has_an_accelerator(accelerator):
    test_a_crash_is_a_finding_and_the_other_rules_are_asked()


def test_check_runs_no_backward_in_the_parent(monkeypatch):
    parent, runs = os.getpid(), []
    own = torch.autograd.graph._engine_run_backward

    def note(*args, **kwargs):
        if os.getpid() == parent:
            runs.append(args)
        return own(*args, **kwargs)

    for module in (torch.autograd, torch.autograd.graph):
        monkeypatch.setattr(module, "_engine_run_backward", note)
    selftest.require_hooks.cache_clear()
    assert gradport.check(Doubles, values(4, 3), only=["layouts", "differences"]).ok
    assert not runs  # after it, a machine with CUDA could not isolate any later check
