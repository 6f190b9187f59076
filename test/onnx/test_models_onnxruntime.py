"""Whole models run in ONNX Runtime and compared with eager, the gradient of every parameter and of every input
included, at the batch that they were traced with and at another."""

import pytest
import torch
from onnx_test_common import MODELS, inputs_of, subject_of
from pytorch_test_common import StraightThrough

import gradport
from gradport.testing import assert_exports

pytestmark = pytest.mark.corpus

QUICK = {"runtimes": ["onnxruntime"], "budget": 0.1}
"""The example alone; another batch is another example."""


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_every_gradient_agree_with_eager(name):
    other = inputs_of(name, batch=7)
    assert_exports(subject_of(name, wrt="all"), also=[other], remaining_dynamic=["batch"], **QUICK)


@pytest.mark.parametrize("name", ["embedding", "custom Functions"])
def test_the_gradients_of_a_loss_agree_with_eager(name):
    subject = subject_of(name, wrt="parameters", loss=lambda result: result.square().mean())
    program = assert_exports(subject, **QUICK)
    assert program.outputs[0].role == "loss"


def test_a_model_in_evaluation_uses_its_running_statistics():
    subject = subject_of("CNN", wrt="inputs")
    subject.target.eval()
    assert_exports(subject, **QUICK)


@pytest.mark.parametrize("functions", ["inline", "opaque"])
def test_custom_functions_in_a_model_agree_in_every_form(functions):
    assert_exports(subject_of("custom Functions", wrt="all"), functions=functions, **QUICK)


@pytest.mark.parametrize("opset", [18, 25])
def test_the_first_and_the_last_opset_run(opset):
    assert_exports(subject_of("shared encoder", wrt="all"), opset_version=opset, **QUICK)


def test_one_step_of_descent_lowers_the_loss_that_the_file_gives():
    subject = subject_of("MLP", wrt="parameters", loss=lambda result: result.square().mean())
    x = torch.ones(5, 3)
    before, *gradients = gradport.export(subject).run(x)
    with torch.no_grad():
        for parameter, gradient in zip(subject.target.parameters(), gradients, strict=True):
            parameter -= 0.1 * gradient
    after, *_ = gradport.export(subject).run(x)
    assert after < before


def test_other_weights_in_the_module_are_found():
    """The detector of this module: the file holds what the module held."""
    subject = subject_of("MLP", wrt="parameters")
    program = gradport.export(subject)
    with torch.no_grad():
        next(subject.target.parameters())[0, 0] += 0.5
    assert not gradport.verify(program, subject, **QUICK).ok


def test_a_backward_that_another_model_has_is_found():
    """The forward is the same; only a comparison of gradients tells the two apart."""

    class Passed(StraightThrough):
        @staticmethod
        def backward(ctx, g):
            return g * 0.5

    x = gradport.tensor("f32[batch:3,3]")
    program = gradport.export(StraightThrough, x, wrt="inputs")
    evidence = gradport.verify(program, Passed, x, **QUICK)
    failed = {
        finding.key
        for finding in evidence.findings
        if finding.rule == "agrees-with-eager" and finding.outcome == "failed"
    }
    assert failed == {"agrees-with-eager/onnxruntime/grad_x"}
