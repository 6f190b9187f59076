"""A folder or an installed package: its files, who imports whom, and which Functions are alike."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from gradport.errors import TargetError
from gradport.evidence import Evidence
from gradport.survey.exercised import Suite, exercised_by, suites_of
from gradport.survey.syntax import survey_file

__all__ = ["survey_folder"]

_ALIKE = 0.8
"""Share of the code of two Functions that is the same, from which they are near duplicates."""


def survey_folder(root: pathlib.Path, *, under: str = "") -> dict[str, Evidence]:
    """Every Python file of a folder, or one file, by its path below the root; each knows who uses it.

    To the `series` of `survey_file` it adds `imported_by` and `called_by` (module and line, by Function), `related`
    (Functions in the same folder, of the same name, and near duplicates) and `tested_by` (tests that name a Function).

    Args:
        root: the folder, or the file.
        under: a name that the paths begin with.

    Raises:
        TargetError: nothing there is Python.
    """
    files = [root] if root.is_file() else sorted(_python_files(root))
    if not files:
        raise TargetError(f"{root} holds no Python file.")
    base = root.parent if root.is_file() else root
    surveyed: dict[str, Evidence] = {}
    for file in files:
        name = (pathlib.PurePath(under) / file.relative_to(base)).as_posix()
        try:
            surveyed[name] = survey_file(file, _module(file, base))
        except TargetError:
            continue  # a template or Python 2: no page can be made of it
    if not surveyed:
        raise TargetError(f"{root} holds no file that is Python.")
    suites = suites_of(root) if any(evidence.source["autograd"] for evidence in surveyed.values()) else []
    return {name: _linked(name, evidence, surveyed, suites) for name, evidence in surveyed.items()}


def _python_files(root: pathlib.Path) -> Iterator[pathlib.Path]:
    for file in root.rglob("*.py"):
        parts = file.relative_to(root).parts
        if not any(part.startswith(".") or part in ("__pycache__", "node_modules") for part in parts):
            yield file


def _module(file: pathlib.Path, base: pathlib.Path) -> str:
    """The name that a file is imported by: from the topmost folder with an `__init__.py`, or from the root."""
    top = base
    while (top / "__init__.py").is_file():
        top = top.parent
    parts = list(file.relative_to(top).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _linked(name: str, evidence: Evidence, surveyed: Mapping[str, Evidence], suites: Sequence[Suite]) -> Evidence:
    module = evidence.source["module"]
    importers = {
        other: found.source["imports"]
        for other, found in surveyed.items()
        if other != name and any(_means(entry, module) for entry in found.source["imports"])
    }
    own = {entry["name"] for entry in evidence.source["autograd"]}
    called = {function: list(_calls(function, name, surveyed)) for function in sorted(own)}
    related = {function: _related(function, name, evidence, surveyed) for function in sorted(own)}
    tested = {function: exercised_by(function, module, suites) for function in sorted(own)}
    links = {"imported_by": sorted(importers), "called_by": called, "related": related, "tested_by": tested}
    return dataclasses.replace(evidence, series={**evidence.series, **links})


def _means(entry: Mapping[str, str], module: str) -> bool:
    full = f"{entry['module']}.{entry['name']}" if entry["name"] else entry["module"]
    return module in (entry["module"], full)


def _calls(function: str, home: str, surveyed: Mapping[str, Evidence]) -> Iterator[dict[str, object]]:
    """Where `Function.apply` stands, in its own file or in one that imports it."""
    short = function.split(".")[-1]
    module = surveyed[home].source["module"]
    for name, evidence in surveyed.items():
        imports = evidence.source["imports"]
        if name != home and not any(_means(entry, module) or entry["name"] == short for entry in imports):
            continue
        for node in ast.walk(ast.parse(evidence.source["text"])):
            if not isinstance(node, ast.Attribute) or node.attr != "apply":
                continue
            if ast.unparse(node.value).split(".")[-1] == short:
                yield {"file": name, "line": node.lineno}


def _related(function: str, home: str, evidence: Evidence, surveyed: Mapping[str, Evidence]) -> dict[str, list[str]]:
    code = next(entry["code"] for entry in evidence.source["autograd"] if entry["name"] == function)
    folder = pathlib.PurePath(home).parent
    neighbours, namesakes, alike = [], [], []
    for name, other in surveyed.items():
        for entry in other.source["autograd"]:
            if name == home and entry["name"] == function:
                continue
            where = f"{name}:{entry['name']}"
            if pathlib.PurePath(name).parent == folder:
                neighbours.append(where)
            if entry["name"].split(".")[-1] == function.split(".")[-1]:
                namesakes.append(where)
            if difflib.SequenceMatcher(None, code, entry["code"], autojunk=False).quick_ratio() > _ALIKE and (
                difflib.SequenceMatcher(None, code, entry["code"], autojunk=False).ratio() > _ALIKE
            ):
                alike.append(where)
    return {"same folder": neighbours, "same name": namesakes, "near duplicates": alike}
