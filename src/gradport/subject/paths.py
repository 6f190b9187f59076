"""Shortens paths for files that leave the machine: relative to their package or project, never absolute."""

from __future__ import annotations

import functools
import os
import re

__all__ = ["importable", "portable", "without_machine"]

_PROJECT = ("pyproject.toml", "setup.py", "setup.cfg", ".git")
_PACKAGES = ("site-packages", "dist-packages")
_ABSOLUTE = re.compile(r"(?<![\w.:/~])/(?:[^\s/:'\"<>|]+/)*[^\s/:'\"<>|,;]+")


@functools.lru_cache(maxsize=4096)
def portable(path: str) -> str:
    """The path relative to the folder of installed packages, to its project, or to its outermost package; a relative
    path does not change."""
    if not os.path.isabs(path):
        return path
    parts = path.split(os.sep)
    for name in _PACKAGES:
        if name in parts:
            return os.sep.join(parts[len(parts) - parts[::-1].index(name) :])
    folder = os.path.dirname(path)
    root = _project_of(folder) or _outermost_package(folder)
    return os.path.relpath(path, root)


def without_machine(text: str) -> str:
    """The text with each existing absolute path in its portable form."""
    return _ABSOLUTE.sub(_shorten, text)


def _shorten(match: re.Match[str]) -> str:
    path = match.group()
    return portable(path) if os.path.exists(path) else path


def _project_of(folder: str) -> str | None:
    while True:
        if any(os.path.exists(os.path.join(folder, name)) for name in _PROJECT):
            return folder
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def importable(file: str) -> tuple[str, str]:
    """The folder from which to import a Python file, and its import name: `/x` and `pkg.sub.mod` for
    `/x/pkg/sub/mod.py` if `pkg` and `sub` are packages, else `/x/pkg/sub` and `mod`."""
    folder, base = os.path.split(os.path.abspath(file))
    root = _outermost_package(folder)
    packages = [] if root == folder else os.path.relpath(folder, root).split(os.sep)
    return root, ".".join([*packages, os.path.splitext(base)[0]])


def _outermost_package(folder: str) -> str:
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder = os.path.dirname(folder)
    return folder
