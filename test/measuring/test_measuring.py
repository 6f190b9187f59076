"""What the survey measures of a Function: each part says what is there, and nothing of it where it cannot be known."""

import json
import math

import onnx_ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport
from gradport.eager.dimensions import resolve_dimensions
from gradport.eager.joint import Joint
from gradport.measuring.curves import curves
from gradport.measuring.divergence import divergence
from gradport.measuring.errors import EDGES, errors
from gradport.measuring.forms import forms
from gradport.measuring.jacobian import jacobian
from gradport.measuring.measure import measure
from gradport.measuring.nodes import nodes
from gradport.measuring.snippet import snippet
from gradport.measuring.timings import timings

pytestmark = pytest.mark.corpus  # each measures


class Threshold(torch.autograd.Function):
    """A kink at `place`, and straight through it."""

    @staticmethod
    def forward(ctx, x, place):
        return torch.relu(x - place)

    @staticmethod
    def backward(ctx, g):
        return g, None


class Spike(torch.autograd.Function):
    """A jump at 1, with a triangle for a gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x >= 1).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (1 - (x - 1).abs()).clamp(min=0)


class Twice(torch.autograd.Function):
    """A gradient that is wrong by a factor of two."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * x.cos()


def joint(target, *args, **changes):
    return Joint(gradport.Subject(target, args, wrt="inputs", **changes))


@settings(max_examples=12, deadline=None)
@given(st.floats(-2.5, 2.5).map(lambda place: round(place, 2)))
def test_a_kink_is_found_wherever_it_stands(place):
    found = curves(joint(Threshold, torch.ones(3), place))
    assert [round(kink, 2) for kink in found["kinks"]] == [pytest.approx(place, abs=0.01)]
    assert found["jumps"] == []


def test_a_jump_is_no_kink_and_has_no_derivative():
    found = curves(joint(Spike, torch.ones(2)))
    assert (found["kinks"], found["jumps"]) == ([], [1.0])
    assert found["derivative"][found["t"].index(1.0)] is not None
    assert math.isnan(found["derivative"][found["t"].index(1.0)])
    assert max(found["backward"]) == 2.0


def test_where_equal_inputs_show_nothing_one_of_them_is_moved():
    found = curves(joint(torch.nn.Softmax(-1), torch.randn(2, 4)))
    assert found["along"] == "the first element of input, first element of the result"
    assert found["derivative"] == pytest.approx(found["backward"], abs=1e-4)


def test_each_argument_has_a_curve_of_its_own_and_a_quantizer_shows_its_steps():
    found = curves(joint(lambda x, step: torch.round(x / step) * step, torch.ones(2), torch.tensor(1.0)))
    assert found["along"] == "every element of x, results summed"
    assert found["jumps"]
    (other,) = found["others"]
    assert other["along"] == "every element of step, results summed"


def test_of_no_argument_there_is_no_curve():
    assert curves(Joint(gradport.Subject(torch.nn.Linear(2, 2), torch.ones(2, 2), wrt="parameters"))) == {}


def test_the_jacobian_of_a_right_backward_has_no_error_and_that_of_a_wrong_one_has():
    right = jacobian(joint(torch.sin, torch.randn(3)))
    assert max(abs(e) for row in right["errors"] for e in row) < 1e-8
    wrong = jacobian(joint(Twice, torch.randn(3)))
    assert [[round(abs(e), 3) > 0 for e in row] for row in wrong["errors"]] == torch.eye(3).bool().tolist()


def test_the_error_of_a_surrogate_is_measured_by_itself():
    errors = jacobian(joint(Spike, torch.tensor([0.5, 0.8])))["errors"]
    assert max(abs(e) for row in errors for e in row) == 1.0


def test_a_large_jacobian_is_left_out():
    assert jacobian(joint(torch.sin, torch.randn(200))) == {}


def exported(target, *args, **changes):
    described = gradport.Subject(target, args, wrt="inputs", **changes)
    from gradport.eager.inputs import with_example

    described = with_example(described)
    own = Joint(described)
    return own, resolve_dimensions(own, described.dynamic_shapes), gradport.export(described)


def test_every_element_is_in_the_histogram():
    own, dimensions, program = exported(torch.sigmoid, torch.randn(4, 5))
    found = errors(own, dimensions, program)
    assert found["edges"] == list(EDGES)
    assert sum(found["eager"]) == sum(found["onnxruntime"]) == 3 * 2 * 20


def test_a_wrong_node_moves_the_histogram():
    own, dimensions, program = exported(torch.nn.Tanh(), torch.randn(4, 5))
    model = onnx_ir.from_proto(onnx_ir.to_proto(program.model))
    next(node for node in model.graph if node.op_type == "Tanh").op_type = "Sin"
    wrong = errors(own, dimensions, gradport.Program(model))
    assert wrong["onnxruntime"][-1] > 0 and wrong["eager"][-1] == 0


def test_the_divergence_has_both_halves_and_the_users_lines():
    own, dimensions, program = exported(Twice, torch.randn(4))
    found = divergence(own, dimensions, program.opset)
    assert {row["half"] for row in found} == {"forward", "backward"}
    assert all(row["relative"] < 1e-5 for row in found)
    assert all(row["place"].rpartition(":")[0] == __file__ for row in found)


def test_forms_are_proved_or_refused_with_a_reason():
    found = forms(gradport.Subject(Spike, torch.ones(2), wrt="inputs"))
    assert {cell["functions"] for cell in found} == {"keep", "inline", "opaque"}
    assert {cell["opset"] for cell in found} == set(range(18, 26))
    assert all(cell["outcome"] == "ok" for cell in found)
    refused = forms(gradport.Subject(lambda x: x * float(x.sum() > 0), torch.ones(2), wrt="inputs"))
    assert all(cell["outcome"] == "refused" and cell["message"] for cell in refused)


def test_nodes_tell_what_a_forward_hands_to_its_backward():
    _, _, program = exported(lambda x: Saves.apply(x), torch.randn(3))
    found = nodes(program)
    forward = next(f for f in found["functions"] if f["phase"] == "forward")
    backward = next(f for f in found["functions"] if f["phase"] == "backward")
    assert forward["passes"] == {backward["name"]: ["saved_0"]}
    _, _, program = exported(Spike, torch.ones(3))
    passes = [function["passes"] for function in nodes(program)["functions"] if function["phase"] == "forward"]
    assert [list(handed.values()) for handed in passes] == [[["x"]]]  # saved, and an argument as well
    assert found["nodes"] == sum(found["operators"].values()) and found["bytes"] > 500


class Saves(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        root = x.exp()
        ctx.save_for_backward(root)
        return root * x

    @staticmethod
    def backward(ctx, g):
        (root,) = ctx.saved_tensors
        return g * root


def test_timings_grow_along_the_first_dynamic_dimension():
    own, dimensions, program = exported(Twice, gradport.tensor("f32[batch:64,256]"))
    forward = gradport.export(own.subject.replace(wrt=None))
    before = torch.get_num_threads()
    found = timings(own, dimensions, program, forward, compiled=False)
    assert torch.get_num_threads() == before
    sizes = [row["sizes"]["batch"] for row in found["rows"] if (row["way"], row["phase"]) == ("eager", "both")]
    assert sizes == [64, 512, 4096]
    assert {row["way"] for row in found["rows"]} == {"eager", "onnxruntime"}
    assert all(row["milliseconds"] > 0 for row in found["rows"]) and found["bandwidth"] > 1e8
    assert found["memory"]["eager"] > 4 * 4096 * 256  # at least its result


def test_a_snippet_runs_as_it_stands(tmp_path, monkeypatch):
    (tmp_path / "halving.py").write_text(
        "import torch\nclass Halve(torch.autograd.Function):\n"
        "    @staticmethod\n    def forward(ctx, x, scale):\n        ctx.scale = scale\n        return x * scale\n"
        "    @staticmethod\n    def backward(ctx, g):\n        return g * ctx.scale, None\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import halving

    own, _, program = exported(halving.Halve, torch.randn(2, 3), 0.5)
    found = snippet(own, program)
    assert found["ok"] and found["printed"] == "output (2, 3)\ngrad_x (2, 3)"
    assert "from halving import Halve" in found["code"]


@pytest.mark.parametrize(
    ("target", "args", "reason"),
    [
        (lambda x: x.sin(), (torch.ones(2),), "cannot be imported from a module"),
        (Twice, (torch.ones(2),), "fails in a separate process"),  # this module is none that a process of its own finds
    ],
)
def test_where_there_is_no_snippet_it_is_said_why(target, args, reason):
    own, _, program = exported(target, *args)
    assert reason in snippet(own, program)["reason"]


def test_random_numbers_are_not_drawn_as_a_curve():
    found = measure(gradport.Subject(torch.nn.Dropout(0.5), torch.ones(8)), budget=0.5)
    assert "curves" not in found.series and "jacobian" not in found.series
    assert "random" in found.series["left_out"]["curves"]


def test_what_is_refused_says_so_and_has_its_checks():
    found = measure(gradport.Subject(lambda x: x * float(x.sum() > 0), torch.ones(2)), budget=0.5)
    assert "decides on a tensor's value" in found.series["refused"]
    assert "onnx" not in found.series and found.findings
    assert json.loads(found.to_json())
