"""Bodies that an author writes in onnxscript run in ONNX Runtime in the place that gradport left for them and agree
with eager, forward and backward; those that compute something else are found."""

import onnxscript
import pytest
import torch
from onnx_test_common import (
    ACME,
    OPSET,
    affine_bodies,
    finding,
    op,
    swish_bodies,
    swish_forward,
    waiting,
    with_bodies,
)
from onnxscript import opset18
from pytorch_test_common import Affine, Swish, eager

import gradport

X = torch.linspace(-2, 2, 12).reshape(4, 3)
WEIGHT = torch.tensor([0.5, -1.0, 2.0])
QUICK = {"runtimes": ["onnxruntime"], "budget": 1.0}


@onnxscript.script(ACME, default_opset=op)
def half_as_steep(x, g, beta: float):
    """The derivative, which the author's backward is twice of."""
    s = op.Sigmoid(beta * x)
    return g * s * (1.0 + beta * x * (1.0 - s))


@onnxscript.script(ACME, default_opset=opset18)
def of_an_older_opset(x, beta: float):
    return x * opset18.Sigmoid(beta * x)


@onnxscript.script(ACME, default_opset=op)
def by_a_branch(x, beta: float):
    if beta > 0.0:
        result = x * op.Sigmoid(beta * x)
    else:
        result = op.Neg(x)
    return result


@onnxscript.script(ACME, default_opset=op)
def without_the_saved_value(x, weight):
    product = op.Tanh(x) * weight
    total = x + weight
    return product, total


class Named(Swish):
    """Its symbolic() calls the author's onnxscript function by name."""

    @staticmethod
    def symbolic(g, x, beta):
        return g.op("com.acme::swish_forward", x, beta_f=beta)


def swish(beta=1.5, **bodies):
    return with_bodies(waiting(Swish, (X, beta), dynamic_shapes=({0: "batch"}, None)), swish_bodies(**bodies))


def verified(program, function=Swish, args=(X, 1.5), **options):
    return gradport.verify(program, function, args, wrt="inputs", **{**QUICK, **options})


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_forward_and_backward_get_their_attribute_and_agree_with_eager(beta):
    cotangent = torch.linspace(1, 2, 12).reshape(4, 3)
    found = swish(beta).run(X, cotangent)
    torch.testing.assert_close(list(found), eager(Swish.apply, X, beta, cotangents=[cotangent]))


def test_verify_holds_them_at_every_batch():
    evidence = verified(swish(), sizes={"batch": (1, 2, 7)})
    assert evidence.ok, gradport.testing.not_held(evidence)
    assert {"batch=1", "batch=2", "batch=7"} <= set(evidence.series["cases"])


def test_the_reference_evaluator_takes_them_as_well():
    assert finding(verified(swish(), runtimes=["reference"]), "agrees-with-eager/reference/grad_x").outcome == "ok"


def test_several_outputs_and_a_saved_value():
    program = with_bodies(waiting(Affine, (X, WEIGHT), dynamic_shapes=({0: "batch"}, None)), affine_bodies())
    evidence = verified(program, Affine, (X, WEIGHT))
    assert evidence.ok, gradport.testing.not_held(evidence)


def test_a_symbolic_that_names_an_onnxscript_function_runs_with_it():
    program = gradport.export(Named, (X, 1.5), wrt="inputs", functions="symbolic", opset_version=OPSET)
    found = with_bodies(program, {"swish_forward": swish_forward}).run(X, torch.ones(4, 3))
    torch.testing.assert_close(list(found), eager(Swish.apply, X, 1.5))


def test_a_backward_that_computes_something_else_is_found():
    evidence = verified(swish(backward=half_as_steep))
    assert finding(evidence, "agrees-with-eager/onnxruntime/output").outcome == "ok"
    assert finding(evidence, "agrees-with-eager/onnxruntime/grad_x").outcome == "failed"


def test_a_forward_that_does_not_give_what_is_saved_is_found():
    program = with_bodies(waiting(Affine, (X, WEIGHT)), affine_bodies(forward=without_the_saved_value))
    assert finding(verified(program, Affine, (X, WEIGHT)), "runs/onnxruntime").outcome == "failed"


def test_a_body_of_another_opset_than_the_file_is_found():
    program = with_bodies(waiting(Swish, (X, 1.5)), {**swish_bodies(), "Swish.forward": of_an_older_opset})
    found = finding(verified(program), "versions")
    assert found.outcome == "failed"
    assert "Swish.forward imports opset 18" in found.message


def test_a_body_takes_the_place_of_the_fallback_that_shipped():
    form = {Swish: "opaque:com.acme::Swish"}
    shipped = gradport.export(Swish, (X, 1.5), wrt="inputs", functions=form, opset_version=OPSET)
    _, gradient = with_bodies(shipped, {"Swish.backward": half_as_steep}).run(X, torch.ones(4, 3))
    torch.testing.assert_close(2 * gradient, eager(Swish.apply, X, 1.5)[1])


def test_a_body_with_control_flow_runs():
    program = with_bodies(waiting(Swish, (X, 1.5)), {**swish_bodies(), "Swish.forward": by_a_branch})
    torch.testing.assert_close(program.run(X, torch.ones(4, 3))[0], eager(Swish.apply, X, 1.5)[0])


def test_a_file_with_bodies_is_saved_and_runs_again(tmp_path):
    program = swish()
    program.save(tmp_path / "swish.onnx")
    again = gradport.load(tmp_path / "swish.onnx").run(X, torch.ones(4, 3))
    torch.testing.assert_close(list(again), eager(Swish.apply, X, 1.5))
