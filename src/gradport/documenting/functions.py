"""The autograd Functions of a file, from its syntax tree: what each takes, saves, keeps and calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["autograd_functions"]

_BASES = ("Function", "InplaceFunction", "NestedIOFunction")

_CONTEXT = ("save_for_backward", "save_for_forward", "mark_dirty", "mark_non_differentiable", "set_materialize_grads")

_PLAIN = (*dir(list), *dir(dict), *dir(str), *dir(set))
"""What is called on lists, mappings and text, which no operator is."""

_Method = ast.FunctionDef | ast.AsyncFunctionDef

_Methods = dict[str, _Method]


def autograd_functions(classes: Mapping[ast.ClassDef, str], text: str) -> list[dict[str, Any]]:
    """An entry for each autograd Function.

    A Function has a forward and a backward, its own or a base's in the same file, and a base that is called so; or its
    forward is a static or class method that takes a `ctx`. Of two with one name the later is taken, as Python does.

    Args:
        classes: those of the file, each with its qualified name.
        text: of the file.
    """
    by_name = {node.name: node for node in classes}
    found: dict[str, dict[str, Any]] = {}
    for node, name in classes.items():
        line = list(_ancestry(node, by_name))
        methods: _Methods = {}
        for one in reversed(line):
            methods |= {
                item.name: item for item in one.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))
            }
        if "vjp" in methods:
            methods.setdefault("backward", methods["vjp"])
        if {"forward", "backward"} <= methods.keys() and _looks_so(line, methods["forward"]):
            found.pop(name, None)
            found[name] = _entry(node, name, methods, text)
    return list(found.values())


def _looks_so(line: list[ast.ClassDef], forward: _Method) -> bool:
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
        "kept_on_ctx": sorted({kept for method in used for kept in _context_names(method)}),
        "once_differentiable": any("once_differentiable" in ast.unparse(d) for d in backward.decorator_list),
        "has": sorted(set(methods) & {"setup_context", "vmap", "jvp", "symbolic"}),
        "operators": sorted({call for method in (forward, backward) for call in _calls(method)}),
    }


def _arguments(forward: _Method, *, setup: bool) -> list[str]:
    names = [argument.arg for argument in [*forward.args.posonlyargs, *forward.args.args]]
    names += [f"*{forward.args.vararg.arg}"] if forward.args.vararg else []
    names += [argument.arg for argument in forward.args.kwonlyargs]
    if names[:1] == ["cls"]:
        names = names[1:]  # a class method, which Functions may be built of
    return names if setup else names[1:]


def _differentiable(backward: _Method, arguments: list[str]) -> list[str] | None:
    """The arguments of which some return gives a gradient that is not None; None where the returns do not say, since
    they are not followed through variables."""
    found: set[str] = set()
    for node in _inside(backward):
        if not isinstance(node, ast.Return) or node.value is None:
            continue
        entries = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        single = len(arguments) == 1 and not arguments[0].startswith("*")
        if len(entries) != len(arguments) or any(isinstance(entry, ast.Starred) for entry in entries):
            return None
        if not single and any(isinstance(entry, (ast.Name, ast.Call)) for entry in entries[:1]) and len(entries) == 1:
            return None
        found |= {name for name, entry in zip(arguments, entries, strict=True) if not _is_none(entry)}
    return [name for name in arguments if name in found]


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _inside(method: ast.AST) -> Iterator[ast.AST]:
    """What stands in a method, without the functions that are defined in it."""
    for node in ast.iter_child_nodes(method):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield node
            yield from _inside(node)


def _saved_tensors(method: _Method) -> Iterator[str]:
    for call in (node for node in ast.walk(method) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "save_for_backward":
            yield from (ast.unparse(argument) for argument in call.args)


def _context_names(method: _Method) -> Iterator[str]:
    """Names that are set on the context, whatever that is called."""
    contexts = {"ctx", *(argument.arg for argument in method.args.args[:1])} - {"cls", "self"}
    for node in ast.walk(method):
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets += [node.target] if isinstance(node, (ast.AnnAssign, ast.AugAssign)) else []
        for target in (inner for one in targets for inner in ast.walk(one)):
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id in contexts:
                yield target.attr


def _calls(method: _Method) -> Iterator[str]:
    """The names of what is called, of torch or of the file; what Python itself brings is left out."""
    import builtins

    for call in (node for node in ast.walk(method) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr not in (*_CONTEXT, *_PLAIN):
            yield call.func.attr
        elif isinstance(call.func, ast.Name) and not hasattr(builtins, call.func.id):
            yield call.func.id
