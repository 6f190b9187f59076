"""The pytest entry point. It imports no large library until a test suite uses gradport.

`pytest --gradport` collects module-level Subjects, and lists and dicts of them: each is checked, exported and
verified. `--gradport-report DIR` writes the results, also of the assertions of `gradport.testing`, as `gradport.json`
and as one page, `gradport.html`; JUnit files (`--junitxml`) have the outcomes as properties.
`--gradport-store FILE` runs the collected Subjects as a campaign: in parallel, isolated, and with the results of an
earlier run or campaign where nothing changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

__all__ = [
    "SubjectItem",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_pycollect_makeitem",
    "pytest_runtest_makereport",
    "pytest_runtestloop",
]

_MARKERS = (
    "gradport: a test over gradport cases",
    "gradport_opsets(low, high, reason): the opsets of the cases that run",
    "gradport_tolerance(rtol, atol, reason): tolerances of the cases",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--gradport` and `--gradport-report`."""
    group = parser.getgroup("gradport")
    group.addoption(
        "--gradport", action="store_true", help="Collect module-level gradport Subjects: check, export and verify each."
    )
    group.addoption(
        "--gradport-store", metavar="FILE", help="Run the Subjects of --gradport as a campaign with this store."
    )
    group.addoption("--gradport-report", metavar="DIR", help="Write gradport.json and gradport.html into this folder.")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers, and the reports if requested."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    if config.getoption("gradport_store") and getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("--gradport-store runs the Subjects in parallel itself; leave out -n of pytest-xdist.")
    folder = config.getoption("gradport_report")
    if folder and not hasattr(config, "workerinput"):  # workers of xdist send their results to this process
        config.pluginmanager.register(_Reports(folder), "gradport-reports")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Applies opset markers, which skip cases, and tolerance markers."""
    for item in items:
        case = getattr(getattr(item, "callspec", None), "params", {}).get("case")
        if item.get_closest_marker("gradport") is None or case is None:
            continue
        for marker in item.iter_markers("gradport_opsets"):
            reason = _outside(case.setting.opset, **marker.kwargs)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
        for marker in item.iter_markers("gradport_tolerance"):
            case.tolerances.update({key: marker.kwargs[key] for key in ("rtol", "atol")})


def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> list[pytest.Item] | None:
    """Two items for each module-level Subject of a test module."""
    if not isinstance(collector, pytest.Module) or not collector.config.getoption("gradport"):
        return None
    labelled = list(_subjects(name, obj))
    if not labelled:
        return None
    return [
        SubjectItem.from_parent(collector, name=f"{_id(label, subject)}[{what}]", subject=subject, what=what)
        for label, subject in labelled
        for what in ("check", "export")
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Runs the campaign of the collected Subjects before the first test."""
    store = session.config.getoption("gradport_store")
    items = [item for item in session.items if isinstance(item, SubjectItem)]
    if not store or not items or session.config.option.collectonly:
        return
    from gradport.errors import Error

    try:
        rows = _campaign(items, store)
    except Error as error:
        raise pytest.UsageError(str(error)) from None
    for item in items:
        item.row = rows[item.nodeid]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    """Passes the Evidence of a test to the reports."""
    outcome = yield
    module = sys.modules.get("gradport.testing")
    if module is None or call.when != "call":
        return
    report = outcome.get_result()  # type: ignore[attr-defined]
    recorded, module.RECORDED[:] = list(module.RECORDED), []
    if recorded:
        report.gradport = [evidence.to_dict() for evidence in recorded]
        for evidence in recorded:
            summary = f"{evidence.subject}: {'ok' if evidence.ok else 'not ok'}, {len(evidence.findings)} findings"
            item.user_properties.append(("gradport", summary))  # the report of the teardown has them


class SubjectItem(pytest.Item):
    """One Subject to check, or to export and verify."""

    def __init__(self, *, subject: Any, what: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.subject = subject
        self.what = what
        self.module = self.getparent(pytest.Module).obj  # type: ignore[union-attr]
        self.row: Any = None

    def runtest(self) -> None:
        """Runs the check or the export, or takes the result of the campaign; fails if a Finding is not ok."""
        from gradport import testing
        from gradport.eager.inputs import with_every_gradient

        if self.row is not None:
            _assert_row(self.row, self.config.getoption("gradport_store"))
        elif self.what == "check":
            testing.assert_checked(self.subject)
        else:
            testing.assert_exports(with_every_gradient(self.subject))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """A refusal or a failed Finding prints a sentence, any other error a traceback."""
        from gradport.errors import Error

        if isinstance(excinfo.value, (AssertionError, Error)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """The path and the name of the item."""
        return self.path, None, self.name


class _Reports:
    """Collects the Evidence of all tests, and writes it at the end of the session."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._entries: list[tuple[str, dict[str, Any]]] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._entries += [(report.nodeid, evidence) for evidence in getattr(report, "gradport", ())]

    def pytest_sessionfinish(self) -> None:
        from gradport.reporting.suite import write_suite

        write_suite(self._entries, self._folder)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.write_line(f"gradport: wrote {self._folder}/gradport.html and gradport.json")


def _campaign(items: list[SubjectItem], store: str) -> dict[str, Any]:
    """The row of each item by its id; one campaign for each file."""
    import glob

    from gradport.campaigning.campaign import campaign
    from gradport.campaigning.sources import subject_names

    actions = {"check": "check", "export": "verify"}
    found: dict[str, Any] = {}
    for path in dict.fromkeys(item.path for item in items):
        own = [item for item in items if item.path == path]
        names = subject_names(own[0].module)
        rows = campaign(
            os.path.relpath(path),
            only=[glob.escape(name) for name in dict.fromkeys(names[id(item.subject)] for item in own)],
            checks=any(item.what == "check" for item in own),
            exports=any(item.what == "export" for item in own),
            store=store,
        ).rows()
        by_case = {(row.subject, str(row.action)): row for row in rows}
        found |= {item.nodeid: by_case[names[id(item.subject)], actions[item.what]] for item in own}
    return found


def _assert_row(row: Any, store: str) -> None:
    """Fails as the assertion of the same Subject would.

    Raises:
        AssertionError: the case of the campaign is not ok.
    """
    from gradport import testing
    from gradport.campaigning.campaign import Campaign

    evidence = Campaign(store).evidence(row)
    if evidence is not None:
        testing.RECORDED.append(evidence)
    if not row.outcome.passes:
        told = "" if evidence is None else testing.not_held(evidence)
        raise AssertionError("\n".join(filter(None, (told or f"{row.outcome}: {row.message}", row.output))))


def _id(label: str, subject: Any) -> str:
    """The label in the module, with the Subject's own name if it differs."""
    return label if subject.name in label else f"{label}-{subject.name}"


def _outside(opset: int | None, *, low: int = 0, high: int = 1 << 30, reason: str = "") -> str:
    if opset is None or low <= opset <= high:
        return ""
    limit = f"below opset {low}" if opset < low else f"above opset {high}"
    return f"opset {opset} is {limit}" + (f": {reason}" if reason else "")


def _subjects(name: str, obj: object) -> Iterator[tuple[str, Any]]:
    module = sys.modules.get("gradport.subject.subject")
    return iter(()) if module is None else module.subjects_of(name, obj)  # None: no Subject exists
