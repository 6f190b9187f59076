"""A Python file from its syntax tree alone: classes, functions, imports, and what it says of Functions and Subjects.

Nothing of the file is imported or run.
"""

from __future__ import annotations

import ast
import pathlib
import tokenize
from collections.abc import Iterator
from typing import Any

from gradport.documenting.functions import autograd_functions
from gradport.documenting.security import PATTERNS, stops
from gradport.errors import TargetError, first_line
from gradport.evidence.evidence import Evidence

__all__ = ["survey_file"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def survey_file(path: pathlib.Path, module: str) -> Evidence:
    """What a file's syntax tree says.

    Args:
        path: the file.
        module: the name that it is imported by.

    Returns:
        Evidence whose `source` holds `file`, `module`, `bytes`, `lines`, `text`, `docstring`, `classes`, `functions`,
        `imports`, `applies` (where `.apply` of something stands), `subjects` (whether Subjects stand at its top) and
        `autograd` (one entry for each autograd Function), and whose `series` holds `security` and `security_patterns`.

    Raises:
        TargetError: the file is no Python.
    """
    try:
        with tokenize.open(path) as file:  # as Python reads it: byte order marks and declared encodings
            text = file.read()
        return _survey(path, module, text, ast.parse(text))
    except (OSError, UnicodeError, SyntaxError, ValueError) as error:
        raise TargetError(f"{path} cannot be read as Python: {first_line(error, 200)}.") from error
    except RecursionError as error:
        raise TargetError(f"{path} cannot be read as Python: it is nested too deeply.") from error


def _survey(path: pathlib.Path, module: str, text: str, tree: ast.Module) -> Evidence:
    names = dict(_qualified_classes(tree, []))
    subject_names = _subject_names(tree)
    return Evidence(
        subject=module,
        series={"security": stops(tree), "security_patterns": sorted(PATTERNS)},
        source={
            "file": str(path),
            "module": module,
            "bytes": path.stat().st_size,
            "lines": text.count("\n") + bool(text and not text.endswith("\n")),
            "text": text,
            "docstring": ast.get_docstring(tree) or "",
            "classes": [_class(node, name) for node, name in names.items()],
            "functions": [_function(node) for node in tree.body if isinstance(node, _FUNCTIONS)],
            "imports": list(_imports(tree, module, package=path.name == "__init__.py")),
            "subjects": any(_holds_subjects(node, subject_names) for node in tree.body),
            "applies": list(_applies(tree)),
            "autograd": autograd_functions(names, text),
        },
    )


def _qualified_classes(node: ast.AST, above: list[str]) -> Iterator[tuple[ast.ClassDef, str]]:
    """Every class with its qualified name, in the order of the file."""
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
    """Every import: the module, the name that is taken of it, what it is called here, and the line.

    In a package's own file one dot is the package; elsewhere it is the package that the file stands in.
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
    """How the file writes `gradport.Subject`; nothing where it does not import gradport."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {f"{alias.asname or alias.name}.Subject" for alias in node.names if alias.name == "gradport"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gradport":
            found |= {alias.asname or alias.name for alias in node.names if alias.name == "Subject"}
    return found


def _holds_subjects(node: ast.stmt, names: set[str]) -> bool:
    """Whether a statement at the top of a file keeps a `gradport.Subject`, or a list or mapping of them."""
    if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
        return False
    return any(isinstance(inner, ast.Call) and ast.unparse(inner.func) in names for inner in ast.walk(node.value))


def _applies(tree: ast.Module) -> Iterator[dict[str, Any]]:
    """Where `.apply` of a name stands."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr == "apply"
            and isinstance(node.value, (ast.Name, ast.Attribute))
        ):
            yield {"name": ast.unparse(node.value), "line": node.lineno}
