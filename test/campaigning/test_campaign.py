"""Campaigns: results, resuming, refusals, files for other programs."""

import csv
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
import torch

import gradport
from gradport import SpecError, TargetError

from . import subjects

HERE = pathlib.Path(__file__).parent


def outcomes(campaign):
    return {(row.subject, row.column): str(row.outcome) for row in campaign.rows()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A campaign of two workers."""
    folder = tmp_path_factory.mktemp("campaign")
    shutil.copy(HERE / "subjects.py", folder / "ops.py")
    seen = []
    campaign = gradport.campaign(
        folder / "ops.py",
        opsets=(18, 20),
        store=folder / "campaign.db",
        workers=2,
        profile="quick",
        progress=lambda state: seen.append((state.done, state.failing, state.total)),
    )
    return campaign, seen


def test_every_subject_has_every_case(done):
    campaign, seen = done
    assert outcomes(campaign) == {
        ("Swish", "check"): "ok",
        ("Swish", "verify opset18"): "ok",
        ("Swish", "verify opset20"): "ok",
        ("Wrong", "check"): "failed",
        ("Wrong", "verify opset18"): "ok",
        ("Wrong", "verify opset20"): "ok",
    }
    assert next(iter(outcomes(campaign))) == ("Swish", "check")  # in the order of the Subjects
    assert not campaign.ok and campaign.counts() == {"ok": 5, "failed": 1}
    assert seen[0] == (0, 0, 6) and seen[-1] == (6, 1, 6)


def test_a_row_has_figures_versions_and_evidence(done):
    campaign, _ = done
    (row,) = [row for row in campaign.rows() if row["column"] == "check" and row["subject"] == "Wrong"]
    assert row.processor_seconds > 0 and row.versions["torch"] == torch.__version__
    assert "gradient of x is wrong" in row.message and "ops.py:" in row.where
    assert {finding.rule for finding in campaign.evidence(row).findings if finding.outcome == "failed"} >= {row.kind}
    assert dict(row)["subject"] == "Wrong"
    with pytest.raises(KeyError):
        row["nothing"]


def test_an_equal_campaign_runs_nothing_and_a_changed_source_runs_again(tmp_path):
    file = tmp_path / "ops.py"
    shutil.copy(HERE / "subjects.py", file)
    options = {"store": tmp_path / "c.db", "workers": 0, "checks": False}
    first = gradport.campaign(str(file), **options)
    finished = [row.finished for row in first.rows()]
    states = []
    again = gradport.campaign(str(file), **options, progress=lambda state: states.append((state.done, state.resumed)))
    assert states == [(0, 2)] and [row.finished for row in again.rows()] == finished
    file.write_text(file.read_text() + "\n# changed\n")
    states.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(__import__("sys").modules, "ops")
        from gradport.campaigning import sources

        sources._by_name.cache_clear()  # a process keeps the code that it imported, and its hash
        sources._file_digest.cache_clear()
        sources._code_digest.cache_clear()
        gradport.campaign(str(file), **options, progress=lambda state: states.append((state.done, state.resumed)))
    assert states[-1] == (2, 0)
    states.clear()
    gradport.campaign(str(file), **options, seed=1, progress=lambda state: states.append((state.done, state.resumed)))
    assert states[-1] == (2, 0)


def test_subjects_of_this_process_and_tasks(tmp_path):
    def deny():
        raise AssertionError("denied")

    tasks = [gradport.Task("yes", lambda: None), gradport.Task("no", deny, "mine"), gradport.Task("odd", lambda: 3)]
    campaign = gradport.campaign(
        [subjects.SUBJECTS[0], *tasks], store=tmp_path / "c.db", workers=0, checks=False, functions=("inline",)
    )
    assert outcomes(campaign) == {
        ("Swish", "verify inline"): "ok",
        ("yes", "run"): "ok",
        ("no", "mine"): "failed",
        ("odd", "run"): "error",
    }
    assert "returned int" in campaign.rows()[-1].message


def test_a_changed_file_that_the_subject_imports_runs_again(tmp_path):
    """The example of a user: the backward calls a function of another file."""
    (tmp_path / "pk").mkdir()
    for name, text in {
        "__init__": "",
        "helper": "def double(g):\n    return 2 * g\n",
        "f": "import torch\nfrom pk.helper import double\n"
        "class Double(torch.autograd.Function):\n"
        "    forward = staticmethod(lambda ctx, x: 2 * x)\n"
        "    backward = staticmethod(lambda ctx, g: double(g))\n",
        "subjects": "import torch, gradport\nfrom pk.f import Double\n"
        "SUBJECTS = [gradport.Subject(Double, torch.ones(3, requires_grad=True))]\n",
    }.items():
        (tmp_path / "pk" / f"{name}.py").write_text(text)
    program = (
        "import sys, gradport\n"
        "found = gradport.campaign('pk/subjects.py', workers=0, exports=False, profile='quick', store='c.db',\n"
        "    progress=lambda state: print(state.done, state.resumed))\n"
        "print(found.counts())\n"
    )

    def run():
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    assert run() == ["1 0", "{'ok': 1}"]
    assert run() == ["0 1", "{'ok': 1}"]
    (tmp_path / "pk" / "helper.py").write_text("def double(g):\n    return 3 * g\n")
    assert run() == ["1 0", "{'failed': 1}"]


def test_subjects_in_memory_are_resumed_under_their_names(tmp_path):
    factor = 2.0
    states = []
    for _ in range(2):
        mapping = {"twice": gradport.Subject(lambda x: factor * x, torch.ones(3, requires_grad=True))}
        found = gradport.campaign(
            mapping,
            workers=0,
            checks=False,
            store=tmp_path / "c.db",
            progress=lambda state: states.append((state.done, state.resumed)),
        )
        assert outcomes(found) == {("twice", "verify"): "ok"}
    assert states == [(1, 0), (0, 1)]
    factor = 3.0
    mapping = {"twice": gradport.Subject(lambda x: factor * x, torch.ones(3, requires_grad=True))}
    gradport.campaign(
        mapping,
        workers=0,
        checks=False,
        store=tmp_path / "c.db",
        progress=lambda state: states.append((state.done, state.resumed)),
    )
    assert states[-1] == (1, 0)


def test_results_never_replace_the_store(tmp_path):
    found = gradport.campaign(gradport.Task("yes", lambda: None), workers=0, store=tmp_path / "c.db")
    for write in (found.to_html, found.to_csv, found.to_junit):
        with pytest.raises(SpecError, match="is the store of the campaign"):
            write(tmp_path / "c.db")
    assert found.counts() == {"ok": 1}


def test_files_for_other_programs(done, tmp_path):
    campaign, _ = done
    campaign.to_csv(tmp_path / "c.csv")
    lines = list(csv.DictReader((tmp_path / "c.csv").open()))
    assert len(lines) == 6 and {line["outcome"] for line in lines} == {"ok", "failed"}
    campaign.to_junit(tmp_path / "c.xml")
    (suite,) = ET.parse(tmp_path / "c.xml").getroot()
    assert suite.attrib["tests"] == "6" and suite.attrib["failures"] == "1"
    campaign.to_html(tmp_path / "c.html")
    text = (tmp_path / "c.html").read_text()
    assert "verify opset18" in text and "<script src" not in text and str(tmp_path) not in text
    pages = [path for path in (tmp_path / "c-evidence").iterdir() if path.suffix == ".html"]
    assert len(pages) == 1 and "gradient of x is wrong" in pages[0].read_text()


def test_only_chooses_subjects(tmp_path):
    file = str(HERE / "subjects.py")
    options = {"store": tmp_path / "c.db", "workers": 0, "checks": False}
    assert set(outcomes(gradport.campaign(file, only=["Wr*"], **options))) == {("Wrong", "verify")}
    with pytest.raises(SpecError, match="fits no Subject; the first ones are Swish, Wrong"):
        gradport.campaign(file, only=["Sw"], **options)


@pytest.mark.parametrize(
    ("subjects", "options", "message"),
    [
        ([], {}, "needs at least one Subject"),
        ([3], {}, "not 3"),
        ("torch:nothing", {}, "the suites are torch:operators"),
        ("nothing_here", {}, "There is no module"),
        ("nothing.py", {}, "file not found"),
        (str(HERE / "test_store.py"), {}, "no gradport.Subject and no gradport.Task"),
        (str(HERE / "subjects.py"), {"time_limit": "soon"}, "is not a time"),
        (str(HERE / "subjects.py"), {"memory_limit": "much"}, "is not a size"),
        (str(HERE / "subjects.py"), {"profile": "slow"}, "is unknown"),
        (str(HERE / "subjects.py"), {"functions": ["kep"]}, "the forms are keep, inline, opaque, symbolic"),
        (str(HERE / "subjects.py"), {"runtimes": ["foo"]}, "known runtimes are"),
        (str(HERE / "subjects.py"), {"checks": False, "exports": False}, "has no cases"),
        (str(HERE / "subjects.py"), {"scheduler": "foo"}, "is not an address"),
    ],
)
def test_what_is_no_campaign(tmp_path, subjects, options, message):
    with pytest.raises((SpecError, TargetError), match=message):
        gradport.campaign(subjects, store=tmp_path / "c.db", workers=0, **options)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.corpus)])
def test_a_file_that_starts_a_campaign_of_itself_is_refused(tmp_path, workers):
    file = tmp_path / f"itself{workers}.py"
    file.write_text(
        "import gradport, torch\n"
        "SUBJECTS = [gradport.Subject(torch.sin, torch.ones(2))]\n"
        f"gradport.campaign({str(file)!r}, store={str(tmp_path / 'inner.db')!r}, workers={workers})\n"
    )
    with pytest.raises(TargetError, match=r"itself\d.py starts a campaign while a campaign imports it"):
        gradport.campaign(str(file), store=tmp_path / "c.db", workers=workers)


@pytest.mark.corpus
def test_an_environment_without_gradport_is_named(tmp_path):
    with pytest.raises(SpecError, match="no/python: Python not found"):
        gradport.campaign(str(HERE / "subjects.py"), store=tmp_path / "c.db", pythons=["no/python"])
    with pytest.raises(SpecError, match="/bin/true does not run cases: install this version of gradport there"):
        gradport.campaign(str(HERE / "subjects.py"), store=tmp_path / "c.db", pythons=["/bin/true"])


@pytest.mark.corpus
def test_another_environment_is_an_axis(tmp_path):
    """The interpreter of this environment under another name."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    task = [gradport.Task("yes", lambda: None)]
    found = gradport.campaign(task, store=tmp_path / "c.db", workers=1, pythons=["", str(python)])
    assert outcomes(found) == {("yes", "run"): "ok", ("yes", f"run {python}"): "ok"}
