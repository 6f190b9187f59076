"""gradport docs: Subjects give cards their inputs, what is known is not measured again, and tests are found."""

import json
import textwrap

import pytest
from typer.testing import CliRunner

from gradport.cli.main import app
from gradport.report.document import Link, Page, Paragraph, Section
from gradport.report.site import require_links
from gradport.survey import survey_folder
from gradport.survey.syntax import survey_file

FUNCTION = """
import torch

class Halve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x / 2

    @staticmethod
    def backward(ctx, g):
        return g / 2
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "halved"
    folder.mkdir()
    (folder / "halving_functions.py").write_text(FUNCTION)
    subjects = """
    import gradport
    from halving_functions import Halve

    TWO = [gradport.Subject(Halve, gradport.tensor("f32[4]")), gradport.Subject(Halve, gradport.tensor("f32[2,3]"))]
    """
    (folder / "halving_subjects.py").write_text(textwrap.dedent(subjects))
    return folder


def docs(*arguments):
    result = CliRunner().invoke(app, ["docs", *map(str, arguments), "--budget", "0.5s", "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout), result.stderr


def test_subjects_in_a_folder_give_its_cards_their_inputs(package, tmp_path, monkeypatch):
    found, _ = docs(package, "--out", tmp_path / "first")
    assert (found["functions"], found["measured"]) == (1, 2)
    card = (tmp_path / "first" / "halving_functions.py_docs.md").read_text()
    assert "What was found of Halve (2)" in card and "Not measured" not in card
    monkeypatch.setattr("gradport.survey.cards.measure", None)  # would fail if anything were measured again
    again, _ = docs(package, "--evidence", tmp_path / "first", "--out", tmp_path / "second")
    assert again["measured"] == 2
    for page in (tmp_path / "first").rglob("*.md"):
        assert page.read_text() == (tmp_path / "second" / page.relative_to(tmp_path / "first")).read_text()


def test_a_file_with_subjects_is_told_from_one_without(package):
    assert survey_file(package / "halving_subjects.py", "m").source["subjects"]
    assert not survey_file(package / "halving_functions.py", "m").source["subjects"]


def test_evidence_that_is_somebody_elses_is_passed_over(package, tmp_path):
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "a.json").write_text("{}")
    (package / "halving_subjects.py").unlink()
    found, _ = docs(package, "--evidence", tmp_path / "evidence", "--out", tmp_path / "out")
    assert found["measured"] == 0


def test_a_subject_that_cannot_be_measured_is_told(package, tmp_path):
    wrong = "import gradport\nfrom halving_functions import Halve\nS = gradport.Subject(Halve, ('text',))\n"
    (package / "halving_subjects.py").write_text(wrong)
    _, said = docs(package, "--out", tmp_path / "out")
    assert "left out Halve: " in said
    assert "Not measured" in (tmp_path / "out" / "halving_functions.py_docs.md").read_text()


def test_tests_that_name_a_function_are_found(package, tmp_path):
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(
        "from halving_functions import Halve\n\ndef test_halves():\n    Halve.apply(1)\n\ndef test_other():\n    pass\n"
        "\nclass TestMore:\n    def test_inside(self):\n        Halve.apply(2)\n"
    )
    (tmp_path / "tests" / "test_unrelated.py").write_text("Halve = 1\n\ndef test_no():\n    Halve\n")
    found = survey_folder(package)["halving_functions.py"].series["tested_by"]["Halve"]
    assert [(one["file"], one["line"], one["test"]) for one in found] == [
        ("tests/test_it.py", 3, "test_halves"),
        ("tests/test_it.py", 10, "TestMore::test_inside"),
    ]


def test_who_imports_and_calls_is_found_across_folders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "__init__.py").write_text("")
    (tmp_path / "a" / "inner.py").write_text(FUNCTION)
    (tmp_path / "user.py").write_text("from a.inner import Halve\n\ny = Halve.apply(1)\n")
    (tmp_path / "stranger.py").write_text("class Halve: pass\n\nz = Other.apply(1)\n")
    series = survey_folder(tmp_path)["a/inner.py"].series
    assert series["imported_by"] == ["user.py"]
    assert series["called_by"] == {"Halve": [{"file": "user.py", "line": 3}]}


def test_near_duplicates_are_found(tmp_path):
    (tmp_path / "one.py").write_text(FUNCTION)
    (tmp_path / "two.py").write_text(FUNCTION.replace("Halve", "Halved"))
    related = survey_folder(tmp_path)["one.py"].series["related"]["Halve"]
    assert related == {"same folder": ["two.py:Halved"], "same name": [], "near duplicates": ["two.py:Halved"]}


def test_a_link_to_no_page_is_a_fault():
    page = Page("here", "here", [], [Section("s", [Paragraph((Link("x", "elsewhere"),))])])
    with pytest.raises(ValueError, match="the page here links to elsewhere, which is not there"):
        require_links([page])


@pytest.mark.parametrize("name", ["broken.py", "latin.py"])
def test_what_is_no_python_is_passed_over(package, tmp_path, name):
    (package / name).write_bytes(b"\xff = (" if name == "latin.py" else b"def (")
    (package / "halving_subjects.py").unlink()
    found, _ = docs(package, "--out", tmp_path / "out")
    assert found["files"] == 1


DERIVED = """
from torch.autograd import Function

class Base(Function):
    @classmethod
    def forward(cls, ctx, x, target, scale):
        ctx.save_for_backward(x)
        return x * scale

    @classmethod
    def backward(cls, ctx, g):
        return g, None, None

class Derived(Base):
    @classmethod
    def forward(cls, ctx, x, target=None):
        return super().forward(ctx, x, target, 2)

class Layer(torch.nn.Module):
    def forward(self, x):
        return x

    def backward(self, x):
        return x

class Other:
    def forward(self, x):
        return x

    def backward(self, x):
        return x
"""


def test_a_function_that_inherits_is_one_and_what_only_looks_like_one_is_none(tmp_path):
    (tmp_path / "file.py").write_text(DERIVED)
    entries = survey_file(tmp_path / "file.py", "file").source["autograd"]
    assert [entry["name"] for entry in entries] == ["Base", "Derived"]
    assert entries[1]["arguments"] == ["x", "target"] and entries[0]["saved"] == ["x"]


def test_an_installed_package_has_none_of_its_users_tests(tmp_path):
    package = tmp_path / "env" / "site-packages" / "halved"
    package.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "test_mine.py").write_text("from halving import Halve\n\ndef test_it():\n    Halve.apply(1)\n")
    (package / "halving.py").write_text(FUNCTION)
    assert survey_folder(package)["halving.py"].series["tested_by"] == {"Halve": []}
