"""What a reviewer would stop at, found in the syntax tree: each with its line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

__all__ = ["PATTERNS", "stops"]

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
"""What it is called, and what it is in words: a dotted name that is called, how one begins (`.` or `*` at its end), how
one ends (`.` before it), what stands within one (`.` at both ends), or what is assigned to (`=` before it)."""

_ENTRIES = {pattern: tuple(entries.split()) for pattern, entries in PATTERNS.items()}

_CODE = ("eval", "exec", "__import__")
"""Worth a look wherever they are named, called or not."""

_RISKY = ("os", "subprocess", "socket", "ctypes", "pickle", "shutil", "importlib", "builtins")


def stops(tree: ast.AST) -> list[dict[str, Any]]:
    """Every place that a reviewer would stop at: pattern, line and code. Names are followed to what they were imported
    as; what goes by other ways (`getattr(os, "sys" + "tem")`) is not found."""
    aliases = _aliases(tree)
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for node in ast.walk(tree):
        for pattern in _patterns(node, aliases):
            line = node.lineno  # type: ignore[attr-defined]
            found.setdefault((line, pattern), {"pattern": pattern, "line": line, "code": ast.unparse(node)[:120]})
    return [found[key] for key in sorted(found)]


def _patterns(node: ast.AST, aliases: dict[str, str]) -> Iterator[str]:
    match node:
        case ast.Global():
            yield "changes global state"
        case ast.ImportFrom(module=module, names=[ast.alias(name="*")]) if module in _RISKY:
            yield "imports by name"
        case ast.Name(id=name, ctx=ast.Load()) if name in _CODE:
            yield "imports by name" if name == "__import__" else "runs text as code"
        case ast.Call(func=function):
            yield from _known_calls(_full(function, aliases))
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            yield from (found for target in targets for found in _known_calls(f"={_full(target, aliases)}"))
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            yield from _known_calls(f"={_full(target, aliases)}")


def _known_calls(name: str) -> Iterator[str]:
    yield from (pattern for pattern, entries in _ENTRIES.items() if any(_is(name, entry) for entry in entries))


def _aliases(tree: ast.AST) -> dict[str, str]:
    """What the imported names of a file mean, in full."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _full(node: ast.expr, aliases: dict[str, str]) -> str:
    head, dot, rest = ast.unparse(node).partition(".")
    return f"{aliases.get(head, head)}{dot}{rest}"


def _is(name: str, entry: str) -> bool:
    if entry.startswith(".") and entry.endswith("."):
        return entry in name and not name.startswith("=")
    if entry.startswith("."):
        return name.endswith(entry) and not name.startswith("=")
    if entry.endswith((".", "*")):
        return name.startswith(entry.rstrip("*"))
    return name == entry or name.startswith(f"{entry}[")
