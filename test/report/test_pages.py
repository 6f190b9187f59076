"""The pages of a folder: every section, links that lead somewhere, nothing imported, nothing hostile let through."""

import json
import pathlib
import posixpath
import re
import textwrap

import pytest
import torch
from typer.testing import CliRunner

import gradport
from gradport.cli.main import app
from gradport.report.pages import pages
from gradport.survey import survey_folder
from gradport.survey.measure import measure

ONNX = pathlib.Path(__file__).parents[1] / "onnx"
SECTIONS = [
    "File metadata",
    "Purpose",
    "Original source",
    "High-level overview",
    "Detailed analysis",
    "Role in the architecture",
    "Dependencies",
    "Code patterns",
    "Performance",
    "Security",
    "Testing and usage",
    "Related files",
    "Cross-references",
]


@pytest.fixture(scope="module")
def surveyed():
    return survey_folder(ONNX)


@pytest.fixture(scope="module")
def made(surveyed):
    import autograd_helper

    subject = gradport.Subject(autograd_helper.CustomFunction, torch.randn(4, 6))
    return pages(surveyed, {"autograd_helper.py:CustomFunction": [measure(subject, budget=3.0)]})


def test_the_card_has_every_section(made):
    card = made["autograd_helper.py_docs.md"]
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == SECTIONS
    assert "The gradient of input is the derivative" in card
    assert "Not measured" not in card
    assert "saved for backward | `input`" in card
    assert "in eager and" in card


def test_every_link_leads_to_a_page(made):
    for page, text in made.items():
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            where = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
            assert where in made, f"{page} links to {target}"


def test_the_helper_links_to_its_neighbours(made):
    card = made["autograd_helper.py_docs.md"]
    neighbours = [name for name in made if name.endswith(".py_docs.md") and not name.startswith("autograd_helper")]
    assert len(neighbours) >= 9
    assert all(f"]({name})" in card for name in neighbours)
    assert "same name as `CustomFunction`: [`identity_models.py:CustomFunction`]" in card


def test_the_plot_has_a_text(made):
    (plot,) = [text for name, text in made.items() if name.endswith(".svg")]
    assert plot.startswith("<svg")
    assert "authored backward" in plot.partition(">")[0]


def test_without_inputs_nothing_is_measured_or_imported(tmp_path):
    (tmp_path / "bomb.py").write_text("import torch\nraise SystemExit('imported')\n" + FUNCTION)
    card = pages(survey_folder(tmp_path), {})["bomb.py_docs.md"]
    assert "Not measured: no inputs given." in card
    assert "none" in card


FUNCTION = textwrap.dedent(
    '''
    class Halve(torch.autograd.Function):
        """Halves."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.count = 2
            return x / 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return g / ctx.count

    y = Halve.apply
    '''
)


def test_what_the_syntax_tree_says_of_a_function(tmp_path):
    (tmp_path / "halve.py").write_text("import torch\n" + FUNCTION)
    evidence = survey_folder(tmp_path)["halve.py"]
    (entry,) = evidence.source["autograd"]
    assert (entry["name"], entry["saved"], entry["kept_on_ctx"]) == ("Halve", ["x"], ["count"])
    assert entry["once_differentiable"]
    assert evidence.series["called_by"]["Halve"][0]["line"] == 1 + FUNCTION.count("\n")
    assert gradport.Evidence.from_json(evidence.to_json()) == evidence


@pytest.mark.parametrize(
    ("code", "pattern"),
    [
        ("eval('1')", "runs text as code"),
        ("pickle.loads(b'')", "unpickles"),
        ("subprocess.run('ls')", "starts processes"),
        ("x.data_ptr()", "takes data pointers"),
        ("ctypes.CDLL('m')", "calls foreign code"),
        ("open('f')", "reads or writes files"),
        ("torch.set_num_threads(1)", "changes global state"),
        ("requests.get('u')", "uses the network"),
    ],
)
def test_what_a_reviewer_would_stop_at_has_its_line(tmp_path, code, pattern):
    (tmp_path / "risky.py").write_text(f"import torch\n\n{code}\n")
    evidence = survey_folder(tmp_path)["risky.py"]
    assert {"pattern": pattern, "line": 3} == {k: evidence.series["security"][0][k] for k in ("pattern", "line")}
    assert f"line 3, {pattern}" in pages({"risky.py": evidence}, {})["risky.py_docs.md"]


def test_nothing_to_stop_at_names_the_patterns(tmp_path):
    (tmp_path / "tame.py").write_text("x = 1\n")
    assert (
        "None of these patterns: calls foreign code, changes global state"
        in (pages(survey_folder(tmp_path), {})["tame.py_docs.md"])
    )


def test_hostile_text_comes_out_escaped(tmp_path):
    hostile = '"""<script>alert(1)</script> [x](javascript:y) `code` \x07 \u202eltr"""\n'
    (tmp_path / "hostile.py").write_text(hostile)
    card = pages(survey_folder(tmp_path), {})["hostile.py_docs.md"]
    outside = re.sub(r"```.*?```", "", card, flags=re.DOTALL)
    assert "<script>" not in outside
    assert "[x](javascript" not in outside
    assert "\x07" not in card and "\u202e" not in card
    assert "\ufffd" in card


def test_the_command_writes_the_pages_of_a_package(tmp_path):
    result = CliRunner().invoke(app, ["docs", "rich", "--out", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["files"] > 50
    assert (tmp_path / "console.py_docs.md").is_file()


def test_what_is_nothing_is_told(tmp_path):
    result = CliRunner().invoke(app, ["docs", "no_such_package", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "no file, no folder and no installed package" in result.stderr
