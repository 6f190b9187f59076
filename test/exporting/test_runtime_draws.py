"""A file that draws by itself is proved too: its draws are random, and everything else is exact."""

import pytest
import torch
import torch.nn.functional as F

import gradport
from gradport.lowering.passes import generators
from gradport.proving.draws import faults_of_draws

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def noisy(x):
    return F.dropout(x, 0.5) + torch.randn_like(x) * x


def exported(**options):
    return gradport.export(noisy, X, wrt="inputs", random="runtime", **options)


def test_what_is_handed_out_was_proved_and_verify_agrees():
    program = exported(dynamic_shapes=({0: "batch"},))
    assert [spec.name for spec in program.inputs] == ["x", "cotangent_output"]
    evidence = gradport.verify(program, noisy, X, runtimes=["onnxruntime"])
    assert evidence.ok
    held = {finding.key for finding in evidence.findings if finding.outcome == "ok"}
    assert {"draws/random_0", "draws/random_1", "agrees-with-eager/onnxruntime/grad_x"} <= held


def test_sizes_that_are_computed_are_computed_at_run_time():
    def sized(x):
        n = x.shape[0]
        return torch.rand(2 * n + 1), torch.rand((n + 1) // 2, n % 3 + 1), x[1::2] * torch.rand_like(x[1::2])

    program = gradport.export(sized, X, dynamic_shapes=({0: "n"},), random="runtime")
    assert [tuple(value.shape) for value in program.run(torch.randn(9, 4))] == [(19,), (5, 1), (4, 4)]


FAULTS = {
    "a narrow range": ({"uniform": ("RandomUniformLike", {"low": 0.0, "high": 0.01})}, r"its mean is|its variance is"),
    "a shifted range": ({"uniform": ("RandomUniformLike", {"low": 0.5, "high": 1.5})}, r"instead of \[0, 1\)"),
    "a wide normal": ({"normal": ("RandomNormalLike", {"scale": 1.1})}, "its variance is"),
    "a moved normal": ({"normal": ("RandomNormalLike", {"mean": 0.2})}, "its mean is"),
    "uniform for normal": ({"normal": ("RandomUniformLike", {"low": -1.7320508, "high": 1.7320508})}, "not normal"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_generator_is_refused(fault, monkeypatch):
    broken, said = FAULTS[fault]
    monkeypatch.setattr(generators, "_OPERATORS", generators._OPERATORS | broken)
    with pytest.raises(gradport.ExportError, match=said):
        exported()
    program = exported(verify=False)
    found = gradport.verify(program, noisy, X, runtimes=["onnxruntime"])
    assert next(finding.key for finding in found.findings if finding.outcome == "failed").startswith("draws/")


def test_two_draws_with_one_seed_are_refused(monkeypatch):
    seeded = {kind: (op, {**options, "seed": 1.0}) for kind, (op, options) in generators._OPERATORS.items()}
    monkeypatch.setattr(generators, "_OPERATORS", seeded)

    def twice(x):
        return F.dropout(x, 0.5) + torch.rand_like(x)

    with pytest.raises(gradport.ExportError, match="it is correlated with 'random_0'"):
        gradport.export(twice, X, random="runtime")


def test_a_wrong_graph_behind_right_draws_is_refused(monkeypatch):
    import importlib

    module = importlib.import_module("gradport.exporting.export")
    rewrite = module.rewrite

    def lossy(model, **options):
        rewrite(model, **options)
        node = next(node for node in model.graph if node.op_type == "Less")
        node.replace_input_with(1, node.inputs[1])
        node.op_type = "Greater"

    monkeypatch.setattr(module, "rewrite", lossy)
    with pytest.raises(gradport.ExportError, match="differs from eager"):
        gradport.export(lambda x: F.dropout(x, 0.3), X, random="runtime")


def test_a_draw_of_one_number_is_tested_over_many_runs():
    program = gradport.export(lambda x: x * torch.rand(()), X, random="runtime")
    assert faults_of_draws(program, {"x": X}) == {}
