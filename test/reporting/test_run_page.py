"""The page of a run: what held on top, everything below it, findings linked to lines; and the page of a change."""

import dataclasses
import json
import re
import time

import pytest
import torch
from typer.testing import CliRunner

import gradport
from gradport.cli.main import app
from gradport.documenting import with_excerpts
from gradport.reporting.difference import difference_html
from gradport.reporting.plots import divergence_plot
from gradport.reporting.run import run_html

HELD = gradport.Finding("rule/held", "rule", "ok", "derivative", "info", 2.5, "ULP", message="It holds.")
FAILED = gradport.Finding(
    "rule/failed", "rule", "failed", severity="error", where=f"{__file__}:5", message="It does not."
)


def evidence(*findings, name="subject", **series):
    return gradport.Evidence(name, findings, series, environment={"torch": "2"})


def test_one_that_holds_says_so():
    page = run_html("title", [("here", evidence(HELD))])
    assert "All checks of subject are ok." in page
    assert 'aria-label="1 ok"' in page


def test_one_that_does_not_says_what_in_one_sentence():
    page = run_html("title", [("here", evidence(HELD, FAILED))])
    assert "subject is not ok: It does not." in page
    assert 'aria-label="1 failed, 1 ok"' in page


def test_many_are_counted_and_linked():
    found = [("a", evidence(HELD, name="good")), ("b", evidence(FAILED, name="bad"))]
    page = run_html("title", found)
    assert "1 of 2 subjects ok; bad is not ok." in page
    for target in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{target}"' in page
    assert 'href="#2-bad"' in page


def test_none_is_said():
    assert "Nothing was measured." in run_html("title", [])


def test_a_failure_is_linked_to_its_line():
    page = run_html("title", [("here", with_excerpts(evidence(FAILED)))])
    assert 'href="#L1-5"' in page
    assert re.search(r'id="L1-5"[^>]*>.*re', page)


def test_lines_near_each_other_share_an_excerpt():
    near = dataclasses.replace(FAILED, where=f"{__file__}:8")
    far = dataclasses.replace(FAILED, where=f"{__file__}:70")
    excerpts = with_excerpts(evidence(FAILED, near, far)).source["excerpts"]
    assert [one["first"] for one in excerpts] == [1, 58]
    assert excerpts[0]["text"].startswith('"""The page of a run')


def test_a_place_that_is_not_there_has_no_excerpt():
    gone = dataclasses.replace(FAILED, where="/no/such/file.py:3")
    assert with_excerpts(evidence(gone)).source["excerpts"] == []


SERIES = [
    {"node": "a", "op": "Mul", "half": "forward", "place": None, "relative": 0.0, "first": False},
    {"node": "b", "op": "Tanh", "half": "backward", "place": f"{__file__}:5", "relative": 0.5, "first": True},
    {"node": "c", "op": "Add", "half": "backward", "place": None, "relative": float("inf"), "first": False},
]


def test_the_divergence_is_drawn_with_its_first_node_linked_to_its_line():
    page = run_html("title", [("here", with_excerpts(evidence(FAILED, divergence=SERIES)))])
    assert "1 in the forward pass and 2 in the backward pass; the first that differs is b (Tanh)" in page
    assert re.search(r'<a xlink:href="#L1-5"', page)


def test_the_divergence_of_nothing_is_no_picture_of_a_fault():
    plot = divergence_plot("none", [{**SERIES[0]}])
    assert "first difference" not in plot


def test_a_verification_that_fails_draws_its_divergence():
    subject = gradport.Subject(torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Sigmoid()), torch.ones(2, 3), wrt="inputs")
    program = gradport.export(subject)
    node = next(node for node in program.model.graph if node.op_type == "Tanh")
    node.op_type = "Sin"
    verified = gradport.verify(program, subject, budget=1.0)
    first = [row for row in verified.series["divergence"] if row["first"]]
    assert [row["op"] for row in first] == ["Sin"]
    assert {row["half"] for row in verified.series["divergence"]} == {"forward", "backward"}
    assert "the first that differs is" in run_html("title", [("here", verified)])


def test_two_hundred_subjects_are_light():
    findings = tuple(dataclasses.replace(HELD, key=f"rule/{n}", message="It holds. " * 8) for n in range(40))
    found = [(f"test_{n}", evidence(*findings, name=f"subject{n}")) for n in range(200)]
    started = time.monotonic()
    page = run_html("title", found)
    assert len(page.encode()) < 5e6
    assert time.monotonic() - started < 30


def test_a_page_takes_nothing_from_elsewhere():
    page = run_html("title", [("here", with_excerpts(evidence(FAILED, divergence=SERIES)))])
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|<link[^>]* href)="(?!data:)', page)


def test_what_changed_is_a_page():
    before, after = evidence(HELD), evidence(dataclasses.replace(HELD, outcome="failed"))
    after = dataclasses.replace(after, environment={"torch": "3"})
    page = difference_html(before, after, gradport.compare(before, after))
    assert "1 worse." in page and "rule/held" in page
    assert "<td><bdi>2</bdi></td><td><bdi>3</bdi></td>" in page


def timed(milliseconds):
    row = {"way": "onnxruntime", "phase": "both", "sizes": {"batch": 4}, "bytes": 64, "milliseconds": milliseconds}
    return evidence(timings={"rows": [row], "memory": {}, "bandwidth": 1e9, "threads": 1})


@pytest.mark.parametrize(("after", "kinds"), [(2.0, ["slower"]), (0.5, ["faster"]), (1.2, [])])
def test_timings_are_compared(after, kinds):
    assert [change.kind for change in gradport.compare(timed(1.0), timed(after))] == kinds


FUNCTION = """
import torch, gradport

class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 0.5

    @staticmethod
    def backward(ctx, g):
        return g * {slope}
"""


@pytest.fixture
def half(tmp_path):
    (tmp_path / "half_of_it.py").write_text(FUNCTION.format(slope=0.5))
    return f"{tmp_path / 'half_of_it.py'}:Half"


def test_check_writes_a_page(tmp_path, half):
    page = tmp_path / "pages" / "check.html"
    result = CliRunner().invoke(app, ["check", half, "x=f32[4]", "--only", "differences", "--html", str(page)])
    assert result.exit_code == 0, result.stderr
    assert "All checks of Half are ok." in page.read_text()
    assert "class" in page.read_text() and "<span" in page.read_text()


def test_run_writes_a_page_that_leads_to_the_model(tmp_path, half):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["run", half, "x=f32[4]", "--budget", "0.3", "--out", str(out), "--json"])
    assert result.exit_code == 0, result.stderr
    assert str(out / "Half.html") in json.loads(result.stdout)["files"]
    page = (out / "Half.html").read_text()
    assert 'href="Half.onnx"' in page and "gradport view Half.onnx" in page


def test_verify_writes_a_page(tmp_path, half):
    model, page = tmp_path / "half.onnx", tmp_path / "verify.html"
    gradport.export(torch.nn.Tanh(), torch.ones(4), wrt="inputs").save(model)
    arguments = ["verify", str(model), "--against", half, "x=f32[4]", "--wrt", "x", "--budget", "0.3"]
    result = CliRunner().invoke(app, [*arguments, "--html", str(page), "--out", str(tmp_path)])
    assert result.exit_code == 1, result.stderr
    assert "Half is not ok: " in page.read_text()
    assert 'href="half.onnx"' in page.read_text()


def test_compare_writes_a_page(tmp_path):
    paths = []
    for name, one in (("a", evidence(HELD)), ("b", evidence(FAILED))):
        paths.append(str(tmp_path / f"{name}.json"))
        (tmp_path / f"{name}.json").write_text(one.to_json())
    result = CliRunner().invoke(app, ["compare", *paths, "--html", str(tmp_path / "c.html")])
    assert result.exit_code == 1
    assert "1 gone, 1 new." in (tmp_path / "c.html").read_text()


def test_view_opens_a_model_in_netron(tmp_path, monkeypatch):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"")
    asked = CliRunner().invoke(app, ["view", str(model)])
    assert asked.exit_code == 2 and "pip install netron" in asked.stderr
    netron = "import sys\ndef start(path): print('shown', path)\ndef wait(): pass\n"
    (tmp_path / "netron.py").write_text(netron)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert f"shown {model}" in CliRunner().invoke(app, ["view", str(model)]).stdout


def test_view_draws_evidence(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda where: opened.append(where) or True)
    (tmp_path / "a.json").write_text(evidence(HELD).to_json())
    assert CliRunner().invoke(app, ["view", str(tmp_path / "a.json")]).exit_code == 0
    assert opened[0].startswith("file:///") and opened[0].endswith("/a.html")


@pytest.mark.parametrize(
    ("name", "said"), [("none.onnx", "none.onnx: file not found"), ("a.txt", "is not an .onnx, .html")]
)
def test_view_tells_what_it_does_not_open(tmp_path, name, said):
    (tmp_path / "a.txt").write_text("")
    result = CliRunner().invoke(app, ["view", str(tmp_path / name)])
    assert result.exit_code == 2 and said in result.stderr
