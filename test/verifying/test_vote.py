"""Who is wrong: the graph, a runtime that lies, eager where it overflows, or nobody that can be named."""

import importlib.metadata

import pytest
import torch

import gradport
from gradport.runtimes import table as runtimes

from ..exporting import functions as fn
from . import planting

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def program():
    return gradport.export(fn.Swish, X, wrt="inputs", dynamic_shapes=({0: "batch"},))


@pytest.fixture
def registered(monkeypatch):
    """Installs runtimes as entry points would."""

    def register(**made):
        entries = [importlib.metadata.EntryPoint(name, f"nowhere:{name}", runtimes.GROUP) for name in made]
        monkeypatch.setattr(
            importlib.metadata, "entry_points", lambda group: entries if group == runtimes.GROUP else []
        )
        monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda entry: made[entry.name])

    return register


def outcomes(evidence, rule):
    return {finding.key: (finding.outcome, finding.kind) for finding in evidence.findings if finding.rule == rule}


def lying(name, change):
    """A runtime that runs ONNX Runtime and changes one result."""

    def make(program):
        def run(tensors):
            results = program.run_named(tensors)
            return {**results, name: change(results[name])}

        return run

    return make


def test_the_exported_graph_is_named_where_all_that_run_it_depart(program):
    model = planting.copied(program)
    next(node for body in planting.bodies(model)[1:] for node in body if node.op_type == "Exp").op_type = "Sin"
    evidence = gradport.verify(model, fn.Swish, X)
    kinds = outcomes(evidence, "who-is-wrong")
    assert set(kinds.values()) == {("failed", "the exported graph")}
    message = next(f.message for f in evidence.findings if f.rule == "who-is-wrong")
    for voice in ("eager agrees", "onnxruntime-disabled differs", "reference differs", "torch.compile agrees"):
        assert voice in message


def test_a_runtime_that_lies_is_named_and_the_others_hold(program, registered):
    registered(acme=lying("grad_x", lambda gradient: gradient * 1.01))
    evidence = gradport.verify(program, fn.Swish, X)
    assert not evidence.ok
    agreement = outcomes(evidence, "agrees-with-eager")
    assert agreement["agrees-with-eager/acme/grad_x"][0] == "failed"
    assert agreement["agrees-with-eager/acme/output"][0] == "ok"
    assert agreement["agrees-with-eager/onnxruntime/grad_x"][0] == "ok"
    assert outcomes(evidence, "who-is-wrong") == {"who-is-wrong/grad_x": ("failed", "acme")}


def test_a_runtime_that_departs_at_a_node_is_localised(program, registered):
    def make(given):
        model = planting.copied(given)
        for body in planting.bodies(model):
            for node in body:
                node.op_type = "Sin" if node.op_type == "Exp" else node.op_type
        return gradport.Program(model).run_named

    registered(acme=make)
    evidence = gradport.verify(program, fn.Swish, X)
    (first,) = [finding for finding in evidence.findings if finding.rule == "first-node"]
    assert "(Exp)" in first.message
    assert "acme differs from reference" in first.message


def test_a_dtype_that_drifts_is_a_failure(program, registered):
    registered(acme=lying("output", lambda output: output.double()))
    evidence = gradport.verify(program, fn.Swish, X)
    failed = [f for f in evidence.findings if f.key == "agrees-with-eager/acme/output"]
    assert failed[0].outcome == "failed"
    assert "it is float64" in failed[0].message


def test_a_runtime_that_fails_is_never_swallowed(program, registered):
    def broken(program):
        def run(tensors):
            raise RuntimeError("no such kernel today")

        return run

    registered(acme=broken)
    evidence = gradport.verify(program, fn.Swish, X)
    assert not evidence.ok
    (finding,) = [f for f in evidence.findings if f.key == "runs/acme"]
    assert finding.outcome == "failed"
    assert "no such kernel today" in finding.message


def test_a_runtime_that_cannot_be_loaded_is_said(program, registered):
    registered()
    entry = importlib.metadata.EntryPoint("acme", "no_such_module:make", runtimes.GROUP)
    row = runtimes._load_registered(entry)
    made = runtimes.runners(program, [row])
    assert "cannot be loaded" in str(made["acme"])


def test_a_runtime_that_writes_into_its_inputs_spoils_no_other(program, registered):
    def make(given):
        def run(tensors):
            results = given.run_named(tensors)
            for tensor in tensors.values():
                tensor.zero_()
            return results

        return run

    registered(acme=make)
    assert gradport.verify(program, fn.Swish, X).ok


def test_each_optimization_level_can_be_asked_for(program):
    names = ["onnxruntime-disabled", "onnxruntime-basic", "onnxruntime-extended"]
    evidence = gradport.verify(program, fn.Swish, X, runtimes=names)
    assert evidence.ok
    assert set(outcomes(evidence, "agrees-with-eager")) == {
        f"agrees-with-eager/{name}/{result}" for name in names for result in ("output", "grad_x")
    }


class Halves(torch.nn.Module):
    """A mean whose sum overflows in float16 where it is not kept in float32."""

    def forward(self, x):
        return (x * x).sqrt()


def test_an_overflow_that_only_eager_has_is_reported_and_no_failure(program):
    class Fine(torch.nn.Module):
        def forward(self, x):
            return x.abs()

    x = torch.full((2, 2), 300.0, dtype=torch.float16)  # its square is beyond float16
    right = gradport.export(Fine(), x)
    evidence = gradport.verify(right, Halves(), x, budget=0.1)
    found = [f for f in evidence.findings if f.key == "agrees-with-eager/onnxruntime/output"]
    assert found[0].outcome == "failed"
    assert outcomes(evidence, "who-is-wrong")["who-is-wrong/output"] == ("failed", "eager")


def test_without_a_second_runtime_nobody_is_named(monkeypatch):
    from gradport.verifying.vote import Voice, _count_votes

    tie = _count_votes((Voice("eager", "eager", True, 0.0), Voice("onnxruntime", "onnxruntime", False, 9.0)), True)
    assert tie.culprit is None
    assert "do not show who is wrong" in tie.sentence


def test_one_family_has_one_voice():
    from gradport.verifying.vote import Voice, _count_votes

    voices = [Voice("eager", "eager", True, 0.0), Voice("reference", "reference", True, 0.0)]
    voices += [Voice(f"onnxruntime-{level}", "onnxruntime", level != "basic", 0.0) for level in ("all", "basic")]
    assert _count_votes(tuple(voices), True).culprit == "onnxruntime"
