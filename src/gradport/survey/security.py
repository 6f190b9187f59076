"""What a reviewer would stop at, found in the syntax tree: each with its line."""

from __future__ import annotations

import ast
from typing import Any

__all__ = ["PATTERNS", "stops"]

PATTERNS: dict[str, list[str]] = {
    "runs text as code": ["eval", "exec", "compile", "builtins.eval", "builtins.exec", "builtins.compile"],
    "imports by name": ["__import__", "importlib.import_module", "runpy."],
    "unpickles": [
        "pickle.load",
        "pickle.loads",
        "pickle.Unpickler",
        "cloudpickle.load",
        "cloudpickle.loads",
        "dill.load",
        "dill.loads",
        "torch.load",
        "joblib.load",
        "marshal.load",
        "marshal.loads",
        "shelve.open",
    ],
    "reads or writes files": [
        "open",
        "io.open",
        "os.open",
        "os.remove",
        "os.unlink",
        "os.rename",
        "os.replace",
        "os.makedirs",
        "shutil.",
        "tempfile.",
        "pathlib.Path.open",
        ".read_text",
        ".write_text",
        ".read_bytes",
        ".write_bytes",
        "torch.save",
        "numpy.load",
        "numpy.save",
    ],
    "uses the network": [
        "socket.",
        "urllib.",
        "requests.",
        "http.",
        "httpx.",
        "aiohttp.",
        "ftplib.",
        "smtplib.",
        "huggingface_hub.",
        "torch.hub.",
        "torch.utils.model_zoo.",
    ],
    "starts processes": [
        "os.system",
        "os.popen",
        "os.fork",
        "os.exec*",
        "os.spawn*",
        "subprocess.",
        "multiprocessing.",
        "torch.multiprocessing.",
    ],
    "calls foreign code": [
        "ctypes.",
        "cffi.",
        "torch.utils.cpp_extension.",
        "torch.ops.load_library",
        "torch.classes.load_library",
        "load_inline",
    ],
    "takes data pointers": [".data_ptr", ".untyped_storage", ".__array_interface__", ".data."],
    "changes global state": [
        "torch.set_*",
        "torch.manual_seed",
        "torch.backends.",
        "torch.use_deterministic_algorithms",
        "random.seed",
        "numpy.random.seed",
        "sys.setrecursionlimit",
        "sys.path.",
        "os.environ",
        "os.putenv",
        "os.chdir",
    ],
}
"""What it is called, and the calls and assignments that are it: a dotted name, how one begins (`.` or `*` at its end),
or how one ends (`.` before it)."""


def stops(tree: ast.AST) -> list[dict[str, Any]]:
    """Every place that a reviewer would stop at: pattern, line and code. Names are followed to what they were imported
    as; what goes by other ways (`getattr(os, "sys" + "tem")`) is not found."""
    aliases = _aliases(tree)
    found: list[dict[str, Any]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            code = f"global {', '.join(node.names)}"
            found.append({"pattern": "changes global state", "line": node.lineno, "code": code})
        name = _name(node, aliases)
        pattern = next((what for what, names in PATTERNS.items() if name and _is(name, names)), None)
        if pattern is not None:
            found.append({"pattern": pattern, "line": node.lineno, "code": ast.unparse(node)[:120]})  # type: ignore[attr-defined]
    return sorted(found, key=lambda stop: (stop["line"], stop["pattern"]))


def _aliases(tree: ast.AST) -> dict[str, str]:
    """What the imported names of a file mean, in full."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _name(node: ast.AST, aliases: dict[str, str]) -> str:
    """What a call or an assignment is about."""
    if isinstance(node, ast.Call):
        return _full(node.func, aliases)
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Attribute, ast.Subscript)):
        return _full(node.targets[0], aliases)
    return ""


def _full(node: ast.expr, aliases: dict[str, str]) -> str:
    head, dot, rest = ast.unparse(node).partition(".")
    return f"{aliases.get(head, head)}{dot}{rest}"


def _is(name: str, known: list[str]) -> bool:
    for entry in known:
        if entry.startswith(".") and (name.endswith(entry.rstrip(".")) or (entry.endswith(".") and entry in name)):
            return True
        if entry.endswith((".", "*")) and name.startswith(entry.rstrip("*")):
            return True
        if name == entry or name.startswith(f"{entry}["):
            return True
    return False
