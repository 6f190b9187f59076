"""What a project's pyproject.toml says of a Function holds, and the report repeats its reason."""

import pytest
import torch

import gradport

from ..exporting import functions as fn

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1.0

    @staticmethod
    def backward(ctx, g):
        return g * 2


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda text: (tmp_path / "pyproject.toml").write_text(text)


def test_a_declared_backward_is_accepted_and_its_reason_repeated(project):
    assert not gradport.check(Doubled, X, only=["differences"]).ok
    project('[tool.gradport.check.Doubled]\nexpect = "scaled by 2"\nreason = "two workers share it"\n')
    evidence = gradport.check(Doubled, X, only=["differences"])
    assert evidence.ok
    assert "two workers share it" in evidence.findings[0].message


def test_a_rule_is_left_out_for_a_reason(project):
    name = f"{fn.Swish.__module__}:Swish"
    project(f'[tool.gradport.check."{name}"]\nskip = ["transforms", "dtypes"]\nreason = "float64 alone"\n')
    evidence = gradport.check(fn.Swish, X)
    left_out = {f.rule: f.message for f in evidence.findings if f.rule in ("transforms", "dtypes")}
    assert set(left_out) == {"transforms", "dtypes"}
    assert all("float64 alone" in message for message in left_out.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[tool.gradport.check.Swish]\nskip = ["dtypes"]\n', "no reason"),
        ('[tool.gradport.check.Swish]\nskip = ["nothing"]\nreason = "r"\n', "is not a rule"),
        ('[tool.gradport.check.Swish]\nskipped = ["dtypes"]\nreason = "r"\n', "may have only"),
        ("[tool.gradport.check.Swish\n", "cannot be read"),
    ],
)
def test_settings_that_mean_nothing_are_refused_with_their_place(project, text, said):
    project(text)
    with pytest.raises(gradport.SpecError, match=said) as refused:
        gradport.check(fn.Swish, X)
    assert "pyproject.toml" in str(refused.value)


def test_another_function_is_not_meant(project):
    project('[tool.gradport.check.Other]\nskip = ["dtypes"]\nreason = "r"\n')
    assert gradport.check(fn.Swish, X, only=["dtypes"]).findings[0].outcome == "ok"


def test_what_the_default_profile_leaves_out_is_listed():
    evidence = gradport.check(fn.Swish, X, only=["cost"])
    assert [(f.outcome, "profile='thorough'" in f.message) for f in evidence.findings] == [("skipped", True)]
    thorough = gradport.check(fn.Swish, X, only=["cost"], profile="thorough")
    assert {f.key for f in thorough.findings} == {"cost/forward", "cost/backward", "cost/peak", "cost/saved"}


def test_work_for_a_frozen_argument_is_measured():
    evidence = gradport.check(Product, (X, X.flip(0)), only=["contract"])
    wasted = {f.key: f.figure for f in evidence.findings if f.kind == "wasted work"}
    assert wasted == {"contract/x wasted": 96.0, "contract/y wasted": 96.0}


def test_a_matmul_that_knows_no_autocast_fails_the_rule_that_asks_for_it():
    args = (X, X.T.contiguous())
    (failed,) = gradport.check(Matmul, args, only=["autocast"], profile="thorough").findings
    assert (failed.outcome, failed.kind) == ("failed", "crash")
    assert "custom_fwd" in failed.message
    (left_out,) = [f for f in gradport.check(Matmul, args).findings if f.rule == "autocast"]
    assert left_out.outcome == "skipped" and "thorough" in left_out.message


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y, g * x


class Matmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x @ y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g @ y.T, x.T @ g
