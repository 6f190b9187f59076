"""What a reviewer would stop at, found in the syntax tree: each with its line."""

from __future__ import annotations

import ast
from typing import Any

__all__ = ["PATTERNS", "stops"]

PATTERNS: dict[str, tuple[str, ...]] = {
    "runs text as code": ("eval", "exec", "compile", "builtins.eval", "builtins.exec"),
    "unpickles": ("pickle.load", "pickle.loads", "cloudpickle.load", "cloudpickle.loads", "torch.load", "dill.load"),
    "reads or writes files": ("open", "io.open", "os.remove", "os.rename", "shutil.rmtree", "pathlib.Path.open"),
    "uses the network": ("socket.", "urllib.", "requests.", "http.", "httpx.", "torch.hub."),
    "starts processes": ("os.system", "os.popen", "subprocess.", "os.exec", "os.spawn", "multiprocessing."),
    "calls foreign code": ("ctypes.", "cffi.", "torch.utils.cpp_extension.", "cpp_extension.", "load_inline"),
    "takes data pointers": (".data_ptr", ".untyped_storage", ".__array_interface__", ".data."),
    "changes global state": (
        "torch.set_",
        "torch.manual_seed",
        "torch.backends.",
        "sys.setrecursionlimit",
        "os.environ",
    ),
}
"""What it is called, and the calls and names that are it: a dotted name, or how one begins (`.` at its end)."""


def stops(tree: ast.AST) -> list[dict[str, Any]]:
    """Every place that a reviewer would stop at: pattern, line and code."""
    found: list[dict[str, Any]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            code = f"global {', '.join(node.names)}"
            found.append({"pattern": "changes global state", "line": node.lineno, "code": code})
        name = _name(node)
        pattern = next((what for what, names in PATTERNS.items() if name and _is(name, names)), None)
        if pattern is not None:
            found.append({"pattern": pattern, "line": node.lineno, "code": ast.unparse(node)[:120]})  # type: ignore[attr-defined]
    return sorted(found, key=lambda stop: (stop["line"], stop["pattern"]))


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        return ast.unparse(node.func)
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Attribute, ast.Subscript)):
        return ast.unparse(node.targets[0])
    return ""


def _is(name: str, known: tuple[str, ...]) -> bool:
    for entry in known:
        if entry.startswith(".") and (name.endswith(entry.rstrip(".")) or (entry.endswith(".") and entry in name)):
            return True
        if entry.endswith((".", "_")) and name.startswith(entry):
            return True
        if name == entry:
            return True
    return False
