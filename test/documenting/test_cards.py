"""gradport docs: Subjects give cards their inputs, what is known is not measured again, and tests are found."""

import json
import os
import sys
import textwrap

import pytest
from typer.testing import CliRunner

from gradport.cli.main import app
from gradport.documenting import survey_folder
from gradport.documenting.syntax import survey_file
from gradport.reporting.document import Link, Page, Paragraph, Section
from gradport.reporting.site import require_links

pytestmark = pytest.mark.corpus

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
def package(tmp_path, monkeypatch):
    for name in ("halving_functions", "halving_subjects", "more"):  # those of another test
        monkeypatch.delitem(sys.modules, name, raising=False)
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
    result = CliRunner().invoke(app, ["docs", *map(str, arguments), "--budget", "0.1", "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout), result.stderr


def test_subjects_in_a_folder_give_its_cards_their_inputs(package, tmp_path, monkeypatch):
    found, _ = docs(package, "--out", tmp_path / "first")
    assert (found["functions"], found["measured"]) == (1, 1)
    card = (tmp_path / "first" / "halving_functions.py_docs.md").read_text()
    assert "All findings about Halve (2)" in card and "Not measured" not in card
    monkeypatch.setattr("gradport.documenting.cards.measure", None)  # would fail if anything were measured again
    again, _ = docs(package, "--evidence", tmp_path / "first", "--out", tmp_path / "second")
    assert again["measured"] == 1
    for page in (tmp_path / "first").rglob("*.md"):
        assert page.read_text() == (tmp_path / "second" / page.relative_to(tmp_path / "first")).read_text()


def test_a_file_with_subjects_is_told_from_one_without(package):
    assert survey_file(package / "halving_subjects.py", "m").subjects
    assert not survey_file(package / "halving_functions.py", "m").subjects


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
    found = survey_folder(package)["halving_functions.py"].tested_by["Halve"]
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
    survey = survey_folder(tmp_path)["a/inner.py"]
    assert survey.imported_by == ["user.py"]
    assert survey.called_by == {"Halve": [{"file": "user.py", "line": 3}]}


def test_near_duplicates_are_found(tmp_path):
    (tmp_path / "one.py").write_text(FUNCTION)
    (tmp_path / "two.py").write_text(FUNCTION.replace("Halve", "Halved"))
    related = survey_folder(tmp_path)["one.py"].related["Halve"]
    assert related == {"same folder": ["two.py:Halved"], "same name": [], "near duplicates": ["two.py:Halved"]}


def test_a_link_to_no_page_is_a_fault():
    page = Page("here", "here", [], [Section("s", [Paragraph((Link("x", "elsewhere"),))])])
    with pytest.raises(ValueError, match="the page here links to elsewhere, which is not there"):
        require_links([page])


BROKEN = {
    "syntax.py": b"def (",
    "bytes.py": b"\xff = (",
    "deep.py": b"x = " + b"(" * 250 + b")" * 250,
    "elifs.py": b"if a: pass\n" + b"elif a: pass\n" * 3000,
    "new\nline.py": b"x = 1",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_no_page_can_be_made_of_is_told(package, tmp_path, name):
    (package / name).write_bytes(BROKEN[name])
    (package / "halving_subjects.py").unlink()
    found, _ = docs(package, "--out", tmp_path / "out")
    assert found["files"] == 1
    assert len(found["left_out"]) == 1


def test_a_fifo_is_no_file(package, tmp_path):
    os.mkfifo(package / "pipe.py")
    assert "pipe.py" not in survey_folder(package)


@pytest.mark.parametrize("text", [b"\xef\xbb\xbfx = 1\n", b"# -*- coding: latin-1 -*-\nx = '\xe9'\n"])
def test_files_are_read_as_python_reads_them(tmp_path, text):
    (tmp_path / "file.py").write_bytes(text)
    assert survey_folder(tmp_path)["file.py"].lines >= 1


def test_a_subject_of_somebody_else_is_not_run(tmp_path):
    (tmp_path / "reactive.py").write_text("class Subject: pass\ns = Subject()\nraise SystemExit(0)\n")
    found, _ = docs(tmp_path, "--out", tmp_path / "out")
    assert found["files"] == 1


@pytest.mark.parametrize("end", ["raise SystemExit(0)", pytest.param("raise ValueError('no')", marks=pytest.mark.slow)])
def test_subjects_that_do_not_import_are_told(package, tmp_path, end):
    (package / "more.py").write_text(f"import gradport\nS = gradport.Subject(abs)\n{end}\n")
    found, said = docs(package, "--out", tmp_path / "out")
    assert found["measured"] == 1 and "left out the Subjects of a file" in said


@pytest.mark.slow
def test_two_subjects_of_one_name_have_files_of_their_own(package, tmp_path):
    twin = FUNCTION.replace("Halve", "Third").replace("/ 2", "/ 3")
    (package / "halving_functions.py").write_text(FUNCTION + twin)
    (package / "halving_subjects.py").write_text(
        "import gradport\nfrom halving_functions import Halve, Third\nx = gradport.tensor('f32[4]')\n"
        "S = [gradport.Subject(f, x, name=n) for f, n in ((Halve, 's'), (Third, 's'), (Third, '大'))]\n"
    )
    docs(package, "--out", tmp_path / "out")
    found = [json.loads(file.read_text()) for file in (tmp_path / "out").glob("*.json")]
    assert sorted((one["source"]["card"].rpartition(":")[2], one["subject"]) for one in found) == [
        ("Halve", "s"), ("Third", "s"), ("Third", "大"),
    ]  # fmt: skip


def test_paths_of_one_name_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "src").mkdir(parents=True)
        (tmp_path / name / "src" / "file.py").write_text("x = 1\n")
    result = CliRunner().invoke(app, ["docs", str(tmp_path / "a/src"), str(tmp_path / "b/src"), "--out", str(tmp_path)])
    assert result.exit_code == 2 and "would have the same folder, 'src'" in result.stderr


def test_a_path_above_is_written_below_out(tmp_path, monkeypatch):
    for name in ("one", "two/inner"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file.py").write_text("x = 1\n")
    monkeypatch.chdir(tmp_path / "two" / "inner")
    docs("..", "../../one", "--out", tmp_path / "out" / "here")
    assert not list((tmp_path / "out").glob("*.md"))
    assert (tmp_path / "out" / "here" / "two" / "inner" / "file.py_docs.md").is_file()


def test_a_module_within_a_package_is_found_without_importing_it(tmp_path):
    found, _ = docs("xml.dom", "--out", tmp_path / "folder")
    assert found["files"] > 3
    found, _ = docs("xml.dom.minidom", "--out", tmp_path / "file")
    assert found["files"] == 1


def test_evidence_in_no_folder_is_refused(package, tmp_path):
    arguments = ["docs", str(package), "--evidence", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "folder with Evidence not found" in result.stderr


def test_functions_that_differ_in_case_alone_have_anchors_of_their_own(tmp_path):
    (tmp_path / "file.py").write_text(FUNCTION + FUNCTION.replace("Halve", "HALVE") + FUNCTION)
    found, _ = docs(tmp_path, "--out", tmp_path / "out")
    assert found["functions"] == 2  # the third takes the place of the first, as in Python
    text = (tmp_path / "out" / "_site" / "file.py_docs.html").read_text()
    assert 'id="class-halve"' in text and 'id="class-halve-1"' in text
    keywords = (tmp_path / "out" / "file.py_kw.md").read_text()
    assert "#class-halve)" in (tmp_path / "out" / "index.md").read_text() and "class" in keywords


CALLS = """
from a.inner import Halve as K
import a.inner
from elsewhere import Halve

K.apply(1)
a.inner.Halve.apply(1)
Halve.apply(1)
df.Halve.apply(1)
"""


def test_calls_are_told_by_what_a_name_was_imported_as(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "__init__.py").write_text("from .inner import Halve\n")
    (tmp_path / "a" / "inner.py").write_text(FUNCTION)
    (tmp_path / "a" / "near.py").write_text(
        "from . import inner\nfrom .inner import Halve as H\nH.apply(1)\ninner.Halve.apply(1)\n"
    )
    (tmp_path / "user.py").write_text(CALLS)
    (tmp_path / "other.py").write_text("from a import Halve\nHalve.apply(1)\n")
    survey = survey_folder(tmp_path)["a/inner.py"]
    assert survey.imported_by == ["a/__init__.py", "a/near.py", "user.py"]
    assert sorted((one["file"], one["line"]) for one in survey.called_by["Halve"]) == [
        ("a/near.py", 3), ("a/near.py", 4), ("other.py", 2), ("user.py", 6), ("user.py", 7),
    ]  # fmt: skip


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
    entries = survey_file(tmp_path / "file.py", "file").autograd
    assert [entry["name"] for entry in entries] == ["Base", "Derived"]
    assert entries[1]["arguments"] == ["x", "target"] and entries[0]["saved"] == ["x"]


def test_an_installed_package_has_none_of_its_users_tests(tmp_path):
    package = tmp_path / "env" / "site-packages" / "halved"
    package.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "test_mine.py").write_text("from halving import Halve\n\ndef test_it():\n    Halve.apply(1)\n")
    (package / "halving.py").write_text(FUNCTION)
    assert survey_folder(package)["halving.py"].tested_by == {"Halve": []}


KEPT = """
class Keeps(Function):
    @staticmethod
    def forward(context, x, *, scale=1):
        context.a, context.b = 1, 2
        context.c: int = 3
        context.d += 1
        return helper(x.clamp(min=0).tolist().append(1))

    @staticmethod
    def vjp(context, g):
        def inner(v):
            return v, v
        return g, None
"""


def test_what_is_kept_and_called_however_it_is_written(tmp_path):
    (tmp_path / "file.py").write_text(KEPT)
    (entry,) = survey_file(tmp_path / "file.py", "file").autograd
    assert entry["kept_on_ctx"] == ["a", "b", "c", "d"]
    assert entry["operators"] == ["clamp", "helper", "tolist"]
    assert (entry["arguments"], entry["differentiable"]) == (["x", "scale"], ["x"])
    assert entry["forward_line"] == 4
