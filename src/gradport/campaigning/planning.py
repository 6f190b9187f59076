"""Plans a campaign: its cases, and the digests that say which of them are done."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from gradport.campaigning.cases import Action, Case, Entry, Options
from gradport.campaigning.settings import Setting
from gradport.campaigning.sources import PICKLED
from gradport.campaigning.tasks import Task
from gradport.errors import SpecError
from gradport.subject.spec import short_dtype
from gradport.subject.subject import Subject

__all__ = ["Axes", "Planned", "Source", "plan_cases", "sources_of"]


@dataclasses.dataclass(frozen=True)
class Source:
    """Where Subjects come from.

    Attributes:
        name: a module, a file, a folder, `torch:<suite>`, or a hash of pickled objects.
        pickled: the objects, if they are sent with the cases.
    """

    name: str
    pickled: bytes | None = None


@dataclasses.dataclass(frozen=True)
class Axes:
    """The actions on each Subject.

    Attributes:
        settings: of export and verify; empty: neither.
        checks: whether `check` runs.
    """

    settings: Sequence[Setting]
    checks: bool


@dataclasses.dataclass(frozen=True)
class Planned:
    """A case of a campaign.

    Attributes:
        case: the case.
        column: of the matrix.
        digest: of the source, the options and the versions; an equal one means that nothing changed.
        versions: of its environment.
    """

    case: Case
    column: str
    digest: str
    versions: dict[str, str]


def sources_of(subjects: Any) -> list[Source]:
    """The sources of the first argument of `campaign`.

    Raises:
        SpecError: it holds something else, or a Subject that cannot be pickled.
    """
    given = subjects if isinstance(subjects, (list, tuple)) else [subjects]
    named = [Source(name) for name in (_name_of(one) for one in given) if name]
    loose = {f"SUBJECTS[{at}]": one for at, one in enumerate(given) if isinstance(one, (Subject, Task))}
    if isinstance(subjects, Mapping):
        loose = {str(key): _renamed(one, str(key)) for key, one in subjects.items()}
    if not isinstance(subjects, Mapping) and len(named) + len(loose) < len(given):
        wrong = next(one for one in given if not (_name_of(one) or isinstance(one, (Subject, Task))))
        raise SpecError(
            "A campaign takes Subjects, Tasks, modules, files, folders and suites such as 'torch:operators', "
            f"not {wrong!r}."
        )
    if not named and not loose:
        raise SpecError("A campaign needs at least one Subject.")
    return [*named, *([_pickle(loose)] if loose else [])]


def _renamed(one: Any, name: str) -> Any:
    return dataclasses.replace(one, name=name) if isinstance(one, Task) else one.replace(name=name)


def _name_of(given: Any) -> str:
    if isinstance(given, ModuleType):
        return given.__name__
    name = os.fspath(given) if isinstance(given, (str, os.PathLike)) else ""
    return os.path.normpath(name) if os.path.exists(name) else name


def _pickle(objects: dict[str, Any]) -> Source:
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(objects)
    except Exception as error:
        raise SpecError(
            f"The Subjects cannot be sent to other processes ({error}); put them at module level of a file, and give "
            "its path."
        ) from error
    names = json.dumps(
        [[label, one.name] for label, one in objects.items()]
    )  # equal in the next run, unlike the pickle
    return Source(PICKLED + hashlib.sha256(names.encode()).hexdigest()[:12], data)


def plan_cases(
    source: Source, python: str, listed: Sequence[Entry], versions: dict[str, str], axes: Axes, options: Options
) -> Iterator[Planned]:
    """The cases of a source in one environment: each Subject with every action and setting, each Task once."""
    work = {name: getattr(options, name) for name in ("profile", "budget", "seed", "gradients")}
    shared = json.dumps([work, versions], sort_keys=True)
    for entry in listed:
        digest = hashlib.sha256(f"{entry.digest} {shared}".encode()).hexdigest()[:16]
        for case in _cases(source.name, python, entry, axes):
            yield Planned(case, case.setting, digest, versions)


def _cases(source: str, python: str, entry: Entry, axes: Axes) -> Iterator[Case]:
    if entry.is_task:
        yield Case(source, entry.name, Action.RUN, python=python, task=entry.column)
        return
    if axes.checks:
        yield Case(source, entry.name, Action.CHECK, python=python)
    for one in axes.settings:
        if not one.dynamic or entry.is_dynamic:
            dtype = None if one.dtype is None else short_dtype(one.dtype)
            yield Case(
                source, entry.name, Action.VERIFY, one.opset, dtype, one.functions, one.dynamic, one.runtime, python
            )
