"""Finds the tests of a Function: tests of its project whose syntax trees contain its name."""

from __future__ import annotations

import ast
import dataclasses
import pathlib
import tokenize
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["Suite", "find_tests", "suites_of"]

_ROOTS = ("pyproject.toml", "setup.py", "setup.cfg", ".git")


@dataclasses.dataclass(frozen=True)
class Suite:
    """One test file: its path in the project, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module


def suites_of(root: pathlib.Path) -> list[Suite]:
    """The test files of a file's or folder's project: the nearest folder with a project file, or else the folder
    itself."""
    start = root.resolve() if root.is_dir() else root.resolve().parent
    above = [start, *start.parents]
    inside = next((place for place, folder in enumerate(above) if folder.name == "site-packages"), len(above))
    project = next((f for f in above[:inside] if any((f / name).exists() for name in _ROOTS)), start)
    suites = []
    for pattern in ("test_*.py", "*_test.py"):
        for file in sorted(file for file in project.rglob(pattern) if file.is_file()):
            parts = file.relative_to(project).parts
            if any(part.startswith(".") or part in ("node_modules", "build", "site-packages") for part in parts):
                continue
            try:
                with tokenize.open(file) as opened:
                    text = opened.read()
                suites.append(Suite("/".join(parts), text, ast.parse(text)))
            except (OSError, UnicodeError, SyntaxError, ValueError, RecursionError):
                continue  # pytest could not load it either
    return suites


def find_tests(function: str, module: str, suites: Sequence[Suite]) -> list[dict[str, Any]]:
    """The tests that use the name of a Function, in files that import its module: `file`, `line` and `test`."""
    short, home = function.split(".")[-1], module.split(".")[-1]
    uses = []
    for file in suites:
        if short not in file.text or home not in file.text or not _imports(file.tree, home):
            continue
        uses += [
            {"file": file.path, "line": node.lineno, "test": name}
            for name, node in _tests(file.tree)
            if _mentions(node, short)
        ]
    return uses


def _imports(tree: ast.Module, home: str) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[-1] == home for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom):
            last = (node.module or "").split(".")[-1]
            if home == last or any(alias.name == home for alias in node.names):
                return True
    return False


def _tests(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            yield node.name, node
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name.startswith("test"):
                    yield f"{node.name}::{inner.name}", inner


def _mentions(node: ast.AST, short: str) -> bool:
    return any(
        (isinstance(inner, ast.Name) and inner.id == short)
        or (isinstance(inner, ast.Attribute) and inner.attr == short)
        for inner in ast.walk(node)
    )
