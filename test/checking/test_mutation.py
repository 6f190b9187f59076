"""Every rule fails where it should because of its check: with the check broken, the mistake is not found any more."""

import contextlib
import sys

import pytest
import torch

import gradport  # noqa: F401  fills the table of rules
from gradport.checking import RULES
from gradport.checking.probes.trial import Trial
from gradport.eager.joint import Joint
from gradport.isolation.effort import Effort, Profile
from gradport.subject.subject import Subject

from .corpus import wrong


class WrongVmap(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x.round()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        return g

    @staticmethod
    def vmap(info, in_dims, x):
        return WrongVmap.apply(x) + 1, in_dims[0]


class WrongUnderAutocast(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.factor = 100 if torch.is_autocast_enabled("cpu") else 1
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.factor


class SavesTenCopies(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x, *(x.clone() for _ in range(9)))
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()


def room(name):
    return next(
        sys.modules[path]
        for folder in ("rules", "probes")
        if (path := f"gradport.checking.{folder}.{name}") in sys.modules
    )


X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

# rule: a mistake that it finds, and the check to break: room, name, what stands there instead
MUTATIONS = {
    "differences": ("a missing factor", "samples", "Sample.agrees", property(lambda self: True)),
    "operators": ("a missing factor", "samples", "Sample.agrees", property(lambda self: True)),
    "contract": ("frozen inputs forgotten", "contract", "_same", lambda a, b: True),
    "layouts": ("a cotangent read by its strides", "layouts", "_distance", lambda want, got: 0.0),
    "aliasing": ("an input changed in silence", "watch", "_find_changes", lambda before, value: False),
    "leaks": ("an input kept on ctx", "leaks", "_unprotected_tensors", lambda one: ()),
    "second-order": ("a detached second derivative", "second_order", "_FAR", float("inf")),
    "edge-values": ("nan at zero", "edges", "own_gradients", lambda *a: None),
    "dtypes": ("a narrow detour", "dtypes", "FLOOR", float("inf")),
    "autocast": (WrongUnderAutocast, "autocast", "FACTOR", float("inf")),
    "kinks": ("minus at an edge", "kinks", "_candidates", lambda trial, slot: ()),
    "determinism": ("a counter outside torch", "determinism", "_gap", lambda a, b: 0.0),
    "shapes": ("divided by four rows", "shapes", "measure_along", lambda *a: []),
    "transforms": (WrongVmap, "transforms", "_require_close", lambda got, want: None),
}


def failed(rule, mistake):
    entry = wrong.WRONG[mistake] if isinstance(mistake, str) else None
    function, args = (entry.function, entry.args) if entry else (mistake, X)
    trial = Trial(Joint(Subject(function, args, wrt="inputs")))
    return [finding.key for finding in RULES[rule].answer(trial) if finding.outcome == "failed"]


@pytest.mark.parametrize("rule", MUTATIONS)
def test_a_rule_fails_because_of_its_check(rule, monkeypatch):
    mistake, where, name, instead = MUTATIONS[rule]
    assert failed(rule, mistake)
    owner, _, attribute = f"{name}".rpartition(".")
    monkeypatch.setattr(getattr(room(where), owner) if owner else room(where), attribute, instead)
    assert not failed(rule, mistake)


def test_what_a_function_saves_is_weighed(monkeypatch):
    def saved():
        trial = Trial(Joint(Subject(SavesTenCopies, X, wrt="inputs")), effort=Effort(Profile.THOROUGH))
        return next(f.figure for f in RULES["cost"].answer(trial) if f.key == "cost/saved")

    assert saved() >= 9
    monkeypatch.setattr(room("cost"), "saved_tensors_hooks", lambda pack, unpack: contextlib.nullcontext())
    assert not saved()


def test_every_rule_has_a_mutation():
    assert {*MUTATIONS, "cost"} == set(RULES)
