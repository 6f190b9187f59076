"""What other libraries keep private is touched in `gradport/compat/` and nowhere else; uses count, not only imports."""

import ast
import pathlib

import gradport

SOURCE = pathlib.Path(gradport.__file__).parent

LIBRARIES = {"torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime"}

OPERATORS = {"_aten", "_prims", "aten", "prims"}
"""ATen's operators are public by whatever name they have."""

OWN = {"self", "cls"}

DOCUMENTED = {"_fields"}
"""Python's own, of named tuples."""


def private(name):
    return name.startswith("_") and not name.startswith(("__", "_gradport")) and name not in DOCUMENTED


def root_of(node):
    while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def private_uses(tree):
    """Lines that use a private name of somebody else: by attribute, by import, or by getattr and hasattr."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            direct = node.value.id if isinstance(node.value, ast.Name) else ""
            if direct not in OWN | OPERATORS | {"os", "sys"} and root_of(node) != "super":
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            if any(map(private, (node.module or "").split("."))) or any(private(alias.name) for alias in node.names):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] in LIBRARIES and any(map(private, parts)):
                    yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            name = node.args[1] if len(node.args) > 1 else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and private(name.value):
                yield node.lineno, ast.unparse(node)


def test_private_names_are_used_in_compat_alone():
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.relative_to(SOURCE).parts[0] != "compat":
            tree = ast.parse(path.read_text("utf-8"))
            found += [f"{path.relative_to(SOURCE)}:{line}: {text}" for line, text in private_uses(tree)]
    assert not found


def test_the_search_finds_each_kind_of_use():
    planted = """
import torch._dynamo
from torch._subclasses import fake_tensor
from torch.fx import _config
torch._ops.OpOverload
size.node._expr
getattr(shape_env, "_guards", None)
hasattr(value, "_ortvalue")
self._own
call.context._gradport_region
"""
    assert sorted(line for line, _ in private_uses(ast.parse(planted))) == [2, 3, 4, 5, 6, 7, 8]
