"""The autograd Functions of a file, from its syntax tree: their arguments, saved tensors, ctx attributes and calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["autograd_functions"]

_BASES = ("Function", "InplaceFunction", "NestedIOFunction")

_CONTEXT = ("save_for_backward", "save_for_forward", "mark_dirty", "mark_non_differentiable", "set_materialize_grads")

_PLAIN = (*dir(list), *dir(dict), *dir(str), *dir(set))
"""Methods of lists, mappings and text, which are not operators."""

_Method = ast.FunctionDef | ast.AsyncFunctionDef

_Methods = dict[str, _Method]


def autograd_functions(classes: Mapping[ast.ClassDef, str], text: str) -> list[dict[str, Any]]:
    """An entry for each autograd Function.

    A Function has a forward and a backward, its own or a base's in the same file. It has a base with the name of a
    Function class, or its forward is a static or class method with a `ctx`. Of two with one name the later counts, as
    in Python.

    Args:
        classes: the classes of the file, each with its qualified name.
        text: the text of the file.
    """
    by_name = {node.name: node for node in classes}
    entries: dict[str, dict[str, Any]] = {}
    for node, name in classes.items():
        line = list(_ancestry(node, by_name))
        methods: _Methods = {}
        for one in reversed(line):
            methods |= {
                item.name: item for item in one.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))
            }
        if "vjp" in methods:
            methods.setdefault("backward", methods["vjp"])
        if {"forward", "backward"} <= methods.keys() and _is_autograd_function(line, methods["forward"]):
            entries.pop(name, None)
            entries[name] = _entry(node, name, methods, text)
    return list(entries.values())


def _is_autograd_function(line: list[ast.ClassDef], forward: _Method) -> bool:
    bases = {ast.unparse(base).split(".")[-1] for one in line for base in one.bases}
    free = {ast.unparse(decorator) for decorator in forward.decorator_list} & {"staticmethod", "classmethod"}
    takes_ctx = "ctx" in [argument.arg for argument in forward.args.args[:2]]
    return bool(bases & set(_BASES)) or bool(bases and free and takes_ctx)


def _ancestry(node: ast.ClassDef, by_name: Mapping[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
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


def _entry(node: ast.ClassDef, name: str, methods: _Methods, text: str) -> dict[str, Any]:
    forward, backward = methods["forward"], methods["backward"]
    arguments = _arguments(forward, setup="setup_context" in methods)
    used = [methods[key] for key in ("forward", "backward", "setup_context", "jvp", "vmap") if key in methods]
    return {
        "name": name,
        "line": node.lineno,
        "forward_line": forward.lineno,
        "end": node.end_lineno,
        "docstring": ast.get_docstring(node) or "",
        "code": ast.get_source_segment(text, node) or "",
        "signature": f"({ast.unparse(forward.args)})",
        "arguments": arguments,
        "differentiable": _differentiable(backward, arguments),
        "saved": sorted({saved for method in used for saved in _saved_tensors(method)}),
        "kept_on_ctx": sorted({attribute for method in used for attribute in _context_names(method)}),
        "once_differentiable": any("once_differentiable" in ast.unparse(d) for d in backward.decorator_list),
        "has": sorted(set(methods) & {"setup_context", "vmap", "jvp", "symbolic"}),
        "operators": sorted({call for method in (forward, backward) for call in _calls(method)}),
    }


def _arguments(forward: _Method, *, setup: bool) -> list[str]:
    names = [argument.arg for argument in [*forward.args.posonlyargs, *forward.args.args]]
    names += [f"*{forward.args.vararg.arg}"] if forward.args.vararg else []
    names += [argument.arg for argument in forward.args.kwonlyargs]
    if names[:1] == ["cls"]:
        names = names[1:]  # a class method, which a Function may use
    return names if setup else names[1:]


def _differentiable(backward: _Method, arguments: list[str]) -> list[str] | None:
    """The arguments with a gradient that is not None in some return; None if unknown, since values are not followed
    through variables."""
    differentiable: set[str] = set()
    for node in _own_nodes(backward):
        if not isinstance(node, ast.Return) or node.value is None:
            continue
        entries = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        single = len(arguments) == 1 and not arguments[0].startswith("*")
        if len(entries) != len(arguments) or any(isinstance(entry, ast.Starred) for entry in entries):
            return None
        if not single and any(isinstance(entry, (ast.Name, ast.Call)) for entry in entries[:1]) and len(entries) == 1:
            return None
        differentiable |= {name for name, entry in zip(arguments, entries, strict=True) if not _is_none(entry)}
    return [name for name in arguments if name in differentiable]


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _own_nodes(method: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a method, without the functions and classes defined in it."""
    for node in ast.iter_child_nodes(method):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield node
            yield from _own_nodes(node)


def _saved_tensors(method: _Method) -> Iterator[str]:
    for call in (node for node in ast.walk(method) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "save_for_backward":
            yield from (ast.unparse(argument) for argument in call.args)


def _context_names(method: _Method) -> Iterator[str]:
    """The attributes set on the context, also if it is not named ctx."""
    contexts = {"ctx", *(argument.arg for argument in method.args.args[:1])} - {"cls", "self"}
    for node in ast.walk(method):
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets += [node.target] if isinstance(node, (ast.AnnAssign, ast.AugAssign)) else []
        for target in (inner for one in targets for inner in ast.walk(one)):
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id in contexts:
                yield target.attr


def _calls(method: _Method) -> Iterator[str]:
    """The names of called functions, without Python's builtins and methods."""
    import builtins

    for call in (node for node in ast.walk(method) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr not in (*_CONTEXT, *_PLAIN):
            yield call.func.attr
        elif isinstance(call.func, ast.Name) and not hasattr(builtins, call.func.id):
            yield call.func.id
