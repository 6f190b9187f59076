"""`gradport.testing`: what a package's own suite says with it, and what its tests say when they fail."""

import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import gradport
from gradport import testing

from ..exporting import functions as fn

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
SWISH = gradport.Subject(fn.Swish, gradport.tensor("f32[batch:4,3]"), wrt="inputs")
FIXED = gradport.Subject(fn.Clamp, X, wrt="inputs")
QUICK = {"runtimes": ["onnxruntime"], "budget": 0.1}


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 3


@testing.cases(SWISH, FIXED, opsets=(18, 20), functions=("keep", "inline"))
def test_cases_export_under_every_setting(case):
    program = case.assert_exports(**QUICK)
    assert program.opset == case.setting.opset


@testing.cases([SWISH], dtypes=(torch.float32, torch.float16))
def test_cases_cast(case):
    assert case.subject.args[0].dtype == case.setting.dtype
    assert case.assert_exports(**QUICK).inputs[0].dtype == case.setting.dtype


@testing.cases({"named": SWISH}, dynamic=(True, False))
def test_cases_are_dynamic_or_static(subject, setting):
    program = testing.assert_exports(subject, remaining_dynamic=["batch"] if setting.dynamic else [], **QUICK)
    assert program.inputs[0].shape == (("batch", 3) if setting.dynamic else (4, 3))


@testing.cases(SWISH, dtypes=("f16",), opsets=(20,))
def test_the_axes_by_name(case, opset, dtype):
    assert (opset, dtype) == (case.opset, case.dtype) == (20, torch.float16)
    assert testing.assert_exports(case, **QUICK).opset == 20


@testing.cases(SWISH, opsets=(18, 20, 22))
@testing.min_opset(20, reason="written with Gelu")
@testing.max_opset(21)
def test_opsets_outside_are_skipped(case):
    assert case.setting.opset == 20


@testing.cases(SWISH)
@testing.tolerance(rtol=0.1, reason="the cases are compared with a rougher module")
def test_tolerances_reach_the_case(case):
    assert case.tolerances == {"rtol": 0.1, "atol": 0.0}


@testing.expected_failure("its backward is three times the cotangent")
def test_what_is_expected_to_fail_must_fail():
    testing.assert_checked(gradport.Subject(Wrong, X, wrt="inputs"))


def message(call):
    with pytest.raises(AssertionError) as caught:
        call()
    return str(caught.value)


def test_a_wrong_backward_fails_with_its_finding():
    said = message(lambda: testing.assert_checked(Wrong, X))
    assert "differences/x" in said
    assert "test_testing.py:" in said


def test_a_refused_export_fails_with_its_reason():
    said = message(lambda: testing.assert_exports(lambda x: x * torch.multinomial(x.sigmoid(), 1), X))
    assert "draws random numbers" in said


def test_other_inputs_for_one_export():
    program = gradport.export(lambda x: x * 2, X)
    assert program.opset == testing.assert_exports(lambda x: x * 2, X, also=[X + 1, (X - 1,)], **QUICK).opset
    rejecting = torch.nn.Threshold(0.0, 0.0)
    testing.assert_exports(rejecting, X, also=[-X], **QUICK)


def test_dimensions_that_should_remain_dynamic():
    said = message(lambda: testing.assert_exports(FIXED, remaining_dynamic=["batch"], **QUICK))
    assert "dynamic dimensions of the graph are none, not batch" in said


def test_a_module_that_writes_into_its_input():
    class Doubling(torch.nn.Module):
        def forward(self, x):
            return x.mul_(2) + 1

    x = X.clone()
    testing.assert_exports(Doubling(), x, also=[X + 1], **QUICK)
    assert torch.equal(x, X)


def test_equivalence_and_its_failure():
    testing.assert_equivalent(fn.Swish, lambda x: x * x.sigmoid(), X, wrt=[])
    assert "differ" in message(lambda: testing.assert_equivalent(lambda x: x * 2, lambda x: x * 3, X))


def test_seeds_are_set_and_put_back():
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    with testing.seeded(3):
        first = (random.random(), float(np.random.rand()), torch.rand(1))
    with testing.seeded(3):
        assert first == (random.random(), float(np.random.rand()), torch.rand(1))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_needs_skip_with_their_reason():
    assert testing.needs("torch", "2.0").args == (False,)
    assert testing.needs("torch", "99").args == (True,)
    assert "needs nothing_like_it; it is not installed" in testing.needs("nothing_like_it").kwargs["reason"]
    assert testing.needs_runtime("onnxruntime").args == (False,)
    assert "no runtime is called tensorrt" in testing.needs_runtime("tensorrt").kwargs["reason"]


def test_reasons_are_asked_for():
    with pytest.raises(ValueError, match="reason"):
        testing.expected_failure("  ")
    with pytest.raises(ValueError, match="reason"):
        testing.tolerance(rtol=1.0, reason="")


def test_a_test_that_takes_no_case_is_told():
    with pytest.raises(TypeError, match="has no parameter case, subject or setting"):
        testing.cases(SWISH)(lambda: None)


SUITE = """
import torch, gradport, pytest
from gradport import testing

class Wrong(torch.autograd.Function):
    forward = staticmethod(lambda ctx, x: x * 2)
    backward = staticmethod(lambda ctx, g: g * 3)

@testing.cases(gradport.Subject(Wrong, torch.ones(2, 3), wrt="inputs"))
def test_checked(case):
    case.assert_checked()

@testing.expected_failure("it works by now")
def test_strict():
    testing.assert_exports(lambda x: x * 2, torch.ones(3))
"""


@pytest.mark.corpus
def test_a_failing_suite_prints_findings_and_no_stack_of_ours(tmp_path):
    (tmp_path / "test_suite.py").write_text(textwrap.dedent(SUITE))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "2 failed" in result.stdout, result.stdout
    assert "failed differences/x" in result.stdout
    assert "[XPASS(strict)] it works by now" in result.stdout
    assert "gradport/testing.py" not in result.stdout
    assert "gradport/check" not in result.stdout
