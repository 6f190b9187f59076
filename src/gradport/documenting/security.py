"""Calls and names that need review for security, found in the syntax tree, each with its line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

__all__ = ["PATTERNS", "find_risks"]

PATTERNS: dict[str, str] = {
    "runs text as code": "eval exec compile builtins.eval builtins.exec builtins.compile",
    "imports by name": "__import__ importlib.import_module runpy.",
    "unpickles": """pickle.load pickle.loads pickle.Unpickler cloudpickle.load cloudpickle.loads dill.load dill.loads
        torch.load torch.jit.load joblib.load marshal.load marshal.loads shelve.open""",
    "reads or writes files": """open io.open os.open os.remove os.unlink os.rename os.replace os.makedirs shutil.
        tempfile. pathlib.Path.open .read_text .write_text .read_bytes .write_bytes .unlink .rmdir torch.save numpy.load
        numpy.save""",
    "uses the network": """socket. urllib. requests. http. httpx. aiohttp. ftplib. smtplib. huggingface_hub. torch.hub.
        torch.utils.model_zoo.""",
    "starts processes": """os.system os.popen os.fork os.kill os.exec* os.spawn* os.posix_spawn* pty. subprocess.
        multiprocessing. torch.multiprocessing. asyncio.create_subprocess_*""",
    "calls foreign code": """ctypes. cffi. torch.utils.cpp_extension. torch.ops.load_library torch.classes.load_library
        load_inline""",
    "takes data pointers": ".data_ptr .untyped_storage .__array_interface__ .data.",
    "changes global state": """torch.set_* torch.manual_seed torch.random.manual_seed torch.cuda.manual_seed*
        =torch.backends. torch.use_deterministic_algorithms random.seed numpy.random.seed sys.setrecursionlimit
        sys.path. =sys.path os.environ. =os.environ os.putenv os.chdir""",
}
"""The patterns by name. An entry is a called dotted name, its beginning (`.` or `*` at the end), its ending (`.` at the
start), a part of it (`.` at both ends), or the target of an assignment (`=` at the start)."""

_ENTRIES = {pattern: tuple(entries.split()) for pattern, entries in PATTERNS.items()}

_CODE = ("eval", "exec", "__import__")
"""Names that count also without a call."""

_RISKY = ("os", "subprocess", "socket", "ctypes", "pickle", "shutil", "importlib", "builtins")


def find_risks(tree: ast.AST) -> list[dict[str, Any]]:
    """Every place that needs review: pattern, line and code. Imported names are resolved; indirect access
    (`getattr(os, "sys" + "tem")`) is not found."""
    aliases = _aliases(tree)
    places: dict[tuple[int, str], dict[str, Any]] = {}
    for node in ast.walk(tree):
        for pattern in _patterns(node, aliases):
            line = node.lineno  # type: ignore[attr-defined]
            places.setdefault((line, pattern), {"pattern": pattern, "line": line, "code": ast.unparse(node)[:120]})
    return [places[key] for key in sorted(places)]


def _patterns(node: ast.AST, aliases: dict[str, str]) -> Iterator[str]:
    match node:
        case ast.Global():
            yield "changes global state"
        case ast.ImportFrom(module=module, names=[ast.alias(name="*")]) if module in _RISKY:
            yield "imports by name"
        case ast.Name(id=name, ctx=ast.Load()) if name in _CODE:
            yield "imports by name" if name == "__import__" else "runs text as code"
        case ast.Call(func=function):
            yield from _known_calls(_resolve(function, aliases))
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            yield from (pattern for target in targets for pattern in _known_calls(f"={_resolve(target, aliases)}"))
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            yield from _known_calls(f"={_resolve(target, aliases)}")


def _known_calls(name: str) -> Iterator[str]:
    yield from (pattern for pattern, entries in _ENTRIES.items() if any(_matches(name, entry) for entry in entries))


def _aliases(tree: ast.AST) -> dict[str, str]:
    """The full names of a file's imported names."""
    full_names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full_names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            full_names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return full_names


def _resolve(node: ast.expr, aliases: dict[str, str]) -> str:
    head, dot, rest = ast.unparse(node).partition(".")
    return f"{aliases.get(head, head)}{dot}{rest}"


def _matches(name: str, entry: str) -> bool:
    if entry.startswith(".") and entry.endswith("."):
        return entry in name and not name.startswith("=")
    if entry.startswith("."):
        return name.endswith(entry) and not name.startswith("=")
    if entry.endswith((".", "*")):
        return name.startswith(entry.rstrip("*"))
    return name == entry or name.startswith(f"{entry}[")
