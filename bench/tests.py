"""Suite of a campaign: the project's own tests, a case for each file.

    gradport campaign bench/tests.py [--python OTHER/bin/python]

All tests run that need no browser and no Node, or the files and folders that the variable GRADPORT_TESTS names,
separated by spaces. The Evidence of a case has a Finding for each test. `make matrix` makes the table of compatibility
from it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
from collections.abc import Iterator

import pytest

import gradport

ROOT = pathlib.Path(__file__).resolve().parents[1]

LEFT_OUT = ("slow", "browser", "node", "mpi", "federated", "release")
"""Marks of tests that need more than gradport and its libraries, or very long."""

_OUTCOMES = {"passed": "ok", "failed": "failed", "skipped": "skipped"}


class _Recorder:
    """The outcome of each test, and the reason of each failure."""

    def __init__(self) -> None:
        self.findings: dict[str, gradport.Finding] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._add(report.nodeid, report.outcome, str(report.longrepr or ""))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.outcome == "failed":
            self._add(report.nodeid, "failed", str(report.longrepr))

    def _add(self, name: str, outcome: str, reason: str) -> None:
        last = next((line for line in reversed(reason.splitlines()) if line.strip()), "")
        self.findings[name] = gradport.Finding(name, "test", _OUTCOMES[outcome], message=last[:400])


def run_file(path: str) -> gradport.Evidence:
    """The tests of a file."""
    recorder = _Recorder()
    marks = " and ".join(f"not {mark}" for mark in LEFT_OUT)
    options = ["-q", "--no-header", "--tb=short", "--hypothesis-profile=ci", "-p", "no:xdist", "-m", marks]
    with _inside(ROOT):
        pytest.main([*options, path], plugins=[recorder])
    return gradport.Evidence(path, tuple(recorder.findings.values()))


@contextlib.contextmanager
def _inside(folder: pathlib.Path) -> Iterator[None]:
    before = pathlib.Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def files() -> list[str]:
    """The files of tests."""
    wanted = os.environ.get("GRADPORT_TESTS", "test").split()
    found = [
        path
        for name in wanted
        for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("test_*.py"))
    ]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


TASKS = [gradport.Task(path, functools.partial(run_file, path), column="tests") for path in files()]
