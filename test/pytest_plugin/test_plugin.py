"""`pytest --gradport` collects Subjects, and says in a sentence what is wrong with one."""

import json
import subprocess
import sys
import textwrap

import pytest

import gradport

pytestmark = pytest.mark.corpus  # each starts a pytest of its own

SUITE = """
    import torch
    import gradport

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * FACTOR

    FACTOR = 2

    class Wrong(Double):
        @staticmethod
        def backward(ctx, g):
            return g * 3

    good = gradport.Subject(Double, gradport.tensor("f32[batch,3]"), wrt="inputs")
    many = [good, gradport.Subject(Wrong, gradport.tensor("f32[3]"), wrt="inputs")]
    named = {"declared": many[1].replace(expect="scaled by 1.5")}
"""


def pytest_on(folder, *options):
    (folder / "test_subjects.py").write_text(textwrap.dedent(SUITE))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", *options, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_subjects_lists_and_dicts_are_collected_checked_and_exported(tmp_path):
    result = pytest_on(tmp_path, "--gradport")
    assert "7 passed" in result.stdout, result.stdout
    assert "1 failed" in result.stdout
    assert 'expect={"x": "scaled by 1.5"}' in result.stdout
    assert "FAILED test_subjects.py::many[1]-Wrong[check]" in result.stdout
    assert "Traceback" not in result.stdout


def test_a_test_run_and_a_campaign_share_results(tmp_path):
    store = tmp_path / "c.db"
    result = pytest_on(tmp_path, "--gradport", f"--gradport-store={store}")
    assert "1 failed, 7 passed" in result.stdout, result.stdout
    assert 'expect={"x": "scaled by 1.5"}' in result.stdout and "Traceback" not in result.stdout
    before = gradport.Campaign(store).rows()
    command = [sys.executable, "-m", "gradport", "campaign", "test_subjects.py", "--store", str(store)]
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "6 of them from the store, unchanged" in again.stdout, again.stdout
    assert [row.finished for row in gradport.Campaign(store).rows()] == [row.finished for row in before]
    refused = pytest_on(tmp_path, "--gradport", f"--gradport-store={store}", "-n", "2")
    assert "leave out -n" in refused.stderr and "Traceback" not in refused.stderr


def test_nothing_is_collected_unasked(tmp_path):
    assert "no tests ran" in pytest_on(tmp_path).stdout


@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)], ids=["one process", "xdist"]
)
def test_reports_in_junit_json_and_html(tmp_path, workers):
    where = tmp_path / "reports"
    pytest_on(
        tmp_path,
        "--gradport",
        f"--gradport-report={where}",
        f"--junitxml={where / 'junit.xml'}",
        "-k",
        "good",
        *workers,
    )
    rows = json.loads((where / "gradport.json").read_text())
    assert {row["test"] for row in rows} == {f"test_subjects.py::good-Double[{what}]" for what in ("check", "export")}
    assert all(row["ok"] and row["findings"] for row in rows)
    page = (where / "gradport.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "All checks of Double are ok." in page
    assert "good-Double[check]" in page
    assert "gradport" in (where / "junit.xml").read_text()


def test_what_a_subject_leaves_open_is_exported_with_every_gradient(tmp_path):
    suite = SUITE + "\n    open_ = gradport.Subject(Double, gradport.tensor('f32[3]'))\n"
    (tmp_path / "test_open.py").write_text(textwrap.dedent(suite))
    where = tmp_path / "reports"
    command = ["-q", "-p", "no:cacheprovider", "--gradport", f"--gradport-report={where}", "-k", "open_ and export"]
    subprocess.run([sys.executable, "-m", "pytest", *command, str(tmp_path)], capture_output=True, cwd=tmp_path)
    (row,) = json.loads((where / "gradport.json").read_text())
    assert any(finding["key"].endswith("/grad_x") for finding in row["findings"])


def test_a_hostile_name_is_escaped():
    from gradport import Evidence
    from gradport.reporting.run import run_html

    name = "<script>alert(1)</script>"
    found = run_html(name, [(name, Evidence(name))])
    assert "<script>alert" not in found


def test_without_the_option_nothing_heavy_is_imported(tmp_path):
    heavy = "{'torch', 'onnx', 'jinja2', 'gradport.subject.subject'}"
    hook = f"import sys\ndef pytest_sessionfinish():\n    assert not {heavy} & set(sys.modules)\n"
    (tmp_path / "conftest.py").write_text(hook)
    (tmp_path / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
