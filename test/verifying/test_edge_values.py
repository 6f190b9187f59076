"""nan and infinities: what is swallowed fails, what spreads is said, and a runtime's own deviation is no failure."""

import os
import signal

import pytest
import torch

import gradport

from ..exporting import functions as fn

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def edges(model, subject, *args, **options):
    evidence = gradport.verify(model, subject, *args, **options)
    return evidence, {f.key: f for f in evidence.findings if f.rule == "edge-values"}


class Masked(torch.nn.Module):
    """Keeps what is no nan."""

    def forward(self, x):
        return torch.where(x.isnan(), torch.zeros_like(x), x) * 2


class Doubled(torch.nn.Module):
    def forward(self, x):
        return x * 2


def test_a_nan_that_is_swallowed_fails_and_names_the_graph():
    evidence, found = edges(gradport.export(Masked(), X), Doubled(), X)
    assert not evidence.ok
    finding = found["edge-values/onnxruntime/output"]
    assert finding.outcome == "failed"
    assert "nan in x" in finding.message
    assert "all runtimes agree with each other and differ from PyTorch: the ONNX file is wrong" in finding.message
    assert all(f.outcome == "ok" for f in evidence.findings if f.rule == "agrees-with-eager")


def test_a_nan_that_spreads_is_a_warning():
    class Summed(torch.nn.Module):
        def forward(self, x):
            return x + 0 * x.sum()

    class Plain(torch.nn.Module):
        def forward(self, x):
            return x + 0

    evidence, found = edges(gradport.export(Summed(), X), Plain(), X)
    assert evidence.ok
    finding = found["edge-values/onnxruntime/output"]
    assert (finding.outcome, finding.severity, finding.kind) == ("ok", "warning", "nan spreads")


def test_a_runtime_that_departs_from_the_definition_is_a_deviation():
    class Largest(torch.nn.Module):
        def forward(self, x):
            return x.max()

    evidence, found = edges(gradport.export(Largest(), torch.randn(40)), Largest(), torch.randn(40), sizes=None)
    kinds = {f.kind for f in found.values()}
    assert kinds <= {"output", "runtime deviation"}
    assert evidence.ok


def test_zeros_of_both_signs_ties_and_equal_rows_are_tried():
    evidence, _ = edges(gradport.export(fn.Swish, X, wrt="inputs"), fn.Swish, X)
    tried = " ".join(evidence.series["cases"])
    for words in ("zeros in x", "negative zeros", "ties", "equal rows", "subnormal", "largest number", "inf", "nan"):
        assert words in tried


def test_a_sign_of_zero_that_is_lost_is_found():
    class Reciprocal(torch.nn.Module):
        def forward(self, x):
            return 1 / x

    class Unsigned(torch.nn.Module):
        def forward(self, x):
            return 1 / (x + 0.0)

    evidence, found = edges(gradport.export(Unsigned(), X), Reciprocal(), X)
    assert found["edge-values/onnxruntime/output"].kind in ("nan spreads", "output")
    assert "negative zero" in found["edge-values/onnxruntime/output"].message
    assert evidence.series["cases"]


@pytest.mark.parametrize("special", ["nan", "inf"])
def test_cotangents_hold_them_too(special):
    class Mask(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, g):
            return torch.where(ctx.saved_tensors[0] > 0, g, torch.zeros_like(g))

    class Product(Mask):
        @staticmethod
        def backward(ctx, g):
            return torch.nan_to_num(g, 0.0, 0.0, 0.0) * (ctx.saved_tensors[0] > 0)

    x = torch.rand(4, 3) + 0.5
    evidence, found = edges(gradport.export(Product, x, wrt="inputs"), Mask, x)
    assert not evidence.ok
    assert found["edge-values/onnxruntime/grad_x"].outcome == "failed"
    assert f"{special} in the cotangents" in evidence.series["cases"]


def test_inputs_with_a_range_get_no_edge_values():
    subject = gradport.Subject(lambda x: x.log(), gradport.tensor("f32[4]@0.5..2"), wrt="inputs", name="log")
    evidence = gradport.verify(gradport.export(subject), subject)
    assert not any("nan in x" in case for case in evidence.series["cases"])


def test_what_the_budget_did_not_reach_is_listed():
    module = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(4)))
    x = torch.randn(4096, 256)
    evidence = gradport.verify(gradport.export(module, x, verify=False), module, x, budget=0.02)
    (finding,) = [f for f in evidence.findings if f.rule == "budget"]
    assert finding.outcome == "skipped"
    assert "nan in " in finding.message
    assert finding.figure == len(finding.message.partition("budget: ")[2].split("; "))
    assert evidence.ok


class Sorted(torch.nn.Module):
    def forward(self, x):
        return torch.topk(x, 3).indices


class LastSorted(torch.nn.Module):
    """Takes the last of equal elements where torch takes another one."""

    def forward(self, x):
        return 7 - torch.topk(x.flip(-1), 3).indices


def test_the_order_of_ties_fails_until_it_is_left_out(tmp_path, monkeypatch):
    x = torch.randn(4, 8)
    program = gradport.export(LastSorted(), x)
    evidence = gradport.verify(program, Sorted(), x)
    failed = [f for f in evidence.findings if f.outcome == "failed" and f.rule != "ties"]
    assert failed == []
    ties = next(f for f in evidence.findings if f.key == "ties/onnxruntime/output")
    assert ties.outcome == "failed"
    assert "skip='ties'" in ties.message
    assert gradport.verify(program, Sorted(), x, skip=["ties"]).ok
    (tmp_path / "pyproject.toml").write_text(
        '[tool.gradport.verify."Sorted"]\nskip = ["ties"]\nreason = "torch leaves the order of equal elements open"\n'
    )
    monkeypatch.chdir(tmp_path)
    evidence = gradport.verify(program, Sorted(), x)
    assert evidence.ok
    said = next(f for f in evidence.findings if f.key == "ties/settings")
    assert said.outcome == "skipped"
    assert "leaves the order of equal elements open" in said.message


def test_settings_of_verify_say_a_reason(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[tool.gradport.verify."Swish"]\nskip = ["ties"]\n')
    monkeypatch.chdir(tmp_path)
    program = gradport.export(fn.Swish, X)
    with pytest.raises(gradport.SpecError, match="has no reason"):
        gradport.verify(program, fn.Swish, X)


def test_a_subject_that_nan_kills_takes_nobody_with_it():
    class Deadly(torch.nn.Module):
        def forward(self, x):
            if not torch.compiler.is_compiling() and bool(x.isnan().any()):
                os.kill(os.getpid(), signal.SIGSEGV)
            return x * 2

    evidence = gradport.verify(gradport.export(lambda x: x * 2, X), Deadly(), X)
    (finding,) = [f for f in evidence.findings if f.key == "runs/eager"]
    assert finding.kind == "eager crashes"
    assert finding.message.count("nan in x") == 1
    assert "inf in x" in evidence.series["cases"]
    assert "nan in x" not in evidence.series["cases"]
