"""check says what a backward is, and holds it to what was declared."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport

from ..exporting import functions as fn

BACKWARD = ["differences", "operators"]
"""The rules that say what a backward is."""

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def function(forward, backward):
    def run(ctx, x):
        ctx.save_for_backward(x)
        return forward(x)

    body = {"forward": staticmethod(run), "backward": staticmethod(lambda ctx, g: backward(ctx.saved_tensors[0], g))}
    return type("Made", (torch.autograd.Function,), body)


RIGHT = {
    "clamp": (torch.relu, lambda x, g: g * (x > 0), "derivative"),
    "sine": (torch.sin, lambda x, g: g * x.cos(), "derivative"),
    "round": (torch.round, lambda x, g: g, "straight-through"),
    "sign within an interval": (torch.sign, lambda x, g: g * (x.abs() < 1), "straight-through"),
    "step": (lambda x: (x > 0).to(x.dtype), lambda x, g: g / (1 + x * x), "surrogate"),
    "sorted": (lambda x: x.sort(-1)[0], lambda x, g: g.gather(-1, x.argsort(-1).argsort(-1)), "derivative"),
    "mean over a dimension": (lambda x: x.mean(0), lambda x, g: (g / x.shape[0]).expand_as(x), "derivative"),
}

WRONG = {
    "a missing mask": (torch.relu, lambda x, g: g, "straight-through"),
    "reversed": (lambda x: x * 1, lambda x, g: -0.5 * g, "scaled by -0.5"),
    "a missing factor": (lambda x: x.square(), lambda x, g: g * x, "scaled by 0.5"),
    "clipped by value": (lambda x: x * 2, lambda x, g: (2 * g).clamp(-1, 1), "clipped"),
    "clipped by norm": (lambda x: x * 2, lambda x, g: 2 * g * (1 / (2 * g).norm()).clamp(max=1), "clipped"),
    "another slope": (torch.sin, lambda x, g: g * (x.cos() + 0.01), "wrong"),
    "no gradient": (torch.sin, lambda x, g: None, "wrong"),
    "zeros": (torch.sin, lambda x, g: g * 0, "wrong"),
    "a wrong reduction": (lambda x: x.mean(0), lambda x, g: g.expand_as(x), "scaled by 4"),
    "the wrong element": (lambda x: x.flip(0), lambda x, g: g, "straight-through"),
}


def kinds(evidence):
    return {f.kind for f in evidence.findings if f.rule == "differences"}


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_backward_holds_undeclared(case):
    forward, backward, kind = RIGHT[case]
    evidence = gradport.check(function(forward, backward), X, only=BACKWARD)
    assert evidence.ok, [f.message for f in evidence.findings]
    assert kinds(evidence) == {kind}


@pytest.mark.parametrize("case", WRONG)
def test_anything_else_fails_and_what_can_be_meant_is_shown_as_a_declaration(case):
    forward, backward, kind = WRONG[case]
    made = function(forward, backward)
    evidence = gradport.check(made, X, only=BACKWARD)
    assert not evidence.ok
    assert kinds(evidence) == {kind}
    message = evidence.findings[0].message
    if kind == "wrong":
        assert "declare" not in message
        return
    declared = message.rpartition('declare expect={"x": "')[2].partition('"')[0]
    assert gradport.check(made, X, expect={"x": declared}, only=["differences"]).ok


@pytest.mark.parametrize("case", WRONG)
def test_a_failure_names_its_line(case):
    forward, backward, _ = WRONG[case]
    evidence = gradport.check(function(forward, backward), X, only=["differences"])
    assert "test_check.py:" in evidence.findings[0].where


def test_both_references_are_asked_and_agree():
    evidence = gradport.check(fn.Swish, X, only=BACKWARD)
    assert [(f.rule, f.outcome) for f in evidence.findings] == [("differences", "ok"), ("operators", "ok")]
    assert evidence.findings[1].figure < 1e-12


def test_a_forward_that_detaches_is_not_compared_with_its_operators():
    made = function(lambda x: x.detach() * 2, lambda x, g: 2 * g)
    outcomes = {f.rule: f.outcome for f in gradport.check(made, X, only=BACKWARD).findings}
    assert outcomes == {"differences": "ok", "operators": "skipped"}


@pytest.mark.parametrize(
    ("made", "expect", "ok"),
    [
        ("reversed", "scaled by -0.5", True),
        ("reversed", "scaled by -0.6", False),
        ("reversed", "derivative", False),
        ("reversed", lambda g, x: -0.5 * g, True),
        ("reversed", lambda g, x: -0.6 * g, False),
        ("clipped by value", "clipped", True),
        ("clipped by value", "straight-through", False),
        ("a missing mask", "straight-through", True),
        ("another slope", "surrogate", True),
    ],
)
def test_a_declared_backward_is_held_to_its_declaration(made, expect, ok):
    forward, backward, _ = WRONG[made]
    assert gradport.check(function(forward, backward), X, expect=expect, only=BACKWARD).ok is ok


def test_a_derivative_declared_a_surrogate_fails():
    assert not gradport.check(fn.Swish, X, expect="surrogate").ok


def test_arguments_are_declared_one_by_one_and_absent_ones_are_derivatives():
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x * w

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return -g * w, g * x

    args = (X, torch.rand(4, 3) + 0.5)
    assert gradport.check(Scale, args, expect={"x": "scaled by -1"}).ok
    assert not gradport.check(Scale, args, expect={"w": "scaled by -1"}).ok


@pytest.mark.parametrize("expect", ["sideways", "scaled by", {"nope": "derivative"}, 3])
def test_a_declaration_that_does_not_parse_is_refused(expect):
    with pytest.raises(gradport.SpecError, match="expect"):
        gradport.check(fn.Swish, X, expect=expect)


def test_a_kink_at_the_example_is_no_alarm():
    at_zero = torch.tensor([[-1.0, 0.0, 1.0]])
    for backward in (lambda x, g: g * (x > 0), lambda x, g: g * (x >= 0), lambda x, g: g * ((x > 0) + 0.5 * (x == 0))):
        evidence = gradport.check(function(torch.relu, backward), at_zero, only=["differences"])
        assert evidence.ok, [f.message for f in evidence.findings]
    outside = gradport.check(function(torch.relu, lambda x, g: g * ((x > 0) + 1.5 * (x == 0))), at_zero, only=BACKWARD)
    assert not outside.ok


def test_a_wrong_number_of_gradients_is_a_failed_finding():
    evidence = gradport.check(function(torch.sin, lambda x, g: (g, g)), X, only=BACKWARD)
    assert not evidence.ok
    assert "incorrect number of gradients" in evidence.findings[0].message


def test_inputs_that_the_forward_rejects_are_an_error():
    with pytest.raises(gradport.TargetError, match="rejects its inputs"):
        gradport.check(fn.Newer, (X, X))


def test_random_functions_see_the_same_numbers_in_every_call():
    made = function(lambda x: x * torch.rand_like(x), lambda x, g: g)
    assert {f.outcome for f in gradport.check(made, X, only=BACKWARD).findings} == {"failed"}
    kept = {}

    class Dropout(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            kept["mask"] = torch.rand_like(x) > 0.5
            return x * kept["mask"]

        @staticmethod
        def backward(ctx, g):
            return g * kept["mask"]

    assert gradport.check(Dropout, X, only=BACKWARD).ok


def test_modules_are_examined_in_inputs_and_parameters():
    evidence = gradport.check(torch.nn.Linear(3, 2), X)
    assert evidence.ok
    assert {f.key for f in evidence.findings if f.rule == "differences"} == {
        "differences/input",
        "differences/weight",
        "differences/bias",
    }


def test_rules_are_chosen_by_name():
    assert {f.rule for f in gradport.check(fn.Swish, X, only=["operators"]).findings} == {"operators"}
    assert {f.rule for f in gradport.check(fn.Swish, X, only=BACKWARD, skip=["operators"]).findings} == {"differences"}
    with pytest.raises(gradport.SpecError, match=r"the rules are .*differences.*operators"):
        gradport.check(fn.Swish, X, only=["nope"])


def test_a_time_limit_that_is_over_leaves_every_rule_undecided():
    evidence = gradport.check(fn.Swish, X, time_limit=0)
    asked = [f for f in evidence.findings if f.outcome != "skipped"]
    assert {f.outcome for f in asked} == {"undecided"}
    assert all(f.message == "The time limit of 0 s was over before this rule." for f in asked)
    assert not evidence.ok


@pytest.mark.parametrize("limit", ["soon", -1, True])
def test_a_time_limit_is_a_time(limit):
    with pytest.raises(gradport.SpecError, match="write for example '30s', '500ms', '2m' or '1h'"):
        gradport.check(fn.Swish, X, time_limit=limit)


def test_a_profile_has_a_name():
    with pytest.raises(gradport.SpecError, match="profile='fast' is unknown; it is one of quick, default, thorough"):
        gradport.check(fn.Swish, X, profile="fast")


@settings(max_examples=10, deadline=None)
@given(st.floats(-4, 4).filter(lambda k: abs(k) > 1e-2 and abs(k - 1) > 1e-3))
def test_every_factor_is_named(k):
    evidence = gradport.check(function(torch.tanh, lambda x, g: k * g * (1 - torch.tanh(x) ** 2)), X, only=BACKWARD)
    found = evidence.findings[0].kind
    assert found.startswith("scaled by ")
    assert float(found.removeprefix("scaled by ")) == pytest.approx(k, rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([torch.sin, torch.exp, torch.sigmoid, torch.nn.functional.softplus]), st.floats(1e-3, 1.0))
def test_a_slope_that_is_off_is_found(forward, off):
    def backward(x, g):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(forward(leaf).sum(), leaf)
        return g * (slope + off)

    assert kinds(gradport.check(function(forward, backward), X, only=BACKWARD)) == {"wrong"}
