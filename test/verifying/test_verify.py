"""verify holds a model against eager, and finds what was planted."""

import importlib.metadata

import onnx_ir as ir
import pytest
import torch

import gradport

from ..exporting import functions as fn

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def planted(program, op_type, replacement):
    """The program with every node of one type made another."""
    model = ir.from_proto(ir.to_proto(program.model))
    bodies = [model.graph, *(function.graph for function in model.functions.values())]
    for node in [node for body in bodies for node in body if node.op_type == op_type]:
        node.op_type = replacement
    return model


@pytest.fixture(scope="module")
def program():
    return gradport.export(fn.Swish, X, wrt="inputs", dynamic_shapes=({0: "batch"},))


def test_a_right_model_holds_in_both_runtimes_with_figures(program):
    evidence = gradport.verify(program, fn.Swish, X)
    assert evidence.ok
    figures = {f.key: f.figure for f in evidence.findings if f.unit == "ULP"}
    assert set(figures) == {
        f"{rule}/{runtime}/{name}"
        for rule in ("agrees-with-eager", "edge-values", "ties")
        for runtime in ("onnxruntime", "reference")
        for name in ("output", "grad_x")
    }
    assert all(figure < 64 for figure in figures.values())
    assert {"batch=1", "batch=2", "batch=7", "batch=0", "batch=257"} <= set(evidence.series["cases"])
    assert {"nan in x", "ties in x", "inf in the cotangents", "x transposed in memory"} <= set(evidence.series["cases"])
    assert evidence.environment["torch"] == importlib.metadata.version("torch")


def test_an_onnx_model_and_a_path_are_taken_as_well(program, tmp_path):
    program.save(tmp_path / "swish.onnx")
    assert gradport.verify(str(tmp_path / "swish.onnx"), fn.Swish, X).ok
    assert gradport.verify(program.model, fn.Swish, X).ok


def test_a_planted_operator_is_found_in_the_gradient_that_it_spoils(program):
    inline = gradport.export(fn.Swish, X, wrt="inputs", functions="inline")
    wrong = planted(inline, "Sub", "Add")  # 1 - s stands in the backward alone
    evidence = gradport.verify(wrong, fn.Swish, X)
    outcomes = {f.key: f.outcome for f in evidence.findings}
    assert outcomes["agrees-with-eager/onnxruntime/output"] == "ok"
    assert outcomes["agrees-with-eager/onnxruntime/grad_x"] == "failed"
    assert outcomes["agrees-with-eager/reference/grad_x"] == "failed"
    assert "and eager gives" in next(f.message for f in evidence.findings if f.outcome == "failed")


@pytest.mark.corpus
def test_a_model_that_is_right_at_one_batch_only_is_found():
    class Fixed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x / 4

        @staticmethod
        def backward(ctx, g):
            return g / 4

    program = gradport.export(Fixed, X, wrt="inputs", dynamic_shapes=({0: "batch"},))

    class Mean(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x / x.shape[0]

        @staticmethod
        def backward(ctx, g):
            return g / g.shape[0]

    evidence = gradport.verify(program, Mean, X, sizes={"batch": (4, 8)})
    assert not evidence.ok
    failed = [f for f in evidence.findings if f.rule == "agrees-with-eager"]
    assert {f.outcome for f in failed} == {"failed"}
    assert {f.input for f in failed} <= {"batch=8", "x = float32[8, 3]"}
    assert gradport.verify(program, Mean, X, sizes={"batch": (4,)}).ok


def test_a_foreign_model_is_matched_by_name_or_by_position():
    class Module(torch.nn.Module):
        def forward(self, x):
            return x * x.sigmoid()

    named = torch.onnx.export(
        Module(), (X,), input_names=["x"], output_names=["output"], dynamo=True, verbose=False
    ).model
    assert gradport.verify(named, fn.Swish, X).series["matched"] == "by name"
    other = torch.onnx.export(Module(), (X,), input_names=["image"], dynamo=True, verbose=False).model
    evidence = gradport.verify(other, fn.Swish, X)
    assert evidence.ok
    assert evidence.series["matched"] == "by position"


def test_models_that_do_not_match_are_refused_with_both_lists(program):
    with pytest.raises(gradport.SpecError, match=r"The model takes x: f32.*the subject takes a: f32.*, b: f32"):
        gradport.verify(program, lambda a, b: a @ b, (X, torch.randn(3, 5)), wrt=["a", "b"])


def test_sizes_of_a_dimension_that_is_none_are_refused(program):
    with pytest.raises(gradport.SpecError, match="it has batch"):
        gradport.verify(program, fn.Swish, X, sizes={"height": (1,)})


def test_a_runtime_that_is_not_known_is_refused(program):
    with pytest.raises(gradport.SpecError, match=r"known runtimes are onnxruntime, .*reference"):
        gradport.verify(program, fn.Swish, X, runtimes=["tensorrt"])


def test_given_tolerances_take_the_place_of_the_criterion(program):
    assert not gradport.verify(program, fn.Swish, X, rtol=0.0, atol=0.0, runtimes=["reference"]).ok
    assert gradport.verify(program, lambda x: fn.Swish.apply(x) * 1.01, X, rtol=0.1, atol=0.1).ok


def test_a_time_limit_that_is_over_leaves_the_rest_undecided(program):
    evidence = gradport.verify(program, fn.Swish, X, time_limit=0)
    assert evidence.series["cases"] == ["the example"]
    late = next(f for f in evidence.findings if f.key == "time-limit/not-reached")
    assert late.outcome == "undecided"
    assert not evidence.ok
    assert late.figure == len(late.message.partition("inputs: ")[2].split("; "))
    assert "nan in x" in late.message


def test_rules_are_chosen_by_name(program):
    evidence = gradport.verify(program, fn.Swish, X, only=["agrees-with-eager"])
    assert {f.rule for f in evidence.findings} == {"agrees-with-eager", "runs"}  # a runtime that is not here
    assert not any("nan" in case for case in evidence.series["cases"])
    evidence = gradport.verify(program, fn.Swish, X, skip=["ties", "shapes"])
    assert {f.rule for f in evidence.findings} == {"agrees-with-eager", "edge-values", "checker", "versions", "runs"}
    with pytest.raises(gradport.SpecError, match=r"'tie' is not a rule of verify; the rules are .*ties"):
        gradport.verify(program, fn.Swish, X, skip=["tie"])


@pytest.mark.parametrize("budget", ["10s", 0, -1, float("nan"), True, None])
def test_a_budget_is_a_factor(program, budget):
    with pytest.raises(gradport.SpecError, match=r"budget=.* is not a factor .* time_limit='30s'"):
        gradport.verify(program, fn.Swish, X, budget=budget)


def test_what_is_tried_depends_on_the_budget_alone(program, monkeypatch):
    def tried(**options):
        return gradport.verify(program, fn.Swish, X, only=["agrees-with-eager"], **options).series["cases"]

    assert sum(case.startswith("fresh") for case in tried(budget=0.1)) == 1
    assert sum(case.startswith("fresh") for case in tried(budget=3)) == 9
    usual = tried()
    monkeypatch.setattr("time.monotonic", lambda: 1e9)  # a clock that never moves, and one that races
    assert tried() == usual
    clock = iter(range(0, 1 << 40, 1 << 20))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    assert tried() == usual


def test_ranges_of_inputs_are_kept():
    class Log(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            if not torch.compiler.is_compiling():
                assert bool((x > 0).all()), "outside the domain"
            return x.log()

        @staticmethod
        def backward(ctx, g):
            return g / ctx.saved_tensors[0]

    subject = gradport.Subject(Log, gradport.tensor("f32[batch,3]@0.5..2"), wrt="inputs")
    evidence = gradport.verify(gradport.export(subject), subject)
    assert evidence.ok
    assert not any("nan" in case and "cotangents" not in case for case in evidence.series["cases"])


def test_evidence_survives_json(program):
    evidence = gradport.verify(program, fn.Swish, X)
    assert gradport.Evidence.from_json(evidence.to_json()) == evidence


def test_nothing_is_logged_about_a_large_weight(caplog):
    """Shape inference gets the type of a large weight without its values."""
    layer = torch.nn.Linear(200, 100)
    x = torch.randn(2, 200)
    program = gradport.export(layer, x, wrt="all")
    assert gradport.verify(program, layer, x).ok
    assert not [record.getMessage() for record in caplog.records if record.name.startswith("onnx")]
