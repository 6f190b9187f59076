"""Surveys a Python file by its syntax tree: classes, functions, imports, autograd Functions and Subjects.

The file is not imported or run.
"""

from __future__ import annotations

import ast
import pathlib
import tokenize
from collections.abc import Iterator
from typing import Any

from gradport.documenting.functions import autograd_functions
from gradport.documenting.security import PATTERNS, find_risks
from gradport.errors import TargetError, first_line
from gradport.evidence.survey import FileSurvey

__all__ = ["survey_file"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def survey_file(path: pathlib.Path, module: str) -> FileSurvey:
    """Surveys one file.

    Args:
        path: the file.
        module: its import name.

    Returns:
        Evidence whose `source` has `file`, `module`, `bytes`, `lines`, `text`, `docstring`, `classes`, `functions`,
        `imports`, `applies` (the uses of `.apply`), `subjects` (whether there are Subjects at module level) and
        `autograd` (one entry per autograd Function), and whose `series` has `security` and `security_patterns`.

    Raises:
        TargetError: the file cannot be read as Python.
    """
    try:
        with tokenize.open(path) as file:  # reads byte order marks and declared encodings as Python does
            text = file.read()
        return _survey(path, module, text, ast.parse(text))
    except (OSError, UnicodeError, SyntaxError, ValueError) as error:
        raise TargetError(f"{path} cannot be read as Python: {first_line(error, 200)}.") from error
    except RecursionError as error:
        raise TargetError(f"{path} cannot be read as Python: it is nested too deeply.") from error


def _survey(path: pathlib.Path, module: str, text: str, tree: ast.Module) -> FileSurvey:
    names = dict(_qualified_classes(tree, []))
    subject_names = _subject_names(tree)
    return FileSurvey(
        file=str(path),
        module=module,
        bytes=path.stat().st_size,
        lines=text.count("\n") + bool(text and not text.endswith("\n")),
        text=text,
        docstring=ast.get_docstring(tree) or "",
        classes=[_class(node, name) for node, name in names.items()],
        functions=[_function(node) for node in tree.body if isinstance(node, _FUNCTIONS)],
        imports=list(_imports(tree, module, package=path.name == "__init__.py")),
        subjects=any(_holds_subjects(node, subject_names) for node in tree.body),
        applies=list(_applies(tree)),
        autograd=autograd_functions(names, text),
        security=find_risks(tree),
        security_patterns=sorted(PATTERNS),
    )


def _qualified_classes(node: ast.AST, above: list[str]) -> Iterator[tuple[ast.ClassDef, str]]:
    """Every class with its qualified name, in file order."""
    for inner in ast.iter_child_nodes(node):
        named = isinstance(inner, (ast.ClassDef, *_FUNCTIONS))
        path = [*above, inner.name] if named else above  # type: ignore[attr-defined]
        if isinstance(inner, ast.ClassDef):
            yield inner, ".".join(path)
        yield from _qualified_classes(inner, path)


def _class(node: ast.ClassDef, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "line": node.lineno,
        "bases": [ast.unparse(base) for base in node.bases],
        "docstring": ast.get_docstring(node) or "",
        "methods": [_function(item) for item in node.body if isinstance(item, _FUNCTIONS)],
    }


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, Any]:
    return {
        "name": node.name,
        "line": node.lineno,
        "signature": f"({ast.unparse(node.args)})",
        "docstring": ast.get_docstring(node) or "",
    }


def _imports(tree: ast.Module, module: str, *, package: bool) -> Iterator[dict[str, Any]]:
    """Every import: the module, the imported name, its name in the file, and the line.

    In a package's `__init__.py` one dot is the package; elsewhere it is the package of the file.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield {"module": alias.name, "name": "", "as": alias.asname or "", "line": node.lineno}
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            parts = parts[: len(parts) - node.level + package] if node.level else []
            source = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                yield {"module": source, "name": alias.name, "as": alias.asname or alias.name, "line": node.lineno}


def _subject_names(tree: ast.Module) -> set[str]:
    """The names of `gradport.Subject` in the file; empty if it does not import gradport."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {f"{alias.asname or alias.name}.Subject" for alias in node.names if alias.name == "gradport"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gradport":
            names |= {alias.asname or alias.name for alias in node.names if alias.name == "Subject"}
    return names


def _holds_subjects(node: ast.stmt, names: set[str]) -> bool:
    """Whether a module-level statement assigns a `gradport.Subject`, or a list or mapping of them."""
    if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
        return False
    return any(isinstance(inner, ast.Call) and ast.unparse(inner.func) in names for inner in ast.walk(node.value))


def _applies(tree: ast.Module) -> Iterator[dict[str, Any]]:
    """The uses of `.apply` of a name."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr == "apply"
            and isinstance(node.value, (ast.Name, ast.Attribute))
        ):
            yield {"name": ast.unparse(node.value), "line": node.lineno}
