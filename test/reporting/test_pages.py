"""The pages of a folder: every section, links that lead somewhere, nothing imported, nothing hostile let through."""

import dataclasses
import json
import pathlib
import posixpath
import re
import textwrap

import pytest
from typer.testing import CliRunner

import gradport
from gradport.cli.main import app
from gradport.documenting import survey_folder
from gradport.documenting.cards import load_cards
from gradport.reporting.site import SITE, as_markdown, as_site, pages
from gradport.subject.paths import portable

pytestmark = pytest.mark.xdist_group("pages")  # one worker measures, and the others need not

ONNX = pathlib.Path(__file__).parents[1] / "onnx"
SECTIONS = [
    "Result",
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
def written(tmp_path_factory):
    """What `gradport docs test/onnx` writes."""
    out = tmp_path_factory.mktemp("pages")
    result = CliRunner().invoke(app, ["docs", str(ONNX), "--budget", "0.3", "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    assert "1 of them measured" in result.stdout
    return out


@pytest.fixture(scope="module")
def made(written):
    return texts(written, "*.md") | texts(written, "*.svg") | texts(written, "*.json")


@pytest.fixture(scope="module")
def site(written):
    return texts(written / SITE, "**/*")


def texts(folder, pattern):
    return {f.relative_to(folder).as_posix(): f.read_text("utf-8") for f in folder.glob(pattern) if f.is_file()}


def drawn(surveyed):
    """The Markdown of what was not measured."""
    return as_markdown(pages(surveyed, {}), {})


def test_the_card_has_every_section(made):
    card = made["autograd_helper.py_docs.md"]
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == SECTIONS
    assert "The gradient of input is the derivative" in card
    assert "Not measured" not in card
    assert "saved for backward | `input`" in card


@pytest.mark.parametrize(
    "said",
    [
        "kinks at 0",  # the curves
        "error of each entry of the authored Jacobian",
        "ULPs of the largest value from float64",
        "Error of ",  # along the graph
        "| form | opset 18 |",
        "nodes, ",
        "| bytes | eager, forward | eager, both | onnxruntime, forward | onnxruntime, both |",
        "which this machine's memory copies at",
        "Additional memory at the largest size: eager",
        "from autograd_helper import CustomFunction",
        "grad_input (4, 6)",  # what the snippet printed
        f"$ gradport docs {portable(str(ONNX))} --budget 0.3",
        "`CustomFunction` is exercised by",
        "`CustomFunction.apply` stands at",
        "takes a gradient | `input`",
        "calls foreign code, changes global state",
        "CustomFunction.backward, ",  # a box of the drawn functions
    ],
)
def test_each_part_of_the_card_is_measured(made, said):
    assert said in made["autograd_helper.py_docs.md"]


LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")


def slug(heading):
    """As GitHub and MkDocs make it of a heading."""
    return re.sub(r"[^\w -]", "", heading.replace("\\", "").lower()).replace(" ", "-")


def test_every_link_leads_to_a_page_and_a_heading(made):
    for page, text in made.items():
        outside = re.sub(r"^(```+).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
        for target, anchor in LINK.findall(outside if page.endswith(".md") else ""):
            where = posixpath.normpath(posixpath.join(posixpath.dirname(page), target)) if target else page
            assert where in made, f"{page} links to {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", made[where], re.MULTILINE)
                assert anchor in map(slug, headings), f"{page}: {anchor}"


def test_every_link_of_the_site_leads_to_a_page_and_a_place_in_it(site):
    for page, text in site.items():
        for target in re.findall(r'href="([^"]+)"', text if page.endswith(".html") else ""):
            if target.startswith("data:"):
                continue
            path, _, anchor = target.partition("#")
            where = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
            assert where in site, f"{page} links to {target}"
            assert not anchor or f'id="{anchor}"' in site[where], f"{page} links to {target}"


def test_nothing_of_the_site_lies_elsewhere(site):
    for page, text in site.items():
        if page.endswith((".html", ".css")):
            found = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?\s*(https?:|//)[^"')]*""", text)
            assert not found, page


def test_the_helper_leads_to_its_neighbours(made):
    card = made["autograd_helper.py_docs.md"]
    neighbours = [name for name in made if name.endswith(".py_docs.md") and not name.startswith("autograd_helper")]
    assert len(neighbours) >= 9
    for neighbour in neighbours:
        assert f"]({neighbour})" in card
        assert re.search(r"^## Classes and functions$|^## Detailed analysis$", made[neighbour], re.MULTILINE)
    assert "same name as `CustomFunction`: [`identity_models.py:CustomFunction`]" in card


def test_a_file_without_a_function_gets_a_short_page(made):
    assert "## Original source" not in made["test_lazy_import.py_docs.md"]
    assert "## Dependencies" in made["test_lazy_import.py_docs.md"]


def test_every_plot_says_in_words_what_it_shows(made, site):
    plots = {name: text for name, text in made.items() if name.endswith(".svg")}
    assert len(plots) == 5
    for text in plots.values():
        assert re.match(r'<svg[^>]* role="img" aria-label="CustomFunction: [^"]{20,}"', text)
    card = site["autograd_helper.py_docs.html"]
    assert card.count("<svg") == card.count("<figcaption>") == 6  # the functions are drawn, where Markdown has Mermaid


def test_the_same_evidence_gives_the_same_files(surveyed, written, made):
    measured = load_cards(written, surveyed)
    assert as_markdown(pages(surveyed, measured), measured) == made


def test_without_inputs_nothing_is_measured_or_imported(tmp_path):
    (tmp_path / "bomb.py").write_text("import torch\nraise SystemExit('imported')\n" + FUNCTION)
    card = drawn(survey_folder(tmp_path))["bomb.py_docs.md"]
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
    survey = survey_folder(tmp_path)["halve.py"]
    (entry,) = survey.autograd
    assert (entry["name"], entry["saved"], entry["kept_on_ctx"]) == ("Halve", ["x"], ["count"])
    assert entry["once_differentiable"]
    assert survey.called_by["Halve"][0]["line"] == 1 + FUNCTION.count("\n")


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
        ("from os import *", "imports by name"),
        ("e = eval", "runs text as code"),
        ("pathlib.Path('x').unlink()", "reads or writes files"),
        ("os.environ.update(A='1')", "changes global state"),
        ("torch.backends.cudnn.benchmark = True", "changes global state"),
        ("x.data.copy_(y)", "takes data pointers"),
        ("from os import system as s; s('ls')", "starts processes"),
        ("import subprocess as sp; sp.run('ls')", "starts processes"),
        ("from urllib.request import urlopen; urlopen('u')", "uses the network"),
        ("__import__('os')", "imports by name"),
        ("p.write_text('x')", "reads or writes files"),
        ("torch.ops.load_library('m.so')", "calls foreign code"),
        ("os.environ['A'] = '1'", "changes global state"),
        ("import torch.utils.cpp_extension as e; e.load('m')", "calls foreign code"),
    ],
)
def test_what_a_reviewer_would_stop_at_has_its_line(tmp_path, code, pattern):
    (tmp_path / "risky.py").write_text(f"import torch\n\n{code}\n")
    evidence = survey_folder(tmp_path)["risky.py"]
    assert {"pattern": pattern, "line": 3} == {k: evidence.security[0][k] for k in ("pattern", "line")}
    assert f"line 3, {pattern}" in drawn({"risky.py": evidence})["risky.py_docs.md"]


@pytest.mark.parametrize("code", ["self.data = data", "torch.backends.cuda.is_built()", "x.evaluate()", "reopen('f')"])
def test_what_nobody_would_stop_at_is_left_alone(tmp_path, code):
    (tmp_path / "tame.py").write_text(f"import torch\n{code}\n")
    assert survey_folder(tmp_path)["tame.py"].security == []


def test_nothing_to_stop_at_names_the_patterns(tmp_path):
    (tmp_path / "tame.py").write_text("x = 1\n")
    assert (
        "None of these patterns: calls foreign code, changes global state"
        in (drawn(survey_folder(tmp_path))["tame.py_docs.md"])
    )


HOSTILE = '<script>alert(1)</script> [x](javascript:y) `code` & "quoted" \x07 \u202eltr' + "x" * 5000


def hostile(tmp_path):
    (tmp_path / "hostile.py").write_text(f'"""{HOSTILE.replace(chr(34), chr(39))}"""\n' + "import torch\n" + FUNCTION)
    return survey_folder(tmp_path)


def test_hostile_text_comes_out_escaped_in_markdown(tmp_path):
    card = drawn(hostile(tmp_path))["hostile.py_docs.md"]
    outside = re.sub(r"```.*?```", "", card, flags=re.DOTALL)
    assert "<script>" not in outside
    assert "[x](javascript" not in outside
    assert "\x07" not in card and "\u202e" not in card
    assert "\ufffd" in card


def test_hostile_text_comes_out_escaped_in_html(tmp_path):
    surveyed = hostile(tmp_path)
    (evidence,) = surveyed.values()
    named = dataclasses.replace(FINDING, key=HOSTILE, message=HOSTILE, input=HOSTILE)
    measured = {"hostile.py:Halve": [gradport.Evidence(HOSTILE, (named,), {"curves": CURVES})]}
    for name, text in as_site(pages(surveyed, measured), measured).items():
        if name.endswith(".json"):
            continue
        assert "<script>alert" not in text, name
        assert "\x07" not in text and "\u202e" not in text, name
    assert evidence.docstring.startswith("<script>")


FINDING = gradport.Finding("key", "differences", "failed", message="")
CURVES = {key: [0.0, 1.0] for key in ("t", "forward", "derivative", "backward")}
CURVES |= {"kinks": [0.5], "jumps": [], "along": HOSTILE}


def test_the_command_writes_the_pages_of_a_package(tmp_path):
    result = CliRunner().invoke(app, ["docs", "rich", "--out", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["files"] > 50
    assert (tmp_path / "console.py_docs.md").is_file()
    assert (tmp_path / SITE / "console.py_docs.html").is_file()
    assert (tmp_path / "index.md").stat().st_mode & 0o044  # others may read it


def test_what_is_nothing_is_told(tmp_path):
    result = CliRunner().invoke(app, ["docs", "no_such_package", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not a file, a folder or an installed package" in result.stderr


def test_several_paths_stand_beside_each_other(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.py").write_text("x = 1\n")
    paths = [str(tmp_path / name) for name in ("one", "two")]
    result = CliRunner().invoke(app, ["docs", *paths, "--out", str(tmp_path / "pages")])
    assert result.exit_code == 0, result.stderr
    index = (tmp_path / "pages" / "index.md").read_text()
    assert "(one/index.md)" in index and "(two/index.md)" in index


def test_a_subject_that_is_of_no_file_here_is_told(tmp_path):
    (tmp_path / "file.py").write_text("x = 1\n")
    (tmp_path / "given.py").write_text("import torch, gradport\nS = gradport.Subject(torch.nn.ReLU(), torch.ones(2))\n")
    arguments = ["docs", str(tmp_path / "file.py"), "--subjects", str(tmp_path / "given.py")]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "pages")])
    assert result.exit_code == 0, result.stderr
    assert "left out ReLU" in result.stdout


@pytest.mark.parametrize(
    ("returned", "differentiable"),
    [
        ("g, None", ["x"]),
        ("g", None),
        ("None, g", ["y"]),
        ("tuple(found)", None),
        ("(g,) + (None,)", None),
        ("None, None", []),
    ],
)
def test_the_arguments_that_take_a_gradient(tmp_path, returned, differentiable):
    code = FUNCTION.replace("(ctx, x)", "(ctx, x, y)").replace("return g / ctx.count", f"return {returned}")
    (tmp_path / "file.py").write_text("import torch\n" + code)
    (entry,) = survey_folder(tmp_path)["file.py"].autograd
    assert entry["differentiable"] == differentiable
