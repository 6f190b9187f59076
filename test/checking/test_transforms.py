"""What torch's transforms do with a Function is found: kept, refused with torch's reason, or dropped without a word."""

import pytest
import torch

import gradport

from ..exporting import functions as fn

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class StraightThrough(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.round()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        return g


def kinds(function, args=X):
    evidence = gradport.check(function, args, only=["transforms"])
    return {f.key.removeprefix("transforms/"): (f.outcome, f.kind) for f in evidence.findings}


def test_a_custom_backward_that_torch_drops_is_found_and_is_not_the_authors_mistake():
    found = kinds(StraightThrough)
    assert found["compile(func.grad)"] == ("ok", "drops the backward")
    assert found["export"] == ("ok", "drops the backward")
    assert {found[name] for name in ("compile", "func.grad", "vmap", "checkpoint")} == {("ok", "same")}


def test_what_torch_refuses_is_said_with_its_reason():
    evidence = gradport.check(fn.Swish, X, only=["transforms"])
    refused = {f.key: f.message for f in evidence.findings if f.kind == "refused"}
    assert "setup_context" in refused["transforms/func.grad"]
    assert evidence.ok


def test_a_wrong_vmap_rule_is_found():
    class Wrong(StraightThrough):
        generate_vmap_rule = False

        @staticmethod
        def vmap(info, in_dims, x):
            return Wrong.apply(x) + 1, in_dims[0]

    assert kinds(Wrong)["vmap"][0] == "failed"


def test_a_wrong_jvp_is_found_and_a_right_one_holds():
    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return x.sin()

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, g):
            return g * ctx.saved_tensors[0].cos()

        @staticmethod
        def jvp(ctx, u):
            return u * ctx.saved_tensors[0].cos()

    class Off(Sine):
        @staticmethod
        def jvp(ctx, u):
            return 1.01 * u * ctx.saved_tensors[0].cos()

    assert kinds(Sine)["jvp"] == ("ok", "same")
    assert kinds(Off)["jvp"][0] == "failed"


@pytest.mark.parametrize("function", [fn.Dirty, fn.Newer, fn.Reversed])
def test_right_functions_pass(function):
    args = {fn.Dirty: X, fn.Newer: (X, torch.randn(3, 5)), fn.Reversed: (X, 0.5)}[function]
    assert gradport.check(function, args, only=["transforms"]).ok
