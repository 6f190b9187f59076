"""Sources: the Subjects and Tasks of a module, a file, a folder, a suite of torch, or of pickled objects."""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import hashlib
import inspect
import os
import pathlib
import pickle
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from gradport.campaigning.cases import Entry
from gradport.campaigning.suites import load_entry, suite_entries
from gradport.campaigning.tasks import Task, tasks_of
from gradport.eager.inputs import has_dynamic
from gradport.errors import SpecError, TargetError
from gradport.subject.modules import import_place, load_attribute
from gradport.subject.paths import importable

if TYPE_CHECKING:
    from gradport.subject.subject import Subject

__all__ = ["PICKLED", "entries", "find", "importing", "load", "subject_names"]

PICKLED = "pickled:"
"""Prefix of the name of a source that is sent with the cases."""

_SUITES = "torch:"

importing: contextvars.ContextVar[str] = contextvars.ContextVar("importing", default="")
"""The source that is being imported; empty otherwise. A source that starts a campaign of itself would never end."""


def find(source: str, name: str, column: str, pickled: bytes | None) -> Any:
    """The Subject of this name, or the Task of this name and column.

    Raises:
        SpecError: the source has no such name.
        TargetError: the source cannot be imported.
    """
    if source.startswith(_SUITES):
        return load_entry(source.removeprefix(_SUITES), name)
    found = _by_name(source, pickled).get((name, column))
    if found is None:
        raise SpecError(f"{source} has no Subject {name!r}; it had one when the campaign began.")
    return found


def entries(source: str, pickled: bytes | None) -> list[Entry]:
    """All Subjects and Tasks of a source.

    Raises:
        TargetError: the source cannot be imported, or has neither a Subject nor a Task.
    """
    if source.startswith(_SUITES):
        return suite_entries(source.removeprefix(_SUITES))
    found = [_entry(name, value) for (name, _), value in _by_name(source, pickled).items()]
    if not found:
        raise TargetError(f"{source} has no gradport.Subject and no gradport.Task at module level.")
    return found


def load(source: str, pickled: bytes | None) -> bool:
    """Imports a source, without the hashes of `entries`; says whether it has Subjects.

    Raises:
        TargetError: the source cannot be imported.
    """
    if source.startswith(_SUITES):
        return True
    return any(not isinstance(value, Task) for value in _by_name(source, pickled).values())


def subject_names(module: ModuleType) -> dict[int, str]:
    """The name that each Subject of a module has as a source, by the identity of the Subject."""
    return {id(value): name for (name, _), value in _named([("", vars(module))]).items()}


@functools.lru_cache(maxsize=64)
def _by_name(source: str, pickled: bytes | None) -> Mapping[tuple[str, str], Subject | Task]:
    torch.manual_seed(0)  # a file may draw its examples, which belong to the digest
    random.seed(0)
    token = importing.set(source)
    try:
        return _named(_names(source, pickled))
    finally:
        importing.reset(token)


def _named(groups: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[tuple[str, str], Subject | Task]:
    """Subjects and Tasks by name and column; a name that is taken gets the label of the value."""
    named: dict[tuple[str, str], Subject | Task] = {}
    for label, value in _values(groups):
        column = value.column if isinstance(value, Task) else ""
        own = value.name if (value.name, column) not in named else f"{value.name} ({label})"
        named[own, column] = value
    return named


def _values(groups: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[tuple[str, Subject | Task]]:
    """Subjects and Tasks with labels, each once."""
    from gradport.subject.subject import subjects_of

    seen: set[int] = set()
    for scope, names in groups:
        for name, value in names.items():
            tasks = ((f"{name}[{at}]", task) for at, task in enumerate(tasks_of(value)))
            labelled: tuple[tuple[str, Subject | Task], ...] = (*subjects_of(name, value), *tasks)
            for label, found in labelled:
                if id(found) not in seen:
                    seen.add(id(found))
                    yield f"{scope}{label}", found


def _names(source: str, pickled: bytes | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Groups of names and values, each with a prefix for its labels."""
    path = pathlib.Path(source)
    if pickled is not None:
        yield "", pickle.loads(pickled)
    elif path.is_dir():
        for file in sorted(path.rglob("*.py")):
            if "gradport" in file.read_text("utf-8", "replace"):
                yield f"{file.relative_to(path)}:", vars(import_place(str(file)))
    elif source.rpartition(":")[0] and not path.exists():
        yield "", {source.rpartition(":")[2]: load_attribute(source)}
    else:
        yield "", vars(import_place(source))


def _entry(name: str, value: Subject | Task) -> Entry:
    if isinstance(value, Task):
        return Entry(name, _source_digest(value.function), value.column, is_task=True)
    return Entry(name, _subject_digest(value), is_dynamic=has_dynamic(value))


def _subject_digest(subject: Subject) -> str:
    """A hash of the target's code, the example and the declarations."""
    digest = hashlib.sha256(_source_digest(subject.target).encode())
    for field in dataclasses.fields(subject):
        if field.name != "target":
            digest.update(_stable(getattr(subject, field.name)).encode())
    if hasattr(subject.target, "state_dict"):
        digest.update(_stable(dict(subject.target.state_dict())).encode())
    return digest.hexdigest()[:16]


def _source_digest(target: Any) -> str:
    """A hash of the code that defines the target: all imported files of its package, or of the folder of its file, and
    the values that a function is closed over."""
    code = target if isinstance(target, type) or inspect.isroutine(target) else type(target)
    cells = getattr(code, "__closure__", None) or ()
    closed = str([_stable(cell.cell_contents) for cell in cells if not inspect.isroutine(cell.cell_contents)])
    try:
        text = _code_digest(inspect.getfile(inspect.unwrap(code)))
    except (OSError, TypeError, AttributeError):  # a builtin, or an object without a module
        text = repr(getattr(code, "__qualname__", code))
    own = getattr(getattr(code, "__code__", None), "co_code", b"")
    return hashlib.sha256(f"{text} {closed} {own!r}".encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=4096)
def _code_digest(file: str) -> str:
    """A hash of all imported files of the package or folder in which a file lies, and of the file."""
    root, name = importable(file)
    package = name.partition(".")[0]
    place = os.path.join(root, package) if "." in name else root
    is_shared = os.path.basename(place) in ("site-packages", "dist-packages")  # a module without a package
    files = {os.path.abspath(file)}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None) or ""
        if not is_shared and path.endswith(".py") and os.path.abspath(path).startswith(place + os.sep):
            files.add(os.path.abspath(path))
    return hashlib.sha256("".join(map(_file_digest, sorted(files))).encode()).hexdigest()


@functools.lru_cache(maxsize=4096)
def _file_digest(file: str) -> str:
    """Of the file as this process first saw it: a process runs the code that it imported."""
    return hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()


def _stable(value: Any) -> str:
    """A text that is equal in every process for equal values."""
    if isinstance(value, torch.Tensor) and value.layout is torch.strided:
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8) if value.numel() else value
        return f"{value.dtype}{tuple(value.shape)}{hashlib.sha256(content.numpy().tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        return str({str(key): _stable(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return str([_stable(item) for item in value])
    if callable(value):
        return _source_digest(value)
    return repr(value) if isinstance(value, (int, float, str, bool, type(None))) else type(value).__qualname__
