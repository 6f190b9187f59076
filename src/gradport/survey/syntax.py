"""A Python file from its syntax tree alone: classes, functions, imports, and the autograd Functions that it defines.

Nothing of the file is imported or run.
"""

from __future__ import annotations

import ast
import builtins
import pathlib
from collections.abc import Iterator
from typing import Any

from gradport.errors import TargetError
from gradport.evidence import Evidence
from gradport.survey.security import PATTERNS, stops

__all__ = ["survey_file"]


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
        text = path.read_text("utf-8")
        tree = ast.parse(text)
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise TargetError(f"{path} cannot be read as Python: {error}.") from error
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return Evidence(
        subject=module,
        series={"security": stops(tree), "security_patterns": sorted(PATTERNS)},
        source={
            "file": str(path),
            "module": module,
            "bytes": len(text.encode()),
            "lines": text.count("\n") + bool(text and not text.endswith("\n")),
            "text": text,
            "docstring": ast.get_docstring(tree) or "",
            "classes": [_class(node, tree) for node in classes],
            "functions": [_function(node) for node in tree.body if isinstance(node, _FUNCTIONS)],
            "imports": list(_imports(tree, module)),
            "subjects": any(_holds_subjects(node) for node in tree.body),
            "applies": list(_applies(tree)),
            "autograd": [_autograd(node, methods, text, tree) for node, methods in _functions(classes)],
        },
    )


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

_Methods = dict[str, ast.FunctionDef | ast.AsyncFunctionDef]


_BASES = ("Function", "InplaceFunction", "NestedIOFunction")


def _functions(classes: list[ast.ClassDef]) -> list[tuple[ast.ClassDef, _Methods]]:
    """The classes that are autograd Functions, each with its methods, those of bases in the same file included.

    A Function has a forward and a backward, and a base that is called so or is one of the file.
    """
    by_name = {node.name: node for node in classes}
    found = []
    for node in classes:
        line = list(_ancestry(node, by_name))
        bases = {ast.unparse(base).split(".")[-1] for one in line for base in one.bases}
        methods: _Methods = {}
        for one in reversed(line):
            methods |= {item.name: item for item in one.body if isinstance(item, _FUNCTIONS)}
        looks = bases & set(_BASES) or (not bases & {"Module"} and "ctx" in _first_names(methods))
        if looks and {"forward", "backward"} <= methods.keys():
            found.append((node, methods))
    return found


def _ancestry(node: ast.ClassDef, by_name: dict[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
    """A class and its bases in the file, nearest first."""
    seen: list[ast.ClassDef] = []
    waiting = [node]
    while waiting:
        one = waiting.pop(0)
        if one in seen:
            continue
        seen.append(one)
        yield one
        waiting += [by_name[name] for base in one.bases if (name := ast.unparse(base).split(".")[-1]) in by_name]


def _first_names(methods: _Methods) -> set[str]:
    """What the first arguments of forward and backward are called."""
    found = [methods[name].args.args[:2] for name in ("forward", "backward") if name in methods]
    return {argument.arg for arguments in found for argument in arguments}


def _class(node: ast.ClassDef, tree: ast.Module) -> dict[str, Any]:
    return {
        "name": _qualified(node, tree),
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


def _autograd(node: ast.ClassDef, methods: _Methods, text: str, tree: ast.Module) -> dict[str, Any]:
    forward, backward = methods["forward"], methods["backward"]
    return {
        "name": _qualified(node, tree),
        "line": node.lineno,
        "end": node.end_lineno,
        "docstring": ast.get_docstring(node) or "",
        "code": ast.get_source_segment(text, node) or "",
        "signature": f"({ast.unparse(forward.args)})",
        "arguments": _arguments(forward, setup="setup_context" in methods),
        "differentiable": _differentiable(backward, _arguments(forward, setup="setup_context" in methods)),
        "saved": sorted({saved for method in methods.values() for saved in _saved(method)}),
        "kept_on_ctx": sorted({name for method in methods.values() for name in _kept(method)}),
        "once_differentiable": any("once_differentiable" in ast.unparse(d) for d in backward.decorator_list),
        "has": sorted(set(methods) & {"setup_context", "vmap", "jvp", "symbolic"}),
        "operators": sorted({name for method in (forward, backward) for name in _operators(method)}),
    }


def _arguments(forward: ast.FunctionDef | ast.AsyncFunctionDef, *, setup: bool) -> list[str]:
    names = [argument.arg for argument in [*forward.args.posonlyargs, *forward.args.args]]
    names += [f"*{forward.args.vararg.arg}"] if forward.args.vararg else []
    if names[:1] == ["cls"]:
        names = names[1:]  # a class method, which Functions may be built of
    return names if setup else names[1:]


def _differentiable(backward: ast.FunctionDef | ast.AsyncFunctionDef, arguments: list[str]) -> list[str]:
    """The arguments that some return of the backward gives a gradient that is not None; returns are not followed."""
    returned = [node.value for node in ast.walk(backward) if isinstance(node, ast.Return) and node.value is not None]
    found = set()
    for value in returned:
        entries = value.elts if isinstance(value, ast.Tuple) else [value]
        if len(entries) != len(arguments) or any(isinstance(entry, ast.Starred) for entry in entries):
            if not isinstance(value, ast.Tuple) and not isinstance(value, ast.Constant):
                found |= set(arguments[:1] if len(arguments) == 1 else arguments)
            continue
        found |= {
            name
            for name, entry in zip(arguments, entries, strict=True)
            if not (isinstance(entry, ast.Constant) and entry.value is None)
        }
    return [name for name in arguments if name in found]


def _saved(method: ast.AST) -> Iterator[str]:
    for call in (node for node in ast.walk(method) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "save_for_backward":
            yield from (ast.unparse(argument) for argument in call.args)


def _kept(method: ast.AST) -> Iterator[str]:
    """Names that are set on ctx."""
    for node in ast.walk(method):
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "ctx":
                yield target.attr


def _operators(method: ast.AST) -> Iterator[str]:
    for call in (node for node in ast.walk(method) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr not in ("save_for_backward", "mark_dirty"):
            yield call.func.attr
        elif isinstance(call.func, ast.Name) and not hasattr(builtins, call.func.id):
            yield call.func.id


def _imports(tree: ast.Module, module: str) -> Iterator[dict[str, Any]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ({"module": alias.name, "name": "", "line": node.lineno} for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")[: -node.level] if node.level else []
            source = ".".join([*parts, *([node.module] if node.module else [])])
            yield from ({"module": source, "name": alias.name, "line": node.lineno} for alias in node.names)


def _holds_subjects(node: ast.stmt) -> bool:
    """Whether a statement at the top of a file keeps a `gradport.Subject`, or a list or mapping of them."""
    if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
        return False
    calls = [inner for inner in ast.walk(node.value) if isinstance(inner, ast.Call)]
    return any(ast.unparse(call.func).split(".")[-1] == "Subject" for call in calls)


def _applies(tree: ast.Module) -> Iterator[dict[str, Any]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "apply":
            yield {"name": ast.unparse(node.value).split(".")[-1], "line": node.lineno}


def _qualified(node: ast.ClassDef, tree: ast.Module) -> str:
    def path(body: list[ast.stmt], names: list[str]) -> list[str] | None:
        for item in body:
            if item is node:
                return [*names, node.name]
            inner = getattr(item, "body", None)
            if isinstance(inner, list):
                named = isinstance(item, (ast.ClassDef, *_FUNCTIONS))
                found = path(inner, [*names, item.name] if named else names)  # type: ignore[attr-defined]
                if found:
                    return found
        return None

    return ".".join(path(tree.body, []) or [node.name])
