"""Links between surveyed files: imports, calls, tests, and similar Functions."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

from gradport.documenting.exercised import Suite, find_tests
from gradport.evidence.survey import FileSurvey

__all__ = ["link_files"]

_ALIKE = 0.8
"""Share of equal words from which two Functions are near duplicates."""


def link_files(surveyed: Mapping[str, FileSurvey], suites: Sequence[Suite]) -> dict[str, FileSurvey]:
    """Adds links to the `series` of the files.

    Args:
        surveyed: the Evidence of `survey_file` for each file, by path.
        suites: the test files of their projects.

    Returns:
        In `series` `imported_by` (paths), and for each Function `called_by` (file and line), `related` (Functions in
        the same folder, of the same name, near duplicates) and `tested_by` (file, line and name of a test).
    """
    importers = _importers(surveyed)
    return {
        name: _link(name, survey, surveyed, suites, importers.get(survey.module, set()) - {name})
        for name, survey in surveyed.items()
    }


def _importers(surveyed: Mapping[str, FileSurvey]) -> dict[str, set[str]]:
    """The files that import a module, or a name that may be that module, by module name."""
    importers: dict[str, set[str]] = {}
    for name, survey in surveyed.items():
        for entry in survey.imports:
            full = f"{entry['module']}.{entry['name']}" if entry["name"] else entry["module"]
            for module in {entry["module"], full}:
                importers.setdefault(module, set()).add(name)
    return importers


def _link(
    name: str, survey: FileSurvey, surveyed: Mapping[str, FileSurvey], suites: Sequence[Suite], importers: set[str]
) -> FileSurvey:
    own = sorted({entry["name"] for entry in survey.autograd})
    return dataclasses.replace(
        survey,
        imported_by=sorted(importers),
        called_by={function: list(_calls(function, name, surveyed)) for function in own},
        related={function: _related_files(function, name, survey, surveyed) for function in own},
        tested_by={function: find_tests(function, survey.module, suites) for function in own},
    )


def _calls(function: str, home: str, surveyed: Mapping[str, FileSurvey]) -> Iterator[dict[str, object]]:
    """The places of `Function.apply`: in its own file by its name, elsewhere by the imported name."""
    short, module = function.split(".")[-1], surveyed[home].module
    packages = {module.rsplit(".", count)[0] for count in range(module.count(".") + 1)}
    wanted = {f"{place}.{short}" for place in packages}  # a package may re-export it
    for name, survey in surveyed.items():
        for one in survey.applies:
            if name == home:
                meant = one["name"] in (function, short) and _nearest(one["name"], function, survey)
            else:
                meant = _resolve(one["name"], survey.imports) in wanted
            if meant:
                yield {"file": name, "line": one["line"]}


def _nearest(name: str, function: str, survey: FileSurvey) -> bool:
    """Whether a name in a file means this Function; of several with the same last part a top-level one comes first."""
    same = [entry["name"] for entry in survey.autograd if name in (entry["name"], entry["name"].split(".")[-1])]
    return function == name or (len(same) == 1 and name not in same)


def _resolve(name: str, imports: Sequence[Mapping[str, str]]) -> str:
    """A dotted name with its first part replaced by the imported name; empty if it is not imported."""
    head, _, rest = name.partition(".")
    for entry in imports:
        if entry["name"] and entry["as"] == head:
            return ".".join(part for part in (entry["module"], entry["name"], rest) if part)
        if not entry["name"] and entry["as"] == head:
            return ".".join(part for part in (entry["module"], rest) if part)
        if not entry["name"] and not entry["as"] and name.startswith(f"{entry['module']}."):
            return name
    return ""


def _related_files(
    function: str, home: str, survey: FileSurvey, surveyed: Mapping[str, FileSurvey]
) -> dict[str, list[str]]:
    code = next(entry["code"] for entry in survey.autograd if entry["name"] == function)
    folder, short = pathlib.PurePath(home).parent, function.split(".")[-1]
    own = _words(code)
    related: dict[str, list[str]] = {"same folder": [], "same name": [], "near duplicates": []}
    for name, other in surveyed.items():
        for entry in other.autograd:
            if name == home and entry["name"] == function:
                continue
            where = f"{name}:{entry['name']}"
            related["same folder"] += [where] if pathlib.PurePath(name).parent == folder else []
            related["same name"] += [where] if entry["name"].split(".")[-1] == short else []
            related["near duplicates"] += [where] if _are_alike(own, _words(entry["code"])) else []
    return related


@functools.cache
def _words(code: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+|[^\w\s]", code))


def _are_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    return matcher.real_quick_ratio() > _ALIKE and matcher.quick_ratio() > _ALIKE and matcher.ratio() > _ALIKE
