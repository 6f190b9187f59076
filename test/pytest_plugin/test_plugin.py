"""`pytest --gradport` collects Subjects, and says in a sentence what is wrong with one."""

import subprocess
import sys
import textwrap

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
    assert "FAILED test_subjects.py::many[1][check]" in result.stdout
    assert "Traceback" not in result.stdout


def test_nothing_is_collected_unasked(tmp_path):
    assert "no tests ran" in pytest_on(tmp_path).stdout
